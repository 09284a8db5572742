"""A store in a folder, for the processes of one host: gunicorn workers, cron jobs, the command line.

The folder has mode 0700 and its files 0600. A value is one file, replaced in one step; a lease is a lock on another, which
the system takes from a process that dies. Nothing is followed that could lead elsewhere, and what is not ours is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
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

LARGEST_VALUE = 128 * 1024
LARGEST_HEADER = 256
SWEEP_SECONDS = 600.0
MOST_SWEPT = 2000
STALE_SECONDS = 3600.0
_KEY = re.compile(r"[0-9a-f]{64}")
_OURS = re.compile(r"[0-9a-f]{64}\.(token|lock|[0-9a-f]{16}\.tmp)")
# What stands at the head of a value, or alone in a lock: "1" before a value and for a pause, "lease" for a lease.
_HEADER = re.compile(rb"tokenvalet (1|lease) (-?\d{1,12}\.\d{6}) (-?\d{1,12}\.\d{6}) ([0-9a-f-]{0,64})\n")
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
# What opening a file says that is there and is not ours.
_NOT_OURS = frozenset({errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO})


class _Now(NamedTuple):
    """The clocks of this host: both count on while it sleeps, where it has such a clock."""

    wall: float
    uptime: float


class _Held(NamedTuple):
    """A lease of this process: the descriptor that holds its lock, and when it ends, on the host's clock."""

    descriptor: int
    end: float


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
        self._held: dict[tuple[str, str], _Held] = {}
        self._lock = threading.Lock()
        self._swept = float("-inf")
        self._files = 0
        with self._opened():
            pass
        _STORES.add(self)

    def read(self, key: str) -> Entry | None:
        """Return what is stored under `key`, or None."""
        with self._opened() as folder:
            return self._entry(folder, key)

    def claim(self, key: str, owner: str, seconds: float) -> tuple[Lease, Entry | None]:
        """Take the lease of `key`, or prolong it; it ends with the process, or after so many seconds.

        A process that is stopped keeps its locks: whoever finds that a lease is over puts a new lock in its place.
        """
        name = f"{_checked(key)}.lock"
        self._drop_overdue()
        with self._opened() as folder:
            with self._lock:
                mine = self._held.get((key, owner))
            descriptor = mine.descriptor if mine is not None else _locked(folder, name)
            if descriptor is None:
                descriptor = _taken_over(folder, name, self._boot)
            if descriptor is None:
                return Lease.HELD, self._entry(folder, key)
            kept = mine is not None
            try:
                entry = self._entry(folder, key)
                if mine is None and _pause_left(descriptor, _now(), self._boot) > 0:
                    return Lease.PAUSED, entry
                # Without the mark, as on a full disk, the lease ends with the process only.
                with contextlib.suppress(OSError):
                    _mark(descriptor, _header("lease", seconds, self._boot))
                with self._lock:
                    self._held[key, owner] = _Held(descriptor, _now().uptime + seconds)
                kept = True
                return Lease.GRANTED, entry
            finally:
                if not kept:
                    _unlock(descriptor)

    def write(self, key: str, value: bytes, seconds: float, owner: str) -> None:
        """Store `value` for so many seconds, and give the lease back."""
        temporary = f"{_checked(key)}.{secrets.token_hex(8)}.tmp"
        try:
            with self._opened() as folder:
                try:
                    _write_new(folder, temporary, _header("1", seconds, self._boot) + value)
                    os.rename(temporary, f"{key}.token", src_dir_fd=folder, dst_dir_fd=folder)
                except OSError:
                    with contextlib.suppress(OSError):
                        os.unlink(temporary, dir_fd=folder)
                    raise
        finally:
            self.release(key, owner, 0.0)
        self._sweep()

    def release(self, key: str, owner: str, pause: float) -> None:
        """Give the lease back; for `pause` seconds nobody may have it."""
        with self._lock:
            held = self._held.pop((key, owner), None)
        if held is None:
            return
        try:
            if pause > 0:
                _mark(held.descriptor, _header("1", pause, self._boot))
        except OSError as error:
            raise StoreError(f"{self._folder} cannot be written to: {error.strerror}") from None
        finally:
            _unlock(held.descriptor)

    def close(self) -> None:
        """Give back the leases that are held."""
        with self._lock:
            held, self._held = list(self._held.values()), {}
        for one in held:
            _unlock(one.descriptor)

    def after_fork(self) -> None:
        """Let go, in a forked child, of what the parent holds: its locks would not end before the child does."""
        self._lock = threading.Lock()
        held, self._held = list(self._held.values()), {}
        for one in held:
            os.close(one.descriptor)  # and no more: unlocking would take the lock from the parent

    def __repr__(self) -> str:
        return f"<FileStore {str(self._folder)!r}>"

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        folder: int | None = None
        try:
            folder = _open_folder(self._folder)
            status = os.fstat(folder)
            if status.st_uid != os.geteuid():
                raise StoreError(f"{self._folder} belongs to another user: give the store a folder of its own")
            if status.st_mode & 0o077:
                raise StoreError(f"{self._folder} is open to others on this machine: chmod 700 it")
            yield folder
        except OSError as error:
            if folder is None and error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise StoreError(f"{self._folder} is a symbolic link, or no folder") from None
            raise StoreError(f"{self._folder} cannot be used: {error.strerror}") from None
        finally:
            if folder is not None:
                os.close(folder)

    def _entry(self, folder: int, key: str) -> Entry | None:
        content = _content(folder, f"{_checked(key)}.token")
        match = _HEADER.match(content) if content is not None else None
        if content is None or match is None or match[1] != b"1":
            return None
        left = _seconds_left(match, _now(), self._boot)
        return Entry(content[match.end() :], left) if left > 0 else None

    def _drop_overdue(self) -> None:
        """Unlock leases that were never given back and are over: those of others end like that too."""
        now = _now().uptime
        with self._lock:
            over = [one for one, held in self._held.items() if held.end < now]
            descriptors = [self._held.pop(one).descriptor for one in over]
        for descriptor in descriptors:
            _unlock(descriptor)

    def _sweep(self) -> None:
        """Remove, once in a while, values that are over, and what processes that died have left."""
        now = time.monotonic()
        if now - self._swept < SWEEP_SECONDS:
            return
        self._swept = now
        # Of a folder with very many files, some by chance.
        share = MOST_SWEPT / max(self._files, MOST_SWEPT)
        count = looked_at = 0
        with contextlib.suppress(OSError, StoreError), self._opened() as folder, os.scandir(folder) as files:
            # Locks are replaced by one process at a time.
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for file in files:
                count += 1
                if looked_at < MOST_SWEPT and _OURS.fullmatch(file.name) and random.random() < share:
                    looked_at += 1
                    with contextlib.suppress(OSError):
                        if _is_over(folder, file.name, self._boot):
                            os.unlink(file.name, dir_fd=folder)
        self._files = count


def _open_folder(path: Path) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        # Also where it was removed while it is in use, which throws the tokens away and no more.
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        return os.open(path, flags)


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


def _header(kind: str, seconds: float, boot: str) -> bytes:
    now = _now()
    return f"tokenvalet {kind} {now.wall + seconds:.6f} {now.uptime + seconds:.6f} {boot}\n".encode("ascii")


def _seconds_left(header: re.Match[bytes], now: _Now, boot: str) -> float:
    left = float(header[2]) - now.wall
    if boot and header[4].decode("ascii") == boot:
        left = min(left, float(header[3]) - now.uptime)
    return left


def _content(folder: int, name: str) -> bytes | None:
    """Return what is in a file of ours, or None where there is none, or one that is not ours."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _NO_FOLLOW, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in _NOT_OURS:
            return None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            return None
        most = LARGEST_HEADER + LARGEST_VALUE
        return os.read(descriptor, most) if status.st_size <= most else None
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
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | _NO_FOLLOW, 0o600, dir_fd=folder)
        kept = False
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                raise StoreError("a lock of the store is no regular file of ours: remove it")
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            # It may have been swept away between opening and locking, and then it locks nobody out.
            with contextlib.suppress(FileNotFoundError):
                if os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino == status.st_ino:
                    kept = True
                    return descriptor
        finally:
            if not kept:
                os.close(descriptor)


def _taken_over(folder: int, name: str, boot: str) -> int | None:
    """Return a descriptor that holds a new lock, where the lease that the old one stands for is over; or None."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends when the folder is closed
    except OSError:
        return None
    mark = _HEADER.match(_content(folder, name) or b"")
    if mark is None or mark[1] != b"lease" or _seconds_left(mark, _now(), boot) > 0:
        return None
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    return _locked(folder, name)


def _mark(descriptor: int, header: bytes) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, header, 0)


def _unlock(descriptor: int) -> None:
    # A child that was forked at the wrong moment may have the descriptor too, and closing ours would not be enough.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _pause_left(descriptor: int, now: _Now, boot: str) -> float:
    match = _HEADER.match(os.pread(descriptor, LARGEST_HEADER, 0))
    if match is None or match[1] != b"1":
        return 0.0
    left = _seconds_left(match, now, boot)
    # Longer than a pause can be: the clock was set back.
    return left if left < STALE_SECONDS else 0.0


def _is_over(folder: int, name: str, boot: str) -> bool:
    now = _now()
    if name.endswith(".token"):
        content = _content(folder, name)
        if content is None:
            return False  # not ours, whatever its name
        match = _HEADER.match(content)
        if match is not None:
            return _seconds_left(match, now, boot) <= 0
    if now.wall - os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < STALE_SECONDS:
        return False
    if not name.endswith(".lock"):
        return True
    descriptor = _locked(folder, name)
    if descriptor is not None:
        # Removed while it is locked: who opened it before sees that it is gone, and opens another.
        os.unlink(name, dir_fd=folder)
        _unlock(descriptor)
    return False


_STORES: weakref.WeakSet[FileStore] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for store in list(_STORES):
        store.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
