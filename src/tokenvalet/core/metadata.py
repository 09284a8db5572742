"""Discovery: where the token endpoint is (RFC 8414, OpenID Connect Discovery), and what the server says it can do.

Metadata is believed only where its issuer is, code point for code point, the configured one. What it lists serves to
refuse a configuration early, never to pick another way of authenticating than the configured one.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..errors import TokenRequestError, TokenResponseError, TokenValetError, shown
from .guard import Origin, parse_origin, same_site
from .messages import Failure, HttpReply, HttpRequest, Outcome, Transmit
from .request import Endpoint
from .response import failure_error, json_object, retry_after

__all__ = ["Metadata", "check_issuer", "discover", "metadata_urls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What was discovered. A list that the server does not give is None: nothing is known, nothing is refused."""

    issuer: str
    token_endpoint: Endpoint
    mtls_token_endpoint: Endpoint | None
    auth_methods: frozenset[str] | None
    auth_signing_algs: frozenset[str] | None
    dpop_signing_algs: frozenset[str] | None
    grant_types: frozenset[str] | None

    @property
    def mtls_endpoint(self) -> Endpoint:
        """Where a client with a certificate asks (RFC 8705 §5)."""
        return self.mtls_token_endpoint or self.token_endpoint


def check_issuer(issuer: str) -> Origin:
    """Return the origin of an issuer identifier (RFC 8414 §2). Raises ValueError, with the remedy, where it is none."""
    origin = parse_origin(issuer)
    if not origin.is_safe:
        raise ValueError("an issuer is an https URL (RFC 8414 §2)")
    if "?" in issuer or "#" in issuer:
        raise ValueError("an issuer has neither query nor fragment (RFC 8414 §2)")
    return origin


def metadata_urls(issuer: str) -> tuple[str, str]:
    """Return where metadata is looked for, in order: RFC 8414 §3.1 (inserted), then OIDC Discovery §4 (appended)."""
    parts = urlsplit(issuer)
    path = parts.path.removesuffix("/")
    host = f"{parts.scheme}://{parts.netloc}"
    return (
        f"{host}/.well-known/oauth-authorization-server{path}",
        f"{host}{path}/.well-known/openid-configuration",
    )


def discover(client: str, issuer: str) -> Generator[Transmit, Outcome, Metadata]:
    """Return the issuer's metadata; a flow that asks its driver to send requests.

    Raises:
        TokenRequestError: the issuer does not answer, or not at the moment.
        TokenResponseError: it answers, but neither address has metadata that can be believed.
    """
    faults: list[str] = []
    passing: TokenValetError | None = None
    for url in metadata_urls(issuer):
        request = HttpRequest(
            method="GET", url=url, headers=(("Accept", "application/json"), ("Accept-Encoding", "identity"))
        )
        outcome = yield Transmit(request=request)
        if isinstance(outcome.result, Failure):
            error = failure_error(outcome.result, client, url)
            if isinstance(error, TokenRequestError):
                # A server that does not answer here will not answer next door either.
                raise error
            faults.append(str(error))
            continue
        assert outcome.result is not None
        reply = outcome.result
        if reply.status == 429 or reply.status >= 500:
            passing = passing or TokenRequestError(
                f"client {client!r}: {url} answered {reply.status}: it cannot serve at the moment",
                code="token_request_rate_limited" if reply.status == 429 else "token_request_server_error",
                status=reply.status,
                retry_after=retry_after(reply),
            )
            continue
        metadata, fault = _read(reply, issuer)
        if metadata is not None:
            return metadata
        faults.append(f"{url} {fault}")
    if passing is not None:
        raise passing
    raise TokenResponseError(
        f"client {client!r}: issuer {issuer} has no metadata that can be used: {'; '.join(faults)}. "
        "Check issuer letter by letter, or configure token_endpoint",
        code="metadata_unusable",
    )


def _read(reply: HttpReply, issuer: str) -> tuple[Metadata | None, str]:
    if 300 <= reply.status < 400:
        return None, f"answered {reply.status}, a redirect, which is not followed"
    if reply.status != 200:
        return None, f"answered {reply.status}"
    document, fault = json_object(reply)
    if document is None:
        return None, f"answered with no metadata: {fault}"
    stated = document.get("issuer")
    if stated != issuer:
        said = shown(stated) if isinstance(stated, str) else "none"
        return None, f"names another issuer ({said}), so it is not believed (RFC 8414 §3.3)"
    try:
        host = parse_origin(issuer).host
        aliases = document.get("mtls_endpoint_aliases")
        alias = aliases.get("token_endpoint") if isinstance(aliases, dict) else None
        return Metadata(
            issuer=issuer,
            token_endpoint=_endpoint(document.get("token_endpoint"), host, "token_endpoint"),
            mtls_token_endpoint=_endpoint(alias, host, "mtls_endpoint_aliases") if alias is not None else None,
            auth_methods=_names(document, "token_endpoint_auth_methods_supported"),
            auth_signing_algs=_names(document, "token_endpoint_auth_signing_alg_values_supported"),
            dpop_signing_algs=_names(document, "dpop_signing_alg_values_supported"),
            grant_types=_names(document, "grant_types_supported"),
        ), ""
    except ValueError as error:
        return None, str(error)


def _endpoint(value: object, issuer_host: str, name: str) -> Endpoint:
    if not isinstance(value, str):
        raise ValueError(f"has no {name}")
    try:
        endpoint = Endpoint.parse(value)
    except ValueError as fault:
        raise ValueError(f"has a {name} that cannot be used: {fault}") from None
    if not same_site(endpoint.origin.host, issuer_host):
        raise ValueError(
            f"has a {name} at {shown(str(endpoint.origin))}, another site than the issuer's: if that is right, "
            "configure token_endpoint as well as issuer"
        )
    return endpoint


def _names(document: Mapping[str, Any], member: str) -> frozenset[str] | None:
    value = document.get(member)
    if not isinstance(value, list):
        return None
    return frozenset(one for one in value if isinstance(one, str))
