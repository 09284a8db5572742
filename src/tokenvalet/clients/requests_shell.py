"""requests: the adapter that puts the token on, hop by hop, where a request is really sent; and a ready session.

The shell works on copies: what the caller sees in `response.request` never had a token in it. What belongs to one request
travels in its list of response hooks, which requests hands on from a request to its redirects, and to no server.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

import requests
from requests.adapters import BaseAdapter
from requests.adapters import parse_url as _parse_url  # type: ignore[attr-defined]  # urllib3 is theirs to choose

from ..core.call import Answer, NeedToken, Rejected, Send, api_call
from ..core.guard import Origin, origin_of
from ..core.token import AccessToken, TokenParameters
from ..errors import ConfigurationError, TokenValetError, shown
from ..named_client import NamedClient, Ticket
from ..pending import Waiting
from ..renewal import Renewer
from ..waiting import wait
from .admission import Customize, check_abroad, checked_parameters, own_header, tell, user_information
from .leftovers import discard_raw, scrub
from .pools import Pools
from .requests_connections import CONNECTIONS
from .requests_copies import RequestsHop, Way, dressed, has_body, own_header_of

__all__ = ["CONNECTIONS", "ValetAdapter", "ValetSession", "session_for"]

OWN_FRAMES = frozenset({"tokenvalet", "requests", "urllib3", "http", "socket", "ssl"})
_AUTHORITY = re.compile("(?<![:/])[/?#]")
NETRC = " (requests sets it from a .netrc file where the session has trust_env)"


class _Asked:
    """A response hook that does nothing, and carries what the token of its request is asked for with."""

    __slots__ = ("parameters",)

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters

    def __call__(self, response: requests.Response, **_: Any) -> None:
        """Leave the response as it is."""

    def __getstate__(self) -> None:
        """Say nothing to a pickle of the request."""

    def __setstate__(self, state: None) -> None:
        self.parameters = None


def _redirected(response: requests.Response, **_: Any) -> None:
    """Mark a request whose answer was a redirect, as a response hook that does nothing."""


class ValetAdapter(BaseAdapter):
    """An adapter for a `requests.Session`: every request carries a token, to the allowed origins and nowhere else."""

    def __init__(
        self,
        client: NamedClient,
        renewer: Renewer,
        pools: Pools,
        inner: BaseAdapter | None = None,
        customize: Customize | None = None,
    ) -> None:
        super().__init__()
        self._client = client
        self._renewer = renewer
        self._pools = pools
        self._inner = inner
        self._customize = customize
        self._observers = client.around.observers
        self._lasting = client.lasting_ticket()
        self._is_plain = inner is None and customize is None and client.credentials.proof_key is None
        # The few spellings in which origins come where tokens may go, worked out once, unless calls are more than plain.
        self._home: dict[tuple[str, str], Origin] = {}

    def __repr__(self) -> str:
        return f"<ValetAdapter of client {self._client.name!r}>"

    def __reduce__(self) -> Any:
        raise TypeError("an adapter of a valet is not pickled: make one in the process that needs it")

    @property
    def base_url(self) -> str | None:
        """The base URL of the client's configuration."""
        return self._client.config.base_url

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send one request, with a token where it belongs. Raises TokenValetError where it cannot be had."""
        if self._inner is None and (verify is not True or cert is not None or proxies):
            self._check_settings(verify, cert, proxies)
        settings = (stream, timeout, verify, cert, proxies)
        # First what nearly all calls are, in as few steps as can be: warm, Bearer, nothing special.
        origin = self._home.get(urlsplit(request.url or "")[:2])
        if origin is None or request.hooks["response"] or own_header_of(request.headers) is not None:
            return self._call(request, settings)
        ticket = self._lasting or self._client.ticket()
        token: Any = self._renewer.fresh(ticket)
        if token is None or self._observers.every_call:
            token = self._renewer.get(ticket)
            if isinstance(token, Waiting):
                token = wait(token)
        way = Way(origin, ticket.identity, ticket)
        # The copy is in no variable here, where an error would show it.
        response = self._send(request, dressed(request, way, token.authorization, None), way, settings)
        if response.status_code < 300 and not self._observers.every_request:
            return response
        return self._converse(request, way, settings, ticket, token, response)

    def _call(self, request: requests.PreparedRequest, settings: tuple[Any, ...]) -> requests.Response:
        """As `send`, whatever there is to it."""
        way = self._way(request)
        way.whole = self._inner is not None
        if way.ticket is None:
            return self._after(request, self._send(request, request, way, settings))
        token = self._renewer.get(way.ticket)
        if isinstance(token, Waiting):
            token = wait(token)
        return self._converse(request, way, settings, way.ticket, token, None)

    def _converse(
        self,
        request: requests.PreparedRequest,
        way: Way,
        settings: tuple[Any, ...],
        ticket: Ticket,
        token: AccessToken,
        response: requests.Response | None,
    ) -> requests.Response:
        """Go through the flow of a call; `response` is the answer to its first step, if that was sent by now."""
        sent = response is not None
        hop = RequestsHop(request.method or "GET", way.origin, way.path)
        hop.body = request.body
        try:
            flow = api_call(token, hop, self._client.around.nonces)
            step: Any = next(flow)
            while True:
                if isinstance(step, Send):
                    if not sent:
                        if response is not None:
                            tell(self._client, "call_retried", cause=step.reason)
                            discard_raw(response)
                        response = self._send(
                            request, dressed(request, way, step.authorization, step.proof), way, settings
                        )
                    assert response is not None
                    sent = False
                    if self._observers.every_request:
                        self._tell_sent(request, response)
                    step = flow.send(Answer(response.status_code, _fields_of(response)))
                else:
                    assert response is not None
                    step = flow.send(self._settle(ticket, step, response))
        except StopIteration:
            assert response is not None
            return self._after(request, response)
        except BaseException:
            if response is not None:
                response.close()
            raise

    def close(self) -> None:
        """Close the inner adapter, if one was given; the shared pools belong to the valet."""
        if self._inner is not None:
            self._inner.close()

    def _way(self, request: requests.PreparedRequest) -> Way:
        parts = urlsplit(request.url or "")
        assert isinstance(parts, SplitResult)
        try:
            origin = origin_of(parts.scheme, parts.hostname or "", parts.port)
        except ValueError as error:
            raise requests.exceptions.InvalidURL(str(error), request=request) from None
        try:
            way = self._admitted(request, parts, origin)
        except TokenValetError as error:
            tell(self._client, "call_refused", code=error.code, detail=f"{request.method} {origin}")
            raise
        if self._is_plain and way.ticket is not None:
            self._home[parts[:2]] = origin
        return way

    def _admitted(self, request: requests.PreparedRequest, parts: SplitResult, origin: Origin) -> Way:
        client, hooks = self._client, request.hooks["response"]
        way = Way(origin, client.file_identity)
        if origin not in client.guard.home:
            check_abroad(client, origin, redirected=_redirected in hooks, has_body=lambda: has_body(request))
            return way
        parameters = None
        for hook in hooks:
            if type(hook) is _Asked:
                parameters = hook.parameters
        if parameters is None and self._customize is not None:
            parameters = self._customize(request)
        parameters = checked_parameters(client, parameters)
        if "@" in parts.netloc:
            raise user_information(client)
        name = own_header_of(request.headers)
        if name is not None:
            raise own_header(client, name, NETRC)
        way.ticket = client.ticket(parameters)
        way.identity = way.ticket.identity
        if client.credentials.proof_key is not None:
            # As urllib3 would write it into the request line, so that it finds nothing left to change.
            way.path = _parse_url(request.url or "").path or "/"
            if way.path != parts.path:
                way.url = parts._replace(path=way.path).geturl()
        return way

    def _send(
        self, request: requests.PreparedRequest, twin: requests.PreparedRequest, way: Way, settings: tuple[Any, ...]
    ) -> requests.Response:
        """Send `twin`, and return the answer as one to `request`, which it is a copy of."""
        try:
            if self._inner is not None:
                stream, timeout, verify, cert, proxies = settings
                response = self._inner.send(
                    twin, stream=stream, timeout=timeout, verify=verify, cert=cert, proxies=proxies
                )
            else:
                pool = self._pools.sync_pool(way.origin, way.identity, abroad=way.ticket is None)
                try:
                    response = pool.transport.handle(twin, settings[0], settings[1])
                finally:
                    # The connection itself is closed behind the last byte: urllib3 takes none back into a closed pool.
                    if pool.leave():
                        pool.transport.close()
        except BaseException as error:
            if isinstance(error, requests.RequestException) and error.request is twin:
                error.request = request
            del twin
            scrub(error, OWN_FRAMES)
            raise
        response.request = request
        response.url = request.url or response.url
        response.connection = self  # type: ignore[assignment]  # which is all but its pools
        return response

    def _settle(self, ticket: Ticket, step: NeedToken | Rejected, response: requests.Response) -> AccessToken | None:
        try:
            if isinstance(step, NeedToken):
                waiting = self._renewer.replace(ticket, step.rejected)
                if waiting is not None:
                    return wait(waiting)
            else:
                self._renewer.replace(ticket, step.token)
        except TokenValetError as error:
            # Without its frames, which would hold this response, and it them.
            response.tokenvalet_error = error.with_traceback(None)  # type: ignore[attr-defined]
        return None

    def _after(self, request: requests.PreparedRequest, response: requests.Response) -> requests.Response:
        hooks = request.hooks["response"]
        if 300 <= response.status_code < 400:
            # The next hop is built with these hooks, so that it is known for a redirect.
            if _redirected not in hooks:
                hooks.append(_redirected)
        elif _redirected in hooks:
            hooks.remove(_redirected)
        if response.status_code == 401:
            tell(self._client, "call_rejected", detail="the API answered 401, which is handed to the caller")
        return response

    def _tell_sent(self, request: requests.PreparedRequest, response: requests.Response) -> None:
        path = shown(urlsplit(request.url or "").path or "/", 128)
        tell(self._client, "call_sent", detail=f"{request.method} {path} {response.status_code}")

    def _check_settings(self, verify: Any, cert: Any, proxies: Any) -> None:
        """Refuse what the client's configuration decides; what requests found in the environment is left out."""
        bundles = (os.environ.get("REQUESTS_CA_BUNDLE"), os.environ.get("CURL_CA_BUNDLE"))
        if verify is not True and verify not in bundles:
            what = "verify= cannot be given: configure ca_file, or allow_insecure_tls"
        elif cert is not None:
            what = "cert= cannot be given: configure certificate_file"
        elif not {*proxies.values()} <= {*getproxies().values()}:
            what = "proxies= cannot be given: configure proxy"
        else:
            return
        raise ConfigurationError(f"client {self._client.name!r}: {what}", code="unfit_client_option")


class ValetSession(requests.Session):
    """A `requests.Session` whose every request carries a token of one client, to the allowed origins and nowhere else.

    Neither a .netrc file nor proxies nor authorities of the environment are used.
    """

    __attrs__ = [*requests.Session.__attrs__, "base_url"]  # noqa: RUF012  as requests has it

    # They hand on whatever `request` takes.
    get: Callable[..., requests.Response]
    options: Callable[..., requests.Response]
    head: Callable[..., requests.Response]
    post: Callable[..., requests.Response]
    put: Callable[..., requests.Response]
    patch: Callable[..., requests.Response]
    delete: Callable[..., requests.Response]

    def __init__(self, adapter: ValetAdapter, base_url: str | None) -> None:
        super().__init__()
        self.trust_env = False
        self.base_url = base_url
        for prefix in ("https://", "http://"):
            self.mount(prefix, adapter)

    def request(
        self, method: str, url: Any, *args: Any, token_parameters: TokenParameters | None = None, **options: Any
    ) -> requests.Response:
        """As `requests.Session.request`; `token_parameters` is what the token of this one request is asked for with."""
        if token_parameters is not None:
            hooks = dict(options.get("hooks") or {})
            given = hooks.get("response", ())
            hooks["response"] = [*([given] if callable(given) else given or ()), _Asked(token_parameters)]
            options["hooks"] = hooks
        return super().request(method, url, *args, **options)

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """As `requests.Session.prepare_request`, with the base URL before an address that has no host."""
        url = str(request.url or "")
        if "\\" in _AUTHORITY.split(url, maxsplit=1)[0]:
            # Parsers differ in what host this is.
            raise requests.exceptions.InvalidURL("there is a backslash before the path of the URL")
        asked = [hook for hook in request.hooks["response"] if type(hook) is _Asked]
        relative = self.base_url is not None and urlsplit(url)[:2] == ("", "")
        if asked or relative:
            request = copy.copy(request)
        if relative:
            request.url = f"{(self.base_url or '').rstrip('/')}/{url.lstrip('/')}"
        if asked:
            # Apart, since requests leaves the hooks of the session out for a request that has some of its own.
            others = [hook for hook in request.hooks["response"] if type(hook) is not _Asked]
            request.hooks = {**request.hooks, "response": others}
        prepared = super().prepare_request(request)
        prepared.hooks["response"] += asked
        return prepared


def session_for(adapter: ValetAdapter, base_url: str | None) -> ValetSession:
    """Return a session that sends everything through `adapter`; addresses without a host go behind the base URL."""
    return ValetSession(adapter, base_url if base_url is not None else adapter.base_url)


def _fields_of(response: requests.Response) -> Any:
    fields = getattr(getattr(response.raw, "headers", None), "getlist", None)
    if fields is not None:
        return fields
    # Of an adapter that sends nowhere, as tests have them.
    return lambda name: [response.headers[name]] if name in response.headers else []
