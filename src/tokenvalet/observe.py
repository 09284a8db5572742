"""What happened, told to whoever listens: an event is a small frozen value without a secret in it.

Standard logging is one listener, made here; others are callables that take an `Event`. A listener that raises is told to
the log once in a while and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["EVENT_NAMES", "Event", "Observer", "Observers", "log_event"]

logger = logging.getLogger("tokenvalet")

EVENT_NAMES = (
    "cache_hit",  # a fresh token was used
    "cache_miss",  # there was no token, or it has expired
    "wait",  # a caller waits for a renewal
    "renewal_started",  # cause: missing, expired, due, rejected, forced
    "token_request",  # a request went to the token endpoint or for metadata
    "token_cached",  # a renewal brought a token
    "renewal_failed",  # it did not; seconds: how long the server is left alone
    "call_sent",  # a request went to the API; detail: method, path and status
    "call_retried",  # cause: nonce, renewed
    "call_rejected",  # the API said 401, and it could not be put right
    "call_refused",  # a request was refused before anything was sent
    "endpoint_changed",  # the metadata names another token endpoint than before
)
_WARNINGS = frozenset({"renewal_failed", "call_refused", "call_rejected", "endpoint_changed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened.

    Attributes:
        name: one of `EVENT_NAMES`.
        client: the client's name.
        cause: why, from a closed list of words.
        seconds: a duration or a lifetime, as the name says, or None.
        code: the code of the error, or None.
        detail: a short text for people, escaped; no query string, no token, no secret.
    """

    name: str
    client: str
    cause: str = ""
    seconds: float | None = None
    code: str | None = None
    detail: str = ""


Observer = Callable[[Event], None]


class Observers:
    """The listeners of one valet.

    Attributes:
        every_call: whether anybody listens to what happens with every call: a listener, or a log that was at DEBUG when
            the valet was made. Where nobody does, a call costs no event.
    """

    __slots__ = ("_listeners", "every_call")

    def __init__(self, listeners: Iterable[Observer] = ()) -> None:
        self._listeners = tuple(listeners)
        self.every_call = bool(self._listeners) or logger.isEnabledFor(logging.DEBUG)

    def tell(self, event: Event) -> None:
        """Tell all listeners."""
        log_event(event)
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001  a listener's trouble is not the caller's
                logger.warning("an observer of tokenvalet raised %s", type(error).__name__)


def log_event(event: Event) -> None:
    """Write an event to the ``tokenvalet`` logger: faults as WARNING, renewals as INFO, the rest as DEBUG."""
    level = logging.WARNING if event.name in _WARNINGS else logging.DEBUG
    if event.name == "token_cached":
        level = logging.INFO
    if not logger.isEnabledFor(level):
        return
    parts = [f"client={event.client}"]
    if event.cause:
        parts.append(f"cause={event.cause}")
    if event.code:
        parts.append(f"code={event.code}")
    if event.seconds is not None:
        parts.append(f"seconds={event.seconds:.3f}")
    if event.detail:
        parts.append(event.detail)
    logger.log(level, "%s %s", event.name, " ".join(parts), extra={"tokenvalet_event": event.name})
