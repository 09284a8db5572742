"""The connections of ready aiohttp sessions: one connector for each event loop and way, shared by all sessions of a client.

aiohttp knows of its connections by itself which of them are in use, so that no call is counted here: a pool that was
retired is closed when its connector has none in use any more.
"""

from __future__ import annotations

import asyncio
import base64
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import aiohttp
from aiohttp.hdrs import AUTHORIZATION

from ..core.guard import Origin, origin_of
from ..errors import ConfigurationError
from ..tls import TlsIdentity
from .pools import POOL_SECONDS, Pool, Pools

__all__ = ["CONNECTIONS", "WAY", "SharedConnector", "Way", "go_through"]

CLOSING_SECONDS = 0.02  # between two looks at whether the last call on a retired pool has ended

# Over which connections a request goes: those of this origin, with this certificate; abroad, with none.
Way = tuple[Pools, Origin, TlsIdentity | None, bool]
# That of the request which is being sent in this context, unless it is the usual one.
WAY: ContextVar[Way | None] = ContextVar("tokenvalet.way", default=None)


class _LoopPool(Pool):
    """The pool of one event loop, entered on that loop only; calls are not counted."""

    __slots__ = ()

    def enter(self, now: float, identity: TlsIdentity | None) -> bool:
        # As `serves` says, in one step less.
        return not self._retired and now - self.made < POOL_SECONDS and (identity is None or identity is self.identity)

    def leave(self) -> bool:
        """Whether the pool was retired by now, so that it is to be closed, which waits for its calls."""
        return self._retired

    def leave_behind(self) -> None:
        super().leave_behind()
        self.transport.retired = True

    def retire(self) -> bool:
        with self._lock:
            done, self._retired = self._retired, True
        self.transport.retired = True
        return not done


class _Connections:
    """The connector of a pool: it speaks TLS, and goes through a proxy, as the client's configuration says."""

    pool_class = _LoopPool

    def __init__(self, *, verify: Any, trust_env: bool, proxy: str | None) -> None:
        self.connector = aiohttp.TCPConnector(ssl=verify)
        self.proxy = proxy
        self.retired = False
        self._closing: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """Close it behind the last call that is under way, or, where its loop ends, at once."""
        if not self.retired or not self._is_in_use():
            await self.connector.close()
        elif self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close_behind_the_last())

    async def _close_behind_the_last(self) -> None:
        try:
            while self._is_in_use():  # noqa: ASYNC110  aiohttp does not tell
                await asyncio.sleep(CLOSING_SECONDS)
        finally:
            await self.connector.close()

    def _is_in_use(self) -> bool:
        return bool(getattr(self.connector, "_acquired", ()))


# As `Pools` takes a library.
CONNECTIONS = SimpleNamespace(__name__="aiohttp", AsyncHTTPTransport=_Connections)


class SharedConnector(aiohttp.BaseConnector):
    """The connector of a ready session: it has every request sent over the connections of the valet.

    Without a way of its own, a request goes to where the token belongs, over the connections of `pools`.
    """

    allowed_protocol_schema_set = aiohttp.TCPConnector.allowed_protocol_schema_set

    def __init__(self, pools: Pools) -> None:
        super().__init__()
        self._pools = pools
        self._monotonic = pools.monotonic
        self._usual: _Connections | None = None
        self._usual_until = 0.0

    def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        usual = self._usual
        if (
            usual is not None
            and WAY.get() is None
            and AUTHORIZATION in req.headers
            # As the pool's `enter` says, in one step less.
            and not usual.retired
            and self._monotonic() < self._usual_until
        ):
            # Whoever retires the pool from now on closes it behind this call.
            return usual.connector.connect(req, traces, timeout)
        return self._connect(req, traces, timeout)

    async def _connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        """As `connect`, whatever there is to it."""
        way = WAY.get()
        if way is None:
            if AUTHORIZATION not in req.headers:
                raise ConfigurationError(
                    "middlewares= of a request takes the place of the session's: put valet.aiohttp_middleware() last in it",
                    code="middleware_left_out",
                )
            origin = origin_of(req.url.scheme, req.url.raw_host or "", req.url.port)
            pool = await self._pools.async_pool(origin, None, abroad=False)
            self._usual, self._usual_until = pool.transport, pool.made + POOL_SECONDS
        else:
            pools, origin, identity, abroad = way
            pool = await pools.async_pool(origin, identity, abroad=abroad)
            if pool.transport.proxy is not None:
                go_through(req, pool.transport.proxy)
        try:
            return await pool.transport.connector.connect(req, traces, timeout)
        finally:
            if pool.leave():
                await pool.aclose()


def go_through(request: Any, proxy: str | None) -> None:
    """Have a request sent through a proxy; its password goes into a header, for addresses are shown in errors."""
    if proxy is None:
        request.update_proxy(None, None, None)
        return
    url = type(request.url)(proxy)
    headers = {}
    if url.raw_user is not None or url.raw_password is not None:
        credentials = f"{unquote(url.raw_user or '')}:{unquote(url.raw_password or '')}"
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode("ascii")
        if not request.is_ssl():
            request.headers.update(headers)
    request.update_proxy(url.with_user(None), None, headers)
