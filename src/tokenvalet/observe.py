"""What happened, told to whoever listens: an event is a small frozen value without a secret in it.

Standard logging is one listener, made here; others are callables that take an `Event`. A listener that raises is told to
the log once in a while and changes nothing. What goes wrong a thousand times a second, or for a thousand tenants at once,
is a few warnings in ten seconds, each with the number of those that were left out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from .errors import shown

__all__ = ["EVENT_NAMES", "Event", "Observer", "Observers", "log_event", "observed_everywhere"]

logger = logging.getLogger("tokenvalet")

EVENT_NAMES = (
    "cache_hit",  # a fresh token was used
    "cache_miss",  # there was no token, or it has expired
    "wait",  # a caller waits for a renewal
    "renewal_started",  # cause: missing, expired, due, rejected, forced
    "token_request",  # a request went to the token endpoint or for metadata
    "token_cached",  # a renewal brought a token
    "renewal_failed",  # it did not; seconds: how long the server is left alone
    "renewal_left",  # another process is about it, or the valet was closed meanwhile
    "call_sent",  # a request went to the API; detail: method, path and status
    "call_retried",  # cause: nonce, renewed
    "call_rejected",  # the API said 401, and it could not be put right
    "call_refused",  # a request was refused before anything was sent
    "endpoint_changed",  # the metadata names another token endpoint than before
    "store_hit",  # a token that another process had got was taken from the store; seconds: what life it has left
    "store_away",  # the store cannot be used; seconds: how long it is left alone at first
    "store_back",  # the store can be used again
    "store_value_refused",  # the store holds something that cannot be opened
)
_WARNINGS = frozenset(
    {"renewal_failed", "call_refused", "call_rejected", "endpoint_changed", "store_away", "store_value_refused"}
)
WARNING_SPACING = 10.0
MOST_WARNINGS = 20  # of one kind within that time, however many clients there are
MOST_WARNED_OF = 4096
LONGEST_DETAIL = 2048


class Event(NamedTuple):
    """One thing that happened. A tuple underneath, since one is made for every call that somebody listens to.

    Attributes:
        name: one of `EVENT_NAMES`.
        client: the client's name.
        cause: why, from a closed list of words.
        seconds: a duration or a lifetime, as the name says, or None.
        code: the code of the error, or None.
        detail: a short text for people, escaped; no query string, no token, no secret.
        duration: seconds that it took, of a token request or of a renewal that ends; else None.
        renewal: the number of the renewal that it belongs to, in this process, or None.
        server: the host and the port that a token request went to, or empty.
        method: its HTTP method, or empty: POST asks for a token, GET for metadata.
        status: the HTTP status that came back, or None.
    """

    name: str
    client: str
    cause: str = ""
    seconds: float | None = None
    code: str | None = None
    detail: str = ""
    duration: float | None = None
    renewal: int | None = None
    server: str = ""
    method: str = ""
    status: int | None = None


Observer = Callable[[Event], None]
"""Told of every event; one with an attribute `ignores`, a set of names of events, is not told of those."""

_EVERYWHERE: list[Observer] = []


@contextmanager
def observed_everywhere(observer: Observer) -> Iterator[None]:
    """Tell `observer` of everything that happens in valets that are made meanwhile, wherever in this process that is."""
    _EVERYWHERE.append(observer)
    try:
        yield
    finally:
        _EVERYWHERE.remove(observer)


class Observers:
    """The listeners of one valet.

    Attributes:
        every_call: whether anybody listens to what happens with every call: a listener, or a log that was at DEBUG when
            the valet was made. Where nobody does, a call costs no event.
        every_request: whether anybody listens to each request that goes to the API.
    """

    __slots__ = ("_debug", "_listeners", "_restraint", "_told", "every_call", "every_request")

    def __init__(self, listeners: Iterable[Observer] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        self._restraint = _Restraint(clock)
        self._debug = logger.isEnabledFor(logging.DEBUG)
        self._listen((*listeners, *_EVERYWHERE))
        _keep_headers_out_of_the_log()

    def add(self, listener: Observer) -> None:
        """Tell this one as well, from now on."""
        self._listen((*self._listeners, listener))

    def remove(self, listener: Observer) -> None:
        """Tell this one nothing more, if it was told anything."""
        self._listen(tuple(one for one in self._listeners if one is not listener))

    def _listen(self, listeners: tuple[Observer, ...]) -> None:
        self._listeners = listeners
        # Worked out beforehand, since it is asked for every call.
        self._told = {
            name: tuple(one for one in listeners if name not in getattr(one, "ignores", ())) for name in EVENT_NAMES
        }
        self.every_call = self._debug or bool(listeners)
        self.every_request = self._debug or bool(self._told["call_sent"])

    def tell(self, event: Event) -> None:
        """Tell all listeners."""
        if not event.detail.isprintable():
            event = event._replace(detail=shown(event.detail, LONGEST_DETAIL))
        if event.name in _WARNINGS:
            log_event(event, left_out=self._restraint.left_out(event.name, event.client, event.code or ""))
        else:
            log_event(event)
        for listener in self._told[event.name]:
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001  a listener's trouble is not the caller's
                kind = type(error).__name__
                left_out = self._restraint.left_out("observer", kind)
                if left_out is not None:
                    logger.warning("an observer of tokenvalet raised %s%s", shown(kind, 128), left_out)


class _Restraint:
    """What was warned of lately.

    One kind of warning about one client is written once in ten seconds, and of one kind no more than twenty, so that an
    outage of an hour with a thousand tenants is a few lines and not a flood in which others are lost.
    """

    __slots__ = ("_clock", "_told", "_windows")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: dict[tuple[str, ...], tuple[float, int]] = {}  # when, and how many were left out since
        self._windows: dict[str, tuple[float, int]] = {}  # when it began, and how many came in it

    def left_out(self, kind: str, *whom: str) -> str | None:
        """Return a remark on what was left out before this warning, mostly empty; None: it is to be left out as well."""
        # Without a lock: where two threads meet here, one line is told twice, or one too few is counted.
        now, key = self._clock(), (kind, *whom)
        told, more = self._told.get(key, (float("-inf"), 0))
        if now - told < WARNING_SPACING:
            self._told[key] = (told, more + 1)
            return None
        began, came = self._windows.get(kind, (now, 0))
        others = 0
        if now - began >= WARNING_SPACING:
            began, came, others = now, 0, max(0, came - MOST_WARNINGS)
        self._windows[kind] = (began, came + 1)
        if came >= MOST_WARNINGS:
            return None
        if len(self._told) >= MOST_WARNED_OF:
            self._told = {}
        self._told[key] = (now, 0)
        remarks = [f"{more} more like it since it was last told"] if more else []
        remarks += [f"{others} more {kind} of others"] if others else []
        return f" (and {', and '.join(remarks)})" if remarks else ""


def log_event(event: Event, *, left_out: str | None = "") -> None:
    """Write an event to the ``tokenvalet`` logger: faults as WARNING, renewals as INFO, the rest as DEBUG.

    `left_out`: a remark on others like it that were not written; None makes a DEBUG line of a WARNING.
    """
    level = logging.WARNING if event.name in _WARNINGS and left_out is not None else logging.DEBUG
    if event.name == "token_cached":
        level = logging.INFO
    if not logger.isEnabledFor(level):
        return
    # Names may come from a request, as those of tenants do, and end in a line of the log like any other text.
    parts = [f"client={shown(event.client, 128)}"]
    if event.cause:
        parts.append(f"cause={event.cause}")
    if event.code:
        parts.append(f"code={event.code}")
    if event.seconds is not None:
        parts.append(f"seconds={event.seconds:.3f}")
    if event.detail:
        parts.append(event.detail)
    logger.log(level, "%s %s%s", event.name, " ".join(parts), left_out or "", extra=_attributes(event))


def _attributes(event: Event) -> dict[str, Any]:
    """Return what hangs on the record, for those who write JSON: all that the event has to say, without what is empty."""
    values = event._replace(client=shown(event.client, 128))._asdict()
    named = {f"tokenvalet_{field}": value for field, value in values.items() if value not in ("", None)}
    # `name` would say nothing beside all the others.
    return {"tokenvalet_event": named.pop("tokenvalet_name"), **named}


class _WithoutSentHeaders(logging.Filter):
    """Leaves out what hpack logs at DEBUG of the headers that it sends: with HTTP/2, tokens and proofs are among them."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(("Adding ", "Encoded header block", "Evicting "))


class _WithoutTokenAnswers(logging.Filter):
    """Leaves out what httpcore2 logs at DEBUG of the head of an answer to a token request, and of one that is broken.

    A server may say back what it was sent. On other threads than the valet's own the answers are those of the caller.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if not threading.current_thread().name.startswith("tokenvalet-"):
            return True
        return not any(part in str(record.msg) for part in ("receive_response_headers.complete ", ".failed "))


_FILTERS = (
    (_WithoutSentHeaders(), ("hpack.hpack", "hpack.table")),
    (_WithoutTokenAnswers(), ("httpcore2.http11", "httpcore2.connection", "httpcore2.proxy", "httpcore2.socks")),
)


def _keep_headers_out_of_the_log() -> None:
    for one, names in _FILTERS:
        for name in names:
            logging.getLogger(name).addFilter(one)
