"""Client assertions and DPoP proofs made with PyJWT: neither the library under test nor the judges' own joserfc."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tokenvalet.testing import AuthorizationServer

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
NOON = 1_800_000_000.25


class Clock:
    """A clock that stands still until it is told to move; seconds since the epoch."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until it is so: on a busy machine, what another thread does is done a little later."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.002)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_jwk(key: ec.EllipticCurvePrivateKey, **members: str) -> dict[str, Any]:
    return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), **members}


def make_jwt(key: Any, claims: dict[str, Any], header: dict[str, Any], alg: str = "ES256") -> str:
    """Sign; a claim or header that is None is left out."""
    kept = {name: value for name, value in claims.items() if value is not None}
    # None tells PyJWT to leave typ out
    return jwt.encode(kept, key, algorithm=alg, headers=header)


class Prover:
    """Holds a proof key and makes a proof per call; every claim and header can be spoilt."""

    def __init__(self, clock: Clock) -> None:
        self.key = ec_key()
        self.clock = clock

    @property
    def jkt(self) -> str:
        jwk = public_jwk(self.key)
        required = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
        canonical = json.dumps(required, sort_keys=True, separators=(",", ":"))
        return b64(hashlib.sha256(canonical.encode()).digest())

    def proof(
        self,
        method: str,
        uri: str,
        *,
        token: str | None = None,
        header: dict[str, Any] | None = None,
        alg: str = "ES256",
        key: Any = None,
        **claims: Any,
    ) -> str:
        full: dict[str, Any] = {
            "jti": secrets.token_urlsafe(16),
            "htm": method,
            "htu": uri,
            "iat": int(self.clock.now),
            "ath": b64(hashlib.sha256(token.encode()).digest()) if token else None,
        }
        head = {"typ": "dpop+jwt", "jwk": public_jwk(self.key), **(header or {})}
        return make_jwt(key or self.key, full | claims, head, alg)


def assertion_claims(auth: AuthorizationServer, clock: Clock, client_id: str, **claims: Any) -> dict[str, Any]:
    return {
        "iss": client_id,
        "sub": client_id,
        "aud": auth.issuer,
        "iat": int(clock.now),
        "exp": int(clock.now) + 60,
        "jti": secrets.token_urlsafe(16),
    } | claims


def assertion_form(compact: str, **more: str) -> dict[str, str]:
    return {
        "grant_type": "client_credentials",
        "client_assertion_type": JWT_BEARER,
        "client_assertion": compact,
    } | more
