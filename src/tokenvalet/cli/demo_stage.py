"""What the demo plays on: an authorization server, an API, web hosts and browsers on loopback, and clocks that it can move.

The servers are those of `tokenvalet.testing`, the strict ones; what is counted is counted by them.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import httpx2
from starlette.types import ASGIApp

from ..core.token import Moment
from ..testing import AuthorizationServer, ProtectedApi, RegisteredClient, RunningServer, serve
from ..valet import TokenValet
from .demo_host import web_host
from .live_feed import Arrows, both
from .narrator import Narrator
from .screen import Screen

__all__ = ["CLIENT_ID", "SCOPE", "Browser", "Stage"]

CLIENT_ID = "records-web"
SCOPE = "records:read"
_PATIENCE = 30.0
MOST_CONNECTIONS = 100  # of one browser: far below what a process may have open


class DemoClock:
    """The clocks of this machine, put forward as far as the demo wants."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> Moment:
        return Moment(time.monotonic() + self._ahead, self.wall())

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return time.time() + self._ahead

    def forward(self, seconds: float) -> None:
        """Put the clocks of the servers and of every valet here forward."""
        self._ahead += seconds


class Browser:
    """A browser before one web host, whose narrator tells what goes on behind it."""

    def __init__(self, url: str, narrator: Narrator) -> None:
        self.url = url
        self.narrator = narrator
        self._client = httpx2.Client(base_url=url, timeout=_PATIENCE, trust_env=False)

    def load(self) -> str:
        """Load the page. Returns what is wrong with it, or an empty text."""
        self.narrator.say("browser", "service", "GET /records")
        try:
            return self._read(self._client.get("/records"))
        except httpx2.HTTPError as error:
            return f"a page did not come ({type(error).__name__})"

    def load_at_once(self, count: int, connections: int = MOST_CONNECTIONS) -> str:
        """Load the page in so many browsers at once. Returns what is wrong with one of them, or an empty text."""

        async def all_at_once() -> list[str]:
            limits = httpx2.Limits(max_connections=min(count, connections))
            async with httpx2.AsyncClient(
                base_url=self.url,
                timeout=httpx2.Timeout(_PATIENCE, pool=None),
                trust_env=False,
                limits=limits,
            ) as client:
                answers = await asyncio.gather(*(client.get("/records") for _ in range(count)))
                return [self._read(answer) for answer in answers]

        with self.narrator.crowd():
            for _ in range(count):
                self.narrator.say("browser", "service", "GET /records, all at once")
            try:
                return next(filter(None, asyncio.run(all_at_once())), "")
            except httpx2.HTTPError as error:
                return f"a page did not come ({type(error).__name__})"

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _read(self, page: httpx2.Response) -> str:
        content = page.json() if page.headers.get("content-type") == "application/json" else {}
        shown = f"{len(content.get('records', ()))} records" if page.status_code == 200 else content.get("error", "")
        self.narrator.say("service", "browser", f"{page.status_code}, {shown}")
        return "" if page.status_code == 200 and content.get("records") else f"a page came with {page.status_code}"


class Stage:
    """The servers of one demo; a context manager that starts and stops them.

    Args:
        screen: what happens is told there.
        auth_port, api_port: 0 lets the system choose.
        client_secret: a random one by default.
    """

    def __init__(
        self,
        screen: Screen,
        *,
        auth_port: int = 0,
        api_port: int = 0,
        client_secret: str | None = None,
    ) -> None:
        self.screen = screen
        self.clock = DemoClock()
        self.client_secret = client_secret or secrets.token_urlsafe(24)
        known = RegisteredClient(client_id=CLIENT_ID, client_secret=self.client_secret, scopes=(SCOPE,))
        self.auth = AuthorizationServer(clients=[known], clock=self.clock.wall)
        self.api = ProtectedApi(self.auth)
        self.auth_server: RunningServer = serve(self.auth, port=auth_port)
        self._api_server = serve(self.api, port=api_port)
        self._running = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            starting.enter_context(self.auth_server)
            starting.enter_context(self._api_server)
            self._running = starting.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._running.close()

    def settings(self, *, dpop: bool) -> dict[str, Any]:
        """Return what is configured of the client ``m2m``, as TOML would give it."""
        return {
            "issuer": self.auth.issuer,
            "client_id": CLIENT_ID,
            "client_secret": self.client_secret,
            "scope": [SCOPE],
            "dpop": dpop,
            "base_url": self.api.origin,
        }

    @contextmanager
    def host(
        self,
        *,
        dpop: bool,
        port: int = 0,
        shown: Arrows | None = None,
        around: Callable[[ASGIApp], ASGIApp] = lambda host: host,
    ) -> Iterator[Browser]:
        """Start a web host with a valet of its own, whose cache is empty. Yields a browser for it.

        Args:
            dpop: whether its tokens are bound.
            port: 0 lets the system choose.
            shown: where the flow is shown, besides on the screen.
            around: puts something around the host's application.
        """
        scheme = "DPoP" if dpop else "Bearer"
        target = self.screen if shown is None else both(self.screen, shown)
        narrator = Narrator(target, scheme=scheme, outcome=lambda: self.auth.token_requests[-1].outcome)
        document = {"clients": {"m2m": self.settings(dpop=dpop)}}
        valet = TokenValet.from_dict(document, observers=[narrator], clock=self.clock)
        with valet, serve(around(web_host(valet, narrator.say)), port=port) as server:
            browser = Browser(server.url, narrator)
            try:
                yield browser
            finally:
                browser.close()
