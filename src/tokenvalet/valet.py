"""TokenValet: from names to tokens and HTTP clients, and the life and death of all that in a process."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from .backchannel import Backchannel, HttpBackchannel
from .client_book import ClientBook, Resolver, by_name
from .clients.handed_out import HandedOut
from .clients.pool_book import PoolBook
from .config import ClientConfig
from .configuration_sources import Settings, settings_from_dict, settings_from_env, settings_from_toml
from .core.dpop import NonceStore
from .core.token import AccessToken, asked
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
    from .clients.pools import Pools

__all__ = ["Resolver", "TokenValet"]


class TokenValet(HandedOut, ReadinessOfClients):
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
