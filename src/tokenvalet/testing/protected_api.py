"""An API that wants an access token, for demos and tests: RFC 6750 and RFC 9449 §7, and RFC 8705 §3.

A judge proves nothing unless it looks: the signature, issuer, audience, expiry and revocation of every token, its
binding to a proof key or certificate, and every line of RFC 9449 §4.3 on the proof. What came in stays to be looked at.

For development only.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from .api_call import ApiCallSeen, call_seen
from .api_resources import resource_response
from .asgi import application, header_values, pause, raw_path, raw_query, target_uri
from .assertions import assert_api_calls
from .authorization_server import AuthorizationServer
from .dpop_proof import InvalidProof, Nonces, StaleNonce, verify_proof
from .jose import ASYMMETRIC_ALGORITHMS, InvalidJwt, ReplayMemory
from .peer_certificate import peer_thumbprint

__all__ = ["ApiCallSeen", "ProtectedApi"]

_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 9110 §11.2, b64token in RFC 6750 §2.1


class _Refused(Exception):
    """A request that is not let in: the status and the WWW-Authenticate field that say why."""

    def __init__(self, status: int, challenge: str) -> None:
        super().__init__(challenge)
        self.status = status
        self.challenge = challenge


class ProtectedApi:
    """Serve it with `tokenvalet.testing.serve`; the attributes below may be changed while it runs.

    auth: the authorization server whose tokens it takes.
    audience: what must be in the aud of a token; None for anything.
    require_dpop_nonce: refuse proofs without the current nonce (RFC 9449 §9).
    accept: the authentication schemes that it takes, of "Bearer" and "DPoP".

    Further attributes: `origin` (set by `serve`), `calls`, `required_scope` (None for none), `reject_all` (a challenge
    to refuse everything with, or None), `delay` (seconds to wait before every answer).
    """

    def __init__(
        self,
        auth: AuthorizationServer,
        *,
        audience: str | None = None,
        require_dpop_nonce: bool = False,
        accept: Iterable[str] = ("Bearer", "DPoP"),
    ) -> None:
        self.auth = auth
        self.audience = audience
        self.require_dpop_nonce = require_dpop_nonce
        self.accept = tuple(accept)
        self.origin = ""
        self.required_scope: str | None = None
        self.reject_all: str | None = None
        self.delay = 0.0
        self.calls: list[ApiCallSeen] = []
        self._nonces = Nonces()
        self._proofs = ReplayMemory()
        self._rejections: deque[tuple[int, str]] = deque()
        self._lock = threading.Lock()
        self._app = application(self._answer)

    # What a test does with it

    @property
    def app(self) -> ASGIApp:
        """The ASGI application."""
        return self._app

    def served_at(self, url: str) -> None:
        """Take an address; `serve` calls it."""
        self.origin = url

    def rotate_nonce(self) -> None:
        """Refuse the DPoP nonces given so far."""
        self._nonces.rotate(keep_previous=False)

    def reject_next(self, n: int = 1, status: int = 401, challenge: str = 'Bearer error="invalid_token"') -> None:
        """Refuse the next `n` requests, whatever token they carry."""
        with self._lock:
            self._rejections.extend([(status, challenge)] * n)

    def assert_calls(
        self,
        count: int | None = None,
        *,
        method: str | None = None,
        path: str | None = None,
        status: int | None = None,
        scheme: str | None = None,
    ) -> None:
        """Raise AssertionError, with a list of what was seen, unless `count` calls were as described; None: at least one.

        path: without the query.
        status: that it was answered with.
        scheme: "Bearer" or "DPoP".
        """
        __tracebackhide__ = True
        assert_api_calls(self.calls, count, method=method, path=path, status=status, scheme=scheme)

    def reset(self) -> None:
        """Forget the calls that were seen and the rejections that are waiting; nonces and proofs stay known."""
        with self._lock:
            self._rejections.clear()
        self.calls.clear()
        self.reject_all = None

    # What its callers do with it

    async def _answer(self, request: Request) -> Response:
        now = self.auth.clock()
        digest, length = hashlib.sha256(), 0
        async for piece in request.stream():
            digest.update(piece)
            length += len(piece)
        try:
            self._reject_if_told_to()
            if not raw_path(request).startswith("/open"):
                self._check(request, now)
            response = resource_response(request, body_length=length, body_sha256=digest.hexdigest())
        except _Refused as refused:
            members = {"error": "unauthorized" if refused.status == 401 else "refused"}
            response = JSONResponse(members, status_code=refused.status)
            response.headers["WWW-Authenticate"] = refused.challenge
        if self.require_dpop_nonce:
            response.headers["DPoP-Nonce"] = self._nonces.current
        self.calls.append(
            call_seen(request, body_length=length, body_sha256=digest.hexdigest(), status=response.status_code, now=now)
        )
        await pause(self.delay)
        return response

    def _reject_if_told_to(self) -> None:
        if self.reject_all is not None:
            raise _Refused(401, self.reject_all)
        with self._lock:
            if self._rejections:
                raise _Refused(*self._rejections.popleft())

    def _challenge(self, scheme: str, error: str | None = None, description: str = "", **more: str) -> str:
        """Return a challenge of RFC 6750 §3, or of RFC 9449 §7.1 with the algorithms that are taken."""
        parameters = {"error": error, "error_description": description} if error else {}
        parameters |= more
        if scheme == "DPoP":
            parameters["algs"] = " ".join(ASYMMETRIC_ALGORITHMS)
        return f"{scheme} " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())

    def _check(self, request: Request, now: float) -> None:
        """Let the request in, or raise."""
        fields = header_values(request, "authorization")
        if len(fields) > 1 or "access_token" in parse_qs(raw_query(request)):
            raise _Refused(400, self._challenge("Bearer", "invalid_request", "use one Authorization header"))
        scheme, _, token = fields[0].partition(" ") if fields else ("", "", "")
        known = {name.lower(): name for name in self.accept}
        if scheme.lower() not in known:  # RFC 6750 §3.1: no error code for who showed nothing at all
            raise _Refused(401, ", ".join(self._challenge(name, **_REALM) for name in self.accept) or "Bearer")
        scheme = known[scheme.lower()]
        if not _TOKEN68.fullmatch(token):
            raise _Refused(400, self._challenge(scheme, "invalid_request", "the token is malformed"))
        claims = self._check_token(scheme, token, now)
        self._check_binding(request, scheme, token, claims, now)
        if self.required_scope and not set(self.required_scope.split()) <= set(str(claims.get("scope")).split()):
            needed = self._challenge(
                scheme, "insufficient_scope", "the token has too little", scope=self.required_scope
            )
            raise _Refused(403, needed)

    def _check_token(self, scheme: str, token: str, now: float) -> Mapping[str, Any]:
        try:
            claims = self.auth.access_tokens.verify(token, issuer=self.auth.issuer, now=now)
        except InvalidJwt as reason:
            raise _Refused(401, self._challenge(scheme, "invalid_token", str(reason))) from None
        audience = claims.get("aud")
        if self.audience is not None and self.audience not in (audience if isinstance(audience, list) else [audience]):
            raise _Refused(401, self._challenge(scheme, "invalid_token", "it is for another audience"))
        return claims

    def _check_binding(self, request: Request, scheme: str, token: str, claims: Mapping[str, Any], now: float) -> None:
        """The token must come with the key that it is bound to (RFC 9449 §7, RFC 8705 §3)."""
        confirmation = claims.get("cnf", {})
        bound_to_certificate = confirmation.get("x5t#S256")
        if bound_to_certificate not in (None, peer_thumbprint(request.scope)):
            raise _Refused(401, self._challenge(scheme, "invalid_token", "it is bound to another certificate"))
        bound_to_key = confirmation.get("jkt")
        if (scheme == "DPoP") != (bound_to_key is not None):  # RFC 9449 §7.2: no downgrade
            raise _Refused(401, self._challenge(scheme, "invalid_token", "this scheme does not fit the token"))
        if scheme != "DPoP":
            return
        try:
            proof = verify_proof(
                header_values(request, "dpop"),
                method=request.method,
                uri=target_uri(request),
                access_token=token,
                now=now,
                replays=self._proofs,
                nonces=self._nonces if self.require_dpop_nonce else None,
            )
        except InvalidProof as reason:
            raise _Refused(401, self._challenge("DPoP", "invalid_dpop_proof", str(reason))) from None
        except StaleNonce as reason:
            raise _Refused(401, self._challenge("DPoP", "use_dpop_nonce", str(reason))) from None
        if proof.jkt != bound_to_key:
            raise _Refused(401, self._challenge("DPoP", "invalid_token", "it is bound to another key"))


_REALM = {"realm": "records"}
