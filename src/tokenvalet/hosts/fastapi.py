"""FastAPI: the valet lives as long as the application, and `Depends(client("m2m"))` is an HTTP client with its tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import httpx2

from ..valet import TokenValet
from .opening import missing

try:
    from fastapi import Depends
    from starlette.requests import HTTPConnection
except ModuleNotFoundError as error:
    raise missing(error, "fastapi") from None

from .starlette import lifespan, readiness, valet_of

__all__ = ["client", "lifespan", "readiness", "sync_client", "valet", "valet_of"]

Name = str | Callable[[HTTPConnection], str] | None


def valet(connection: HTTPConnection) -> TokenValet:
    """The valet of the application, as a dependency: ``Depends(valet)``. Who overrides it overrides it for all clients."""
    return valet_of(connection)


_VALET = Depends(valet)


# Classes, and not functions within functions, so that two for one name are the same dependency, also to be overridden.
@dataclass(frozen=True, slots=True)
class _AsyncClient:
    name: Name

    async def __call__(self, connection: HTTPConnection, of: TokenValet = _VALET) -> AsyncIterator[httpx2.AsyncClient]:
        async with of.async_client(_named(self.name, connection)) as api:
            yield api


@dataclass(frozen=True, slots=True)
class _SyncClient:
    name: Name

    def __call__(self, connection: HTTPConnection, of: TokenValet = _VALET) -> Iterator[httpx2.Client]:
        with of.client(_named(self.name, connection)) as api:
            yield api


def client(name: Name = None) -> Callable[..., AsyncIterator[httpx2.AsyncClient]]:
    """Return a dependency: an `httpx2.AsyncClient` whose requests carry the tokens of a client, closed after the request.

    Args:
        name: the client's name, or a callable that is given the request and returns it, for tenants; may be left out
            where there is one client only.
    """
    return _AsyncClient(name)


def sync_client(name: Name = None) -> Callable[..., Iterator[httpx2.Client]]:
    """Return a dependency for handlers without ``async``: an `httpx2.Client`. Otherwise as `client`."""
    return _SyncClient(name)


def _named(name: Name, connection: HTTPConnection) -> str | None:
    return name(connection) if callable(name) else name
