"""What is decided of one request of httpx2 or httpx before it is sent: may it be, where does it go, with which token."""

from __future__ import annotations

from typing import Any

from ..core.call import Hop
from ..core.guard import Origin
from ..named_client import NamedClient, Ticket
from .admission import OWN_HEADERS, Customize, check_abroad, checked_parameters, own_header, user_information

__all__ = ["REDIRECTED", "Preparation"]

EXTENSION = "tokenvalet"
REDIRECTED = "tokenvalet.redirected"
_OWN_HEADERS = frozenset(name.encode("ascii") for name in OWN_HEADERS)


class HttpxHop(Hop):
    __slots__ = ("stream",)
    stream: Any

    def replayable(self) -> bool:
        return _is_replayable(self.stream)


class Preparation:
    """What is decided of one request before it is sent: may it be, where does it go, and with which token."""

    __slots__ = ("headers", "identity", "origin", "ticket", "timeouts")

    def __init__(self, client: NamedClient, request: Any, origin: Origin, customize: Customize | None) -> None:
        self.headers = request.headers.raw
        self.origin = origin
        self.ticket: Ticket | None = None
        # Of the sending that is under way; never the caller's own.
        self.timeouts: dict[str, Any] = {}
        extensions = request.extensions
        if origin not in client.guard.home:
            self.identity = client.file_identity
            redirected = REDIRECTED in extensions
            check_abroad(client, origin, redirected=redirected, has_body=lambda: _has_body(self.headers))
            return
        parameters = extensions.get(EXTENSION)
        if parameters is None and customize is not None:
            parameters = customize(request)
            self.headers = request.headers.raw  # of which it may have set some
        if parameters is not None:
            parameters = checked_parameters(client, parameters)
        if request.url.userinfo:
            raise user_information(client)
        for name, _ in self.headers:
            if name.lower() in _OWN_HEADERS:
                raise own_header(client, name.decode("latin-1"))
        self.ticket = client.ticket(parameters)
        self.identity = self.ticket.identity

    def hop(self, request: Any, client: NamedClient) -> Hop:
        """Return the request as the flow of a call sees it."""
        # The path is only looked at for proofs, and costs more than the rest of a hop.
        target = request.extensions.get("target", request.url.raw_path)
        path = _path(target) if client.credentials.proof_key is not None else ""
        hop = HttpxHop(request.method, self.origin, path)
        hop.stream = request.stream
        return hop


def _path(target: bytes) -> str:
    """Return the path of what is in the request line, which an extension may have set; ``*`` has none (RFC 9110 §7.1)."""
    path = target.decode("ascii").partition("?")[0]
    return path if path != "*" else ""


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
