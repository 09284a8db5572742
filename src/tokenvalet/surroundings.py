"""What all clients of one valet share: clocks, the back channel, the store, nonces, listeners."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .backchannel import Backchannel
from .core.dpop import NonceStore
from .core.token import Moment
from .directory import Directory
from .observe import Observers
from .shelf import Shelf
from .tls import TlsContexts

__all__ = ["Clock", "Surroundings", "readers_of", "system_clock"]

Clock = Callable[[], Moment]


def system_clock(
    _new: Callable[..., Moment] = tuple.__new__,
    _monotonic: Callable[[], float] = time.monotonic,
    _wall: Callable[[], float] = time.time,
) -> Moment:
    """Return the clocks of this machine. Read for every call, hence the look-ups that are made beforehand."""
    return _new(Moment, (_monotonic(), _wall()))


def readers_of(clock: Clock) -> tuple[Callable[[], float], Callable[[], float]]:
    """Return what reads the monotonic and the wall clock alone, in seconds."""
    if clock is system_clock:
        return time.monotonic, time.time
    return lambda: clock().monotonic, lambda: clock().wall


@dataclass(slots=True, kw_only=True)
class Surroundings:
    """What all clients of one valet share."""

    clock: Clock
    backchannel: Backchannel
    directory: Directory
    tls: TlsContexts
    nonces: NonceStore
    observers: Observers
    stopping: threading.Event
    shelf: Shelf | None = None
    jitter: Callable[[], float] = random.random
    stopwatch: Callable[[], float] = time.monotonic

    def after_fork(self) -> None:
        """Begin anew in a forked child, where locks may be held by nobody."""
        stopped, self.stopping = self.stopping.is_set(), threading.Event()
        if stopped:
            self.stopping.set()
        self.tls.after_fork()
        self.directory.after_fork()
        self.backchannel.after_fork()
        if self.shelf is not None:
            self.shelf.after_fork()
