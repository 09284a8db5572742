"""Who may fail during a soak, and who may not: what callers saw, held against what the servers were told to do.

A call may fail while no token could be had, and that is: the client has none that lives, and the last renewal met a server
that was in trouble, is under way with one, or its interval is not over. A 401 may be handed to a caller while the API
rejects everything, and for the ten seconds between two forced renewals where the first met a server in trouble.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from tokenvalet import Event, TokenValetError
from tokenvalet.core.policy import FLEET_PAUSE, FORCED_RENEWAL_SPACING

__all__ = ["Judge", "Troubled"]

MOST_FAILURES = 32
MOST_TOLD = 20
# Between what a process decides and what is heard of it, and between a server that is told something and does it.
SLACK = 0.5


class Troubled(Protocol):
    """What the judge knows of the troubles."""

    def touches(self, place: str, begin: float, end: float, *, kind: str = "") -> bool:
        """Tell whether anything, or that, was wrong there between two moments of the monotonic clock."""
        ...


class _Failure(NamedTuple):
    """A renewal that failed: when, until when that is remembered, and whether the server was in trouble."""

    end: float
    until: float
    excused: bool


class _Known:
    """What is known of one client of one valet."""

    __slots__ = ("began", "end", "failures")

    def __init__(self) -> None:
        self.began: float | None = None
        self.end = float("-inf")
        self.failures: deque[_Failure] = deque(maxlen=MOST_FAILURES)


class Judge:
    """Counts what came of every call. What it keeps does not grow, or it would be found in what it measures.

    Args:
        spells: when something was wrong.
        clock: monotonic seconds.

    Attributes:
        counts: for each valet, how many calls ended how.
        broken: what must not happen and did, a sentence each.
    """

    def __init__(self, spells: Troubled, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self.broken: list[str] = []
        self._spells = spells
        self._clock = clock
        self._known: dict[tuple[str, str], _Known] = {}
        self._lock = threading.Lock()

    def listener(self, valet: str) -> Callable[[Event], None]:
        """Return an observer for one valet."""

        def hear(event: Event) -> None:
            with self._lock:
                self._hear(valet, event, self._clock())

        return hear

    def forget(self, valet: str, client: str) -> None:
        """Forget a client that has left."""
        with self._lock:
            self._known.pop((valet, client), None)

    def answered(self, valet: str, client: str, began: float, status: int) -> bool:
        """Judge an answer of the API. Returns whether it was a good one."""
        now = self._clock()
        if status == 401:
            self._count(valet, "401s", "a caller sees a 401", client, now, self._may_be_401(valet, client, began, now))
        elif status == 503:
            self._api(valet, client, began, now, "503")
        elif status == 200:
            self._count(valet, "good")
        else:
            self._count(valet, "broken", f"the API answered {status}", client, now, False)
        return status == 200

    def refused(self, valet: str, client: str, began: float, error: TokenValetError) -> None:
        """Judge an error that a caller got instead of a token."""
        now = self._clock()
        may, what = self._may_fail(valet, client, began, now), ""
        if not may:
            known = self._known.get((valet, client), _Known())
            last = f"{now - known.failures[-1].end:.2f} s ago" if known.failures else "never"
            what = f"a call fails {now - known.end:.2f} s after the end of its token ({error}; a renewal failed {last})"
        self._count(valet, "no token", what, client, now, may)

    def broke(self, valet: str, client: str, began: float, error: Exception) -> None:
        """Judge a connection to the API that broke."""
        self._api(valet, client, began, self._clock(), type(error).__name__)

    def cancelled(self, valet: str) -> None:
        """Count a call that its caller gave up."""
        self._count(valet, "cancelled")

    def _api(self, valet: str, client: str, began: float, now: float, what: str) -> None:
        may = self._spells.touches("api", began - SLACK, now)
        self._count(valet, "the API's own", f"the API, which is in no trouble, gives {what}", client, now, may)

    def _count(
        self, valet: str, what: str, told: str = "", client: str = "", now: float = 0.0, may: bool = True
    ) -> None:
        with self._lock:
            self.counts.setdefault(valet, Counter())[what if may else "broken"] += 1
            if not may and len(self.broken) < MOST_TOLD:
                self.broken.append(f"{valet}, client {client}, at {now:.2f} s: {told}, although a token could be had")

    def _hear(self, valet: str, event: Event, now: float) -> None:
        if event.name == "wait":
            self.counts.setdefault(valet, Counter())["waits"] += 1
            return
        if event.name not in ("renewal_started", "token_cached", "store_hit", "renewal_failed"):
            return
        known = self._known.setdefault((valet, event.client), _Known())
        if event.name == "renewal_started":
            known.began = now
            return
        assert event.seconds is not None
        began = known.began if known.began is not None else now
        known.began = None
        if event.name == "renewal_failed":
            excused = self._spells.touches("auth", began - SLACK, now)
            if event.code == "token_request_failed_elsewhere":
                excused = self._failed_elsewhere(valet, event.client, began - 2 * FLEET_PAUSE)
            known.failures.append(_Failure(now, now + event.seconds, excused))
        else:
            # A lifetime counts from before the request was sent, and not from the answer.
            known.end = (began if event.name == "token_cached" else now) + event.seconds - 0.01

    def _may_fail(self, valet: str, client: str, began: float, now: float) -> bool:
        with self._lock:
            known = self._known.get((valet, client))
            if known is None or known.end > now:
                return False
            return self._met_trouble(known, now, lambda failure: failure.until + SLACK >= began)

    def _may_be_401(self, valet: str, client: str, began: float, now: float) -> bool:
        if self._spells.touches("tokens", began, now, kind="rejected"):
            return True
        with self._lock:
            known = self._known.get((valet, client))
            if known is None:
                return False
            spaced = FORCED_RENEWAL_SPACING + SLACK
            return self._met_trouble(
                known, now, lambda failure: max(failure.until + SLACK, failure.end + spaced) >= began
            )

    def _met_trouble(self, known: _Known, now: float, counts: Callable[[_Failure], bool]) -> bool:
        """Whether a server in trouble was met by a renewal that failed and counts, or by the one that is under way."""
        if known.began is not None and self._spells.touches("auth", known.began, now):
            return True
        return any(failure.excused and counts(failure) for failure in known.failures)

    def _failed_elsewhere(self, valet: str, client: str, since: float) -> bool:
        """Whether a valet that shares the store with this one, or this one itself, met a server in trouble then."""
        store = valet.split()[0]
        sharing = [
            known for (other, name), known in self._known.items() if other.split()[0] == store and name == client
        ]
        # The lease is given back a moment before it is told that the renewal has failed.
        return any(
            known.began is not None and self._spells.touches("auth", known.began, self._clock()) for known in sharing
        ) or any(failure.excused and failure.end >= since for known in sharing for failure in known.failures)
