"""Connection pools to the API, shared by all HTTP clients of one name: one for threads, one for each event loop.

As with .NET's handlers, a pool is replaced after two minutes, so that a change of DNS or of a certificate on disk is seen;
calls that are under way end on the old one, which is closed behind the last of them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from types import ModuleType
from typing import Any

from ..backchannel import proxy_for
from ..named_client import NamedClient
from ..tls import TlsIdentity
from ..waiting import running_loop

__all__ = ["Pool", "Pools"]

POOL_SECONDS = 120.0


class Pool:
    """One transport of an HTTP library, and how many calls are on it."""

    __slots__ = ("_calls", "_lock", "_retired", "identity", "keeper", "made", "transport")

    def __init__(self, transport: Any, identity: TlsIdentity | None) -> None:
        self.transport = transport
        self.identity = identity
        self.made = time.monotonic()
        self.keeper: AsyncGenerator[None, None] | None = None
        self._calls = 0
        self._retired = False
        self._lock = threading.Lock()

    def enter(self) -> bool:
        """Count a call in. Returns False when the pool was retired meanwhile."""
        with self._lock:
            if self._retired:
                return False
            self._calls += 1
            return True

    def leave(self) -> bool:
        """Count a call out. Returns True when it was the last one on a retired pool, which is then to be closed."""
        with self._lock:
            self._calls -= 1
            return self._retired and self._calls == 0

    def retire(self) -> bool:
        """Take no more calls. Returns True when there is none under way, so that it is to be closed now."""
        with self._lock:
            done, self._retired = self._retired, True
            return not done and self._calls == 0

    async def aclose(self) -> None:
        """Close an asynchronous transport, on its own loop."""
        if self.keeper is not None:
            await self.keeper.aclose()
        else:
            await self.transport.aclose()


class Pools:
    """All pools of one client for one HTTP library (httpx2 or httpx)."""

    def __init__(self, client: NamedClient, library: ModuleType) -> None:
        self._client = client
        self._library = library
        self._sync: dict[bool, Pool] = {}
        self._async: dict[tuple[Any, bool], Pool] = {}
        self._left_behind: list[Pool] = []
        self._lock = threading.Lock()

    def sync_pool(self, *, abroad: bool) -> Pool:
        """Return the pool for this thread's next call, with the call counted in."""
        while True:
            pool = self._sync.get(abroad)
            if pool is None or not self._is_current(pool):
                pool = self._replace_sync(abroad)
            if pool.enter():
                return pool

    async def async_pool(self, *, abroad: bool) -> Pool:
        """Return the pool of the running event loop for the next call, with the call counted in."""
        loop = running_loop()
        while True:
            pool = self._async.get((loop, abroad))
            if pool is None or not self._is_current(pool):
                pool = await self._replace_async(loop, abroad)
            if pool.enter():
                return pool

    def close(self) -> None:
        """Close the pools of threads, and have those of event loops closed on their loops."""
        with self._lock:
            sync, self._sync = list(self._sync.values()), {}
            others, self._async = self._async, {}
        for pool in sync:
            if pool.retire():
                pool.transport.close()
        for (loop, _), pool in others.items():
            if pool.retire():
                _close_on(loop, pool)

    async def aclose(self) -> None:
        """As `close`, and wait for the pools of the running event loop."""
        loop = running_loop()
        with self._lock:
            own = [self._async.pop(key) for key in list(self._async) if key[0] is loop]
        for pool in own:
            if pool.retire():
                await pool.aclose()
        self.close()

    def after_fork(self) -> None:
        """Begin anew in a forked child. The parent's connections are kept from being collected, and not touched."""
        self._lock = threading.Lock()
        self._left_behind += [*self._sync.values(), *self._async.values()]
        self._sync, self._async = {}, {}

    def _is_current(self, pool: Pool) -> bool:
        # A token that is bound to a certificate may only go over connections with the same one (RFC 8705 §3).
        bound_to = self._client.file_identity
        return time.monotonic() - pool.made < POOL_SECONDS and (bound_to is None or pool.identity is bound_to)

    def _replace_sync(self, abroad: bool) -> Pool:
        with self._lock:
            old = self._sync.get(abroad)
            if old is not None and self._is_current(old):
                return old
            transport, identity = self._transport(self._library.HTTPTransport, abroad)
            made = self._sync[abroad] = Pool(transport, identity)
        if old is not None and old.retire():
            old.transport.close()
        return made

    async def _replace_async(self, loop: Any, abroad: bool) -> Pool:
        transport, identity = self._transport(self._library.AsyncHTTPTransport, abroad)
        made = Pool(transport, identity)
        made.keeper = self._keep(made, loop, abroad)
        # The loop now knows of the generator, and ends it, and with it the pool, when it ends itself.
        await made.keeper.__anext__()
        with self._lock:
            self._forget_closed_loops()
            old = self._async.get((loop, abroad))
            if old is not None and self._is_current(old):
                made, old = old, made
            self._async[loop, abroad] = made
        if old is not None and old.retire():
            await old.aclose()
        return made

    async def _keep(self, pool: Pool, loop: Any, abroad: bool) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with self._lock:
                if self._async.get((loop, abroad)) is pool:
                    del self._async[loop, abroad]
            await pool.transport.aclose()

    def _forget_closed_loops(self) -> None:
        for key in [key for key in self._async if isinstance(key[0], asyncio.AbstractEventLoop) and key[0].is_closed()]:
            del self._async[key]

    def _transport(self, kind: Any, abroad: bool) -> tuple[Any, TlsIdentity]:
        client = self._client
        client.ticket()  # lets a certificate that has changed on disk be seen
        identity = client.identity()
        origins = client.guard.allowed
        proxy = proxy_for(str(min(origins)), client.config.proxy) if origins else None
        context = identity.bare_context if abroad else identity.context
        return kind(verify=context, trust_env=False, proxy=proxy), identity


def _close_on(loop: Any, pool: Pool) -> None:
    if isinstance(loop, asyncio.AbstractEventLoop):
        if not loop.is_closed() and loop.is_running():
            asyncio.run_coroutine_threadsafe(pool.aclose(), loop)
        return
    import contextlib

    import trio

    with contextlib.suppress(trio.RunFinishedError):
        loop.run_sync_soon(trio.lowlevel.spawn_system_task, pool.aclose)
