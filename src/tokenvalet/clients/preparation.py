"""What is decided of one request of httpx2 or httpx before it is sent: may it be, where does it go, with which token."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..core.call import Hop
from ..core.guard import Origin
from ..core.token import TokenParameters
from ..errors import ConfigurationError, OriginError, shown
from ..named_client import NamedClient, Ticket

__all__ = ["REDIRECTED", "Customize", "Preparation"]

EXTENSION = "tokenvalet"
REDIRECTED = "tokenvalet.redirected"
_OWN_HEADERS = frozenset({b"authorization", b"dpop"})

Customize = Callable[[Any], TokenParameters | None]


class HttpxHop(Hop):
    __slots__ = ("stream",)
    stream: Any

    def replayable(self) -> bool:
        return _is_replayable(self.stream)


class Preparation:
    """What is decided of one request before it is sent: may it be, where does it go, and with which token."""

    __slots__ = ("headers", "hop", "identity", "origin", "ticket", "timeouts")

    def __init__(self, client: NamedClient, request: Any, origin: Origin, customize: Customize | None) -> None:
        self.headers = request.headers.raw
        self.origin = origin
        self.ticket: Ticket | None = None
        self.hop: Hop | None = None
        self.identity = client.file_identity
        # Of the sending that is under way; never the caller's own.
        self.timeouts: dict[str, Any] = {}
        extensions = request.extensions
        if origin not in client.guard.allowed or not origin.is_safe:
            if REDIRECTED not in extensions:
                client.guard.check(origin)
            if _has_body(self.headers):
                raise OriginError(
                    f"client {client.name!r}: the API redirects to {shown(str(origin))}, which is not among "
                    "allowed_origins, and the body of the request would go along; it was not sent there",
                    code="redirect_abroad_refused",
                )
            return
        parameters = extensions.get(EXTENSION)
        if parameters is None and customize is not None:
            parameters = customize(request)
            self.headers = request.headers.raw  # of which it may have set some
        if parameters is not None and not isinstance(parameters, TokenParameters):
            raise _unfit(client.name, parameters)
        url = request.url
        if url.userinfo:
            raise OriginError(f"client {client.name!r}: a URL with user information (name@host) is not sent a token")
        for name, _ in self.headers:
            if name.lower() in _OWN_HEADERS:
                raise OriginError(
                    f"client {client.name!r}: the request has a header {name.decode('latin-1')} of its own, which is "
                    "what this client is there to set: leave it out, or use an HTTP client without a token",
                    code="authorization_header_given",
                )
        self.ticket = client.ticket(parameters)
        self.identity = self.ticket.identity
        # The path is only looked at for proofs, and costs more than the rest of a hop.
        path = _path(extensions.get("target", url.raw_path)) if client.credentials.proof_key is not None else ""
        self.hop = hop = HttpxHop(request.method, origin, path)
        hop.stream = request.stream


def _path(target: bytes) -> str:
    """Return the path of what is in the request line, which an extension may have set; ``*`` has none (RFC 9110 §7.1)."""
    path = target.decode("ascii").partition("?")[0]
    return path if path != "*" else ""


def _unfit(client: str, parameters: Any) -> ConfigurationError:
    if inspect.iscoroutine(parameters):
        parameters.close()
        what = "customize is a plain function, not one with async"
    else:
        what = f"what a token is asked for with is a TokenParameters, not a {type(parameters).__name__}"
    return ConfigurationError(f"client {client!r}: {what}", code="invalid_token_parameters")


def _has_body(headers: list[tuple[bytes, bytes]]) -> bool:
    for name, value in headers:
        lower = name.lower()
        if lower == b"transfer-encoding" or (lower == b"content-length" and value.strip() not in (b"", b"0")):
            return True
    return False


def _is_replayable(stream: Any) -> bool:
    """Whether a body can be sent twice: bytes can, and forms with files that can be rewound; nothing else is trusted to."""
    kind = type(stream).__name__
    if kind == "ByteStream":
        return True
    if kind != "MultipartStream":
        return False
    for field in stream.fields:
        file = getattr(field, "file", b"")
        if isinstance(file, str | bytes):
            continue
        seekable = getattr(file, "seekable", None)
        if seekable is None or not seekable():
            return False
    return True
