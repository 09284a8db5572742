"""The connection pools of one valet: for each client and HTTP library its own, made when they are first needed."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

from ..named_client import NamedClient
from .pools import Pools

__all__ = ["PoolBook"]


class PoolBook:
    """Pools by client and library. Safe to use from several threads.

    Attributes:
        through: given a library as `Pools` takes it, returns what connections are really made of; for tests without a
            network.
    """

    def __init__(self) -> None:
        self.through: Callable[[Any], Any] | None = None
        self._pools: dict[tuple[str, str], Pools] = {}
        # Those of removed clients too, as long as an HTTP client that was made for them is alive.
        self._all: weakref.WeakSet[Pools] = weakref.WeakSet()
        self._lock = threading.Lock()

    def of(self, client: NamedClient, library: Any) -> Pools:
        """Return the pools of a client for a library, as `Pools` takes it."""
        key = (client.name, library.__name__)
        pools = self._pools.get(key)
        if pools is None:
            with self._lock:
                connections = library if self.through is None else self.through(library)
                pools = self._pools.setdefault(key, Pools(client, connections))
                self._all.add(pools)
        return pools

    def drop(self, name: str) -> None:
        """Forget the pools of a client that is gone, and close them."""
        with self._lock:
            dropped = [self._pools.pop(key) for key in list(self._pools) if key[0] == name]
        for pools in dropped:
            pools.close()

    def all_at_the_end(self) -> list[Pools]:
        """Forget all pools, and return them, to be closed."""
        with self._lock:
            every = list(self._all)
            self._pools = {}
        return every

    def after_fork(self) -> None:
        """Begin anew in a forked child."""
        self._lock = threading.Lock()
        for pools in list(self._all):
            pools.after_fork()
