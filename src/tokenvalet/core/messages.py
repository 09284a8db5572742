"""HTTP as the core sees it: small frozen values that every HTTP library can be driven with, and that show no secret."""

from __future__ import annotations

from dataclasses import dataclass

from .token import Moment

__all__ = ["Failure", "HttpReply", "HttpRequest", "Outcome", "Pause", "Transmit"]


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
class Outcome:
    """What came of a step, and what the clocks said then."""

    now: Moment
    result: HttpReply | Failure | None = None
