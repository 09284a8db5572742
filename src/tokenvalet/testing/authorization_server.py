"""An authorization server for demos and tests: strict with its clients, and bad to them only when told to.

It keeps RFC 6749 (the client credentials grant, §4.4), RFC 7009, RFC 7523, RFC 8414 §3, RFC 8705, RFC 8707, RFC 9068
and RFC 9449, and shares no code with the library that it judges.

For development only: clients, keys and tokens live in memory, and everything it was sent can be read by the test.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from .access_tokens import AccessTokens
from .asgi import application, header_values, pause, raw_path, target_uri
from .assertions import assert_token_requests
from .authorization_server_metadata import metadata_document, metadata_paths
from .client_authentication import AuthenticatedClient, authenticate
from .client_registry import RegisteredClient
from .dpop_proof import InvalidProof, Nonces, StaleNonce, verify_proof
from .faults import Fault, FaultQueue, FaultResponse
from .jose import ReplayMemory
from .oauth_error import NO_STORE, OAuthError
from .requested_access import granted_audience, granted_scope
from .token_exchange import TokenExchange, TokenRequestSeen
from .token_form import check_repeats, check_request, one

__all__ = ["AuthorizationServer", "TokenRequestSeen"]

_DEFAULT_LIFETIME = 3600  # seconds that a token lives although its response names no expires_in


class AuthorizationServer:
    """Serve it with `tokenvalet.testing.serve`; the attributes below may be changed while it runs.

    clients: who may ask for tokens.
    access_token_lifetime: seconds; None leaves expires_in out of the response.
    require_dpop_nonce: refuse proofs without the current nonce (RFC 9449 §8).
    rotate_dpop_nonce: give a new nonce with every response, and accept only it and the one before it.
    token_delay: seconds to wait before every answer of the token endpoint.
    issuer_path: the path of the issuer, such as "/realms/a".
    metadata_overrides: members to replace in the metadata; None removes one.
    discovery: which metadata documents exist, of "oauth" (RFC 8414) and "oidc" (OpenID Connect Discovery).
    clock: seconds since the epoch.

    Further attributes: `issuer` (set by `serve`, or by hand), `mtls_token_endpoint` (a URL for mtls_endpoint_aliases,
    RFC 8705 §5), `token_requests`, `metadata_requests`, `issued_tokens`.
    """

    def __init__(
        self,
        clients: Iterable[RegisteredClient] = (),
        *,
        access_token_lifetime: float | None = 3600,
        require_dpop_nonce: bool = False,
        rotate_dpop_nonce: bool = False,
        token_delay: float = 0.0,
        issuer_path: str = "",
        metadata_overrides: Mapping[str, Any] | None = None,
        discovery: Iterable[str] = ("oauth", "oidc"),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.clients = {client.client_id: client for client in clients}
        self.access_token_lifetime = access_token_lifetime
        self.require_dpop_nonce = require_dpop_nonce
        self.rotate_dpop_nonce = rotate_dpop_nonce
        self.token_delay = token_delay
        self.issuer_path = issuer_path
        self.metadata_overrides = dict(metadata_overrides or {})
        self.discovery = tuple(discovery)
        self.clock = clock
        self.issuer = ""
        self.mtls_token_endpoint: str | None = None
        self.token_requests: list[TokenRequestSeen] = []
        self.metadata_requests: list[str] = []
        self.issued_tokens: list[str] = []
        self.access_tokens = AccessTokens()
        self._nonces = Nonces()
        self._assertions = ReplayMemory()
        self._proofs = ReplayMemory()
        self._faults = FaultQueue()
        self._app = application(self._answer)

    # What a test does with it

    @property
    def app(self) -> ASGIApp:
        """The ASGI application."""
        return self._app

    @property
    def issued(self) -> int:
        """How many tokens were issued."""
        return len(self.issued_tokens)

    @property
    def token_endpoint(self) -> str:
        """The URL of the token endpoint."""
        return self._endpoint("token")

    def served_at(self, url: str) -> None:
        """Take an address for the issuer; `serve` calls it."""
        self.issuer = url + self.issuer_path

    def register(self, client: RegisteredClient) -> None:
        """Add a client, or replace the one with its client_id."""
        self.clients = {**self.clients, client.client_id: client}

    def revoke(self, token: str) -> None:
        """Make one token invalid, before its time."""
        self.access_tokens.revoke(token)

    def revoke_all(self) -> None:
        """Make all tokens that were issued so far invalid."""
        self.access_tokens.revoke_all()

    def rotate_nonce(self) -> None:
        """Refuse the DPoP nonces given so far."""
        self._nonces.rotate(keep_previous=False)

    def assert_token_requests(
        self,
        count: int | None = None,
        *,
        scope: str | Iterable[str] | None = None,
        resource: str | None = None,
        audience: str | None = None,
        client_id: str | None = None,
        outcome: str | None = None,
    ) -> None:
        """Raise AssertionError, with a list of what was seen, unless `count` token requests were as described.

        count: how many; None for at least one.
        scope: what was asked for, in any order.
        resource, audience: one that was asked for, among others.
        client_id: who asked, and proved it.
        outcome: "issued", an OAuth error code, or "fault".
        """
        __tracebackhide__ = True
        assert_token_requests(
            self.token_requests,
            count,
            scope=scope,
            resource=resource,
            audience=audience,
            client_id=client_id,
            outcome=outcome,
        )

    def misbehave(self, fault: Fault, times: int | None = 1) -> None:
        """Answer the next requests with a fault, after the faults that are waiting; None: until `behave`."""
        self._faults.add(fault, times)

    def behave(self) -> None:
        """Forget the faults that are waiting."""
        self._faults.clear()

    def reset(self) -> None:
        """Clear what was seen; tokens, nonces and faults stay as they are."""
        for seen in (self.token_requests, self.metadata_requests, self.issued_tokens):
            seen.clear()

    # What its clients do with it

    def _endpoint(self, name: str) -> str:
        return f"{self.issuer.rstrip('/')}/{name}"

    async def _answer(self, request: Request) -> Response:
        path, prefix = raw_path(request), self.issuer_path.rstrip("/")
        if "/.well-known/" in path:
            return self._metadata(path)
        if path == f"{prefix}/token":
            return await self._token(request)
        if path == f"{prefix}/revoke":
            return await self._revoke(request)
        if path == f"{prefix}/jwks":
            return JSONResponse(self.access_tokens.jwks)
        return JSONResponse({"error": "not_found"}, status_code=404)

    def _metadata(self, path: str) -> Response:
        self.metadata_requests.append(path)
        if fault := self._faults.take("metadata"):
            return FaultResponse(fault)
        kind = metadata_paths(self.issuer_path).get(path)
        if kind not in self.discovery:
            return JSONResponse({"error": "not_found"}, status_code=404)
        document = metadata_document(self.issuer, self._endpoint, mtls_token_endpoint=self.mtls_token_endpoint)
        document.update(self.metadata_overrides)
        return JSONResponse({name: value for name, value in document.items() if value is not None})

    async def _token(self, request: Request) -> Response:
        exchange = TokenExchange(request, await request.body(), now=self.clock())
        if fault := self._faults.take("token"):
            self.token_requests.append(exchange.seen("fault"))
            return FaultResponse(fault)
        try:
            response: Response = JSONResponse(self._grant(exchange), headers=NO_STORE)
            outcome = "issued"
        except OAuthError as refusal:
            response, outcome = refusal.response(), refusal.error
        if self.rotate_dpop_nonce:
            response.headers["DPoP-Nonce"] = self._nonces.rotate(keep_previous=True)
        elif self.require_dpop_nonce:
            response.headers["DPoP-Nonce"] = self._nonces.current
        # Recorded before the delay: a test that waits for a request to arrive need not wait for its answer.
        self.token_requests.append(exchange.seen(outcome))
        await pause(self.token_delay)
        return response

    async def _revoke(self, request: Request) -> Response:
        """RFC 7009 §2: with the client authentication of the token endpoint, and 200 for tokens it does not know."""
        exchange = TokenExchange(request, await request.body(), now=self.clock())
        try:
            self._authenticate(exchange)
            token = one(exchange.form, "token")
            if token is None:
                raise OAuthError("invalid_request", "token is missing")
        except OAuthError as refusal:
            return refusal.response()
        self.revoke(token)
        return Response(status_code=200, headers=NO_STORE)

    def _authenticate(self, exchange: TokenExchange) -> AuthenticatedClient:
        check_request(exchange.request)
        if exchange.malformed:
            raise exchange.malformed
        check_repeats(exchange.form)
        exchange.caller = authenticate(
            exchange.request,
            exchange.form,
            clients=self.clients,
            issuer=self.issuer,
            now=exchange.now,
            replays=self._assertions,
        )
        return exchange.caller

    def _grant(self, exchange: TokenExchange) -> dict[str, Any]:
        """Return the token response (RFC 6749 §5.1), or raise the OAuthError that says why there is none."""
        caller, form = self._authenticate(exchange), exchange.form
        exchange.jkt = self._proof_key(exchange.request, caller.client, exchange.now)
        grant_type = one(form, "grant_type")
        if grant_type is None:
            raise OAuthError("invalid_request", "grant_type is missing")
        if grant_type != "client_credentials":
            raise OAuthError("unsupported_grant_type", "only client_credentials is supported")
        if grant_type not in caller.client.grant_types:
            raise OAuthError("unauthorized_client", "this client may not use this grant type")
        scope = granted_scope(form, caller.client)
        audience = granted_audience(form, caller.client)
        lifetime = self.access_token_lifetime
        token = self.access_tokens.issue(
            issuer=self.issuer,
            client_id=caller.client.client_id,
            audience=audience,
            scope=scope,
            now=exchange.now,
            lifetime=_DEFAULT_LIFETIME if lifetime is None else lifetime,
            jkt=exchange.jkt,
            x5t=caller.thumbprint,
        )
        self.issued_tokens.append(token)
        answer: dict[str, Any] = {"access_token": token, "token_type": "DPoP" if exchange.jkt else "Bearer"}
        if lifetime is not None:
            answer["expires_in"] = lifetime
        if scope:
            answer["scope"] = scope
        return answer

    def _proof_key(self, request: Request, client: RegisteredClient, now: float) -> str | None:
        """Return the thumbprint that the token is to be bound to (RFC 9449 §5), or None for a Bearer token."""
        proofs = header_values(request, "dpop")
        if not proofs:
            if client.dpop_bound_access_tokens:
                raise OAuthError("invalid_dpop_proof", "this client must send a DPoP proof")
            return None
        needs_nonce = self.require_dpop_nonce or self.rotate_dpop_nonce
        try:
            proof = verify_proof(
                proofs,
                method=request.method,
                uri=target_uri(request),
                access_token=None,
                now=now,
                replays=self._proofs,
                nonces=self._nonces if needs_nonce else None,
            )
        except InvalidProof as reason:
            raise OAuthError("invalid_dpop_proof", f"the proof is refused: {reason}") from None
        except StaleNonce as reason:
            raise OAuthError("use_dpop_nonce", str(reason)) from None  # _token adds the nonce itself
        return proof.jkt
