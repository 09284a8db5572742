"""Access tokens as JWTs: RFC 9068, with the confirmation of RFC 7800, RFC 9449 §6.1 and RFC 8705 §3.1.

The issuing server and the API of `tokenvalet.testing` share one of these in process, as a real API would share the
issuer's JWK set and its revocation list.

For development only: the signing key lives as long as the object.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

from .jose import InvalidJwt, read, verify

__all__ = ["AccessTokens"]

_ALG = "ES256"


class AccessTokens:
    """Issues, verifies and revokes the tokens of one authorization server."""

    def __init__(self) -> None:
        self._key = ECKey.generate_key("P-256", parameters={"use": "sig", "alg": _ALG}, auto_kid=True)
        self._lock = threading.Lock()
        # jti → the moment of expiry. The exp claim is in whole seconds; lifetimes of a second or two are to be exact.
        self._live: dict[str, float] = {}

    @property
    def jwks(self) -> dict[str, Any]:
        """The public JWK set."""
        return {"keys": [self._key.as_dict(private=False)]}

    def issue(
        self,
        *,
        issuer: str,
        client_id: str,
        audience: Sequence[str],
        scope: str,
        now: float,
        lifetime: float,
        jkt: str | None = None,
        x5t: str | None = None,
    ) -> str:
        """Return a new token, live for `lifetime` seconds from `now` (seconds since the epoch).

        jkt, x5t: thumbprints of the proof key and of the client certificate that it is bound to.
        """
        jti = secrets.token_urlsafe(16)
        claims: dict[str, Any] = {
            "iss": issuer,
            "sub": client_id,
            "client_id": client_id,
            "aud": audience[0] if len(audience) == 1 else list(audience),
            "scope": scope,
            "iat": math.floor(now),
            "exp": math.ceil(now + lifetime),
            "jti": jti,
        }
        confirmation = {name: value for name, value in (("jkt", jkt), ("x5t#S256", x5t)) if value}
        if confirmation:
            claims["cnf"] = confirmation
        with self._lock:
            self._live[jti] = now + lifetime
        return jwt.encode({"alg": _ALG, "typ": "at+jwt", "kid": self._key.kid}, claims, self._key, algorithms=[_ALG])

    def verify(self, token: str, *, issuer: str, now: float) -> Mapping[str, Any]:
        """Return the claims of a token that is ours, live and not revoked. Raises InvalidJwt (RFC 9068 §4)."""
        parsed = read(token)
        if parsed.header.get("typ") != "at+jwt":
            raise InvalidJwt("its typ must be at+jwt")
        verify(parsed, [self._key], [_ALG])
        if parsed.claims.get("iss") != issuer:
            raise InvalidJwt("its iss is another issuer")
        expires_at = self._live.get(str(parsed.claims.get("jti")))
        if expires_at is None:
            raise InvalidJwt("it was revoked")
        if now >= expires_at:
            raise InvalidJwt("it has expired")
        return parsed.claims

    def revoke(self, token: str) -> None:
        """Make a token invalid from now on; one that is not ours is no matter (RFC 7009 §2.2)."""
        try:
            jti = read(token).claims.get("jti")
        except InvalidJwt:
            return
        with self._lock:
            self._live.pop(str(jti), None)

    def revoke_all(self) -> None:
        """Make every token that was issued so far invalid."""
        with self._lock:
            self._live.clear()
