"""One renewal per token key: fresh, due and expired tokens, renewals under way, failures remembered.

The warm path takes no lock: a look-up, a reading of the clocks, a comparison. All else is decided under one lock that is
never held over I/O or an await. Renewals run on the valet's own threads and belong to no caller: whoever waits, waits on
a future, and may stop waiting without anybody noticing.
"""

from __future__ import annotations

import random
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass

from .core.policy import FORCED_RENEWAL_SPACING, PROBE_PATIENCE, back_off
from .core.token import AccessToken, Moment
from .errors import TokenRequestError, TokenValetError, ValetClosedError
from .named_client import Clock, Ticket
from .observe import Event, Observers
from .workers import Workers

__all__ = ["Renewer", "Waiting"]

GRACE_SECONDS = 1.0
DEFAULT_CAPACITY = 131_072


class _Entry:
    """What is known of one token key."""

    __slots__ = ("failed_at", "failure", "failures", "forced_at", "retry_at", "token")

    def __init__(self) -> None:
        self.token: AccessToken | None = None
        self.failure: TokenValetError | None = None
        self.failures = 0
        self.failed_at = 0.0
        self.retry_at = float("-inf")
        self.forced_at = float("-inf")


class _Renewal:
    """A renewal under way."""

    __slots__ = ("cause", "entry", "future", "started")

    def __init__(self, cause: str, entry: _Entry, started: float) -> None:
        self.cause = cause
        self.entry = entry
        self.started = started
        self.future: Future[AccessToken] = Future()


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a caller waits for: the future of a renewal, for so many seconds, and the error after that."""

    future: Future[AccessToken]
    seconds: float
    otherwise: TokenValetError

    def result(self) -> AccessToken:
        """Return what the future, which is done, holds, or raise its error as one of this caller's own."""
        error = self.future.exception()
        if error is None:
            return self.future.result()
        raise error.fresh() if isinstance(error, TokenValetError) else error


class Renewer:
    """The tokens of one valet and the only place where they are renewed.

    Args:
        clock: reads both clocks.
        observers: who is told.
        capacity: how many token keys are kept; the least recently used go first.
    """

    def __init__(self, clock: Clock, observers: Observers, *, capacity: int = DEFAULT_CAPACITY) -> None:
        self._clock = clock
        self._observers = observers
        self._capacity = capacity
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._under_way: dict[str, _Renewal] = {}
        self._lock = threading.Lock()
        self._workers = Workers()
        self._closed = False

    def fresh(self, ticket: Ticket) -> AccessToken | None:
        """Return the token if it is fresh: the warm path."""
        entry = self._entries.get(ticket.key)
        if entry is None:
            return None
        token = entry.token
        if token is None or token.generation != ticket.client.generation or not token.is_fresh(self._clock()):
            return None
        try:  # noqa: SIM105  a context manager would cost more than the rest of this path
            self._entries.move_to_end(ticket.key)
        except KeyError:  # evicted in between; the token is as good as before
            pass
        return token

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
            token = self._usable(entry, ticket, now)
            renewal = self._under_way.get(ticket.key)
            started: _Renewal | None = None
            told: list[tuple[str, str]] = []
            if force and (renewal is not None or now.monotonic - entry.forced_at >= FORCED_RENEWAL_SPACING):
                if renewal is None:
                    entry.forced_at = now.monotonic
                    started = renewal = self._start(ticket, entry, "forced", now)
                waiting: AccessToken | Waiting = self._waiting(ticket, entry, renewal, now)
            elif token is not None:
                if renewal is None and not token.is_fresh(now) and now.monotonic >= entry.retry_at:
                    started = self._start(ticket, entry, "due", now)
                told.append(("cache_hit", "" if token.is_fresh(now) else "due"))
                waiting = token
            else:
                if renewal is None:
                    if entry.failure is not None and now.monotonic < entry.retry_at:
                        raise entry.failure.fresh()
                    cause = "missing" if entry.token is None else "expired"
                    started = renewal = self._start(ticket, entry, cause, now)
                    told.append(("cache_miss", cause))
                told.append(("wait", renewal.cause))
                waiting = self._waiting(ticket, entry, renewal, now)
        if started is not None:
            self._submit(ticket, started)
        if self._observers.every_call:
            for name, cause in told:
                self._tell(name, ticket, cause=cause)
        return waiting

    def replace(self, ticket: Ticket, rejected: AccessToken) -> AccessToken | Waiting | None:
        """Return a token to use in the place of one that an API rejected, or what to wait for.

        None means that there is none to be had now: the last forced renewal of this key is less than ten seconds old.
        """
        with self._lock:
            self._check_open()
            now = self._clock()
            entry = self._entry(ticket.key)
            token = self._usable(entry, ticket, now)
            if token is not None and token is not rejected:
                return token
            renewal = self._under_way.get(ticket.key)
            started: _Renewal | None = None
            if renewal is None:
                if now.monotonic - entry.forced_at < FORCED_RENEWAL_SPACING:
                    return None
                entry.forced_at = now.monotonic
                started = renewal = self._start(ticket, entry, "rejected", now)
            waiting = Waiting(renewal.future, ticket.client.config.timeout + GRACE_SECONDS, self._too_late(ticket))
        if started is not None:
            self._submit(ticket, started)
        self._tell("wait", ticket, cause="rejected")
        return waiting

    def close(self) -> None:
        """Start nothing more, and give everybody who waits a clear error."""
        with self._lock:
            self._closed = True
            under_way, self._under_way = list(self._under_way.values()), {}
            self._entries.clear()
        self._workers.close()
        for renewal in under_way:
            _fail(renewal.future, ValetClosedError("the valet was closed while a token was being renewed"))

    def after_fork(self) -> None:
        """Begin anew in a forked child: the threads are gone, and locks may be held by nobody. Tokens stay."""
        self._lock = threading.Lock()
        self._under_way = {}
        self._workers = Workers()

    def _check_open(self) -> None:
        if self._closed:
            raise ValetClosedError("the valet is closed: ask it for tokens and clients before it is, or make a new one")

    def _entry(self, key: str) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
            self._make_room()
        else:
            self._entries.move_to_end(key)
        return entry

    def _make_room(self) -> None:
        # A key with a renewal under way is passed over, or a second renewal could start beside the first.
        passed = 0
        while len(self._entries) > self._capacity and passed <= len(self._under_way):
            key, entry = self._entries.popitem(last=False)
            if key in self._under_way:
                self._entries[key] = entry
                passed += 1

    def _usable(self, entry: _Entry, ticket: Ticket, now: Moment) -> AccessToken | None:
        token = entry.token
        if token is None or token.generation != ticket.client.generation or token.is_expired(now):
            return None
        return token

    def _waiting(self, ticket: Ticket, entry: _Entry, renewal: _Renewal, now: Moment) -> Waiting:
        limit = ticket.client.config.timeout + GRACE_SECONDS
        failure = entry.failure
        # A failure that nobody has tested for longer than its own interval tells little of the server of now.
        if failure is not None and renewal.started - entry.retry_at <= max(entry.retry_at - entry.failed_at, 1.0):
            patience = max(0.0, renewal.started + PROBE_PATIENCE - now.monotonic)
            return Waiting(renewal.future, min(patience, limit), failure)
        return Waiting(renewal.future, limit, self._too_late(ticket))

    def _too_late(self, ticket: Ticket) -> TokenRequestError:
        client = ticket.client
        return TokenRequestError(
            f"client {client.name!r}: no token within {client.config.timeout:g} s: is the token endpoint slow, or this "
            "process too busy?",
            code="token_request_timeout",
        )

    def _start(self, ticket: Ticket, entry: _Entry, cause: str, now: Moment) -> _Renewal:
        renewal = self._under_way[ticket.key] = _Renewal(cause, entry, now.monotonic)
        return renewal

    def _submit(self, ticket: Ticket, renewal: _Renewal) -> None:
        # Outside the lock, since the thread that runs it will want the lock.
        if not self._workers.submit(ticket.client.lane, lambda: self._run(ticket, renewal)):
            _fail(renewal.future, ValetClosedError("the valet was closed while a token was being renewed"))

    def _run(self, ticket: Ticket, renewal: _Renewal) -> None:
        began = time.monotonic()
        self._tell("renewal_started", ticket, cause=renewal.cause)
        token: AccessToken | None = None
        failure: TokenValetError | None = None
        try:
            token = ticket.client.renew(ticket, first=renewal.cause in ("missing", "expired"))
        except TokenValetError as error:
            failure = error.fresh()
        except Exception as error:  # noqa: BLE001  whatever it is, nobody may be left waiting
            failure = TokenRequestError(
                f"client {ticket.client.name!r}: the renewal broke with {type(error).__name__}, which is a fault of "
                "tokenvalet or of a callable that was configured",
                code="renewal_broke",
            )
        pause = self._settle(ticket, renewal, token, failure)
        seconds = time.monotonic() - began
        if token is not None:
            self._tell("token_cached", ticket, cause=renewal.cause, seconds=token.lifetime)
            if not renewal.future.done():
                _succeed(renewal.future, token)
        elif failure is not None:
            detail = f"after {seconds:.3f} s: {failure}"
            self._tell("renewal_failed", ticket, cause=renewal.cause, seconds=pause, code=failure.code, detail=detail)
            _fail(renewal.future, failure)

    def _settle(
        self, ticket: Ticket, renewal: _Renewal, token: AccessToken | None, failure: TokenValetError | None
    ) -> float:
        """File what a renewal brought. Returns the seconds that the server is left alone after a failure."""
        with self._lock:
            if self._under_way.get(ticket.key) is not renewal:
                return 0.0  # closed meanwhile
            del self._under_way[ticket.key]
            entry = renewal.entry
            now = self._clock().monotonic
            if token is not None:
                # One without any lifetime serves those who waited for it, and nobody else.
                if token.lifetime > 0:
                    entry.token = token
                entry.failure, entry.failures, entry.retry_at = None, 0, float("-inf")
                return 0.0
            assert failure is not None
            entry.failures += 1
            pause = back_off(failure, entry.failures, random.random())
            entry.failure, entry.failed_at, entry.retry_at = failure, now, now + pause
            return pause

    def _tell(
        self,
        name: str,
        ticket: Ticket,
        *,
        cause: str = "",
        seconds: float | None = None,
        code: str | None = None,
        detail: str = "",
    ) -> None:
        event = Event(name=name, client=ticket.client.name, cause=cause, seconds=seconds, code=code, detail=detail)
        self._observers.tell(event)


def _succeed(future: Future[AccessToken], token: AccessToken) -> None:
    if not future.done():
        future.set_result(token)


def _fail(future: Future[AccessToken], error: TokenValetError) -> None:
    if not future.done():
        future.set_exception(error)
