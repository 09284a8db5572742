"""What is known of one token key, a renewal that is under way, and what a caller waits for."""

from __future__ import annotations

import itertools
from concurrent.futures import Future
from dataclasses import dataclass

from .core.token import AccessToken
from .errors import TokenValetError, ValetClosedError

__all__ = ["Entry", "Renewal", "Waiting"]


_NUMBERS = itertools.count(1)


class Entry:
    """What is known of one token key.

    A token that an API rejected is set aside, and no longer current, while the renewal that is to replace it is under way.
    """

    __slots__ = ("failed_at", "failure", "failures", "forced_at", "retry_at", "set_aside", "token")

    def __init__(self) -> None:
        self.token: AccessToken | None = None
        self.set_aside: AccessToken | None = None
        self.failure: TokenValetError | None = None
        self.failures = 0
        self.failed_at = 0.0
        self.retry_at = float("-inf")
        self.forced_at = float("-inf")

    def take_back(self) -> None:
        """Use the rejected token again: one API's verdict is not that of all, and there is no better one."""
        if self.token is None:
            self.token = self.set_aside
        self.set_aside = None


class Renewal:
    """A renewal under way. Its number is what the events of one have in common."""

    __slots__ = ("awaited", "cause", "entry", "former", "future", "number", "started")

    def __init__(self, cause: str, entry: Entry, former: AccessToken | None, started: float) -> None:
        self.number = next(_NUMBERS)
        self.cause = cause
        self.entry = entry
        self.former = former
        self.started = started
        self.awaited = False
        self.future: Future[AccessToken] = Future()


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a caller waits for: the future of a renewal, for so many seconds, and the error or the token after that."""

    future: Future[AccessToken]
    seconds: float
    otherwise: TokenValetError
    instead: AccessToken | None = None

    def result(self) -> AccessToken:
        """Return the token, now that the waiting is over, or raise an error of this caller's own."""
        error = self.future.exception() if self.future.done() else self.otherwise
        if error is None:
            return self.future.result()
        if self.instead is not None and not isinstance(error, ValetClosedError):
            return self.instead
        raise error.fresh() if isinstance(error, TokenValetError) else error
