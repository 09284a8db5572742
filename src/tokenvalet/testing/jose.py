"""Verification of JWTs, by joserfc and never by tokenvalet's own signing: these servers are independent judges.

What is added to joserfc is strictness: an explicit list of algorithms and an explicit key every time (RFC 8725 §3.1),
no `crit` (RFC 7515 §4.1.11), no repeated claims (RFC 7519 §4), no private or weak key where a public one belongs, and a
memory of the `jti` values that were seen.

For development only.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import Key, import_key

__all__ = [
    "ASYMMETRIC_ALGORITHMS",
    "SYMMETRIC_ALGORITHMS",
    "InvalidJwt",
    "Jwt",
    "ReplayMemory",
    "is_numeric_date",
    "public_key",
    "read",
    "verify",
]

ASYMMETRIC_ALGORITHMS = ("ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "Ed25519", "EdDSA")
SYMMETRIC_ALGORITHMS = ("HS256", "HS384", "HS512")

_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_CURVES = {"EC": {"P-256", "P-384", "P-521"}, "OKP": {"Ed25519"}}
_LEAST_RSA_BITS = 2048


class InvalidJwt(Exception):
    """A JWT, or a key, that must not be trusted; the text says why and quotes nothing of it."""


class _Registry(jws.JWSRegistry):
    """joserfc's registry with an explicit list of algorithms, and without its warnings.

    A warning in a server's thread helps nobody, and EdDSA, deprecated by RFC 9864, is still what most clients send.
    """

    max_header_length = 4096  # joserfc's 512 is too little for the RSA key in the header of a DPoP proof
    max_payload_length = 65536

    def __init__(self, algorithms: Collection[str]) -> None:
        super().__init__(algorithms=algorithms, strict_check_header=False)

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]  # `verify` has looked whether it is allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Jwt:
    """A JWT taken apart: nothing in it is to be trusted before `verify` returned."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    compact: str


def _unique_members(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError("a repeated member")
        members[name] = value
    return members


def read(compact: str) -> Jwt:
    """Take a JWT apart without trusting it. Raises InvalidJwt where that cannot be done."""
    try:
        parts = jws.extract_compact(compact.encode("ascii"), registry=_Registry(ASYMMETRIC_ALGORITHMS))
        header: Any = parts.headers()
        claims = json.loads(parts.payload, object_pairs_hook=_unique_members)
    except (JoseError, ValueError, TypeError, RecursionError):
        raise InvalidJwt("it is not a JWT in compact serialization") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise InvalidJwt("its header and its claims must be JSON objects")
    return Jwt(header=header, claims=claims, compact=compact)


def verify(jwt: Jwt, keys: Iterable[Key], algorithms: Collection[str]) -> None:
    """Check the signature with the given keys. Raises InvalidJwt unless one of them made it."""
    if "crit" in jwt.header:
        raise InvalidJwt("its header has a crit that is not understood")
    if jwt.header.get("alg") not in algorithms:
        raise InvalidJwt("its alg is not one that is allowed here")
    registry = _Registry(algorithms)
    for key in keys:
        try:
            jws.deserialize_compact(jwt.compact, key, registry=registry)
        except (JoseError, ValueError, TypeError):
            continue
        return
    raise InvalidJwt("its signature does not verify")


def public_key(jwk: object) -> Key:
    """Import one public JWK. Raises InvalidJwt for private, symmetric, weak and unknown keys."""
    if not isinstance(jwk, dict):
        raise InvalidJwt("the jwk must be a JSON object")
    if _PRIVATE_MEMBERS & jwk.keys():
        raise InvalidJwt("the jwk has private members")
    kty = jwk.get("kty")
    if kty != "RSA" and jwk.get("crv") not in _CURVES.get(str(kty), ()):
        raise InvalidJwt("the jwk is of a kind that is not allowed here")
    if kty == "RSA" and (not isinstance(jwk.get("n"), str) or len(jwk["n"]) * 6 < _LEAST_RSA_BITS):
        raise InvalidJwt(f"the jwk has fewer than {_LEAST_RSA_BITS} bits")
    try:
        return import_key(jwk)
    except (JoseError, ValueError, TypeError):
        raise InvalidJwt("the jwk is not a valid key") from None


def is_numeric_date(value: object) -> bool:
    """Tell whether a claim is a NumericDate in whole seconds: a bool, a string or a fraction is not."""
    return isinstance(value, int) and not isinstance(value, bool)


class ReplayMemory:
    """Remembers identifiers until they expire, so that the second use of one is noticed."""

    def __init__(self) -> None:
        self._expiries: dict[tuple[str, ...], float] = {}
        self._next_sweep = 0.0
        self._lock = threading.Lock()  # one application may be served on two ports, by two threads

    def first_use(self, *identifier: str, expires_at: float, now: float) -> bool:
        """Remember `identifier` until `expires_at` (both in seconds since the epoch); False if it was known."""
        with self._lock:
            if now >= self._next_sweep:
                self._expiries = {known: until for known, until in self._expiries.items() if until > now}
                self._next_sweep = now + 60
            if self._expiries.get(identifier, now) > now:
                return False
            self._expiries[identifier] = expires_at
            return True
