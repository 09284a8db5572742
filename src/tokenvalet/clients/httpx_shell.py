"""httpx2 and httpx: the transport that puts the token on, hop by hop, where a request is really sent.

Both libraries have the same shape, so one shell serves them; which one it is, the caller hands in as a module. The shell
works on copies: what the caller sees in `response.request` never had a token in it. Sync and async differ only in who
waits; every decision is in `core.call`, and in `preparation`.
"""

from __future__ import annotations

import functools
from asyncio import _get_running_loop
from types import ModuleType
from typing import Any

from ..core.call import Answer, NeedToken, Rejected, Send, api_call
from ..core.guard import Origin, origin_of
from ..core.token import AccessToken
from ..errors import TokenValetError, shown
from ..named_client import NamedClient, Ticket
from ..pending import Waiting
from ..renewal import Renewer
from ..tls import TlsIdentity
from ..waiting import wait, wait_async
from .admission import Customize, tell
from .home import Home
from .httpx_bodies import bodies_of
from .httpx_requests import Address, Field, looks_of
from .leftovers import discard, discard_async, scrub
from .pools import Pools
from .preparation import EXTENSION, OWN_FIELDS, REDIRECTED, Preparation, prepared

__all__ = ["transport_for"]

ERROR = "tokenvalet.error"


def transport_for(
    library: ModuleType,
    client: NamedClient,
    renewer: Renewer,
    pools: Pools,
    *,
    inner: Any = None,
    customize: Customize | None = None,
) -> Any:
    """Return a transport of `library` (httpx2 or httpx), sync and async at once, that sends with tokens of `client`.

    Args:
        inner: the transport that does the sending, in the place of the shared pools; it is closed with this one.
        customize: given the outgoing request, returns what its token is to be asked for with, or None.
    """
    return _transport_class(library)(client, renewer, pools, inner, customize)


@functools.cache
def _transport_class(library: ModuleType) -> Any:
    return _class_for(library)


def _class_for(library: Any) -> Any:
    looks, new_request = looks_of(library), library.Request.__new__
    SyncBody, AsyncBody = bodies_of(library)
    new_body = object.__new__

    class ValetTransport(library.BaseTransport, library.AsyncBaseTransport):  # type: ignore[misc]
        """A transport, sync and async, whose every request carries a token, to the allowed origins and nowhere else."""

        def __init__(
            self, client: NamedClient, renewer: Renewer, pools: Pools, inner: Any, customize: Customize | None
        ) -> None:
            self._client = client
            self._renewer = renewer
            self._pools = pools
            self._inner = inner
            self._customize = customize
            self._observers = client.around.observers
            self._lasting = client.lasting_ticket()
            self._is_plain = inner is None and customize is None and client.credentials.proof_key is None
            # The few spellings in which origins come where tokens may go, worked out once, unless calls are more than plain.
            self._homes: dict[Address, Home] = {}

        def __repr__(self) -> str:
            return f"<ValetTransport of client {self._client.name!r}>"

        def handle_request(self, request: Any) -> Any:
            """Send one request, with a token where it belongs. Raises TokenValetError where it cannot be had."""
            # First what nearly all calls are, in as few steps as can be: warm, Bearer, nothing special.
            home = self._homes.get(looks.address(request.url)[:4])
            if home is None or EXTENSION in request.extensions:
                return self._call(request)
            fields = [*looks.fields(request.headers)]
            for _, name, _ in fields:
                if name in OWN_FIELDS:
                    return self._call(request)
            ticket = self._lasting or self._client.ticket()
            warm = home.warm
            token: Any = warm.enter()
            if token is None:
                token, warm = home.ask(ticket)
            pool: Any = warm.pool
            # As `_dressed` and `_send`, in fewer steps.
            twin = new_request(type(request))
            twin.method, twin.url, twin.stream = request.method, request.url, request.stream
            twin.extensions = extensions = {**request.extensions}
            fields.append((b"Authorization", b"authorization", token.authorization))
            twin.headers = looks.headers(fields)
            try:
                response = pool.transport.handle_request(twin)
            except BaseException as error:
                del twin, fields
                if pool.leave():
                    pool.transport.close()
                scrub(error)
                raise
            body = new_body(SyncBody)
            body.inner, body.pool = response.stream, pool
            response.stream = body
            if response.status_code < 300 and not self._observers.every_request:
                return response
            del twin
            fields = fields[:-1]
            plain = Preparation(home.origin, fields, ticket, ticket.identity)
            plain.extensions = extensions
            return self._converse(request, plain, ticket, token, response)

        def _call(self, request: Any) -> Any:
            """As `handle_request`, whatever there is to it."""
            prepared = self._prepare(request)
            ticket = prepared.ticket
            if ticket is None:
                return self._after(request, self._send(request, prepared.origin, prepared.identity, True))
            token = self._renewer.get(ticket)
            if isinstance(token, Waiting):
                token = wait(token)
            return self._converse(request, prepared, ticket, token, None)

        def _converse(
            self, request: Any, prepared: Preparation, ticket: Ticket, token: AccessToken, response: Any
        ) -> Any:
            """Go through the flow of a call; `response` is the answer to its first step, if that was sent by now."""
            sent = response is not None
            try:
                flow = api_call(token, prepared.hop(request, self._client), self._client.around.nonces)
                step: Any = next(flow)
                while True:
                    if isinstance(step, Send):
                        if not sent:
                            if response is not None:
                                tell(self._client, "call_retried", cause=step.reason)
                                discard(response, prepared.extensions)
                            response = self._send(
                                self._dressed_anew(request, prepared, step), prepared.origin, prepared.identity, False
                            )
                        sent = False
                        if self._observers.every_request:
                            self._tell_sent(request, response)
                        step = flow.send(Answer(response.status_code, response.headers.get_list))
                    else:
                        step = flow.send(self._settle(ticket, step, response))
            except StopIteration:
                return self._after(request, response)
            except BaseException:
                if response is not None:
                    response.close()
                raise

        async def handle_async_request(self, request: Any) -> Any:
            """Send one request, with a token where it belongs. Raises TokenValetError where it cannot be had."""
            # First what nearly all calls are, in as few steps as can be: warm, Bearer, nothing special.
            home = self._homes.get(looks.address(request.url)[:4])
            if home is None or EXTENSION in request.extensions:
                return await self._call_async(request)
            fields = [*looks.fields(request.headers)]
            for _, name, _ in fields:
                if name in OWN_FIELDS:
                    return await self._call_async(request)
            ticket = self._lasting or self._client.ticket()
            loop, warm = home.on_loop
            token: Any = warm.enter() if loop is _get_running_loop() else None
            if token is None:
                token, warm = await home.ask_async(ticket)
            pool: Any = warm.pool
            # As `_dressed` and `_send`, in fewer steps.
            twin = new_request(type(request))
            twin.method, twin.url, twin.stream = request.method, request.url, request.stream
            twin.extensions = extensions = {**request.extensions}
            fields.append((b"Authorization", b"authorization", token.authorization))
            twin.headers = looks.headers(fields)
            try:
                response = await pool.transport.handle_async_request(twin)
            except BaseException as error:
                del twin, fields
                if pool.leave():
                    await pool.aclose()
                scrub(error)
                raise
            body = new_body(AsyncBody)
            body.inner, body.pool = response.stream, pool
            response.stream = body
            if response.status_code < 300 and not self._observers.every_request:
                return response
            del twin
            fields = fields[:-1]
            plain = Preparation(home.origin, fields, ticket, ticket.identity)
            plain.extensions = extensions
            return await self._converse_async(request, plain, ticket, token, response)

        async def _call_async(self, request: Any) -> Any:
            """As `handle_async_request`, whatever there is to it."""
            prepared = self._prepare(request)
            ticket = prepared.ticket
            if ticket is None:
                bare = await self._send_async(request, prepared.origin, prepared.identity, True)
                return self._after(request, bare)
            token = self._renewer.get(ticket)
            if isinstance(token, Waiting):
                token = await wait_async(token)
            return await self._converse_async(request, prepared, ticket, token, None)

        async def _converse_async(
            self, request: Any, prepared: Preparation, ticket: Ticket, token: AccessToken, response: Any
        ) -> Any:
            """Go through the flow of a call; `response` is the answer to its first step, if that was sent by now."""
            sent = response is not None
            try:
                flow = api_call(token, prepared.hop(request, self._client), self._client.around.nonces)
                step: Any = next(flow)
                while True:
                    if isinstance(step, Send):
                        if not sent:
                            if response is not None:
                                tell(self._client, "call_retried", cause=step.reason)
                                await discard_async(response)
                            response = await self._send_async(
                                self._dressed_anew(request, prepared, step), prepared.origin, prepared.identity, False
                            )
                        sent = False
                        if self._observers.every_request:
                            self._tell_sent(request, response)
                        step = flow.send(Answer(response.status_code, response.headers.get_list))
                    else:
                        step = flow.send(await self._settle_async(ticket, step, response))
            except StopIteration:
                return self._after(request, response)
            except BaseException:
                if response is not None:
                    await response.aclose()
                raise

        def __enter__(self) -> Any:
            if self._inner is not None:
                self._inner.__enter__()
            return self

        def __exit__(self, *exception: Any) -> None:
            if self._inner is not None:
                self._inner.__exit__(*exception)

        async def __aenter__(self) -> Any:
            if self._inner is not None:
                await self._inner.__aenter__()
            return self

        async def __aexit__(self, *exception: Any) -> None:
            if self._inner is not None:
                await self._inner.__aexit__(*exception)

        def close(self) -> None:
            """Close the inner transport, if one was given; the shared pools belong to the valet."""
            if self._inner is not None:
                self._inner.close()

        async def aclose(self) -> None:
            """Close the inner transport, if one was given; the shared pools belong to the valet."""
            if self._inner is not None:
                await self._inner.aclose()

        def _prepare(self, request: Any) -> Preparation:
            url = request.url
            origin = origin_of(url.scheme, url.raw_host.decode("ascii"), url.port)
            try:
                decided = prepared(self._client, request, looks, origin, self._customize)
            except TokenValetError as error:
                tell(self._client, "call_refused", code=error.code, detail=f"{request.method} {origin}")
                raise
            if self._is_plain and decided.ticket is not None:
                self._homes[looks.address(url)[:4]] = Home(origin, self._renewer, self._pools, self._lasting)
            return decided

        def _dressed_anew(self, request: Any, prepared: Preparation, step: Send) -> Any:
            prepared.extensions = {**request.extensions}
            return self._dressed(request, prepared.fields, prepared.extensions, step.authorization, step.proof)

        def _dressed(
            self,
            request: Any,
            fields: list[Field],
            extensions: dict[str, Any],
            authorization: bytes,
            proof: bytes | None,
        ) -> Any:
            fields = [*fields, (b"Authorization", b"authorization", authorization)]
            if proof is not None:
                fields.append((b"DPoP", b"dpop", proof))
            # A shallow copy: the constructor would work out anew all that the caller's request has already.
            twin = new_request(type(request))
            if self._inner is None:
                # All that the connections of the library look at; its dictionary would cost more than all the rest.
                twin.method, twin.url, twin.stream = request.method, request.url, request.stream
            else:
                twin.__dict__.update(request.__dict__)
            twin.headers = looks.headers(fields)
            twin.extensions = extensions
            return twin

        def _send(self, request: Any, origin: Origin, identity: TlsIdentity | None, abroad: bool) -> Any:
            pool = None
            if self._inner is None:
                pool = self._pools.sync_pool(origin, identity, abroad=abroad)
            try:
                response = (self._inner if pool is None else pool.transport).handle_request(request)
            except BaseException as error:
                del request
                if pool is not None and pool.leave():
                    pool.transport.close()
                scrub(error)
                raise
            body = new_body(SyncBody)
            body.inner, body.pool = response.stream, pool
            response.stream = body
            return response

        async def _send_async(self, request: Any, origin: Origin, identity: TlsIdentity | None, abroad: bool) -> Any:
            pool = None
            if self._inner is None:
                pool = await self._pools.async_pool(origin, identity, abroad=abroad)
            try:
                response = await (self._inner if pool is None else pool.transport).handle_async_request(request)
            except BaseException as error:
                del request
                if pool is not None and pool.leave():
                    await pool.aclose()
                scrub(error)
                raise
            body = new_body(AsyncBody)
            body.inner, body.pool = response.stream, pool
            response.stream = body
            return response

        def _settle(self, ticket: Ticket, step: NeedToken | Rejected, response: Any) -> AccessToken | None:
            try:
                if isinstance(step, NeedToken):
                    waiting = self._renewer.replace(ticket, step.rejected)
                    if waiting is not None:
                        return wait(waiting)
                else:
                    self._renewer.replace(ticket, step.token)
            except TokenValetError as error:
                # Without its frames, which would hold this response, and it them.
                response.extensions[ERROR] = error.with_traceback(None)
            return None

        async def _settle_async(self, ticket: Ticket, step: NeedToken | Rejected, response: Any) -> AccessToken | None:
            try:
                if isinstance(step, NeedToken):
                    waiting = self._renewer.replace(ticket, step.rejected)
                    if waiting is not None:
                        return await wait_async(waiting)
                else:
                    self._renewer.replace(ticket, step.token)
            except TokenValetError as error:
                # Without its frames, which would hold this response, and it them.
                response.extensions[ERROR] = error.with_traceback(None)
            return None

        def _after(self, request: Any, response: Any) -> Any:
            if response.status_code == 401:
                tell(self._client, "call_rejected", detail="the API answered 401, which is handed to the caller")
            elif 300 <= response.status_code < 400:
                # The library builds the next hop with these extensions, so that it is known for a redirect.
                request.extensions[REDIRECTED] = True
            return response

        def _tell_sent(self, request: Any, response: Any) -> None:
            path = shown(request.url.raw_path.decode("ascii").partition("?")[0], 128)
            tell(self._client, "call_sent", detail=f"{request.method} {path} {response.status_code}")

    return ValetTransport
