"""The ASGI side that both servers share: one handler for every path and method, and the request as it was on the wire.

Starlette's own router decodes paths and knows methods by name. Judges of DPoP proofs (RFC 9449 §4.3) need the bytes of
the request line instead, so each server is one handler that looks at the raw path itself.

For development only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextvars import ContextVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = [
    "Handler",
    "Sleep",
    "application",
    "driven_by_hand",
    "header_pairs",
    "header_values",
    "pause",
    "raw_path",
    "raw_query",
    "target_uri",
]

Handler = Callable[[Request], Awaitable[Response]]


class _Endpoint:
    """An ASGI callable, which Starlette's Route takes for any method and hands the connection as it is."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._handler(Request(scope, receive, send))
        await response(scope, receive, send)


def application(handler: Handler) -> ASGIApp:
    """Return an ASGI application that answers every request with `handler`."""
    return Starlette(routes=[Route("/{path:path}", _Endpoint(handler))])


def raw_path(request: Request) -> str:
    """Return the path with its percent-encoding untouched, without the query."""
    raw: bytes | None = request.scope.get("raw_path")
    return raw.decode("latin-1") if raw is not None else request.scope["path"]


def raw_query(request: Request) -> str:
    """Return the query with its percent-encoding untouched, without the question mark."""
    query: bytes = request.scope.get("query_string", b"")
    return query.decode("latin-1")


def header_pairs(request: Request) -> list[tuple[str, str]]:
    """Return every header field line as it came, names in lower case."""
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in request.scope["headers"]]


def header_values(request: Request, name: str) -> list[str]:
    """Return the values of every field line of this `name` (given in lower case)."""
    return [value for candidate, value in header_pairs(request) if candidate == name]


def target_uri(request: Request) -> str:
    """Return the target URI of the request without its query (RFC 9110 §7.1), as the client addressed it."""
    host = ",".join(header_values(request, "host"))
    return f"{request.scope['scheme']}://{host}{raw_path(request)}"


class Sleep:
    """What `pause` says where there is no event loop: whoever drives the application waits for it, in its own way."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __await__(self) -> Generator[Sleep, None, None]:
        yield self


driven_by_hand: ContextVar[bool] = ContextVar("tokenvalet.testing.driven_by_hand", default=False)


async def pause(seconds: float) -> None:
    """Wait for `seconds`, without keeping anybody else waiting; nothing at all when there is nothing to wait for."""
    if seconds <= 0:
        return
    if driven_by_hand.get():
        await Sleep(seconds)
    else:
        await asyncio.sleep(seconds)
