"""Starlette, and what FastAPI has of it: the valet lives as long as the application, and is found from a request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from ..readiness import PATIENCE_SECONDS
from ..valet import TokenValet
from .opening import PROBE_HEADERS, Source, missing, open_valet, probe_status

try:
    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import JSONResponse
except ModuleNotFoundError as error:
    raise missing(error, "starlette") from None

__all__ = ["lifespan", "readiness", "valet_of"]

_STATE = "tokenvalet"

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def lifespan(source: Source = None, *, around: Lifespan | None = None, **options: Any) -> Lifespan:
    """Return a lifespan that opens a valet with the application and closes it with it.

    Args:
        source: where the valet comes from: the path of a TOML file, a mapping, a callable that makes one, a valet, or
            None for variables of the environment. The application does not start with a configuration that has faults.
        around: a lifespan of your own, to run within this one: the valet is there before it and after it.
        options: those of the constructor of `TokenValet`.
    """

    @asynccontextmanager
    async def run(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with open_valet(source, options) as valet:
            # Requests to an application that is mounted in this one see the state, and not this application.
            app.state.tokenvalet = valet
            if around is None:
                yield {_STATE: valet}
            else:
                async with around(app) as state:
                    yield {**(state or {}), _STATE: valet}

    return run


def valet_of(connection: HTTPConnection) -> TokenValet:
    """Return the valet of the application that serves this request, or this WebSocket.

    Raises:
        RuntimeError: the application has none, or its lifespan was not run.
    """
    state = connection.scope.get("state") or {}
    valet = state.get(_STATE)
    if valet is None:
        app = connection.scope.get("app")
        valet = getattr(getattr(app, "state", None), _STATE, None)
    if valet is None:
        raise RuntimeError(
            "the application has no valet: give it lifespan=tokenvalet.hosts.starlette.lifespan(...), and in tests use "
            "the client of the application in a with statement, which runs the lifespan"
        )
    assert isinstance(valet, TokenValet)
    return valet


def readiness(*names: str, patience: float = PATIENCE_SECONDS) -> Callable[[Request], Awaitable[JSONResponse]]:
    """Return an endpoint for probes: 200 if all clients have, or can get, a token, else 503; as JSON, without secrets.

    Args:
        names: which clients; by default all that are configured.
        patience: seconds to wait for first tokens.
    """

    async def tokenvalet_readiness(request: Request) -> JSONResponse:
        found = await valet_of(request).async_readiness(*names, patience=patience)
        return JSONResponse(found.as_dict(), probe_status(found), PROBE_HEADERS)

    return tokenvalet_readiness
