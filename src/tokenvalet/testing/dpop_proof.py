"""DPoP proofs judged by the letter of RFC 9449 §4.3, and the nonces of §8 and §9. Both servers share it.

Stricter than the RFC in one thing: the htu must be the URI as it was on the wire. Scheme, host, default port and an
empty path are compared as URIs, but a path that was decoded or encoded anew is another path.

For development only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .jose import ASYMMETRIC_ALGORITHMS, InvalidJwt, ReplayMemory, is_numeric_date, public_key, read, verify

__all__ = ["InvalidProof", "Nonces", "Proof", "StaleNonce", "access_token_hash", "verify_proof"]

IAT_WINDOW = 60
"""How far, in seconds, the iat of a proof may lie from the server's clock, either way (RFC 9449 §4.3, item 11)."""

_LONGEST_JTI = 256
_DEFAULT_PORTS = {"http": 80, "https": 443}


class InvalidProof(Exception):
    """A proof that RFC 9449 §4.3 tells to refuse; the text names the check that failed."""


class StaleNonce(Exception):
    """A proof that is valid but for its nonce: the answer is use_dpop_nonce (RFC 9449 §8)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A verified proof: its claims, and the RFC 7638 thumbprint of the key that made it."""

    claims: Mapping[str, Any]
    jkt: str


class Nonces:
    """The nonces of one server: the current one, and the one before it while that is still good."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current = secrets.token_urlsafe(16)
        self._previous: str | None = None

    @property
    def current(self) -> str:
        return self._current

    def rotate(self, *, keep_previous: bool) -> str:
        """Make a new nonce, and return it; the one before it stays good only if it is kept."""
        with self._lock:
            self._previous = self._current if keep_previous else None
            self._current = secrets.token_urlsafe(16)
            return self._current

    def accept(self, nonce: object) -> bool:
        """Tell whether a proof with this nonce is good."""
        with self._lock:
            return nonce is not None and nonce in (self._current, self._previous)


def access_token_hash(access_token: str) -> str:
    """Return the ath of a token (RFC 9449 §4.2): base64url of the SHA-256 of its ASCII."""
    return base64.urlsafe_b64encode(hashlib.sha256(access_token.encode("ascii")).digest()).rstrip(b"=").decode()


def verify_proof(
    field_lines: Sequence[str],
    *,
    method: str,
    uri: str,
    access_token: str | None,
    now: float,
    replays: ReplayMemory,
    nonces: Nonces | None,
) -> Proof:
    """Judge the DPoP field lines of one request, in the order of RFC 9449 §4.3.

    method, uri: of the request as it came, the URI without its query.
    access_token: the token presented with the proof, or None at the token endpoint, where no ath belongs.
    now: seconds since the epoch.
    nonces: the server's nonces where it asks for one, else None.
    """
    if len(field_lines) != 1:
        raise InvalidProof("there must be exactly one DPoP header")
    try:
        proof = read(field_lines[0])
        if proof.header.get("typ") != "dpop+jwt":
            raise InvalidProof("its typ must be dpop+jwt")
        key = public_key(proof.header.get("jwk"))
        verify(proof, [key], ASYMMETRIC_ALGORITHMS)
    except InvalidJwt as reason:
        raise InvalidProof(str(reason)) from None
    _check_claims(proof.claims, method=method, uri=uri, access_token=access_token, now=now)
    jkt = key.thumbprint()
    if not replays.first_use(jkt, proof.claims["jti"], expires_at=proof.claims["iat"] + IAT_WINDOW + 1, now=now):
        raise InvalidProof("its jti was seen before")
    # Last, so that a client that asks again after use_dpop_nonce must have made a new proof, with a new jti (§7.3).
    if nonces is not None and not nonces.accept(proof.claims.get("nonce")):
        raise StaleNonce("a proof with the nonce of this response is needed")
    return Proof(claims=proof.claims, jkt=jkt)


def _check_claims(claims: Mapping[str, Any], *, method: str, uri: str, access_token: str | None, now: float) -> None:
    jti, htm, htu, iat = (claims.get(name) for name in ("jti", "htm", "htu", "iat"))
    if not isinstance(jti, str) or not 0 < len(jti) <= _LONGEST_JTI:
        raise InvalidProof(f"its jti must be a string of 1 to {_LONGEST_JTI} characters")
    if htm != method:  # methods are case-sensitive (RFC 9110 §9.1)
        raise InvalidProof("its htm is not the method of this request")
    if not isinstance(htu, str) or not _same_uri(htu, uri):
        raise InvalidProof("its htu is not the URI of this request, without query and fragment")
    if not is_numeric_date(iat) or abs(now - claims["iat"]) > IAT_WINDOW:
        raise InvalidProof(f"its iat must be a whole number within {IAT_WINDOW} seconds of the server's clock")
    ath = claims.get("ath")
    if access_token is None and "ath" in claims:
        raise InvalidProof("there is no access token here that an ath could belong to")
    if access_token is not None and not (
        isinstance(ath, str) and hmac.compare_digest(ath.encode(), access_token_hash(access_token).encode())
    ):
        raise InvalidProof("its ath is not the hash of the access token")


def _same_uri(htu: str, uri: str) -> bool:
    try:
        return _canonical(htu) == _canonical(uri)
    except ValueError:
        return False


def _canonical(uri: str) -> tuple[str, str | None, int | None, str]:
    parts = urlsplit(uri)
    if "@" in parts.netloc:
        raise ValueError("the target URI of a request has no userinfo")
    # urlsplit lowers scheme and host; what is left of RFC 3986 §6.2.3 is the default port and the empty path. All that
    # follows the authority is compared as it is, and a query or a fragment with it: the URI of the request has neither.
    authority_end = uri.index("//") + 2 + len(parts.netloc)
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme), uri[authority_end:] or "/"
