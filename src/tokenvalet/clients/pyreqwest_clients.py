"""The clients of pyreqwest that a valet hands out: they are used as pyreqwest's own, and every request carries a token."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Generic, Self, TypeVar

from pyreqwest.client import ClientBuilder, SyncClientBuilder
from pyreqwest.exceptions import ClientClosedError
from pyreqwest.http import Url
from pyreqwest.types import HeadersType

from ..errors import ConfigurationError
from ..named_client import NamedClient
from ..renewal import Renewer
from .admission import Customize
from .pools import Pools
from .pyreqwest_builders import Settings, ValetRequestBuilder, ValetSyncRequestBuilder
from .pyreqwest_connections import ASYNC_CONNECTIONS, CONNECTIONS, own_pool
from .pyreqwest_ready import ReadyRequest, ReadySyncRequest
from .pyreqwest_shell import Shell

__all__ = [
    "ASYNC_CONNECTIONS",
    "CONNECTIONS",
    "ValetPyreqwestClient",
    "ValetSyncPyreqwestClient",
    "client_for",
    "sync_client_for",
]

_new: Any = object.__new__

MOST_REDIRECTS = 10  # as pyreqwest has it

Builder = TypeVar("Builder", ValetRequestBuilder, ValetSyncRequestBuilder)


class _Client(Generic[Builder]):
    _builder: type[Builder]
    _ready: type[Any]

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._closed = False

    def request(self, method: str, url: Url | str) -> Builder:
        """Start building a request. An address without a host goes behind the base URL."""
        return self.get(url) if method == "GET" else self._begin(method, url)

    def get(self, url: Url | str) -> Builder:
        """As `request`, for a GET."""
        # First what nearly all calls are, in as few steps as can be: as one before, and with nothing of their own.
        settings = self._settings
        ready = settings.connections.ready.get(url)
        if ready is not None:
            untold: Any = _new(self._ready)
            untold.settings, untold.ready = settings, ready
            return untold  # type: ignore[no-any-return]
        made = self._begin("GET", url)
        if settings.is_usual and isinstance(url, str):
            made.given = url
        return made

    def post(self, url: Url | str) -> Builder:
        """As `request`, for a POST."""
        return self._begin("POST", url)

    def put(self, url: Url | str) -> Builder:
        """As `request`, for a PUT."""
        return self._begin("PUT", url)

    def patch(self, url: Url | str) -> Builder:
        """As `request`, for a PATCH."""
        return self._begin("PATCH", url)

    def delete(self, url: Url | str) -> Builder:
        """As `request`, for a DELETE."""
        return self._begin("DELETE", url)

    def head(self, url: Url | str) -> Builder:
        """As `request`, for a HEAD."""
        return self._begin("HEAD", url)

    def _begin(self, method: str, url: Url | str) -> Builder:
        if self._closed:
            raise _closed()
        return self._builder(self._settings, method, url)

    def _close(self) -> None:
        self._closed = True
        self._settings.close()
        self._settings.shell.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of client {self._settings.shell.client.name!r}>"

    def __reduce__(self) -> Any:
        raise TypeError("a client of a valet is not pickled: ask the valet for one in the process that needs it")


def _closed() -> ClientClosedError:
    return ClientClosedError("Client was closed", {"causes": None})


class ValetPyreqwestClient(_Client[ValetRequestBuilder]):
    """As pyreqwest's Client, for asyncio: every request carries a token of one client, and none goes anywhere else."""

    _builder = ValetRequestBuilder
    _ready = ReadyRequest

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Take no more requests. The connections belong to the valet, or end with their last call."""
        self._close()


class ValetSyncPyreqwestClient(_Client[ValetSyncRequestBuilder]):
    """As pyreqwest's SyncClient: every request carries a token of one client, and none goes anywhere else."""

    _builder = ValetSyncRequestBuilder
    _ready = ReadySyncRequest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take no more requests. The connections belong to the valet, or end with their last call."""
        self._close()


def client_for(
    client: NamedClient, renewer: Renewer, pools: Pools, *, builder: ClientBuilder | None, **options: Any
) -> ValetPyreqwestClient:
    """Return a client for asyncio; `options` are those of `HandedOut.pyreqwest_client`."""
    return ValetPyreqwestClient(_settings(client, renewer, pools, builder, **options))


def sync_client_for(
    client: NamedClient, renewer: Renewer, pools: Pools, *, builder: SyncClientBuilder | None, **options: Any
) -> ValetSyncPyreqwestClient:
    """Return a client that blocks; `options` are those of `HandedOut.pyreqwest_client`."""
    return ValetSyncPyreqwestClient(_settings(client, renewer, pools, builder, **options))


def _settings(
    client: NamedClient,
    renewer: Renewer,
    pools: Pools,
    builder: ClientBuilder | SyncClientBuilder | None,
    *,
    customize: Customize | None,
    base_url: str | None = None,
    headers: HeadersType | None = None,
    timeout: timedelta | None = None,
    follow_redirects: bool = True,
    max_redirects: int = MOST_REDIRECTS,
    error_for_status: bool = False,
    middlewares: Iterable[Any] = (),
    trust_system_authorities: bool = False,
) -> Settings:
    if client.config.ca_file is not None and builder is None and not trust_system_authorities:
        raise ConfigurationError(
            f"client {client.name!r}: pyreqwest trusts the authorities of this machine besides those of ca_file, and cannot "
            "be told not to: give trust_system_authorities=True if that will do, or use client() or another library",
            code="unfit_client_option",
        )
    shell = Shell(
        client,
        renewer,
        pools,
        own=own_pool(builder) if builder is not None else None,
        customize=customize,
        max_redirects=max_redirects if follow_redirects else 0,
    )
    base_url = base_url if base_url is not None else client.config.base_url
    return Settings(shell, base_url, headers, timeout, middlewares, error_for_status)
