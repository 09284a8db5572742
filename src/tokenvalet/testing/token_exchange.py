"""One request to the token endpoint: what it holds while it is worked on, and what is kept of it for a test to look at.

For development only: what is kept includes everything that the client sent, secrets and all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from .asgi import header_pairs
from .client_authentication import AuthenticatedClient, peek_assertion
from .oauth_error import OAuthError
from .token_form import parse_form

__all__ = ["TokenExchange", "TokenRequestSeen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequestSeen:
    """One request that reached the token endpoint, as it came, and what became of it.

    form: every value of every parameter; {} if the body was no form.
    headers: every field line, names in lower case.
    authenticated: whether the client proved who it is.
    outcome: "issued", an OAuth error code, or "fault".
    client_id, auth_method: of the authenticated client.
    dpop_jkt: the thumbprint of the key of a proof that was accepted.
    assertion_header, assertion_claims: of a client assertion, verified or not.
    received_at: by the server's clock, in seconds since the epoch.
    """

    form: dict[str, list[str]]
    headers: list[tuple[str, str]]
    authenticated: bool
    outcome: str
    client_id: str | None
    auth_method: str | None
    dpop_jkt: str | None
    assertion_header: Mapping[str, Any] | None
    assertion_claims: Mapping[str, Any] | None
    received_at: float


class TokenExchange:
    """A request while it is worked on: what is known of it so far."""

    def __init__(self, request: Request, body: bytes, *, now: float) -> None:
        self.request = request
        self.now = now
        self.caller: AuthenticatedClient | None = None
        self.jkt: str | None = None
        self.form: dict[str, list[str]] = {}
        self.malformed: OAuthError | None = None
        try:
            self.form = parse_form(body)
        except OAuthError as reason:
            self.malformed = reason

    def seen(self, outcome: str) -> TokenRequestSeen:
        """Return the record of the request, with what became of it."""
        assertion = peek_assertion(self.form)
        return TokenRequestSeen(
            form=self.form,
            headers=header_pairs(self.request),
            authenticated=self.caller is not None,
            outcome=outcome,
            client_id=self.caller.client.client_id if self.caller else None,
            auth_method=self.caller.method if self.caller else None,
            dpop_jkt=self.jkt,
            assertion_header=assertion.header if assertion else None,
            assertion_claims=assertion.claims if assertion else None,
            received_at=self.now,
        )
