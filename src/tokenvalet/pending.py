"""What is known of one token key, a renewal that is under way, and what a caller waits for."""

from __future__ import annotations

import itertools
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Self

from .core.token import AccessToken, Moment
from .errors import TokenRequestError, TokenValetError, ValetClosedError
from .named_client import NamedClient

__all__ = ["Entry", "Glance", "Renewal", "Waiting", "broken", "too_late"]


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

    def succeed(self, token: AccessToken) -> None:
        """Hand the token to all who wait, unless they have been told something else."""
        if not self.future.done():
            self.future.set_result(token)

    def fail(self, error: TokenValetError) -> None:
        """Hand the error to all who wait, unless they have been told something else."""
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What a look at a token key shows.

    Attributes:
        fresh: whether there is a token that is not due for renewal.
        seconds_left: how long the token can be used, or None where there is none.
        failure: why the last renewal failed, if it did.
        retry_in: seconds that the server is left alone because of that.
        under_way: whether a renewal is.
    """

    fresh: bool = False
    seconds_left: float | None = None
    failure: TokenValetError | None = None
    retry_in: float = 0.0
    under_way: bool = False

    @classmethod
    def at(cls, now: Moment, entry: Entry, token: AccessToken | None, *, under_way: bool) -> Self:
        """Return what shows at this moment; `token` is what can be used of the entry."""
        return cls(
            fresh=token is not None and token.is_fresh(now),
            seconds_left=token.seconds_left(now) if token is not None else None,
            failure=entry.failure,
            retry_in=max(0.0, entry.retry_at - now.monotonic) if entry.failure is not None else 0.0,
            under_way=under_way,
        )


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


def too_late(client: NamedClient) -> TokenRequestError:
    """Return the error for those who waited for as long as a token request may take."""
    return TokenRequestError(
        f"client {client.name!r}: no token within {client.config.timeout:g} s: is the token endpoint slow, or this "
        "process too busy?",
        code="token_request_timeout",
    )


def broken(client: NamedClient, error: BaseException) -> TokenRequestError:
    """Return the error for those who waited for a renewal that something went wrong with that nobody foresaw."""
    return TokenRequestError(
        f"client {client.name!r}: the renewal broke with {type(error).__name__}, which is a fault of tokenvalet, of a "
        "callable that was configured, or of a process that can start no more threads",
        code="renewal_broke",
    )
