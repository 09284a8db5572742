"""The page of ``tokenvalet demo --serve``: the flow as it happens, and buttons that make it happen.

On loopback only. A page elsewhere can neither read it, since foreign Host headers are refused, nor press a button, since
that takes a header which no form of another origin can send.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from .live_feed import LANES, LiveFeed

__all__ = ["ACTIONS", "LivePage"]

ACTIONS = ("call", "storm", "revoke", "stop", "start", "nonce")
BUTTON_HEADER = "x-tokenvalet-demo"
LOOK_AGAIN = 0.05  # seconds between looks for something new
_FILES = {
    "": ("page.html", "text/html"),
    "page.js": ("page.js", "text/javascript"),
    "page.css": ("page.css", "text/css"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
_GUARDS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class LivePage:
    """The page, its stream of events and its buttons.

    Args:
        feed: the arrows.
        counts: returns the counters to show, by name.
        press: does what a button says; blocking, called on a thread of its own.
    """

    def __init__(self, feed: LiveFeed, counts: Callable[[], Mapping[str, int]], press: Callable[[str], None]) -> None:
        self._feed = feed
        self._counts = counts
        self._press = press
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the streams, so that the server can end."""
        self._stopping.set()

    def around(self, host: ASGIApp) -> ASGIApp:
        """Return an application with the page at ``/``, and everything else, the lifespan too, as `host` has it."""
        files = [Route(f"/{name}", self._file(name)) for name in _FILES]
        events = Route("/live/events", self._events)
        page = Starlette(routes=[*files, events, Route("/live/do/{action}", self._do, methods=["POST"])])
        own = {f"/{name}" for name in _FILES}

        async def choose(scope: Scope, receive: Receive, send: Send) -> None:
            is_ours = scope["type"] == "http" and (scope["path"] in own or scope["path"].startswith("/live/"))
            await (page if is_ours else host)(scope, receive, send)

        return TrustedHostMiddleware(choose, allowed_hosts=["127.0.0.1", "localhost"])

    def _file(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        file, media_type = _FILES[name]
        content = resources.files(__package__).joinpath("live", file).read_bytes()

        async def answer(request: Request) -> Response:
            return Response(content, media_type=media_type, headers=_GUARDS)

        return answer

    async def _events(self, request: Request) -> Response:
        return StreamingResponse(self._stream(request), media_type="text/event-stream", headers=_GUARDS)

    async def _stream(self, request: Request) -> AsyncIterator[str]:
        version, counts = 0, None
        yield _event("lanes", LANES)
        while not self._stopping.is_set() and not await request.is_disconnected():
            version, arrows = self._feed.since(version)
            if arrows:
                yield _event("arrows", arrows)
            now = dict(self._counts())
            if now != counts:
                counts = now
                yield _event("counts", counts)
            await asyncio.sleep(LOOK_AGAIN)

    async def _do(self, request: Request) -> Response:
        action = request.path_params["action"]
        if request.headers.get(BUTTON_HEADER) != "button":
            return JSONResponse({"error": "only the page's own buttons may do this"}, status_code=403)
        if action not in ACTIONS:
            return JSONResponse({"error": f"there is no such button: there are {', '.join(ACTIONS)}"}, status_code=404)
        await asyncio.to_thread(self._press, action)
        return Response(status_code=204, headers=_GUARDS)


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
