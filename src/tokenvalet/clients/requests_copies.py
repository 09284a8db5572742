"""Requests of requests as they are really sent: copies with the token on, and what is looked up of the caller's own.

A copy is made for every call, in as few steps as can be. What the dictionary of headers keeps underneath is copied at once
where it is as expected, which is tried once; where it is not, the public ways are taken, which set every header anew.
"""

from __future__ import annotations

from typing import Any

import requests
from requests.structures import CaseInsensitiveDict

from ..core.call import Hop
from ..core.guard import Origin
from ..named_client import Ticket
from ..tls import TlsIdentity
from .admission import OWN_HEADERS

__all__ = ["RequestsHop", "Way", "dressed", "has_body", "own_header_of"]

_new_request = requests.PreparedRequest.__new__
_new_headers = CaseInsensitiveDict.__new__
_KEEPS_STORE = vars(CaseInsensitiveDict({"Name": "value"})) == {"_store": {"name": ("Name", "value")}}


class RequestsHop(Hop):
    __slots__ = ("body",)
    body: Any

    def replayable(self) -> bool:
        # Forms are bytes by now, whatever files were in them.
        return self.body is None or isinstance(self.body, bytes | str)


class Way:
    """Where one request goes to, over which connections, and with which token, if with any.

    Attributes:
        path: as it is sent; only proofs tell of it.
        url: what is sent in the place of the caller's own, if anything is.
        whole: whether whatever the caller may have put on the request goes along to an adapter of the caller's own.
    """

    __slots__ = ("identity", "origin", "path", "ticket", "url", "whole")

    def __init__(self, origin: Origin, identity: TlsIdentity | None, ticket: Ticket | None = None) -> None:
        self.origin = origin
        self.identity = identity
        self.ticket = ticket
        self.path = ""
        self.url: str | None = None
        self.whole = False


def own_header_of(headers: Any) -> str | None:
    """Return the name of a header in there that only this package sets, or None."""
    if _KEEPS_STORE and type(headers) is CaseInsensitiveDict and OWN_HEADERS.isdisjoint(headers._store):
        return None
    for name in headers:
        if name.lower() in OWN_HEADERS:
            return str(name)
    return None


def dressed(
    request: requests.PreparedRequest, way: Way, authorization: bytes, proof: bytes | None
) -> requests.PreparedRequest:
    """Return a copy of a request with the token on."""
    twin: requests.PreparedRequest = _new_request(type(request))
    if way.whole:
        twin.__dict__.update(request.__dict__)
    else:
        # One by one, for its dictionary would cost more than all the rest.
        twin.method, twin.url, twin.body, twin.hooks = request.method, request.url, request.body, request.hooks
    bare: Any = request.headers
    if _KEEPS_STORE and type(bare) is CaseInsensitiveDict:
        twin.headers = headers = _new_headers(CaseInsensitiveDict)
        headers._store = bare._store.copy()
        headers._store["authorization"] = ("Authorization", authorization)
    else:
        twin.headers = headers = bare.copy()
        headers["Authorization"] = authorization
    if proof is not None:
        headers["DPoP"] = proof
    if way.url is not None:
        twin.url = way.url
    return twin


def has_body(request: requests.PreparedRequest) -> bool:
    """Whether a body goes along with a request."""
    headers = request.headers
    length = str(headers.get("Content-Length", "")).strip()
    return bool(request.body) or "Transfer-Encoding" in headers or length not in ("", "0")
