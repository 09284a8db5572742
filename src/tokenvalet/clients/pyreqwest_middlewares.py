"""How a request goes through the middlewares of a client of pyreqwest, before it gets its token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pyreqwest.middleware.types import Middleware, SyncMiddleware
from pyreqwest.request import Request
from pyreqwest.response import Response, SyncResponse

from .pyreqwest_outgoing import Outgoing

__all__ = ["Next", "SyncNext", "onward"]


class Next:
    """The rest of the middlewares, as each of them is given it."""

    __slots__ = ("_last", "_middlewares")

    def __init__(self, middlewares: tuple[Middleware, ...], last: Callable[[Request], Awaitable[Response]]) -> None:
        self._middlewares = middlewares
        self._last = last

    async def run(self, request: Request) -> Response:
        if not self._middlewares:
            return await self._last(request)
        first, *others = self._middlewares
        return await first(request, Next(tuple(others), self._last))  # type: ignore[arg-type]


class SyncNext:
    """The rest of the middlewares, as each of them is given it."""

    __slots__ = ("_last", "_middlewares")

    def __init__(self, middlewares: tuple[SyncMiddleware, ...], last: Callable[[Request], SyncResponse]) -> None:
        self._middlewares = middlewares
        self._last = last

    def run(self, request: Request) -> SyncResponse:
        if not self._middlewares:
            return self._last(request)
        first, *others = self._middlewares
        return first(request, SyncNext(tuple(others), self._last))  # type: ignore[arg-type]


def onward(outgoing: Outgoing, request: Request) -> Outgoing:
    """Return a request as the last of the middlewares hands it on."""
    if request is outgoing.native:
        return outgoing
    return Outgoing(request, outgoing.pool, outgoing.maker, outgoing.timeout, is_special=True)
