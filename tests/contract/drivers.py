"""What the suite asks of an HTTP library, and the list of those that take part.

A driver opens a session: a client of its library, as a user would make it, with the tokens of one client of a valet. The
tests call the session without `await`; where the library is asynchronous, the session runs in an event loop of its own
thread. README.md in this folder says how another library joins.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from contract.loops import Loops
from tokenvalet import TokenParameters, TokenValet

__all__ = [
    "ABILITIES",
    "ONE_SHOT",
    "REPLAYABLE",
    "Answer",
    "Body",
    "Custom",
    "Driver",
    "Entry",
    "Kind",
    "Opened",
    "Session",
    "about",
]

Kind = Literal[
    "bytes", "json", "form", "multipart", "multipart-file", "generator", "iterator", "file", "multipart-pipe", "failing"
]
REPLAYABLE: tuple[Kind, ...] = ("bytes", "json", "form", "multipart", "multipart-file")
ONE_SHOT: tuple[Kind, ...] = ("generator", "iterator", "file", "multipart-pipe")
# What of a library a test may need besides the fields of `Custom` and the options of `Driver.open`.
ABILITIES = {
    "abort": "a call that is cancelled is ended below, too",
    "status first": "the status of an answer is known before its body has come",
    "multipart twice": "a multipart form can be sent a second time",
}
TIMEOUT = 20.0  # seconds; long, since a test that waits for it has failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A request body, written as the library wants it.

    kind: bytes, a JSON object, a form, a multipart form with the content as bytes or as a file; and what can be sent only
        once: a generator, an iterator of a class of one's own, an open file, a multipart form with a pipe; failing: a
        generator that raises LookupError("no more") when it has yielded the content.
    """

    kind: Kind
    content: bytes = b"all that there is to say " * 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Custom:
    """What a user sets on a client for all of its requests.

    before: given every request, as the library has it, before it is sent, with `method`, `url` and `headers`.
    after: given the request of every answer, as the library shows it to its user.
    customize: as `TokenValet.client` takes it.
    """

    base_url: str | None = None
    headers: Mapping[str, str] | None = None
    params: Mapping[str, str] | None = None
    cookies: Mapping[str, str] | None = None
    auth: tuple[str, str] | None = None
    timeout: float = TIMEOUT
    before: Callable[[Any], None] | None = None
    after: Callable[[Any], None] | None = None
    customize: Callable[[Any], TokenParameters | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: of the last hop, with the statuses of the redirects that led there; native: as the library has it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    history: list[int]
    url: str
    native: Any = field(repr=False)

    def json(self) -> Any:
        return json.loads(self.body)


def about(driver: Driver, connections: int) -> range:
    """Return how many connections may be counted with a driver where so many are needed."""
    return range(connections, connections + (3 if driver.opens_ahead else 1))


class Opened(Protocol):
    """A response of which the body has not been read."""

    status: int

    def first(self) -> bytes:
        """Return the first part of the body."""
        ...

    def rest(self) -> bytes:
        """Return what is left of the body, all of it, and close."""
        ...

    def close(self) -> None:
        """Close, whatever was read."""
        ...


class Session(Protocol):
    """A client of a library, open. Options: body, headers, follow_redirects, token_parameters, timeout, auth."""

    def request(self, method: str, url: str, **options: Any) -> Answer: ...

    def get(self, url: str, **options: Any) -> Answer: ...

    def start(self, method: str, url: str, **options: Any) -> Future[Answer]:
        """Send a request beside the caller."""
        ...

    def open(self, method: str, url: str, **options: Any) -> Opened:
        """Send a request, and leave the body of the response where it is."""
        ...

    def close(self) -> None: ...


class Driver(Protocol):
    """One HTTP library, in one way of using it."""

    name: str
    one_pool: bool
    """Whether threads and event loops all share one pool, instead of each loop having one."""
    opens_ahead: bool
    """Whether it may open a connection while another is given back, which is there first; and keep both."""
    unreadable: tuple[type[Exception], ...]
    """What the library raises for an address that it does not understand."""
    failures: tuple[type[Exception], ...]
    """What the library raises when a connection fails, or takes too long."""
    loggers: tuple[str, ...]
    """The names, up to the first dot, of the loggers that tell of its requests at DEBUG."""
    loggers_of_http2: tuple[str, ...]
    """The names of those that tell more of them over HTTP/2."""

    def open(
        self,
        valet: TokenValet,
        client: str = "m2m",
        *,
        custom: Custom,
        pool_size: int | None = None,
        http2: Path | None = None,
    ) -> Session:
        """Open a session.

        pool_size: with connections of its own, so many at most.
        http2: with connections of its own, over HTTP/2, to servers whose certificates the authorities in this file vouch
            for.
        """
        ...

    def close_valet(self, valet: TokenValet) -> None: ...

    def on_another_loop(self) -> AbstractContextManager[Driver]:
        """Return the same library on an event loop that ends with the block; a synchronous one is no other."""
        ...

    def handed_over(self, answer: Answer) -> bytes:
        """Return everything that a caller can see, log, copy or pickle of an answer and of the requests that led to it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A driver in the list.

    cancellable: whether a call under way can be cancelled from outside.
    pooled: whether all of its sessions on one valet share the valet's connections.
    lacks: what of `Custom`, of the options of `Driver.open`, or of `ABILITIES` the library does not have, each with the
        reason.
    """

    make: Callable[[Loops], Driver]
    cancellable: bool
    pooled: bool
    lacks: Mapping[str, str] = field(default_factory=dict)
