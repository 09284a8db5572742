"""Who is calling the token endpoint: RFC 6749 §2.3, RFC 7523 §3 with its update (rfc7523bis §4), RFC 8705 §2.

A request authenticates by exactly one method, and it must be the one that the client is registered for.

For development only.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from joserfc.jwk import OctKey
from starlette.requests import Request

from .asgi import header_values
from .client_registry import RegisteredClient
from .jose import (
    ASYMMETRIC_ALGORITHMS,
    SYMMETRIC_ALGORITHMS,
    InvalidJwt,
    Jwt,
    ReplayMemory,
    is_numeric_date,
    read,
    verify,
)
from .oauth_error import OAuthError
from .peer_certificate import certificate_thumbprint, has_subject, peer_certificate
from .token_form import one

__all__ = ["AuthenticatedClient", "authenticate", "peek_assertion"]

_FUTURE_IAT = 10  # seconds; FAPI 2.0 lets a server accept that much for clocks that run fast
_ASSERTION_TYPES = (None, "JWT", "client-authentication+jwt")  # the typ header; rfc7523bis §4


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedClient:
    """The client that a request came from, the method that proved it, and its certificate's x5t#S256 if it has one."""

    client: RegisteredClient
    method: str
    thumbprint: str | None


def _invalid_client(description: str, *, basic: bool = False) -> OAuthError:
    # RFC 6749 §5.2: who tried the Authorization header is told the scheme that he used
    challenge = [("WWW-Authenticate", 'Basic realm="token endpoint", charset="UTF-8"')] if basic else []
    return OAuthError("invalid_client", description, status=401, headers=challenge)


def authenticate(
    request: Request,
    form: dict[str, list[str]],
    *,
    clients: Mapping[str, RegisteredClient],
    issuer: str,
    now: float,
    replays: ReplayMemory,
) -> AuthenticatedClient:
    """Return the client that made the request. Raises OAuthError: invalid_request or invalid_client.

    issuer: the issuer identifier, which must be the audience of an assertion.
    now: seconds since the epoch.
    """
    authorization = header_values(request, "authorization")
    by_secret, by_assertion = "client_secret" in form, "client_assertion" in form or "client_assertion_type" in form
    if len(authorization) + by_secret + by_assertion > 1:
        raise OAuthError("invalid_request", "more than one client authentication method (RFC 6749 §2.3)")
    der = peer_certificate(request.scope)
    if authorization:
        client, method = _basic(authorization[0], clients), "client_secret_basic"
        if one(form, "client_id") not in (None, client.client_id):
            raise _invalid_client("client_id is not that of the Authorization header", basic=True)
    elif by_assertion:
        client, method = _assertion(form, clients=clients, issuer=issuer, now=now, replays=replays)
    elif by_secret:
        client, method = _post(form, clients), "client_secret_post"
    else:
        client = _certificate(form, clients, der)
        method = client.auth_method
    return AuthenticatedClient(client=client, method=method, thumbprint=certificate_thumbprint(der) if der else None)


def _registered(
    clients: Mapping[str, RegisteredClient], client_id: str | None, *methods: str, basic: bool = False
) -> RegisteredClient:
    client = clients.get(client_id or "")
    if client is None:
        raise _invalid_client("no such client", basic=basic)
    if client.auth_method not in methods:
        raise _invalid_client(f"this client is registered for {client.auth_method}", basic=basic)
    return client


def _same_secret(given: str, client: RegisteredClient) -> bool:
    return hmac.compare_digest(given.encode(), (client.client_secret or "").encode())


def _basic(field: str, clients: Mapping[str, RegisteredClient]) -> RegisteredClient:
    scheme, _, credentials = field.partition(" ")
    if scheme.lower() != "basic":
        raise _invalid_client("the Authorization header must be Basic", basic=True)
    try:
        user_id, _, password = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")
        raw = clients.get(user_id)
        if raw is None or raw.basic_encoding != "raw":
            user_id, password = (unquote_plus(part, errors="strict") for part in (user_id, password))
    except ValueError:
        raise _invalid_client("the Basic credentials cannot be decoded", basic=True) from None
    client = _registered(clients, user_id, "client_secret_basic", basic=True)
    if not _same_secret(password, client):
        raise _invalid_client("the secret is wrong", basic=True)
    return client


def _post(form: dict[str, list[str]], clients: Mapping[str, RegisteredClient]) -> RegisteredClient:
    client = _registered(clients, one(form, "client_id"), "client_secret_post")
    if not _same_secret(form["client_secret"][0], client):
        raise _invalid_client("the secret is wrong")
    return client


def _certificate(
    form: dict[str, list[str]], clients: Mapping[str, RegisteredClient], der: bytes | None
) -> RegisteredClient:
    client = _registered(clients, one(form, "client_id"), "tls_client_auth", "self_signed_tls_client_auth")
    if der is None:
        raise _invalid_client("no client certificate was shown in the TLS handshake")
    if client.certificate_thumbprint not in (None, certificate_thumbprint(der)):
        raise _invalid_client("the certificate is not the registered one")
    if client.certificate_subject is not None and not has_subject(der, client.certificate_subject):
        raise _invalid_client("the certificate's subject is not the registered one")
    return client


def peek_assertion(form: dict[str, list[str]]) -> Jwt | None:
    """Return the assertion of a request unverified, for the record; None where there is none that can be read."""
    try:
        return read(one(form, "client_assertion") or "")
    except InvalidJwt:
        return None


def _assertion(
    form: dict[str, list[str]],
    *,
    clients: Mapping[str, RegisteredClient],
    issuer: str,
    now: float,
    replays: ReplayMemory,
) -> tuple[RegisteredClient, str]:
    compact, assertion_type = one(form, "client_assertion"), one(form, "client_assertion_type")
    if compact is None or assertion_type is None:
        raise OAuthError("invalid_request", "client_assertion and client_assertion_type belong together")
    try:
        jwt = read(compact)
    except InvalidJwt as reason:
        raise _invalid_client(f"the assertion is refused: {reason}") from None
    method = "client_secret_jwt" if jwt.header.get("alg") in SYMMETRIC_ALGORITHMS else "private_key_jwt"
    client = _registered(clients, _client_id_of(jwt, form, clients), method)
    if assertion_type != client.assertion_type:
        raise _invalid_client("the client_assertion_type is not the one of this client")
    try:
        if method == "client_secret_jwt":
            verify(jwt, [OctKey.import_key(client.client_secret or "")], SYMMETRIC_ALGORITHMS)
        else:
            kid = jwt.header.get("kid")
            keys = [key for key in client.keys if kid is None or key.kid == kid]
            verify(jwt, keys, ASYMMETRIC_ALGORITHMS)
        _check_assertion(jwt, client, issuer=issuer, now=now, replays=replays)
    except InvalidJwt as reason:
        raise _invalid_client(f"the assertion is refused: {reason}") from None
    return client, method


def _client_id_of(jwt: Jwt, form: dict[str, list[str]], clients: Mapping[str, RegisteredClient]) -> str | None:
    """Return the client that an assertion is about. One subject may be registered for several, as workloads are."""
    subject, issuer = jwt.claims.get("sub"), jwt.claims.get("iss")
    known = [each for each in clients.values() if (each.assertion_subject or each.client_id) == subject]
    named = one(form, "client_id")
    if named is not None:
        if known and named not in {each.client_id for each in known}:  # RFC 7521 §4.2
            raise _invalid_client("client_id is not the client of the assertion")
        return named if known else None
    # A subject is unique within its issuer only (RFC 7519 §4.1.2).
    of_issuer = [each for each in known if (each.assertion_issuer or each.client_id) == issuer] or known
    if len(of_issuer) > 1:
        raise _invalid_client("several clients are registered for this subject: client_id must say which")
    return of_issuer[0].client_id if of_issuer else None


def _check_assertion(jwt: Jwt, client: RegisteredClient, *, issuer: str, now: float, replays: ReplayMemory) -> None:
    """RFC 7523 §3, with the single string audience of rfc7523bis §4."""
    claims: Mapping[str, Any] = jwt.claims
    if jwt.header.get("typ") not in _ASSERTION_TYPES:
        raise InvalidJwt("its typ is that of another kind of JWT")
    if claims.get("iss") != (client.assertion_issuer or client.client_id):
        raise InvalidJwt("its iss is not the client")
    if claims.get("aud") != (client.assertion_audience or issuer):  # a list never equals a string
        raise InvalidJwt("its aud must be the issuer of this server, as a string and nothing else")
    exp, iat, nbf, jti = (claims.get(name) for name in ("exp", "iat", "nbf", "jti"))
    if not is_numeric_date(exp) or claims["exp"] <= now:
        raise InvalidJwt("it has expired, or has no exp")
    if claims["exp"] > now + client.assertion_max_lifetime:
        raise InvalidJwt(f"its exp is more than {client.assertion_max_lifetime} seconds ahead")
    if not is_numeric_date(iat) or claims["iat"] > now + _FUTURE_IAT:
        raise InvalidJwt("its iat lies in the future, or is missing")
    if nbf is not None and (not is_numeric_date(nbf) or claims["nbf"] > now + _FUTURE_IAT):
        raise InvalidJwt("its nbf lies in the future")
    if client.assertion_issuer is not None:
        return  # a projected token is used again until its platform writes the next one
    if not isinstance(jti, str) or not jti:
        raise InvalidJwt("it has no jti")
    if not replays.first_use(client.client_id, jti, expires_at=claims["exp"], now=now):
        raise InvalidJwt("its jti was seen before")
