"""A store in a folder, for the processes of one host: gunicorn workers, cron jobs, the command line.

The folder has mode 0700 and its files 0600. A value is one file, replaced in one step; a lease is a lock on another, which
the system takes from a process that dies. Nothing is followed that could lead elsewhere, and what is not ours is left alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..core.messages import Lease
from .protocol import Entry, StoreError

if sys.platform != "win32":
    import fcntl

__all__ = ["FileStore"]

LARGEST_FILE = 128 * 1024
SWEEP_SECONDS = 600.0
MOST_SWEPT = 2000
STALE_SECONDS = 3600.0
_KEY = re.compile(r"[0-9a-f]{64}")
_OURS = re.compile(r"[0-9a-f]{64}\.(token|lock|[0-9a-f]{16}\.tmp)")
_HEADER = re.compile(rb"tokenvalet 1 (-?\d{1,12}\.\d{6}) (-?\d{1,12}\.\d{6}) ([0-9a-f-]{0,64})\n")
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class _Now(NamedTuple):
    """The clocks of this host: both count on while it sleeps, where it has such a clock."""

    wall: float
    uptime: float


class _Held(NamedTuple):
    descriptor: int
    key: str


class FileStore:
    """Values and leases in a folder.

    Args:
        folder: is made, with mode 0700, where it is missing; its parent has to be there.

    Raises:
        StoreError: the folder cannot be made, belongs to somebody else, is open to others or is a symbolic link.
    """

    def __init__(self, folder: str | Path) -> None:
        if sys.platform == "win32":
            raise StoreError("a store in a folder needs file modes and locks that Windows does not have: use Redis")
        self._folder = Path(folder)
        self._boot = _boot_id()
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()
        self._swept = float("-inf")
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._folder, 0o700)
        except OSError as error:
            raise StoreError(f"{self._folder} cannot be made: {error.strerror}") from None
        with self._opened():
            pass
        _STORES.add(self)

    def read(self, key: str) -> Entry | None:
        """Return what is stored under `key`, or None."""
        with self._opened() as folder:
            return self._entry(folder, key)

    def claim(self, key: str, owner: str, seconds: float) -> tuple[Lease, Entry | None]:
        """Take the lease of `key`; it ends with the process, and not by time."""
        with self._opened() as folder:
            if owner in self._held:
                return Lease.GRANTED, self._entry(folder, key)
            descriptor = _locked(folder, f"{_checked(key)}.lock")
            if descriptor is None:
                return Lease.HELD, self._entry(folder, key)
            paused = _pause_left(descriptor, _now(), self._boot)
            if paused > 0:
                os.close(descriptor)
                return Lease.PAUSED, self._entry(folder, key)
            with self._lock:
                self._held[owner] = _Held(descriptor, key)
            return Lease.GRANTED, self._entry(folder, key)

    def write(self, key: str, value: bytes, seconds: float, owner: str) -> None:
        """Store `value` for so many seconds, and give the lease back."""
        temporary = f"{_checked(key)}.{secrets.token_hex(8)}.tmp"
        try:
            with self._opened() as folder:
                try:
                    _write_new(folder, temporary, _header(seconds, self._boot) + value)
                    os.rename(temporary, f"{key}.token", src_dir_fd=folder, dst_dir_fd=folder)
                except OSError as error:
                    with contextlib.suppress(OSError):
                        os.unlink(temporary, dir_fd=folder)
                    raise StoreError(f"{self._folder} cannot be written to: {error.strerror}") from None
                self._sweep(folder)
        finally:
            self.release(key, owner, 0.0)

    def release(self, key: str, owner: str, pause: float) -> None:
        """Give the lease back; for `pause` seconds nobody may have it."""
        with self._lock:
            held = self._held.pop(owner, None)
        if held is None:
            return
        try:
            if pause > 0:
                header = _header(pause, self._boot)
                os.pwrite(held.descriptor, header, 0)
                os.ftruncate(held.descriptor, len(header))
        except OSError as error:
            raise StoreError(f"{self._folder} cannot be written to: {error.strerror}") from None
        finally:
            os.close(held.descriptor)

    def close(self) -> None:
        """Give back the leases that are held."""
        with self._lock:
            held, self._held = list(self._held.values()), {}
        for one in held:
            os.close(one.descriptor)

    def after_fork(self) -> None:
        """Let go, in a forked child, of what the parent holds: its locks would not end before the child does."""
        self._lock = threading.Lock()
        self.close()

    def __repr__(self) -> str:
        return f"<FileStore {str(self._folder)!r}>"

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW)
        except OSError as error:
            raise StoreError(f"{self._folder} cannot be opened as a folder of our own: {error.strerror}") from None
        try:
            status = os.fstat(folder)
            if status.st_uid != os.geteuid():
                raise StoreError(f"{self._folder} belongs to another user: give the store a folder of its own")
            if status.st_mode & 0o077:
                raise StoreError(f"{self._folder} is open to others on this machine: chmod 700 it")
            yield folder
        finally:
            os.close(folder)

    def _entry(self, folder: int, key: str) -> Entry | None:
        content = _content(folder, f"{_checked(key)}.token")
        match = _HEADER.match(content) if content is not None else None
        if content is None or match is None:
            return None
        left = _seconds_left(match, _now(), self._boot)
        return Entry(content[match.end() :], left) if left > 0 else None

    def _sweep(self, folder: int) -> None:
        """Remove, once in a while, values that are over, and what processes that died have left."""
        now = time.monotonic()
        if now - self._swept < SWEEP_SECONDS:
            return
        self._swept = now
        with contextlib.suppress(OSError), os.scandir(folder) as files:
            for number, file in enumerate(files):
                if number >= MOST_SWEPT:
                    break
                if _OURS.fullmatch(file.name) and _is_over(folder, file.name, self._boot):
                    with contextlib.suppress(OSError):
                        os.unlink(file.name, dir_fd=folder)


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise StoreError("this is no token key")
    return key


def _now() -> _Now:
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC) if sys.platform != "win32" else 0
    return _Now(time.time(), time.clock_gettime(clock) if sys.platform != "win32" else time.monotonic())


def _boot_id() -> str:
    """Return what names this run of the machine, or nothing: the uptimes of two runs cannot be compared."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read(64).strip()
    except OSError:
        return ""


def _header(seconds: float, boot: str) -> bytes:
    now = _now()
    return f"tokenvalet 1 {now.wall + seconds:.6f} {now.uptime + seconds:.6f} {boot}\n".encode("ascii")


def _seconds_left(header: re.Match[bytes], now: _Now, boot: str) -> float:
    left = float(header[1]) - now.wall
    if boot and header[3].decode("ascii") == boot:
        left = min(left, float(header[2]) - now.uptime)
    return left


def _content(folder: int, name: str) -> bytes | None:
    """Return what is in a file of ours, or None where there is none, or one that is not ours."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _NO_FOLLOW, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == getattr(os, "ELOOP", 40):
            return None
        raise StoreError(f"a file of the store cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            return None
        return os.read(descriptor, LARGEST_FILE + 1) if status.st_size <= LARGEST_FILE else None
    except OSError as error:
        raise StoreError(f"a file of the store cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _write_new(folder: int, name: str, content: bytes) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
    finally:
        os.close(descriptor)


def _locked(folder: int, name: str) -> int | None:
    """Return a descriptor that holds the lock, or None where another has it."""
    while True:
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | _NO_FOLLOW, 0o600, dir_fd=folder)
        except OSError as error:
            raise StoreError(f"a lock of the store cannot be opened: {error.strerror}") from None
        kept = False
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                raise StoreError("a lock of the store is no regular file of ours: remove it")
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            except OSError as error:
                raise StoreError(f"files cannot be locked there: {error.strerror}") from None
            # It may have been swept away between opening and locking, and then it locks nobody out.
            with contextlib.suppress(FileNotFoundError):
                if os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino == status.st_ino:
                    kept = True
                    return descriptor
        finally:
            if not kept:
                os.close(descriptor)


def _pause_left(descriptor: int, now: _Now, boot: str) -> float:
    match = _HEADER.match(os.pread(descriptor, 256, 0))
    if match is None:
        return 0.0
    left = _seconds_left(match, now, boot)
    # Longer than a pause can be: the clock was set back.
    return left if left < STALE_SECONDS else 0.0


def _is_over(folder: int, name: str, boot: str) -> bool:
    now = _now()
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if name.endswith(".tmp"):
        return now.wall - status.st_mtime > STALE_SECONDS
    if name.endswith(".lock"):
        if now.wall - status.st_mtime < STALE_SECONDS:
            return False
        descriptor = _locked(folder, name)
        if descriptor is None:
            return False
        # Removed while it is locked: who opened it before sees that it is gone, and opens another.
        os.unlink(name, dir_fd=folder)
        os.close(descriptor)
        return False
    content = _content(folder, name)
    match = _HEADER.match(content) if content is not None else None
    return match is None or _seconds_left(match, now, boot) <= 0


_STORES: weakref.WeakSet[FileStore] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for store in list(_STORES):
        store.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
