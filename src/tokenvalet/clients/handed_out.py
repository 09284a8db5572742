"""What a valet hands out for each HTTP library. A library is imported when something of it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..core.token import TokenParameters
from ..named_client import NamedClient
from ..waiting import wait, wait_async
from .libraries import check_client_options, check_httpx, shell_of
from .one_call import Admitted, AsyncOneCall, OneCall

if TYPE_CHECKING:
    import aiohttp
    import httpx2
    import requests
    from pyreqwest.client import ClientBuilder, SyncClientBuilder

    from ..renewal import Renewer
    from .pool_book import PoolBook
    from .pyreqwest_clients import ValetPyreqwestClient, ValetSyncPyreqwestClient
    from .requests_shell import ValetAdapter, ValetSession

__all__ = ["HandedOut"]


class HandedOut:
    """What a valet hands out to call with."""

    _pools: PoolBook
    _renewer: Renewer

    def client(
        self,
        name: str | None = None,
        *,
        customize: Callable[[Any], TokenParameters | None] | None = None,
        transport: Any = None,
        **options: Any,
    ) -> httpx2.Client:
        """Return an `httpx2.Client` for a named client: pointed at its `base_url`, carrying its tokens.

        Cheap: all of one name share their connections. Closing it closes nothing that others use.

        Args:
            name: the client's name; may be left out where there is one only.
            customize: given the outgoing request, returns the `TokenParameters` of its token, or None.
            transport: an `httpx2.BaseTransport` to send with, in the place of the shared connections.
            options: whatever else `httpx2.Client` takes.
        """
        import httpx2

        return httpx2.Client(**self._client_options(name, httpx2, customize, transport, options))

    def async_client(
        self,
        name: str | None = None,
        *,
        customize: Callable[[Any], TokenParameters | None] | None = None,
        transport: Any = None,
        **options: Any,
    ) -> httpx2.AsyncClient:
        """Return an `httpx2.AsyncClient` for a named client, as `client` does; for asyncio and trio."""
        import httpx2

        return httpx2.AsyncClient(**self._client_options(name, httpx2, customize, transport, options))

    def transport(
        self,
        name: str | None = None,
        library: ModuleType | None = None,
        *,
        inner: Any = None,
        customize: Callable[[Any], TokenParameters | None] | None = None,
    ) -> Any:
        """Return a transport for an HTTP client of your own, sync or async.

        Args:
            name: the client's name.
            library: the module `httpx2` (the default) or `httpx`.
            inner: a transport of that library to send with, in the place of the shared connections.
            customize: as for `client`.
        """
        import httpx2

        from .httpx_shell import transport_for

        library = library if library is not None else httpx2
        check_httpx(library)
        client = self._named(name)
        pools = self._pools.of(client, library)
        return transport_for(library, client, self._renewer, pools, inner=inner, customize=customize)

    def requests_session(
        self,
        name: str | None = None,
        *,
        customize: Callable[[Any], TokenParameters | None] | None = None,
        base_url: str | None = None,
        adapter: requests.adapters.BaseAdapter | None = None,
    ) -> ValetSession:
        """Return a `requests.Session` for a named client, as `client` does. Needs the extra ``requests``.

        Its requests take ``token_parameters=``, what this one's token is asked for with.

        Args:
            name: the client's name; may be left out where there is one only.
            customize: given the outgoing `requests.PreparedRequest`, returns the `TokenParameters` of its token, or None.
            base_url: what addresses without a host are put behind, in the place of the client's own.
            adapter: a requests adapter to send with, in the place of the shared connections.
        """
        made = self.requests_adapter(name, customize=customize, inner=adapter)
        session: ValetSession = shell_of("requests").session_for(made, base_url)
        return session

    def requests_adapter(
        self,
        name: str | None = None,
        *,
        inner: requests.adapters.BaseAdapter | None = None,
        customize: Callable[[Any], TokenParameters | None] | None = None,
    ) -> ValetAdapter:
        """Return an adapter to mount on a `requests.Session` of your own. Needs the extra ``requests``.

        Args:
            name: the client's name.
            inner: a requests adapter to send with, in the place of the shared connections.
            customize: as for `requests_session`.
        """
        shell = shell_of("requests")
        client = self._named(name)
        pools = self._pools.of(client, shell.CONNECTIONS)
        adapter: ValetAdapter = shell.ValetAdapter(client, self._renewer, pools, inner, customize)
        return adapter

    def aiohttp_session(
        self,
        name: str | None = None,
        *,
        customize: Callable[[Any], TokenParameters | None] | None = None,
        **options: Any,
    ) -> aiohttp.ClientSession:
        """Return an `aiohttp.ClientSession` for a named client, as `async_client` does. Needs the extra ``aiohttp``.

        To be called where an event loop runs.

        Args:
            name: the client's name; may be left out where there is one only.
            customize: given the outgoing `aiohttp.ClientRequest`, returns the `TokenParameters` of its token, or None.
            options: whatever else `aiohttp.ClientSession` takes.
        """
        check_client_options(options, "aiohttp_session")
        shell = shell_of("aiohttp")
        client = self._named(name)
        pools = self._pools.of(client, shell.CONNECTIONS)
        session: aiohttp.ClientSession = shell.session_for(client, self._renewer, pools, customize, options)
        return session

    def aiohttp_middleware(
        self,
        name: str | None = None,
        *,
        token_parameters: TokenParameters | None = None,
        customize: Callable[[Any], TokenParameters | None] | None = None,
    ) -> aiohttp.ClientMiddlewareType:
        """Return a client middleware for an `aiohttp.ClientSession` of your own, or for one request.

        Needs the extra ``aiohttp``. It is the last one in the list, since what stands behind it sees the token.

        Args:
            name: the client's name.
            token_parameters: what the tokens are asked for with.
            customize: as for `aiohttp_session`.
        """
        shell = shell_of("aiohttp")
        client = self._named(name)
        pools = self._pools.of(client, shell.CONNECTIONS)
        made: aiohttp.ClientMiddlewareType = shell.ValetMiddleware(
            client, self._renewer, pools, token_parameters, customize
        )
        return made

    def pyreqwest_client(
        self,
        name: str | None = None,
        *,
        customize: Callable[[Any], TokenParameters | None] | None = None,
        builder: ClientBuilder | None = None,
        **options: Any,
    ) -> ValetPyreqwestClient:
        """Return a client of pyreqwest for asyncio, as `async_client` does. Needs the extra ``pyreqwest``.

        It is used as pyreqwest's own `Client` is. What is set on it holds for all of its requests.

        Args:
            name: the client's name; may be left out where there is one only.
            customize: given the outgoing `pyreqwest.request.Request`, returns the `TokenParameters` of its token, or None.
            builder: what to build connections of its own with, in the place of the shared ones.
            options: ``base_url``; ``headers``; ``timeout`` (a timedelta, for each sending); ``follow_redirects`` (True)
                and ``max_redirects`` (10); ``error_for_status`` (False); ``middlewares``, which never see the token;
                ``trust_system_authorities``: with ``ca_file``, accept that those of this machine are trusted as well.
        """
        rooms = shell_of("pyreqwest", "clients")
        client = self._named(name)
        pools = self._pools.of(client, rooms.ASYNC_CONNECTIONS)
        made: ValetPyreqwestClient = rooms.client_for(
            client, self._renewer, pools, customize=customize, builder=builder, **options
        )
        return made

    def pyreqwest_sync_client(
        self,
        name: str | None = None,
        *,
        customize: Callable[[Any], TokenParameters | None] | None = None,
        builder: SyncClientBuilder | None = None,
        **options: Any,
    ) -> ValetSyncPyreqwestClient:
        """Return a client of pyreqwest that blocks, used as its `SyncClient` is. Otherwise as `pyreqwest_client`."""
        rooms = shell_of("pyreqwest", "clients")
        client = self._named(name)
        pools = self._pools.of(client, rooms.CONNECTIONS)
        made: ValetSyncPyreqwestClient = rooms.sync_client_for(
            client, self._renewer, pools, customize=customize, builder=builder, **options
        )
        return made

    def call(
        self,
        name: str | None,
        method: str,
        url: str,
        *,
        token_parameters: TokenParameters | None = None,
        repeatable: bool = True,
    ) -> OneCall:
        """Return the headers for one request of a library that tokenvalet does not know, to be told of the answer.

        Blocks while a token is got. The library must not follow redirects with these headers, nor send a request twice:
        each is a call of its own.

        Args:
            name: the client's name; None where there is one only.
            method: the HTTP method, as it is sent.
            url: the absolute URL, as it is sent.
            token_parameters: what the token is asked for with.
            repeatable: whether it could be sent a second time; not where its body is a stream.

        Raises:
            OriginError: the token does not belong there.
            TokenValetError: why there is no token.
        """
        admitted = Admitted(self._named(name), method, url, token_parameters, repeatable)
        return OneCall(admitted, self._renewer, wait(self._renewer.get(admitted.ticket)))

    async def async_call(
        self,
        name: str | None,
        method: str,
        url: str,
        *,
        token_parameters: TokenParameters | None = None,
        repeatable: bool = True,
    ) -> AsyncOneCall:
        """Return the headers for one request, as `call` does, without blocking the event loop."""
        admitted = Admitted(self._named(name), method, url, token_parameters, repeatable)
        return AsyncOneCall(admitted, self._renewer, await wait_async(self._renewer.get(admitted.ticket)))

    def _named(self, name: str | None) -> NamedClient:
        raise NotImplementedError

    def _client_options(
        self, name: str | None, library: ModuleType, customize: Any, inner: Any, options: dict[str, Any]
    ) -> dict[str, Any]:
        check_client_options(options)
        client = self._named(name)
        options.setdefault("base_url", client.config.base_url or "")
        return {**options, "transport": self.transport(client.name, library, inner=inner, customize=customize)}
