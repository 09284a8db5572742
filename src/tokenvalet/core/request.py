"""The token request (RFC 6749 §4.4.2): what is asked for, and how it looks on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from ..errors import ConfigurationError, shown
from .authentication import ClientAuthentication, Draft, is_encodable
from .dpop import ProofKey, target_uri
from .guard import Origin, parse_origin
from .messages import HttpRequest

__all__ = ["Endpoint", "TokenOrder", "check_parameters", "check_resource", "checked", "token_request"]

RESERVED_PARAMETERS = frozenset(
    {
        "grant_type",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "scope",
        "resource",
        "audience",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A token endpoint: its URL, and the origin and path that proofs for it are made for."""

    url: str
    origin: Origin
    path: str

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Return the endpoint at an absolute URL. Raises ValueError where it cannot be one (RFC 6749 §3.2)."""
        origin = parse_origin(url)
        if not origin.is_safe:
            raise ValueError("it is not reached over TLS (RFC 6749 §3.2): use https")
        parts = urlsplit(url)
        if "#" in url:
            raise ValueError("it has a fragment (RFC 6749 §3.2)")
        if not url.isascii():
            raise ValueError("it has characters beyond ASCII in it: percent-encode them")
        return cls(url=url, origin=origin, path=parts.path or "/")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenOrder:
    """Everything that one token is asked for with, for one client.

    Attributes:
        client: the client's name, for errors.
        issuer: the issuer, or None where only a token endpoint is configured.
        required_scopes: scopes that must have been granted.
        default_lifetime: seconds to count on where the server gives none.
    """

    client: str
    issuer: str | None
    authentication: ClientAuthentication
    proof_key: ProofKey | None
    scope: tuple[str, ...]
    resource: tuple[str, ...]
    audience: tuple[str, ...]
    parameters: tuple[tuple[str, str], ...] = field(repr=False)
    required_scopes: frozenset[str]
    default_lifetime: float


def token_request(order: TokenOrder, endpoint: Endpoint, *, now: float, nonce: str | None) -> HttpRequest:
    """Return one transmission of a token request: its own assertion, its own proof.

    Args:
        order: what is asked for.
        endpoint: where.
        now: the wall clock in seconds, corrected where it is known to be off.
        nonce: the authorization server's DPoP nonce, or None.
    """
    draft = Draft()
    draft.form.append(("grant_type", "client_credentials"))
    if order.scope:
        draft.form.append(("scope", " ".join(order.scope)))
    draft.form += [("resource", one) for one in order.resource]
    draft.form += [("audience", one) for one in order.audience]
    draft.form += order.parameters
    order.authentication.apply(draft, now)
    if order.proof_key is not None:
        htu = target_uri(endpoint.origin, endpoint.path)
        proof = order.proof_key.proof("POST", htu, iat=int(now), nonce=nonce).decode("ascii")
        draft.secrets.append(proof)
        draft.headers.append(("DPoP", proof))
    body = urlencode([(name, value) for name, value in draft.form if value]).encode("ascii")
    return HttpRequest(
        method="POST",
        url=endpoint.url,
        headers=(
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Accept", "application/json"),
            ("Accept-Encoding", "identity"),
            ("Cache-Control", "no-store"),
            *draft.headers,
        ),
        body=body,
        secrets=tuple(draft.secrets),
    )


def check_parameters(parameters: Iterable[tuple[str, str]]) -> None:
    """Raise ValueError where further form fields would shadow a field of the protocol (RFC 6749 §3.2)."""
    for name, _ in parameters:
        if name in RESERVED_PARAMETERS:
            raise ValueError(f"{name} is a field of the protocol: use the setting of that name instead")
        if not name:
            raise ValueError("a form field without a name")


def check_resource(resource: Iterable[str]) -> None:
    """Raise ValueError where a resource indicator is no absolute URI without fragment (RFC 8707 §2)."""
    for one in resource:
        parts = urlsplit(one)
        if not parts.scheme or not (parts.netloc or parts.path) or "#" in one or not one.isprintable() or " " in one:
            raise ValueError(f"{shown(one, 128)!r} is no absolute URI without fragment (RFC 8707 §2)")


def checked(order: TokenOrder) -> TokenOrder:
    """Return `order`, or raise ConfigurationError where what it asks for can never be sent."""
    try:
        check_parameters(order.parameters)
        check_resource(order.resource)
    except ValueError as fault:
        raise ConfigurationError(f"client {order.client!r}: {fault}", code="invalid_token_parameters") from None
    if not all(is_encodable(one) for pair in order.parameters for one in pair) or not all(
        map(is_encodable, (*order.audience, *order.resource))
    ):
        raise ConfigurationError(
            f"client {order.client!r}: a parameter, an audience or a resource has half a character in it (a lone "
            "surrogate), which cannot be sent",
            code="invalid_token_parameters",
        )
    return order
