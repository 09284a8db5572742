"""TokenValet: from names to tokens and HTTP clients, and the life and death of all that in a process."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

from .backchannel import Backchannel, HttpBackchannel
from .client_book import ClientBook, Resolver, by_name
from .clients.libraries import check_client_options, check_httpx, shell_of
from .clients.pool_book import PoolBook
from .config import ClientConfig
from .configuration_sources import Settings, settings_from_dict, settings_from_env, settings_from_toml
from .core.dpop import NonceStore
from .core.token import AccessToken, TokenParameters, asked
from .directory import Directory
from .errors import ConfigurationError, ConfigurationFault, ValetClosedError
from .named_client import NamedClient
from .observe import Observer, Observers
from .readiness import ReadinessOfClients
from .renewal import DEFAULT_CAPACITY, Renewer
from .store_config import StoreConfig, open_shelf
from .surroundings import Clock, Surroundings, system_clock
from .tls import TlsContexts
from .waiting import wait, wait_async

if TYPE_CHECKING:
    import aiohttp
    import httpx2
    import requests

    from .clients.pools import Pools
    from .clients.requests_shell import ValetAdapter, ValetSession

__all__ = ["Resolver", "TokenValet"]


class TokenValet(ReadinessOfClients):
    """Keeps the access tokens of named clients, and hands out HTTP clients that carry them.

    Safe to use from threads, coroutines and several event loops at once; make one per process and close it at the end.

    Args:
        configs: the clients: a mapping of names to configurations, or one configuration, named by its `name`.
        store: where tokens are kept beyond this process, to be shared with others; by default nowhere.
        resolver: asked for clients that are not known, by name; returns None for those that there are not. What it
            returned is kept until `remove_client`, the least recently used going first.
        observers: callables that are told every `Event`; called on the thread where it happens, so they must be quick.
        clock: reads the clocks, for tests that move time.
        backchannel: carries the token requests, for tests without a network.
        capacity: how many tokens are kept; the least recently used go first.

    Raises:
        ConfigurationError: with everything that is wrong with all clients.
    """

    def __init__(
        self,
        *configs: ClientConfig | Mapping[str, ClientConfig],
        store: StoreConfig | None = None,
        resolver: Resolver | None = None,
        observers: Iterable[Observer] = (),
        clock: Clock = system_clock,
        backchannel: Backchannel | None = None,
        capacity: int = DEFAULT_CAPACITY,
    ) -> None:
        told = Observers(observers)
        self._around = Surroundings(
            clock=clock,
            backchannel=backchannel if backchannel is not None else HttpBackchannel(),
            directory=Directory(told),
            tls=TlsContexts(),
            nonces=NonceStore(),
            observers=told,
            stopping=threading.Event(),
        )
        self._renewer = Renewer(clock, told, capacity=capacity)
        self._pools = PoolBook()
        self._clients = ClientBook(self._around, resolver, self._pools.drop)
        self._closed = False
        self._begin(by_name(configs), store)
        _VALETS.add(self)

    @classmethod
    def from_toml(cls, path: str | Path, *, environ: Mapping[str, str] | None = None, **options: Any) -> Self:
        """Return a valet for the clients in a TOML file. `options` are those of the constructor.

        Raises:
            ConfigurationError: with everything that is wrong, each fault with its place.
        """
        return cls._from(settings_from_toml(path, os.environ if environ is None else environ), options)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **options: Any) -> Self:
        """Return a valet for the clients in variables such as ``TOKENVALET__CLIENTS__M2M__CLIENT_ID``."""
        return cls._from(settings_from_env(os.environ if environ is None else environ), options)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], **options: Any) -> Self:
        """Return a valet for ``{"clients": {name: {...}}, "store": {...}}``, as TOML would give it."""
        return cls._from(settings_from_dict(document), options)

    @classmethod
    def _from(cls, settings: Settings, options: dict[str, Any]) -> Self:
        return cls(settings.clients, **{"store": settings.store, **options})

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

        from .clients.httpx_shell import transport_for

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

    def token(
        self,
        name: str | None = None,
        *,
        scope: str | Iterable[str] | None = None,
        resource: str | Iterable[str] | None = None,
        audience: str | Iterable[str] | None = None,
        parameters: Mapping[str, str] | None = None,
        force_renewal: bool = False,
    ) -> AccessToken:
        """Return an access token, by hand. Blocks while one is got; the arguments are those of `TokenParameters`.

        Raises:
            TokenValetError: why there is none.
        """
        ticket = self._named(name).ticket(asked(scope, resource, audience, parameters, force_renewal))
        return wait(self._renewer.get(ticket))

    async def async_token(
        self,
        name: str | None = None,
        *,
        scope: str | Iterable[str] | None = None,
        resource: str | Iterable[str] | None = None,
        audience: str | Iterable[str] | None = None,
        parameters: Mapping[str, str] | None = None,
        force_renewal: bool = False,
    ) -> AccessToken:
        """Return an access token, by hand, without blocking the event loop. Otherwise as `token`."""
        ticket = self._named(name).ticket(asked(scope, resource, audience, parameters, force_renewal))
        return await wait_async(self._renewer.get(ticket))

    def invalidate(self, name: str | None = None) -> None:
        """Throw away all tokens of a client, whatever they were asked for with: the next use gets new ones."""
        self._named(name).invalidate()

    def add_client(self, name: str, config: ClientConfig) -> None:
        """Add a client at run time, or replace the one of that name, whose tokens are not used any more.

        Raises:
            ConfigurationError: with everything that is wrong with it.
        """
        self._check_open()
        self._clients.add({name: config})

    def remove_client(self, name: str) -> None:
        """Remove a client at run time. HTTP clients that were made for it go on until they are closed."""
        self._clients.remove(name)

    def close(self) -> None:
        """End it all: renewals under way, connections, threads. Whoever waits gets a ValetClosedError.

        Connections of event loops that still run are closed there soon; `aclose` waits for those of its own loop.
        """
        for pools in self._end():
            pools.close()

    async def aclose(self) -> None:
        """As `close`, and wait until the connections of the running event loop are closed."""
        for pools in self._end():
            await pools.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<TokenValet with {len(self._clients)} clients>"

    def __reduce__(self) -> Any:
        raise TypeError("a valet is not pickled: make one in each process, from the same configuration")

    def _end(self) -> list[Pools]:
        self._closed = True
        pools = self._pools.all_at_the_end()
        self._around.stopping.set()
        self._renewer.close()
        self._around.backchannel.close()
        if self._around.shelf is not None:
            self._around.shelf.close()
        return pools

    def _begin(self, configs: Mapping[str, ClientConfig], store: StoreConfig | None) -> None:
        faults: list[ConfigurationFault] = []
        if store is not None:
            try:
                self._around.shelf = open_shelf(store, self._around.observers)
            except ConfigurationError as error:
                faults += error.faults
        try:
            self._clients.add(configs)
        except ConfigurationError as error:
            faults = [*error.faults, *faults]
        if faults:
            raise ConfigurationError(faults=faults)

    def _named(self, name: str | None) -> NamedClient:
        client = self._clients.named(name)
        if self._closed:
            self._check_open()
        return client

    def _check_open(self) -> None:
        if self._closed:
            raise ValetClosedError("the valet is closed: ask it for tokens and clients before it is, or make a new one")

    def _client_options(
        self, name: str | None, library: ModuleType, customize: Any, inner: Any, options: dict[str, Any]
    ) -> dict[str, Any]:
        check_client_options(options)
        client = self._named(name)
        options.setdefault("base_url", client.config.base_url or "")
        return {**options, "transport": self.transport(client.name, library, inner=inner, customize=customize)}

    def _after_fork(self) -> None:
        self._clients.after_fork()
        self._around.after_fork()
        self._renewer.after_fork()
        self._pools.after_fork()


_VALETS: weakref.WeakSet[TokenValet] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for valet in list(_VALETS):
        valet._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
