"""HTTP as the core sees it: small frozen values that every HTTP library can be driven with, and that show no secret."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .token import Moment

__all__ = [
    "Claim",
    "Failure",
    "HttpReply",
    "HttpRequest",
    "Keep",
    "Lease",
    "Outcome",
    "Pause",
    "Recall",
    "Release",
    "StoreReply",
    "Transmit",
]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class HttpRequest:
    """One request to a token endpoint or for metadata. `secrets` are the strings in it that must never be shown."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<HttpRequest {self.method} {self.url}>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class HttpReply:
    """One complete answer; header names are in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def fields(self, name: str) -> list[str]:
        """Return the values of all header fields of that (lower-case) name."""
        return [value for key, value in self.headers if key == name]

    def field(self, name: str) -> str | None:
        """Return the first header field of that (lower-case) name, or None."""
        return next((value for key, value in self.headers if key == name), None)

    def __repr__(self) -> str:
        return f"<HttpReply {self.status}, {len(self.body)} bytes>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """No complete answer came, or one that may not be read.

    Attributes:
        code: ``unreachable``, ``timeout``, ``tls``, ``broken_answer`` or ``answer_refused``.
        detail: what happened, safe to show.
    """

    code: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transmit:
    """The flow asks its driver to send a request, and to answer with an `Outcome`.

    `cause` is why it is sent again: ``nonce``, ``clock`` or ``retry``; empty for the first time.
    """

    request: HttpRequest
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """The flow asks its driver to wait, and to answer with an `Outcome` without result."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """The flow asks what the store holds, and is answered with a `StoreReply`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The flow asks for the store's lease, or to have its own prolonged, and is answered with a `StoreReply`."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Keep:
    """The flow asks to store a token for so many seconds and to give the lease back; the answer does not matter."""

    content: bytes
    seconds: float

    def __repr__(self) -> str:
        return f"<Keep {len(self.content)} bytes for {self.seconds:.0f} s>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The flow gives its lease back; nobody else may have it for `pause` seconds. The answer does not matter."""

    pause: float = 0.0


class Lease(Enum):
    """How it stands with the lease of a token key."""

    NOT_ASKED = "not asked"
    GRANTED = "granted"
    HELD = "held"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StoreReply:
    """What the store said.

    Attributes:
        content: what it holds, or None.
        left: seconds of life that the content has left.
        lease: how it stands with the lease.
        away: it could not be asked, or there is none.
    """

    content: bytes | None = None
    left: float = 0.0
    lease: Lease = Lease.NOT_ASKED
    away: bool = False

    def __repr__(self) -> str:
        return f"<StoreReply {'away' if self.away else self.lease.value}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a step, and what the clocks said then."""

    now: Moment
    result: HttpReply | Failure | None = None
    store: StoreReply | None = None
