"""Connection pools to the API, shared by all HTTP clients of one name: one for threads, one for each event loop.

As with .NET's handlers, a pool is replaced after two minutes, so that a change of DNS or of a certificate on disk is seen;
calls that are under way end on the old one, which is closed behind the last of them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from types import ModuleType
from typing import Any

from ..at_hand import AtHand
from ..backchannel import proxy_for
from ..core.guard import Origin
from ..core.secret import Secret
from ..core.token import AccessToken
from ..errors import ValetClosedError
from ..named_client import NamedClient
from ..surroundings import readers_of
from ..tls import TlsIdentity
from ..waiting import running_loop

__all__ = ["NOT_WARM", "POOL_SECONDS", "Pool", "Pools", "Warm"]

POOL_SECONDS = 120.0

# The proxy that an origin is reached through, if any, and whether it is abroad, where no client certificate is shown.
Way = tuple[Secret | None, bool]


class Pool:
    """One transport of an HTTP library, and how many calls are on it."""

    __slots__ = ("_calls", "_ended", "_lock", "_retired", "identity", "keeper", "made", "transport")

    def __init__(self, transport: Any, identity: TlsIdentity, made: float) -> None:
        self.transport = transport
        self.identity = identity
        self.made = made
        self.keeper: AsyncGenerator[None, None] | None = None
        # As long as there are calls: a list grows and shrinks at once for all threads, and costs less than a lock.
        self._calls: list[None] = []
        self._retired = False
        self._ended = False
        self._lock = threading.Lock()

    def serves(self, now: float, identity: TlsIdentity | None) -> bool:
        """Whether it is not too old, and made with this identity, if that matters."""
        return now - self.made < POOL_SECONDS and (identity is None or self.identity is identity)

    def enter(self, now: float, identity: TlsIdentity | None) -> bool:
        """Count a call in, if the pool serves for it, and was not retired meanwhile. `now` as of the monotonic clock."""
        # As `serves` says, in one step less.
        if self._retired or now - self.made >= POOL_SECONDS or (identity is not None and identity is not self.identity):
            return False
        self._calls.append(None)
        # Whoever ends the pool says so before it looks for calls, so that one of us sees the other.
        return not self._ended or not self._has_ended()

    def _has_ended(self) -> bool:
        """Whether a call that was counted in came too late, and is counted out again."""
        with self._lock:
            if self._ended:
                self._calls.pop()
            return self._ended

    def leave(self) -> bool:
        """Count a call out. Returns True when it was the last one on a retired pool, which is then to be closed."""
        self._calls.pop()
        return self._retired and self._ends()

    def retire(self) -> bool:
        """Take no more calls. Returns True when there is none under way, so that it is to be closed now."""
        self._retired = True
        return self._ends()

    def _ends(self) -> bool:
        """Whether no call is left on this retired pool; True is said once."""
        with self._lock:
            if self._ended:
                return False
            self._ended = True
            # A copy, for it is made under the list's own lock where threads run at once, which keeps the order.
            self._ended = not self._calls.copy()
            return self._ended

    def leave_behind(self) -> None:
        """Have it neither entered nor closed any more: its connections belong to the process that this one is a fork of."""
        self._retired = self._ended = True

    def for_one_call(self) -> Pool:
        """Return this pool with a call counted in, and closed to all others."""
        self._calls.append(None)
        self.retire()
        return self

    async def aclose(self) -> None:
        """Close an asynchronous transport, on its own loop."""
        if self.keeper is not None:
            await self.keeper.aclose()
        else:
            await self.transport.aclose()


class Warm:
    """A token and a pool that calls to one origin go with, one after the other, as long as both serve.

    Attributes:
        pool: which its last call was on; whether it serves still, it says.
    """

    __slots__ = ("_at_hand", "pool")

    def __init__(self, at_hand: AtHand | None, pool: Pool | None) -> None:
        self.pool = pool
        self._at_hand = at_hand if at_hand is not None else AtHand.never()
        if pool is not None:
            self._at_hand.until = min(self._at_hand.until, pool.made + POOL_SECONDS)

    def enter(self) -> AccessToken | None:
        """Count a call in on the pool, and return the token that it goes with; None: the renewer and the pools are asked."""
        at_hand, pool = self._at_hand, self.pool
        # As `AtHand.is_current` and `Pool.enter` have it, in two steps less.
        if (
            at_hand.monotonic() >= at_hand.until
            or at_hand.entry.token is not at_hand.token
            or at_hand.wall() >= at_hand.until_wall
            or at_hand.serial < at_hand.client.valid_from
            or at_hand.observers.every_call
            or at_hand.renewer.must_be_asked
            or pool is None
            or pool._retired
        ):
            return None
        pool._calls.append(None)
        return at_hand.token if not pool._ended or not pool._has_ended() else None


NOT_WARM = Warm(None, None)


class Pools:
    """All pools of one client for one HTTP library.

    Attributes:
        monotonic: reads the clock that pools are held against, in seconds.
        at_hand: returns the Bearer token that nearly all calls are sent with, if it is there and fresh; for libraries whose
            connections can have it set for good.
    """

    def __init__(self, client: NamedClient, library: ModuleType) -> None:
        self._client = client
        self.monotonic, _ = readers_of(client.around.clock)
        self._library = library
        self.at_hand: Callable[[], AtHand | None] = lambda: None
        self._sync: dict[Way, Pool] = {}
        self._async: dict[tuple[Any, Way], Pool] = {}
        self._ways: dict[Origin, Way] = {}
        self._left_behind: list[Pool] = []
        self._closed = False
        self._lock = threading.Lock()

    def sync_pool(self, origin: Origin, identity: TlsIdentity | None, *, abroad: bool) -> Pool:
        """Return the pool for this thread's next call, with the call counted in.

        Args:
            origin: where the call goes to.
            identity: how the client spoke TLS when its token was asked for, where files of its own say so; a token that
                is bound to a certificate may only go over connections with the same one (RFC 8705 §3).
            abroad: whether that is no allowed origin, so that the certificate is not shown either.

        Raises:
            ValetClosedError: the valet is closed.
        """
        way = self._ways.get(origin) or self._way(origin, abroad)
        while True:
            pool = self._sync.get(way)
            if pool is not None and pool.enter(self.monotonic(), identity):
                return pool
            if self._is_shared(identity):
                self._replace_sync(way)
            else:
                return self._made(self._library.HTTPTransport, way, identity).for_one_call()

    async def async_pool(self, origin: Origin, identity: TlsIdentity | None, *, abroad: bool) -> Pool:
        """Return the pool of the running event loop for the next call, with the call counted in. As `sync_pool`."""
        way, loop = self._way(origin, abroad), running_loop()
        while True:
            pool = self._async.get((loop, way))
            if pool is not None and pool.enter(self.monotonic(), identity):
                return pool
            if self._is_shared(identity):
                await self._replace_async(loop, way)
            else:
                return self._made(self._library.AsyncHTTPTransport, way, identity).for_one_call()

    def enter(self, pool: Pool, identity: TlsIdentity | None) -> bool:
        """Count a call in on a pool that was had from here before, for the same origin, if it serves still."""
        return pool.enter(self.monotonic(), identity)

    def close(self) -> None:
        """Close the pools of threads, and have those of event loops closed on their loops.

        HTTP clients of a client that was removed may go on; each of their calls gets connections of its own from now on,
        since nobody would be there to close what they shared.
        """
        with self._lock:
            self._closed = True
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
            self._closed = True
            own = [self._async.pop(key) for key in list(self._async) if key[0] is loop]
        for pool in own:
            if pool.retire():
                await pool.aclose()
        self.close()

    def after_fork(self) -> None:
        """Begin anew in a forked child. The parent's connections are kept from being collected, and not touched."""
        self._lock = threading.Lock()
        for pool in (*self._sync.values(), *self._async.values()):
            pool.leave_behind()
            self._left_behind.append(pool)
        self._sync, self._async = {}, {}

    def _way(self, origin: Origin, abroad: bool) -> Way:
        way = self._ways.get(origin)
        if way is None:
            way = (proxy_for(str(origin), self._client.config.proxy), abroad)
            if not abroad:  # of those that are, there may be any number
                self._ways[origin] = way
        return way

    def _is_shared(self, identity: TlsIdentity | None) -> bool:
        if self._client.around.stopping.is_set():
            raise ValetClosedError(f"client {self._client.name!r}: the valet was closed before the request was sent")
        # A certificate that was replaced while its last calls waited for a token is theirs alone.
        return not self._closed and (identity is None or identity is self._client.file_identity)

    def _replace_sync(self, way: Way) -> None:
        with self._lock:
            old = self._sync.get(way)
            if self._closed or (old is not None and old.serves(self.monotonic(), self._client.file_identity)):
                return
            self._sync[way] = self._made(self._library.HTTPTransport, way, None)
        if old is not None and old.retire():
            old.transport.close()

    async def _replace_async(self, loop: Any, way: Way) -> None:
        made = self._made(self._library.AsyncHTTPTransport, way, None)
        made.keeper = self._keep(made, loop, way)
        # The loop now knows of the generator, and ends it, and with it the pool, when it ends itself.
        await made.keeper.__anext__()
        with self._lock:
            self._forget_closed_loops()
            old = self._async.get((loop, way))
            if self._closed or (old is not None and old.serves(self.monotonic(), self._client.file_identity)):
                old = made
            else:
                self._async[loop, way] = made
        if old is not None and old.retire():
            await old.aclose()

    async def _keep(self, pool: Pool, loop: Any, way: Way) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with self._lock:
                if self._async.get((loop, way)) is pool:
                    del self._async[loop, way]
            await pool.transport.aclose()

    def _forget_closed_loops(self) -> None:
        for key in [key for key in self._async if isinstance(key[0], asyncio.AbstractEventLoop) and key[0].is_closed()]:
            del self._async[key]

    def _made(self, kind: Any, way: Way, identity: TlsIdentity | None) -> Pool:
        proxy, abroad = way
        at_hand = self.at_hand() if identity is None and not abroad else None
        identity = identity or self._client.identity()
        context = identity.bare_context if abroad else identity.context
        url = proxy.reveal() if proxy is not None else None
        pool_class: type[Pool] = getattr(kind, "pool_class", Pool)
        if hasattr(kind, "speaking_for"):  # one with a TLS of its own
            transport = kind.speaking_for(self._client, identity, abroad=abroad, proxy=url, at_hand=at_hand)
        else:
            transport = kind(verify=context, trust_env=False, proxy=url)
        return pool_class(transport, identity, self.monotonic())


def _close_on(loop: Any, pool: Pool) -> None:
    if isinstance(loop, asyncio.AbstractEventLoop):
        if not loop.is_closed() and loop.is_running():
            asyncio.run_coroutine_threadsafe(pool.aclose(), loop)
        return
    import contextlib

    import trio

    with contextlib.suppress(trio.RunFinishedError):
        loop.run_sync_soon(trio.lowlevel.spawn_system_task, pool.aclose)
