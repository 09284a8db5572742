"""Client authentication at the token endpoint, a class per method (RFC 6749 §2.3, RFC 7523, RFC 8705 §2, OIDC Core §9).

Each adds its own to a request that is being drafted. They are asked again for every transmission, so that an assertion
is never sent twice and a secret that was rotated on disk is seen.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import urandom
from typing import Any, Protocol
from urllib.parse import quote_plus

from ..errors import ConfigurationError
from .signing import Signer, sign_jwt

__all__ = [
    "AUTH_METHODS",
    "JWT_BEARER",
    "ClientAssertion",
    "ClientAuthentication",
    "ClientSecretBasic",
    "ClientSecretPost",
    "Draft",
    "SignedAssertion",
    "TlsClientAuth",
]

AUTH_METHODS = (
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
)
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
RESERVED_CLAIMS = frozenset({"iss", "sub", "aud", "exp", "iat", "nbf", "jti"})


@dataclass(slots=True, repr=False)
class Draft:
    """A token request while it is being written. `secrets` collects what must never be shown."""

    form: list[tuple[str, str]] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)


class ClientAuthentication(Protocol):
    """One way for a client to show who it is. `now` is the wall clock in seconds."""

    @property
    def method(self) -> str: ...

    def apply(self, draft: Draft, now: float) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ClientSecretBasic:
    """The secret in the Authorization header (RFC 6749 §2.3.1): form-encoded, or raw where servers do not decode."""

    client_id: str
    secret: Callable[[], str]
    raw: bool = False
    method: str = "client_secret_basic"

    def apply(self, draft: Draft, now: float) -> None:
        secret = _sendable(self.secret(), "client secret")
        if self.raw:
            pair = f"{self.client_id}:{secret}"
        else:
            pair = f"{quote_plus(self.client_id, safe='')}:{quote_plus(secret, safe='')}"
        credentials = b64encode(pair.encode("utf-8")).decode("ascii")
        draft.secrets += [secret, credentials]
        draft.headers.append(("Authorization", f"Basic {credentials}"))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ClientSecretPost:
    """The secret in the body (RFC 6749 §2.3.1): for servers that know no better."""

    client_id: str
    secret: Callable[[], str]
    method: str = "client_secret_post"

    def apply(self, draft: Draft, now: float) -> None:
        secret = _sendable(self.secret(), "client secret")
        draft.secrets.append(secret)
        draft.form += [("client_id", self.client_id), ("client_secret", secret)]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SignedAssertion:
    """client_secret_jwt and private_key_jwt: a JWT made by us, new for every transmission (RFC 7523 §3).

    Attributes:
        audience: the issuer identifier, as the one string in ``aud``.
        lifetime: seconds from ``iat`` to ``exp``.
        claims: further claims; they may not replace those of RFC 7523.
        typ: the ``typ`` header; empty leaves it out.
    """

    client_id: str
    signer: Callable[[], Signer]
    audience: str
    lifetime: int
    claims: Mapping[str, Any]
    typ: str
    method: str = "private_key_jwt"

    def apply(self, draft: Draft, now: float) -> None:
        issued_at = int(now)
        claims = {
            **self.claims,
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.audience,
            "iat": issued_at,
            "exp": issued_at + self.lifetime,
            "jti": urandom(16).hex(),
        }
        header = {"typ": self.typ} if self.typ else {}
        _add_assertion(draft, self.client_id, sign_jwt(self.signer(), header, claims), JWT_BEARER)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ClientAssertion:
    """An assertion that somebody else makes: read anew for every transmission, and never looked into."""

    client_id: str
    assertion: Callable[[], str]
    assertion_type: str = JWT_BEARER
    method: str = "private_key_jwt"

    def apply(self, draft: Draft, now: float) -> None:
        _add_assertion(draft, self.client_id, _sendable(self.assertion(), "assertion"), self.assertion_type)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TlsClientAuth:
    """The certificate of the TLS connection is the credential; the body names the client (RFC 8705 §2)."""

    client_id: str
    method: str

    def apply(self, draft: Draft, now: float) -> None:
        draft.form.append(("client_id", self.client_id))


def is_encodable(text: str) -> bool:
    """Whether `text` can be sent in UTF-8: it has no lone surrogates, as undecodable environment variables have."""
    return not any("\ud800" <= ch <= "\udfff" for ch in text)


def _sendable(secret: str, what: str) -> str:
    # Looked at beforehand, since the error of the encoder would quote it.
    if is_encodable(secret):
        return secret
    del secret
    raise ConfigurationError(f"the {what} is not UTF-8: check how it is stored", code="credential_unavailable")


def _add_assertion(draft: Draft, client_id: str, assertion: str, assertion_type: str) -> None:
    draft.secrets.append(assertion)
    draft.form += [
        ("client_id", client_id),
        ("client_assertion_type", assertion_type),
        ("client_assertion", assertion),
    ]
