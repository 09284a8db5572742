"""One process of a fleet: told what to do by a JSON object a line on its input, it prints what came of it.

Run as a program, it makes such processes: for each pair of pipes that it is handed it forks one. It has imported all that
they need, so that they begin at once, and it has neither a valet nor a thread of its own. A worker knows of tokenvalet what
a user knows, and nothing of the tests.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from typing import Any

from tokenvalet import ClientConfig, Event, Moment, StoreConfig, TokenValet, TokenValetError


class Worker:
    """A valet, clocks that can be set, and load in the background."""

    def __init__(self) -> None:
        self.valet: TokenValet | None = None
        self.ahead = self.wall = 0.0
        self.events: list[Event] = []
        self.counts: Counter[str] = Counter()
        self.stop_load = threading.Event()
        self.threads: list[threading.Thread] = []

    def clock(self) -> Moment:
        return Moment(time.monotonic() + self.ahead, time.time() + self.ahead + self.wall)

    @property
    def opened(self) -> TokenValet:
        assert self.valet is not None
        return self.valet

    def open(self, client: dict[str, Any], store: dict[str, Any] | None, wall: float = 0.0) -> str:
        self.close()
        self.ahead, self.wall, self.events = 0.0, wall, []
        self.valet = TokenValet(
            {"m2m": ClientConfig(**client)},
            store=StoreConfig(**store) if store is not None else None,
            observers=[self.events.append],
            clock=self.clock,
        )
        return "opened"

    def tokens(self, tasks: int = 1, **parameters: Any) -> list[str]:
        """Return the tokens, or the codes of the errors, that so many tasks were given; each once."""

        async def one() -> str:
            try:
                return (await self.opened.async_token("m2m", **parameters)).value
            except TokenValetError as error:
                return f"error: {error.code}"

        async def all_of_them() -> list[str]:
            return await asyncio.gather(*(one() for _ in range(tasks)))

        return sorted(set(asyncio.run(all_of_them())))

    def expires_in(self) -> float:
        return self.opened.token("m2m").expires_in

    def calls(self, count: int = 1, path: str = "/api/v1/integration/health-records") -> list[int]:
        with self.opened.client("m2m") as api:
            return [api.get(path).status_code for _ in range(count)]

    def invalidate(self) -> None:
        self.opened.invalidate("m2m")

    def advance(self, seconds: float) -> None:
        """Let time pass, for this process."""
        self.ahead += seconds

    def load(self, threads: int = 4) -> None:
        """Ask for tokens all the time, until `unload`."""
        self.counts, self.stop_load = Counter(), threading.Event()

        def ask() -> None:
            while not self.stop_load.is_set():
                try:
                    self.opened.token("m2m")
                    self.counts["good"] += 1
                except TokenValetError as error:
                    self.counts[error.code] += 1
                time.sleep(0.002)

        self.threads = [threading.Thread(target=ask) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def unload(self) -> dict[str, int]:
        self.stop_load.set()
        for thread in self.threads:
            thread.join()
        return dict(self.counts)

    def names(self) -> list[str]:
        """Return the names of the events so far, but for those of every call."""
        return [event.name for event in self.events if event.name not in ("cache_hit", "cache_miss", "wait")]

    def shown(self) -> str:
        """Return all that was told, for a search for secrets."""
        return repr(self.events)

    def close(self) -> None:
        self.stop_load.set()
        if self.valet is not None:
            self.valet.close()
            self.valet = None


def serve(commands: int, answers: int) -> None:
    """Be a process of a fleet."""
    worker = Worker()
    with open(commands, encoding="utf-8") as source, open(answers, "w", encoding="utf-8") as target:
        print(json.dumps(os.getpid()), file=target, flush=True)
        for line in source:
            name, arguments = json.loads(line)
            print(json.dumps(getattr(worker, name)(**arguments)), file=target, flush=True)
    worker.close()


def main() -> None:
    for module in ("httpx2", "redis", "tokenvalet.stores.file", "tokenvalet.stores.redis", "tokenvalet.clients.pools"):
        importlib.import_module(module)
    logging.getLogger("tokenvalet").addHandler(logging.NullHandler())  # what else is written there is a fault
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
    with socket.socket(fileno=int(sys.argv[1])) as control:
        while True:
            message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
            if not message:
                return
            if os.fork() == 0:
                control.close()
                serve(*descriptors)
                return
            for descriptor in descriptors:
                os.close(descriptor)


if __name__ == "__main__":
    main()
