"""One renewal per token key: fresh, due and expired tokens, renewals under way, failures remembered.

The warm path takes no lock: a look-up, a reading of the clocks, a comparison. All else is decided under one lock, never held
over I/O or an await. Renewals run on the valet's own threads and belong to no caller: whoever waits, waits on a future.
"""

from __future__ import annotations

import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from .at_hand import AtHand
from .core.policy import FORCED_RENEWAL_SPACING, PROBE_PATIENCE, back_off, hurried, look_again
from .core.sharing import FORCED_CAUSES
from .core.token import AccessToken, Moment
from .errors import TokenValetError, ValetClosedError
from .named_client import Renewed, Ticket, Wish
from .observe import Event, Observers
from .pending import Entry, Glance, Renewal, Waiting, broken, too_late
from .surroundings import Clock, readers_of
from .workers import Executor, Workers

__all__ = ["Renewer", "Waiting"]

GRACE_SECONDS = 1.0
DEFAULT_CAPACITY = 131_072
MOST_SPARED = 16


class Renewer:
    """The tokens of one valet and the only place where they are renewed.

    Args:
        clock: reads both clocks.
        observers: who is told.
        capacity: how many token keys are kept; the least recently used go first.
        jitter: gives random numbers from 0 to 1.
        workers: makes what renewals run on.
    """

    def __init__(
        self,
        clock: Clock,
        observers: Observers,
        *,
        capacity: int = DEFAULT_CAPACITY,
        jitter: Callable[[], float] = random.random,
        workers: Callable[[], Executor] = Workers,
    ) -> None:
        self._clock = clock
        self._monotonic, self._wall = readers_of(clock)
        self._observers = observers
        self._capacity = capacity
        # Whether each use of a token is to be noted: some may have to go, and the least recently used go first.
        self.must_be_asked = False
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._under_way: dict[str, Renewal] = {}
        self._lock = threading.Lock()
        self._jitter = jitter
        self._make_workers = workers
        self._workers = workers()
        self._closed = False

    def fresh(self, ticket: Ticket) -> AccessToken | None:
        """Return the token if it is fresh: the warm path."""
        entry = self._entries.get(ticket.key)
        token = entry.token if entry is not None else None
        if token is None or token.serial < ticket.client.valid_from:
            return None
        due = token.due
        if self._monotonic() >= due[0] or self._wall() >= due[1]:  # as `is_fresh` says, in fewer steps
            return None
        if self.must_be_asked:
            try:  # noqa: SIM105  a context manager would cost more than the rest of this path
                self._entries.move_to_end(ticket.key)
            except KeyError:  # evicted in between; the token is as good as before
                pass
        return token

    def at_hand(self, ticket: Ticket) -> AtHand | None:
        """Return the token if it is fresh, to be sent without asking here as long as it is current; None: ask."""
        if self.must_be_asked or self._observers.every_call:
            return None
        entry, token = self._entries.get(ticket.key), self.fresh(ticket)
        return AtHand(self, ticket.client, entry, token) if entry is not None and token is not None else None

    def get(self, ticket: Ticket) -> AccessToken | Waiting:
        """Return a token that can be used, or what to wait for.

        Raises:
            TokenValetError: the failure of the last renewal, while the server is left alone.
            ValetClosedError: the valet is closed.
        """
        force = ticket.force
        token = None if force else self.fresh(ticket)
        if token is not None:
            if self._observers.every_call:
                self._tell("cache_hit", ticket, seconds=token.seconds_left(self._clock()))
            return token
        with self._lock:
            self._check_open()
            now = self._clock()
            entry = self._entry(ticket.key)
            token = self._usable(entry.token, ticket, now)
            renewal = self._under_way.get(ticket.key)
            started: Renewal | None = None
            told: list[tuple[str, str, float | None]] = []
            if force and (renewal is not None or now.monotonic - entry.forced_at >= FORCED_RENEWAL_SPACING):
                if renewal is None:
                    entry.forced_at = now.monotonic
                    started = renewal = self._start(ticket, entry, "forced", now)
                told.append(("wait", renewal.cause, None))
                waiting: AccessToken | Waiting = self._waiting(ticket, entry, renewal, now)
            elif token is not None:
                if renewal is None and not token.is_fresh(now) and now.monotonic >= entry.retry_at:
                    started = self._start(ticket, entry, "due", now)
                told.append(("cache_hit", "" if token.is_fresh(now) else "due", token.seconds_left(now)))
                waiting = token
            else:
                if renewal is None:
                    self._check_failure(entry, now)
                    cause = "missing" if entry.token is None else "expired"
                    started = renewal = self._start(ticket, entry, cause, now)
                    told.append(("cache_miss", cause, None))
                told.append(("wait", renewal.cause, None))
                waiting = self._waiting(ticket, entry, renewal, now)
        # Told before the renewal can begin, so that a listener hears of a cause before its effect.
        if self._observers.every_call:
            number = renewal.number if renewal is not None else None
            for name, cause, seconds in told:
                self._tell(name, ticket, cause=cause, seconds=seconds, renewal=number)
        if started is not None:
            self._submit(ticket, started)
        return waiting

    def replace(self, ticket: Ticket, rejected: AccessToken) -> AccessToken | Waiting | None:
        """Return a token to use in the place of one that an API rejected, or what to wait for.

        None means that there is none to be had now: the last forced renewal of this key is less than ten seconds old.

        Raises:
            TokenValetError: the rejected token has expired too, and the last renewal failed a moment ago.
        """
        with self._lock:
            self._check_open()
            now = self._clock()
            entry = self._entry(ticket.key)
            token = self._usable(entry.token, ticket, now)
            if token is not None and token is not rejected:
                return token
            renewal = self._under_way.get(ticket.key)
            started: Renewal | None = None
            if renewal is None:
                if token is None and entry.token is not None:
                    # It has expired meanwhile, so that this is no forced renewal, and failures count.
                    self._check_failure(entry, now)
                    started = renewal = self._start(ticket, entry, "expired", now)
                elif now.monotonic - entry.forced_at < FORCED_RENEWAL_SPACING:
                    return None
                else:
                    entry.forced_at = now.monotonic
                    started = renewal = self._start(ticket, entry, "rejected", now, rejected)
            renewal.awaited = True
            if token is not None:
                entry.set_aside, entry.token = token, None
            waiting = Waiting(renewal.future, ticket.client.config.timeout + GRACE_SECONDS, too_late(ticket.client))
        self._tell("wait", ticket, cause=renewal.cause, renewal=renewal.number)
        if started is not None:
            self._submit(ticket, started)
        return waiting

    def look(self, ticket: Ticket) -> Glance:
        """Return what there is, without starting anything or telling anybody."""
        with self._lock:
            now = self._clock()
            entry = self._entries.get(ticket.key) or Entry()
            token = self._usable(entry.token, ticket, now) or self._usable(entry.set_aside, ticket, now)
            return Glance.at(now, entry, token, under_way=ticket.key in self._under_way)

    def close(self) -> None:
        """Start nothing more, and give everybody who waits a clear error."""
        with self._lock:
            self._closed = self.must_be_asked = True
            under_way, self._under_way = list(self._under_way.values()), {}
            self._entries.clear()
        self._workers.close()
        for renewal in under_way:
            renewal.fail(ValetClosedError("the valet was closed while a token was being renewed"))

    def after_fork(self) -> None:
        """Begin anew in a forked child: the threads are gone, and locks may be held by nobody. Tokens stay."""
        self._lock = threading.Lock()
        for renewal in self._under_way.values():
            renewal.entry.take_back()
        self._under_way = {}
        self._workers = self._make_workers()

    def _check_open(self) -> None:
        if self._closed:
            raise ValetClosedError("the valet is closed: ask it for tokens and clients before it is, or make a new one")

    def _check_failure(self, entry: Entry, now: Moment) -> None:
        if entry.failure is not None and now.monotonic < entry.retry_at:
            raise entry.failure.fresh()

    def _entry(self, key: str) -> Entry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry()
            self._make_room(key)
        else:
            self._entries.move_to_end(key)
        return entry

    def _make_room(self, newest: str | None = None) -> None:
        # Keys with a renewal under way are spared, or what it brings would be lost; they count when it has ended.
        most = self._capacity + len(self._under_way)
        spared: list[tuple[str, Entry]] = []
        while self._entries and len(self._entries) + len(spared) > most and len(spared) < MOST_SPARED:
            key, entry = self._entries.popitem(last=False)
            if key in self._under_way or key == newest:
                spared.append((key, entry))
            else:
                entry.token = None  # for those who look at the entry alone
        # After so many that hang in a row, they go to the end, so that the next call looks at others.
        in_front = len(spared) < MOST_SPARED
        for key, entry in reversed(spared) if in_front else spared:
            self._entries[key] = entry
            self._entries.move_to_end(key, last=not in_front)
        self.must_be_asked = len(self._entries) > self._capacity // 2

    def _usable(self, token: AccessToken | None, ticket: Ticket, now: Moment) -> AccessToken | None:
        if token is None or token.serial < ticket.client.valid_from or token.is_expired(now):
            return None
        return token

    def _waiting(self, ticket: Ticket, entry: Entry, renewal: Renewal, now: Moment) -> Waiting:
        limit = ticket.client.config.timeout + GRACE_SECONDS
        patience = min(max(0.0, renewal.started + PROBE_PATIENCE - now.monotonic), limit)
        renewal.awaited = True
        set_aside = self._usable(entry.set_aside, ticket, now)
        if set_aside is not None and not ticket.force:
            return Waiting(renewal.future, patience, too_late(ticket.client), set_aside)
        failure = entry.failure
        # A failure that nobody has tested for longer than its own interval tells little of the server of now.
        if failure is not None and renewal.started - entry.retry_at <= max(entry.retry_at - entry.failed_at, 1.0):
            return Waiting(renewal.future, patience, failure)
        return Waiting(renewal.future, limit, too_late(ticket.client))

    def _start(
        self, ticket: Ticket, entry: Entry, cause: str, now: Moment, rejected: AccessToken | None = None
    ) -> Renewal:
        former = rejected if rejected is not None else entry.token
        renewal = self._under_way[ticket.key] = Renewal(cause, entry, former, now.monotonic)
        return renewal

    def _submit(self, ticket: Ticket, renewal: Renewal) -> None:
        # Outside the lock, since the thread that runs it will want the lock.
        try:
            taken = self._workers.submit(ticket.client.lane, lambda: self._run(ticket, renewal))
        except RuntimeError as error:
            self._conclude(ticket, renewal, None, broken(ticket.client, error), 0.0)
            return
        if not taken:
            renewal.fail(ValetClosedError("the valet was closed while a token was being renewed"))

    def _run(self, ticket: Ticket, renewal: Renewal) -> None:
        began = time.monotonic()
        self._tell("renewal_started", ticket, cause=renewal.cause, renewal=renewal.number)
        renewed: Renewed | None = None
        failure: TokenValetError | None = None
        # Only the first of several renewals in a row that fail is worth further attempts: after it, the intervals count.
        wish = Wish(
            cause=renewal.cause,
            first=renewal.cause in ("missing", "expired") and not renewal.entry.failures,
            former=renewal.former,
            began=renewal.started,
            awaited=lambda: renewal.awaited,
            number=renewal.number,
        )
        try:
            while renewed is None:
                renewed = ticket.client.renew(ticket, wish)
                if renewed is None and self._leave_to_others(ticket, renewal):
                    self._end(renewal, ticket, "renewal_left", time.monotonic() - began)
                    return
        except TokenValetError as error:
            failure = error.fresh()
        except BaseException as error:  # noqa: BLE001  whatever it is, nobody may be left waiting; the thread is ours
            failure = broken(ticket.client, error)
        self._conclude(ticket, renewal, renewed, failure, time.monotonic() - began)

    def _leave_to_others(self, ticket: Ticket, renewal: Renewal) -> bool:
        """End a renewal that another process is about, and look again soon. Returns False if somebody waits by now."""
        with self._lock:
            if self._under_way.get(ticket.key) is not renewal:
                return True
            if renewal.awaited:
                return False
            del self._under_way[ticket.key]
            now = self._clock()
            left = renewal.former.seconds_left(now) if renewal.former is not None else 0.0
            renewal.entry.retry_at = now.monotonic + look_again(left, self._jitter())
            self._make_room()
            return True

    def _conclude(
        self,
        ticket: Ticket,
        renewal: Renewal,
        renewed: Renewed | None,
        failure: TokenValetError | None,
        seconds: float,
    ) -> None:
        token = renewed.token if renewed is not None else None
        pause = self._settle(ticket, renewal, renewed, failure)
        if pause is None:
            self._end(renewal, ticket, "renewal_left", seconds)
        elif renewed is not None and token is not None:
            if renewed.from_store:
                self._end(renewal, ticket, "store_hit", seconds, left=token.seconds_left(self._clock()))
            else:
                self._end(renewal, ticket, "token_cached", seconds, left=token.lifetime)
            renewal.succeed(token)
        elif failure is not None:
            detail = f"after {seconds:.3f} s: {failure}"
            self._end(renewal, ticket, "renewal_failed", seconds, left=pause, code=failure.code, detail=detail)
            renewal.fail(failure)

    def _end(
        self,
        renewal: Renewal,
        ticket: Ticket,
        name: str,
        took: float,
        *,
        left: float | None = None,
        code: str | None = None,
        detail: str = "",
    ) -> None:
        self._observers.tell(
            Event(
                name=name,
                client=ticket.client.name,
                cause=renewal.cause,
                seconds=left,
                code=code,
                detail=detail,
                duration=took,
                renewal=renewal.number,
            )
        )

    def _settle(
        self, ticket: Ticket, renewal: Renewal, renewed: Renewed | None, failure: TokenValetError | None
    ) -> float | None:
        """File what a renewal brought. Returns the seconds that the server is left alone; None: closed meanwhile."""
        with self._lock:
            if self._under_way.get(ticket.key) is not renewal:
                return None
            del self._under_way[ticket.key]
            entry = renewal.entry
            moment = self._clock()
            now = moment.monotonic
            self._make_room()
            if renewed is not None:
                token = renewed.token
                if renewed.from_store and renewal.cause in FORCED_CAUSES:
                    # The server was asked when another process forced it, if it was at all.
                    entry.forced_at = token.obtained if renewed.forced else float("-inf")
                entry.set_aside = None
                # One without any lifetime serves those who waited for it, and nobody else.
                if token.lifetime > 0:
                    entry.token = token
                entry.failure, entry.failures, entry.retry_at = None, 0, float("-inf")
                return 0.0
            entry.take_back()
            assert failure is not None
            if failure.code == "renewal_spaced":
                # Another process has forced one a moment ago, so that the next of ours counts from now.
                entry.forced_at = now
                return 0.0
            entry.failures += 1
            pause = back_off(failure, entry.failures, self._jitter())
            held = self._usable(entry.token, ticket, moment)
            if held is not None:
                pause = hurried(pause, failure, held.seconds_left(moment), held.lifetime)
            entry.failure, entry.failed_at, entry.retry_at = failure, now, now + pause
            return pause

    def _tell(
        self, name: str, ticket: Ticket, *, cause: str = "", seconds: float | None = None, renewal: int | None = None
    ) -> None:
        self._observers.tell(Event(name=name, client=ticket.client.name, cause=cause, seconds=seconds, renewal=renewal))
