"""Credential files: opened once, checked on the open descriptor, read again when they change."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from .core.signing import KeyFault
from .errors import ConfigurationError, shown

__all__ = ["FileFault", "WatchedFile", "file_signature", "read_file"]

LARGEST_FILE = 64 * 1024
_SIGNED_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
MOST_WARNED_OF = 4096

logger = logging.getLogger("tokenvalet")
_T = TypeVar("_T")
Signature = tuple[int, int, int]
_warned_of: set[str] = set()


class FileFault(ValueError):
    """A file that cannot be used. The text says why, and shows nothing of its content."""


def read_file(path: Path, *, private: bool) -> tuple[bytes, Signature]:
    """Return a file's content, at most 64 KiB, and what tells that it has changed.

    A private file that others can read is warned of, since mounts of Kubernetes are like that; symlinks are followed.

    Raises:
        FileFault: it cannot be read, is no regular file, or is too large.
    """
    try:
        # Not blocking, or a named pipe would be waited for before it can be refused.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise FileFault(f"{path} cannot be read: {error.strerror}") from None
    # Not a file object yet: that refuses directories with an error of its own.
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileFault(f"{path} is no regular file")
        if status.st_size > LARGEST_FILE:
            raise FileFault(f"{path} has more than {LARGEST_FILE} bytes: is it the right file?")
        if private and os.name == "posix" and status.st_mode & 0o077:
            _warn_once(path)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(LARGEST_FILE), (status.st_mtime_ns, status.st_size, status.st_ino)
    finally:
        os.close(descriptor)


def _warn_once(path: Path) -> None:
    # Files that others rotate are read for every use, and one line tells as much as a thousand.
    name = str(path)
    if name in _warned_of:
        return
    if len(_warned_of) >= MOST_WARNED_OF:
        _warned_of.clear()
    _warned_of.add(name)
    logger.warning("%s can be read by others on this machine: chmod 600 it", shown(name, 1024))


def file_signature(path: Path) -> Signature | None:
    """Return what tells whether a file has changed, or None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class WatchedFile(Generic[_T]):
    """A file and what was made of it. A change on disk is taken over; one that cannot be used leaves the old in force."""

    __slots__ = ("_known", "_parse", "_refused", "path")

    def __init__(self, path: Path, parse: Callable[[bytes], _T]) -> None:
        """Read the file at once. Raises FileFault or KeyFault where it cannot be used."""
        self.path = path
        self._parse = parse
        content, signature = read_file(path, private=True)
        self._refused: Signature | None = signature
        # One pair, put in place at once, instead of a lock: a fork could leave that held by nobody. Where two threads
        # read at once and the older reading comes last, its signature is not the file's, and it is read once more.
        self._known = (signature, parse(content))

    def __call__(self) -> _T:
        """Return what the file holds now, or held when it was last usable."""
        signature, value = self._known
        now = file_signature(self.path)
        return value if now == signature else self._reload(now)

    def _reload(self, now: Signature | None) -> _T:
        try:
            content, signature = read_file(self.path, private=True)
            self._known = (signature, self._parse(content))
            self._refused = signature
        except (FileFault, KeyFault) as fault:
            # Set first, so that of many threads one warns.
            told, self._refused = self._refused == now, now
            if not told:
                logger.warning(
                    "%s has changed and cannot be used (%s); the former one stays in force", self.path, fault
                )
        return self._known[1]


def read_assertion(path: Path) -> str:
    """Return the client assertion in a file that somebody else writes and rotates; read anew each time.

    Raises:
        ConfigurationError: it cannot be read, or does not look like a JWT.
    """
    problem = text = ""
    try:
        text = read_file(path, private=True)[0].decode("ascii", "replace").strip()
    except FileFault as fault:
        problem = str(fault)
    if not problem and not _SIGNED_JWT.fullmatch(text):
        # What it holds may be a secret all the same, and is not left in a variable for a traceback to show.
        problem, text = f"{path} does not hold a signed JWT", ""
    if problem:
        raise ConfigurationError(f"assertion_file: {problem}", code="credential_unavailable")
    return text
