"""What a token request asks for: scope (RFC 6749 §3.3), resource (RFC 8707 §2) and audience (RFC 8693 §2.1).

For development only.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from .client_registry import RegisteredClient
from .oauth_error import OAuthError
from .token_form import one, several

__all__ = ["DEFAULT_AUDIENCE", "granted_audience", "granted_scope"]

DEFAULT_AUDIENCE = "https://api.example.org"
"""The aud of a token for which neither a resource nor an audience was named."""

_SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+(?: [\x21\x23-\x5B\x5D-\x7E]+)*")


def granted_scope(form: dict[str, list[str]], client: RegisteredClient) -> str:
    """Return the scope to grant: what was asked for, or all that the client may have if it asked for none."""
    asked = one(form, "scope")
    if asked is None:
        return " ".join(client.scopes or ())
    if not _SCOPE.fullmatch(asked):
        raise OAuthError("invalid_scope", "the scope is malformed (RFC 6749 §3.3)")
    wanted = list(dict.fromkeys(asked.split(" ")))
    if client.scopes is not None and not set(wanted) <= set(client.scopes):
        raise OAuthError("invalid_scope", "this client may not have that scope")
    return " ".join(wanted)


def granted_audience(form: dict[str, list[str]], client: RegisteredClient) -> list[str]:
    """Return the aud of the token. Raises OAuthError (invalid_target) for what the client may not name."""
    resources, audiences = several(form, "resource"), several(form, "audience")
    for resource in resources:  # RFC 8707 §2: an absolute URI without a fragment
        if not urlsplit(resource).scheme or "#" in resource:
            raise OAuthError("invalid_target", "a resource must be an absolute URI without a fragment")
    named = list(dict.fromkeys(resources + audiences))
    if not all(client.may_name(each) for each in named):
        raise OAuthError("invalid_target", "this client may not have a token for that resource")
    return named or [DEFAULT_AUDIENCE]
