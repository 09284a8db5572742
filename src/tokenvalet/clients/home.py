"""An origin where tokens may go: what its calls go with, one after the other, or ask for where that will not do."""

from __future__ import annotations

from asyncio import _get_running_loop
from typing import Any

from ..core.guard import Origin
from ..core.token import AccessToken
from ..named_client import Ticket
from ..pending import Waiting
from ..renewal import Renewer
from ..waiting import wait, wait_async
from .pools import NOT_WARM, Pool, Pools, Warm

__all__ = ["Home"]


class Home:
    """An origin where tokens may go, for one client and one library.

    Attributes:
        warm: what the last call of a thread went with.
        on_loop: an event loop of asyncio, and what the last call on it went with.

    Args:
        lasting: the ticket of all calls, where no file can change it.
    """

    __slots__ = ("_lasting", "_pools", "_renewer", "on_loop", "origin", "warm")

    def __init__(self, origin: Origin, renewer: Renewer, pools: Pools, lasting: Ticket | None) -> None:
        self.origin = origin
        self.warm = NOT_WARM
        self.on_loop: tuple[Any, Warm] = (None, NOT_WARM)
        self._renewer = renewer
        self._pools = pools
        self._lasting = lasting

    def ask(self, ticket: Ticket) -> tuple[AccessToken, Warm]:
        """Return a token, and what has its pool, with the call counted in. Raises TokenValetError where there is none."""
        token = self._renewer.get(ticket)
        if isinstance(token, Waiting):
            token = wait(token)
        warm = self.warm
        pool = warm.pool
        if pool is None or not self._pools.enter(pool, ticket.identity):
            pool = self._pools.sync_pool(self.origin, ticket.identity, abroad=False)
        self.warm = warm = self._warm(warm, ticket, pool)
        return token, warm

    async def ask_async(self, ticket: Ticket) -> tuple[AccessToken, Warm]:
        """As `ask`, for the running event loop."""
        token = self._renewer.get(ticket)
        if isinstance(token, Waiting):
            token = await wait_async(token)
        (of, warm), loop = self.on_loop, _get_running_loop()
        warm = warm if of is loop else NOT_WARM
        pool = warm.pool
        if pool is None or not self._pools.enter(pool, ticket.identity):
            pool = await self._pools.async_pool(self.origin, ticket.identity, abroad=False)
        warm = self._warm(warm, ticket, pool)
        if loop is not None:  # as it is on trio
            self.on_loop = loop, warm
        return token, warm

    def _warm(self, former: Warm, ticket: Ticket, pool: Pool) -> Warm:
        at_hand = self._renewer.at_hand(ticket) if ticket is self._lasting else None
        return former if at_hand is None and pool is former.pool else Warm(at_hand, pool)
