"""Where the metadata of an authorization server is found, and what it says.

RFC 8414 §2 and §3, OpenID Connect Discovery §4, RFC 8705 §5 and RFC 9449 §5.1.

For development only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from .client_registry import AuthMethod
from .jose import ASYMMETRIC_ALGORITHMS, SYMMETRIC_ALGORITHMS

__all__ = ["metadata_document", "metadata_paths"]


def metadata_paths(issuer_path: str) -> dict[str, str]:
    """Return the path of each metadata document and its kind, "oauth" or "oidc".

    RFC 8414 §3.1 puts the well-known part before the path of the issuer, OpenID Connect Discovery §4 behind it.
    """
    path = issuer_path.rstrip("/")
    return {
        f"/.well-known/oauth-authorization-server{path}": "oauth",
        f"{path}/.well-known/openid-configuration": "oidc",
    }


def metadata_document(
    issuer: str, endpoint: Callable[[str], str], *, mtls_token_endpoint: str | None
) -> dict[str, Any]:
    """Return the members of the document; `endpoint` makes a URL of a name."""
    methods = list(get_args(AuthMethod))
    algorithms = [*ASYMMETRIC_ALGORITHMS, *SYMMETRIC_ALGORITHMS]
    document: dict[str, Any] = {
        "issuer": issuer,
        "token_endpoint": endpoint("token"),
        "revocation_endpoint": endpoint("revoke"),
        "jwks_uri": endpoint("jwks"),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "dpop_signing_alg_values_supported": list(ASYMMETRIC_ALGORITHMS),
        "tls_client_certificate_bound_access_tokens": True,
    }
    if mtls_token_endpoint is not None:
        document["mtls_endpoint_aliases"] = {"token_endpoint": mtls_token_endpoint}
    return document
