"""The store as the renewer sees it: sealed, never in the way, and left alone for a while when it is in trouble.

Nothing that a store does is an error here. It is away, or what it holds cannot be used, and then the process goes on with
its own cache; either is told once and not once per call.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from .core.messages import Lease, StoreReply
from .observe import Event, Observers
from .stores.protocol import Entry, Store, StoreError
from .stores.sealing import Sealer, SealingFault

__all__ = ["Shelf"]

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
LONGEST_VALUE = 64 * 1024

logger = logging.getLogger("tokenvalet")
_T = TypeVar("_T")
_AWAY = StoreReply(away=True)


class Shelf:
    """A store, its encryption keys, and whether it can be asked at the moment. Safe to use from several threads.

    Args:
        store: where values are.
        sealer: returns what seals and opens them, as of now; None where they are kept in clear.
        observers: who is told.
        clock: monotonic seconds.
        jitter: gives random numbers from 0 to 1.
    """

    def __init__(
        self,
        store: Store,
        sealer: Callable[[], Sealer] | None,
        observers: Observers,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._observers = observers
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()
        self._failures = 0
        self._ask_again = float("-inf")
        self._asking = 0
        self._closed = False

    def recall(self, client: str, key: str) -> StoreReply:
        """Return what the store holds under a token key."""
        done, entry = self._ask(client, lambda: _entry(self._store.read(self._name(key))))
        return self._reply(client, key, entry, Lease.NOT_ASKED) if done else _AWAY

    def claim(self, client: str, key: str, owner: str, seconds: float) -> StoreReply:
        """Take or prolong the lease of a token key, and return what the store holds."""
        done, answer = self._ask(client, lambda: _claimed(self._store.claim(self._name(key), owner, seconds)))
        if not done or answer is None:
            return _AWAY
        lease, entry = answer
        return self._reply(client, key, entry, lease)

    def keep(self, client: str, key: str, owner: str, content: bytes, seconds: float) -> None:
        """Store `content` for so many seconds, and give the lease back."""
        value = self._sealer().seal(content, key) if self._sealer is not None else content
        if len(value) > LONGEST_VALUE:
            self.release(client, key, owner, 0.0)
            return
        self._ask(client, lambda: self._store.write(self._name(key), value, seconds, owner))

    def release(self, client: str, key: str, owner: str, pause: float) -> None:
        """Give the lease back; for `pause` seconds nobody may have it."""
        self._ask(client, lambda: self._store.release(self._name(key), owner, pause))

    def close(self) -> None:
        """Close the store, whatever it says to that; when it is being asked, as soon as it has answered.

        A renewal that the end of the valet cuts short gives its lease back after that, and the store is closed once more.
        """
        with self._lock:
            self._closed = True
            self._close_if_idle()

    def after_fork(self) -> None:
        """Take a new lock: the old one may have been held when the process forked, and those who asked are gone."""
        self._lock = threading.Lock()
        self._asking = 0

    def _name(self, key: str) -> str:
        return self._sealer().name(key) if self._sealer is not None else key

    def _ask(self, client: str, ask: Callable[[], _T]) -> tuple[bool, _T | None]:
        with self._lock:
            if self._clock() < self._ask_again:
                return False, None
            if self._failures:
                # One asks whether it is back, and the others go on without it meanwhile.
                self._ask_again = self._clock() + self._pause(self._failures)
            asked_after = self._failures
            self._asking += 1
        try:
            answer = ask()
        except StoreError as error:
            self._failed(client, str(error), asked_after)
            return False, None
        except Exception as error:  # noqa: BLE001  a store of the user's own may raise anything, and is away all the same
            self._failed(client, type(error).__name__, asked_after)
            return False, None
        finally:
            with self._lock:
                self._asking -= 1
                self._close_if_idle()
        if asked_after:
            with self._lock:
                is_back = self._failures == asked_after
                if is_back:
                    self._failures, self._ask_again = 0, float("-inf")
            if is_back:
                self._observers.tell(Event(name="store_back", client=client))
        return True, answer

    def _close_if_idle(self) -> None:
        # Under the lock, so that nobody begins to ask a store that is being closed.
        if not self._closed or self._asking:
            return
        try:
            self._store.close()
        except Exception as error:  # noqa: BLE001  the end is not the time for errors of others
            logger.debug("the store could not be closed: %s", type(error).__name__)

    def _failed(self, client: str, reason: str, asked_after: int) -> None:
        with self._lock:
            # Of those who asked side by side one counts, or the first trouble would look like the tenth in a row.
            if self._failures != asked_after:
                return
            self._failures += 1
            first = self._failures == 1
            pause = self._pause(self._failures)
            self._ask_again = self._clock() + pause
        if first:
            detail = f"{reason}; going on without it"
            self._observers.tell(Event(name="store_away", client=client, seconds=pause, detail=detail))

    def _pause(self, failures: int) -> float:
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 16)) * (0.8 + 0.2 * self._jitter())

    def _reply(self, client: str, key: str, entry: Entry | None, lease: Lease) -> StoreReply:
        if entry is None or len(entry.value) > LONGEST_VALUE:
            return StoreReply(lease=lease)
        if self._sealer is None:
            return StoreReply(content=entry.value, left=entry.left, lease=lease)
        try:
            return StoreReply(content=self._sealer().open(entry.value, key), left=entry.left, lease=lease)
        except SealingFault as fault:
            self._observers.tell(Event(name="store_value_refused", client=client, detail=str(fault)))
            return StoreReply(lease=lease)


def _entry(answer: object) -> Entry | None:
    """Return what a store answered, if it is what a store may answer: it may be one of the user's own."""
    if answer is None:
        return None
    if isinstance(answer, tuple) and len(answer) == 2:
        value, left = answer
        if isinstance(value, bytes) and isinstance(left, int | float) and math.isfinite(left):
            return Entry(value, left) if left > 0 else None
    raise StoreError("it answered what is no entry")


def _claimed(answer: object) -> tuple[Lease, Entry | None]:
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], Lease):
        return answer[0], _entry(answer[1])
    raise StoreError("it answered what is no lease")
