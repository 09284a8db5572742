"""aiohttp: the client middleware that puts the token on, hop by hop, where a request is really sent; and a ready session.

aiohttp calls the middleware for every hop of a redirect, and again where it sends a request anew over another connection.
The shell takes the token out of the headers again once it is sent: aiohttp keeps those of a request with its answer, and
with some errors.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp import hdrs, payload

from ..backchannel import proxy_for
from ..core.call import Answer, Hop, NeedToken, Rejected, Send, api_call
from ..core.guard import Origin, origin_of
from ..core.token import AccessToken, TokenParameters
from ..errors import ConfigurationError, TokenValetError, shown
from ..named_client import NamedClient, Ticket
from ..pending import Waiting
from ..renewal import Renewer
from ..waiting import wait_async
from . import leftovers
from .admission import Customize, check_abroad, checked_parameters, own_header, tell, user_information
from .aiohttp_connections import CONNECTIONS, WAY, SharedConnector, Way, go_through
from .pools import Pools

__all__ = ["CONNECTIONS", "ValetMiddleware", "session_for"]

OWN_FRAMES = frozenset(
    {"tokenvalet", "aiohttp", "aiohappyeyeballs", "asyncio", "contextlib", "selectors", "socket", "ssl"}
)
# As aiohttp keeps the names of headers that it looks up often.
AUTHORIZATION = hdrs.AUTHORIZATION
DPOP = type(AUTHORIZATION)("DPoP")

# What all hops of one call have in common, of the last call in this context whose answer was a redirect.
_redirected: ContextVar[Any] = ContextVar("tokenvalet.redirected", default=None)


class _AiohttpHop(Hop):
    __slots__ = ("request",)
    request: Any

    def replayable(self) -> bool:
        return _is_replayable(self.request.body)


class ValetMiddleware:
    """A client middleware: every request carries a token, to the allowed origins and nowhere else."""

    def __init__(
        self,
        client: NamedClient,
        renewer: Renewer,
        pools: Pools,
        token_parameters: TokenParameters | None = None,
        customize: Customize | None = None,
        *,
        is_ready: bool = False,
    ) -> None:
        self._client = client
        self._renewer = renewer
        self._pools = pools
        self._is_ready = is_ready
        self._parameters = checked_parameters(client, token_parameters)
        self._customize = customize
        self._observers = client.around.observers
        config = client.config
        self._has_tls = client.file_identity is not None or config.allow_insecure_tls
        self._is_configured = self._has_tls or config.proxy is not None
        self._is_plain = not (
            self._is_configured
            or client.credentials.proof_key is not None
            or token_parameters is not None
            or customize is not None
        )
        self._lasting = client.lasting_ticket()
        # The last token, and its header as text.
        self._worn: tuple[AccessToken | None, str] = (None, "")
        # The few spellings in which the origins come where tokens may go, so that they are worked out once.
        self._home: dict[tuple[str, str], Origin] = {}

    def __repr__(self) -> str:
        return f"<ValetMiddleware of client {self._client.name!r}>"

    async def __call__(self, request: Any, handler: Any) -> Any:
        """Send one request, with a token where it belongs. Raises TokenValetError where it cannot be had."""
        # First what nearly all calls are, in as few steps as can be: warm, Bearer, nothing special.
        url, headers = request.url, request.headers
        origin = self._home.get((url.scheme, url.raw_authority)) if self._is_plain else None
        if origin is None or AUTHORIZATION in headers or DPOP in headers:
            return await self._call(request, handler)
        # `ssl`, in one step less.
        if request._ssl is not True or request.proxy is not None or not (self._is_ready or self._is_foreign(request)):
            return await self._call(request, handler)
        ticket = self._lasting or self._client.ticket()
        token: Any = self._renewer.fresh(ticket)
        if token is None or self._observers.every_call:
            token = self._renewer.get(ticket)
            if isinstance(token, Waiting):
                token = await wait_async(token)
        # In place, and out again: who else has this request meanwhile is known by the header, and gets a copy.
        if self._worn[0] is not token:
            self._worn = token, token.authorization.decode("ascii")
        # In no variable here, where an error would show it.
        headers[AUTHORIZATION] = self._worn[1]
        try:
            response = await handler(request)
        except BaseException as error:
            leftovers.scrub(error, OWN_FRAMES)
            raise
        finally:
            del headers[AUTHORIZATION]
        if response.status < 300 and not self._observers.every_request:
            return response
        return await self._converse(request, (self._pools, origin, None, False), handler, ticket, token, response)

    def _is_foreign(self, request: Any) -> bool:
        return not isinstance(request.session.connector, SharedConnector)

    async def _call(self, request: Any, handler: Any) -> Any:
        """As `__call__`, whatever there is to it."""
        url = request.url
        origin = origin_of(url.scheme, url.raw_host or "", url.port)
        try:
            if origin not in self._client.guard.home:
                return await self._send_abroad(request, origin, handler)
            if url.raw_user is not None or url.raw_password is not None:
                raise user_information(self._client)
            # The same one for all, so that it is known by its identity.
            origin = self._home.setdefault((url.scheme, url.raw_authority), origin)
            ticket = self._ticket(request)
            if AUTHORIZATION in request.headers or DPOP in request.headers:
                request = self._apart(request, ticket)
        except TokenValetError as error:
            tell(self._client, "call_refused", code=error.code, detail=f"{request.method} {origin}")
            raise
        token = self._renewer.get(ticket)
        if isinstance(token, Waiting):
            token = await wait_async(token)
        way = (self._pools, origin, ticket.identity, False)
        return await self._converse(request, way, handler, ticket, token, None)

    async def _converse(
        self, request: Any, way: Way, handler: Any, ticket: Ticket, token: AccessToken, response: Any
    ) -> Any:
        """Go through the whole flow of a call; `response` is the answer to its first step, if that was sent by now."""
        hop = _AiohttpHop(request.method, way[1], request.url.raw_path)
        hop.request = request
        flow = api_call(token, hop, self._client.around.nonces)
        try:
            step: Any = next(flow)
            sent = response is not None
            while True:
                if isinstance(step, Send):
                    if not sent:
                        if response is not None:
                            tell(self._client, "call_retried", cause=step.reason)
                            await _discard(response)
                        response = await self._send(request, way, handler, step.authorization, step.proof)
                    sent = False
                    if self._observers.every_request:
                        self._tell_sent(request, response)
                    step = flow.send(Answer(response.status, _Fields(response.headers)))
                else:
                    step = flow.send(await self._settle(ticket, step, response))
        except StopIteration:
            return self._after(request, response)
        except BaseException:
            if response is not None:
                response.close()
            raise

    def _ticket(self, request: Any) -> Ticket:
        """Return the ticket for the token of a request to one of the allowed origins, unless it is to be refused."""
        client, parameters = self._client, self._parameters
        if request.ssl is not True or request.proxy is not None:
            self._check_settings(request)
        if parameters is None and self._customize is not None:
            parameters = checked_parameters(client, self._customize(request))
        return client.ticket(parameters)

    def _apart(self, request: Any, ticket: Ticket) -> Any:
        """Return a copy of a request that is being sent, by somebody who sends it twice at once; refuse any other."""
        headers = request.headers
        token = self._renewer.fresh(ticket)
        if token is None or headers.get(AUTHORIZATION) != token.authorization.decode("ascii"):
            raise own_header(self._client, AUTHORIZATION if AUTHORIZATION in headers else DPOP)
        twin = object.__new__(type(request))
        twin.__dict__.update(request.__dict__)
        twin.headers = headers.copy()
        for name in (AUTHORIZATION, DPOP):
            twin.headers.popall(name, None)
        return twin

    async def _send_abroad(self, request: Any, origin: Origin, handler: Any) -> Any:
        self._check_settings(request)
        redirected = request._timer is _redirected.get()
        check_abroad(self._client, origin, redirected=redirected, has_body=lambda: _has_body(request))
        way = (self._pools, origin, self._client.file_identity, True)
        return self._after(request, await self._send(request, way, handler, None, None))

    async def _send(
        self, request: Any, way: Way, handler: Any, authorization: bytes | None, proof: bytes | None
    ) -> Any:
        bare = request.headers
        request.headers = headers = bare.copy()
        if authorization is None:
            # aiohttp makes credentials of a name in the address of a redirect.
            headers.popall(AUTHORIZATION, None)
        else:
            headers[AUTHORIZATION] = authorization.decode("ascii")
            if proof is not None:
                headers[DPOP] = proof.decode("ascii")
        if self._is_configured:
            self._configure(request, way)
        WAY.set(way)
        try:
            return await handler(request)
        except BaseException as error:
            leftovers.scrub(error, OWN_FRAMES)
            raise
        finally:
            WAY.set(None)
            request.headers = bare
            if authorization is not None:
                del headers[AUTHORIZATION]
                if proof is not None:
                    del headers[DPOP]

    def _configure(self, request: Any, way: Way) -> None:
        """Have a connector of the caller's own speak TLS, and use a proxy, as the client's configuration says."""
        client = self._client
        if self._has_tls and request.is_ssl():
            identity = way[2] or client.identity()
            request._ssl = identity.bare_context if way[3] else identity.context
        if client.config.proxy is not None:
            proxy = proxy_for(str(way[1]), client.config.proxy)
            go_through(request, proxy.reveal() if proxy is not None else None)

    def _check_settings(self, request: Any) -> None:
        """Refuse what the client's configuration decides; a session of the caller's own may have some of its own."""
        shared = isinstance(request.session.connector, SharedConnector)
        if request.ssl is not True and (shared or self._has_tls):
            what = "ssl= cannot be given: configure ca_file, or allow_insecure_tls"
        elif request.proxy is not None and shared:
            what = "proxy= cannot be given: configure proxy"
        else:
            return
        raise ConfigurationError(f"client {self._client.name!r}: {what}", code="unfit_client_option")

    async def _settle(self, ticket: Ticket, step: NeedToken | Rejected, response: Any) -> AccessToken | None:
        try:
            if isinstance(step, NeedToken):
                waiting = self._renewer.replace(ticket, step.rejected)
                if waiting is not None:
                    return await wait_async(waiting)
            else:
                self._renewer.replace(ticket, step.token)
        except TokenValetError as error:
            # Without its frames, which would hold this response, and it them.
            response.tokenvalet_error = error.with_traceback(None)
        return None

    def _after(self, request: Any, response: Any) -> Any:
        if response.status == 401:
            tell(self._client, "call_rejected", detail="the API answered 401, which is handed to the caller")
        elif 300 <= response.status < 400:
            # The next hop of this call has the same timer, so that it is known for a redirect.
            _redirected.set(request._timer)
        return response

    def _tell_sent(self, request: Any, response: Any) -> None:
        path = shown(request.url.raw_path, 128)
        tell(self._client, "call_sent", detail=f"{request.method} {path} {response.status}")


class _Fields:
    """A look-up of all fields of a header name."""

    __slots__ = ("_headers",)

    def __init__(self, headers: Any) -> None:
        self._headers = headers

    def __call__(self, name: str) -> list[str]:
        found: list[str] = self._headers.getall(name, [])
        return found


def session_for(
    client: NamedClient, renewer: Renewer, pools: Pools, customize: Customize | None, options: dict[str, Any]
) -> aiohttp.ClientSession:
    """Return a session whose every request carries a token, over the connections of the valet."""
    middleware = ValetMiddleware(client, renewer, pools, None, customize, is_ready=True)
    if (base_url := options.pop("base_url", None) or client.config.base_url) is not None:
        text = str(base_url)
        # aiohttp would leave out the last part of a path that does not end so.
        options["base_url"] = text if text.endswith("/") else text + "/"
    return aiohttp.ClientSession(connector=SharedConnector(pools), middlewares=(middleware,), **options)


async def _discard(response: Any) -> None:
    """Read the rest of a response that is not wanted, within bounds, so that its connection can serve again."""
    left = leftovers.LONGEST_DISCARDED
    try:
        async with asyncio.timeout(leftovers.LONGEST_DISCARD_SECONDS):
            while left >= 0 and (part := await response.content.readany()):
                left -= len(part)
    except Exception as error:  # noqa: BLE001  it was not wanted anyway
        leftovers.scrub(error)
    finally:
        # A connection that is not at the end of its answer, or of its request, is closed by this.
        response.release()
        await response.wait_for_close()


def _has_body(request: Any) -> bool:
    headers = request.headers
    return "Transfer-Encoding" in headers or headers.get("Content-Length", "").strip() not in ("", "0")


def _is_replayable(body: Any) -> bool:
    """Whether a body can be sent twice: bytes can, and forms with files that can be rewound; nothing else is trusted to."""
    if not body or isinstance(body, payload.BytesPayload):
        return True
    return isinstance(body, aiohttp.MultipartWriter) and all(_is_rewindable(part) for part, _, _ in body)


def _is_rewindable(part: Any) -> bool:
    # A file that could not be rewound is known as consumed since it was sent.
    return _is_replayable(part) or (isinstance(part, payload.IOBasePayload) and not getattr(part, "consumed", True))
