"""What the authorization server knows about its clients: the client metadata of RFC 7591 §2, as far as it is used here.

For development only: a real authorization server stores no client secret in clear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from joserfc.jwk import Key

from .jose import public_key

__all__ = ["AuthMethod", "RegisteredClient"]

AuthMethod = Literal[
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
]

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LEAST_HMAC_BYTES = 32  # RFC 7518 §3.2: a key of the size of the hash output


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredClient:
    """One client as the authorization server registered it. Its `auth_method` is the only one that it may use.

    Attributes:
        client_id: the client identifier (RFC 6749 §2.2).
        auth_method: its token_endpoint_auth_method (RFC 7591 §2, RFC 8705 §2).
        client_secret: for the three methods with a secret; at least 32 bytes for client_secret_jwt (RFC 7518 §3.2).
        basic_encoding: "form" as RFC 6749 §2.3.1 says, or "raw" to play a server that does not decode.
        jwks: the public JWK set of a private_key_jwt client.
        certificate_thumbprint: x5t#S256 of the client certificate (RFC 8705 §3.1), for the two TLS methods.
        certificate_subject: the subject as an RFC 4514 string (RFC 8705 §2.1.2), for tls_client_auth.
        scopes: all that it may ask for, and what it gets when it asks for none; None for any, and then none unasked.
        resources: the resource indicators (RFC 8707) and audiences it may name; None for any.
        dpop_bound_access_tokens: refuse its token requests without a DPoP proof (RFC 9449 §5.2).
        assertion_max_lifetime: how far ahead, in seconds, the exp of an assertion may lie.
        assertion_type: the client_assertion_type that it sends.
        assertion_audience: the only aud that its assertions may have; None for the issuer.
        assertion_issuer: set it when somebody else (Kubernetes, SPIFFE) writes the assertions: their iss. Such
            assertions may be used again until they expire, and need no jti.
        assertion_subject: their sub; None for the client_id. Where several clients have the same, as Entra's federated
            credentials may, client_id says which (RFC 7521 §4.2).
        grant_types: what it may use; without "client_credentials" it gets unauthorized_client.
    """

    client_id: str
    auth_method: AuthMethod = "client_secret_basic"
    client_secret: str | None = field(default=None, repr=False)
    basic_encoding: Literal["form", "raw"] = "form"
    jwks: Mapping[str, Any] | None = field(default=None, repr=False)
    certificate_thumbprint: str | None = None
    certificate_subject: str | None = None
    scopes: tuple[str, ...] | None = ()
    resources: tuple[str, ...] | None = None
    dpop_bound_access_tokens: bool = False
    assertion_max_lifetime: float = 60
    assertion_type: str = JWT_BEARER
    assertion_audience: str | None = None
    assertion_issuer: str | None = None
    assertion_subject: str | None = None
    grant_types: tuple[str, ...] = ("client_credentials",)
    keys: tuple[Key, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.auth_method not in get_args(AuthMethod):
            raise ValueError(f"auth_method must be one of {', '.join(get_args(AuthMethod))}")
        if self.auth_method.startswith("client_secret") and not self.client_secret:
            raise ValueError(f"{self.auth_method} needs a client_secret")
        if self.auth_method == "client_secret_jwt" and len((self.client_secret or "").encode()) < _LEAST_HMAC_BYTES:
            raise ValueError(f"client_secret_jwt needs a client_secret of {_LEAST_HMAC_BYTES} bytes or more")
        if self.auth_method == "private_key_jwt" and not self.jwks:
            raise ValueError("private_key_jwt needs the client's jwks")
        if "tls" in self.auth_method and not (self.certificate_thumbprint or self.certificate_subject):
            raise ValueError(f"{self.auth_method} needs a certificate_thumbprint or a certificate_subject")
        if self.auth_method == "self_signed_tls_client_auth" and not self.certificate_thumbprint:
            raise ValueError("anybody can sign any subject: self_signed_tls_client_auth needs a certificate_thumbprint")
        keys = tuple(public_key(jwk) for jwk in (self.jwks or {}).get("keys", ()))
        object.__setattr__(self, "keys", keys)

    def may_name(self, resource: str) -> bool:
        """Tell whether the client may ask for a token for this resource or audience."""
        return self.resources is None or resource in self.resources
