"""One request to the protected API, kept for a test to look at.

For development only: what is kept includes the access token, in the header fields.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from .asgi import header_pairs, header_values, raw_path, raw_query
from .jose import InvalidJwt, read
from .peer_certificate import peer_thumbprint

__all__ = ["ApiCallSeen", "call_seen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCallSeen:
    """One request that reached the API, as it came, and the status that it was answered with.

    path, query: with their percent-encoding untouched.
    headers: every field line, names in lower case.
    body_length, body_sha256: in bytes, and in hex.
    token_sha256: in hex, of the access token; None without one.
    scheme: the authentication scheme as it was spelled.
    proof_claims: of the DPoP proof, verified or not; None without one that can be read.
    client_cert_thumbprint: x5t#S256 of the certificate shown in the TLS handshake.
    received_at: by the clock of the authorization server, in seconds since the epoch.
    """

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body_length: int
    body_sha256: str
    status: int
    token_sha256: str | None
    scheme: str | None
    proof_claims: Mapping[str, Any] | None
    client_cert_thumbprint: str | None
    received_at: float


def call_seen(request: Request, *, body_length: int, body_sha256: str, status: int, now: float) -> ApiCallSeen:
    """Return the record of a request that was answered with `status` at `now` (seconds since the epoch)."""
    scheme, _, token = next(iter(header_values(request, "authorization")), "").partition(" ")
    claims: Mapping[str, Any] | None = None
    for proof in header_values(request, "dpop")[:1]:
        try:
            claims = read(proof).claims
        except InvalidJwt:
            claims = None
    return ApiCallSeen(
        method=request.method,
        path=raw_path(request),
        query=raw_query(request),
        headers=header_pairs(request),
        body_length=body_length,
        body_sha256=body_sha256,
        status=status,
        token_sha256=hashlib.sha256(token.encode("latin-1")).hexdigest() if token else None,
        scheme=scheme or None,
        proof_claims=claims,
        client_cert_thumbprint=peer_thumbprint(request.scope),
        received_at=now,
    )
