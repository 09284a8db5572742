"""The clients of one valet, by name: configured, added and removed at run time, or looked up when first asked for."""

from __future__ import annotations

import contextlib
import difflib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping

from .config import ClientConfig
from .errors import ConfigurationError, ConfigurationFault, shown
from .named_client import NamedClient
from .surroundings import Surroundings

__all__ = ["ClientBook", "Resolver", "by_name"]

DEFAULT_NAME = "default"
MOST_RESOLVED = 131_072

Resolver = Callable[[str], ClientConfig | None]


def by_name(configs: tuple[ClientConfig | Mapping[str, ClientConfig], ...]) -> dict[str, ClientConfig]:
    """Return the configurations by name. Raises ConfigurationError where two have the same."""
    named: dict[str, ClientConfig] = {}
    for one in configs:
        pairs = one.items() if isinstance(one, Mapping) else [(one.name or DEFAULT_NAME, one)]
        for name, config in pairs:
            if name in named:
                raise ConfigurationError(f"there are two clients named {name!r}: give one another name")
            named[name] = config
    return named


class ClientBook:
    """Named clients. Safe to use from several threads.

    Args:
        around: what they share.
        resolver: asked for clients that are not known.
        leaves: told the name of every client that is removed, replaced, or thrown out since others were used later.
    """

    def __init__(self, around: Surroundings, resolver: Resolver | None, leaves: Callable[[str], None]) -> None:
        self._around = around
        self._resolver = resolver
        self._leaves = leaves
        self._clients: dict[str, NamedClient] = {}
        self._resolved: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._clients)

    def __getitem__(self, name: str) -> NamedClient:
        return self._clients[name]

    def names(self) -> list[str]:
        """Return the names of the clients that are known now."""
        return list(self._clients)

    def configured(self) -> list[str]:
        """Return the names of those that were configured or added, and not looked up when first asked for."""
        return [name for name in list(self._clients) if name not in self._resolved]

    def named(self, name: str | None) -> NamedClient:
        """Return the client of that name; without a name, the only one, or the one named ``default``.

        Raises:
            ConfigurationError: there is none.
        """
        if name is None:
            name = next(iter(self._clients)) if len(self._clients) == 1 else DEFAULT_NAME
        client = self._clients.get(name)
        if client is None:
            return self._resolve(name)
        if name in self._resolved:
            with contextlib.suppress(KeyError):  # another thread removed it in between
                self._resolved.move_to_end(name)
        return client

    def add(self, configs: Mapping[str, ClientConfig]) -> None:
        """Add clients, or replace those of the same names, whose tokens are not used any more.

        Raises:
            ConfigurationError: with everything that is wrong with all of them; none is added then.
        """
        made = self._made(configs)
        for name, client in made.items():
            if name in self._clients:
                client.invalidate()
                self.remove(name)
        with self._lock:
            self._clients.update(made)

    def remove(self, name: str) -> None:
        """Forget the client of that name, if there is one."""
        with self._lock:
            self._clients.pop(name, None)
            self._resolved.pop(name, None)
        self._leaves(name)

    def after_fork(self) -> None:
        """Take a new lock: the old one may have been held when the process forked."""
        self._lock = threading.Lock()

    def _made(self, configs: Mapping[str, ClientConfig]) -> dict[str, NamedClient]:
        faults: list[ConfigurationFault] = []
        made: dict[str, NamedClient] = {}
        for name, config in configs.items():
            client, wrong = NamedClient.make(name, config, self._around, f"clients.{name}")
            faults += wrong
            if client is not None:
                made[name] = client
        if faults:
            raise ConfigurationError(faults=faults)
        return made

    def _resolve(self, name: str) -> NamedClient:
        config = self._resolver(name) if self._resolver is not None else None
        if config is None:
            raise unknown_client(name, self._clients)
        made = self._made({name: config})[name]
        leaving: list[str] = []
        with self._lock:
            # Several may have asked for it at once: the first one's is everybody's.
            client = self._clients.setdefault(name, made)
            if client is made:
                self._resolved[name] = None
                while len(self._resolved) > MOST_RESOLVED:
                    leaving.append(self._resolved.popitem(last=False)[0])
        for one in leaving:
            self.remove(one)
        return client


def unknown_client(name: str, known: Iterable[str]) -> ConfigurationError:
    """Return the error for a client that is not there, which names the nearest."""
    names = list(known)
    near = difflib.get_close_matches(name, names[:1000], n=1)
    others = shown(", ".join(sorted(names)[:10])) or "none"
    hint = f"did you mean {near[0]!r}?" if near else f"known clients: {others}"
    return ConfigurationError(f"there is no client named {name!r}; {hint}", code="unknown_client")
