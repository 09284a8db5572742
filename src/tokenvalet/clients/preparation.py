"""What is decided of one request of httpx2 or httpx before it is sent: may it be, where does it go, with which token."""

from __future__ import annotations

from typing import Any

from ..core.call import Hop
from ..core.guard import Origin
from ..named_client import NamedClient, Ticket
from ..tls import TlsIdentity
from .admission import OWN_HEADERS, Customize, check_abroad, checked_parameters, own_header, user_information
from .httpx_requests import Field, Looks

__all__ = ["EXTENSION", "OWN_FIELDS", "REDIRECTED", "Preparation", "prepared"]

EXTENSION = "tokenvalet"
REDIRECTED = "tokenvalet.redirected"
OWN_FIELDS = frozenset(name.encode("ascii") for name in OWN_HEADERS)


class HttpxHop(Hop):
    __slots__ = ("stream",)
    stream: Any

    def replayable(self) -> bool:
        return _is_replayable(self.stream)


class Preparation:
    """What was decided of one request before it is sent: where it goes, and with which token, if with any.

    Attributes:
        fields: the header fields of the caller's request, as they were looked at; whatever becomes of it meanwhile.
        extensions: of the sending that is under way; never the caller's own.
    """

    __slots__ = ("extensions", "fields", "identity", "origin", "ticket")
    extensions: dict[str, Any]

    def __init__(
        self, origin: Origin, fields: list[Field], ticket: Ticket | None, identity: TlsIdentity | None
    ) -> None:
        self.origin = origin
        self.fields = fields
        self.ticket = ticket
        self.identity = identity

    def hop(self, request: Any, client: NamedClient) -> Hop:
        """Return the request as the flow of a call sees it."""
        # The path is only looked at for proofs, and costs more than the rest of a hop.
        target = request.extensions.get("target", request.url.raw_path)
        path = _path(target) if client.credentials.proof_key is not None else ""
        hop = HttpxHop(request.method, self.origin, path)
        hop.stream = request.stream
        return hop


def prepared(
    client: NamedClient, request: Any, looks: Looks, origin: Origin, customize: Customize | None
) -> Preparation:
    """Decide of one request whether it may be sent, and with which token. Raises TokenValetError where it may not."""
    extensions = request.extensions
    if origin not in client.guard.home:
        fields = [*looks.fields(request.headers)]
        redirected = REDIRECTED in extensions
        check_abroad(client, origin, redirected=redirected, has_body=lambda: _has_body(fields))
        return Preparation(origin, fields, None, client.file_identity)
    parameters = extensions.get(EXTENSION)
    if parameters is None and customize is not None:
        parameters = customize(request)
    parameters = checked_parameters(client, parameters)
    if request.url.userinfo:
        raise user_information(client)
    fields = [*looks.fields(request.headers)]  # of which `customize` may have set some
    for name, lower, _ in fields:
        if lower in OWN_FIELDS:
            raise own_header(client, name.decode("latin-1"))
    ticket = client.ticket(parameters)
    return Preparation(origin, fields, ticket, ticket.identity)


def _path(target: bytes) -> str:
    """Return the path of what is in the request line, which an extension may have set; ``*`` has none (RFC 9110 §7.1)."""
    path = target.decode("ascii").partition("?")[0]
    return path if path != "*" else ""


def _has_body(fields: list[Field]) -> bool:
    for _, lower, value in fields:
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
