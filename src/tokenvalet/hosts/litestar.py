"""Litestar: a plugin. The valet lives as long as the application; handlers name the HTTP client that they want."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from ..readiness import PATIENCE_SECONDS
from ..valet import TokenValet
from .opening import PROBE_HEADERS, Source, missing, open_valet, probe_status

try:
    from litestar import Litestar, Response, get
    from litestar.config.app import AppConfig
    from litestar.datastructures import State
    from litestar.di import Provide
    from litestar.handlers import HTTPRouteHandler
    from litestar.plugins import InitPlugin
except ModuleNotFoundError as error:
    raise missing(error, "litestar") from None

__all__ = ["TokenValetPlugin", "client", "readiness"]


class TokenValetPlugin(InitPlugin):
    """Opens a valet with the application, closes it with it, and gives handlers a dependency ``valet``.

    Args:
        source: where the valet comes from: the path of a TOML file, a mapping, a callable that makes one, a valet, or
            None for variables of the environment.
        clients: names of clients to provide as dependencies of the same names, each an `httpx2.AsyncClient`; for other
            names of dependencies there is `client`.
        options: those of the constructor of `TokenValet`.
    """

    def __init__(self, source: Source = None, *, clients: Iterable[str] = (), **options: Any) -> None:
        self._source = source
        self._clients = (clients,) if isinstance(clients, str) else tuple(clients)
        self._options = options

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the valet's life to the application's, and the dependencies."""
        app_config.lifespan.append(self._lifespan)
        app_config.dependencies.setdefault("valet", Provide(_valet, sync_to_thread=False))
        for name in self._clients:
            app_config.dependencies.setdefault(name, client(name))
        return app_config

    @asynccontextmanager
    async def _lifespan(self, app: Litestar) -> AsyncIterator[None]:
        async with open_valet(self._source, self._options) as valet:
            app.state.tokenvalet = valet
            yield


def client(name: str | None = None) -> Provide:
    """Return a dependency: an `httpx2.AsyncClient` whose requests carry the tokens of a client.

    It may be used to the end of a stream that the handler returns, and in background tasks; there is nothing to close, for
    its connections are the valet's.

    Args:
        name: the client's name; may be left out where there is one only.
    """

    # No generator: Litestar ends those with the handler, and so before the stream and the tasks that it returns.
    def provided(state: State) -> httpx2.AsyncClient:
        return _valet(state).async_client(name)

    return Provide(provided, sync_to_thread=False)


def readiness(*names: str, path: str = "/ready", patience: float = PATIENCE_SECONDS) -> HTTPRouteHandler:
    """Return a handler for probes: 200 if all clients have, or can get, a token, else 503; as JSON, without secrets.

    Args:
        names: which clients; by default all that are configured.
        path: where it answers.
        patience: seconds to wait for first tokens.
    """

    async def tokenvalet_readiness(state: State) -> Response[dict[str, Any]]:
        found = await _valet(state).async_readiness(*names, patience=patience)
        return Response(found.as_dict(), status_code=probe_status(found), headers=PROBE_HEADERS)

    decorate: Callable[[Any], HTTPRouteHandler] = get(path, include_in_schema=False)
    return decorate(tokenvalet_readiness)


def _valet(state: State) -> TokenValet:
    valet = state.get("tokenvalet")
    if valet is None:
        raise RuntimeError(
            "the application has no valet: give it plugins=[TokenValetPlugin(...)], and in tests use the client of the "
            "application in a with statement, which runs its lifespan"
        )
    assert isinstance(valet, TokenValet)
    return valet
