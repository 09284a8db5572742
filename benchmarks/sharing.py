"""Tokens shared by processes: how many token requests eight of them cost, on each store, whatever happens.

The processes and the Redis servers are those of the tests in tests/stores; each line is a fleet of its own.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenvalet.testing import AuthorizationServer, Fault, ProtectedApi, RegisteredClient, serve

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from stores.fleet import Fleet, Nursery
from stores.makers import KEY, line_of
from stores.redis_server import RedisServer, Unavailable, executable
from tokenvalet.stores import RedisStore

PROCESSES = 8
TASKS = 50
SECRET = "bench-secret-bench-secret"
TIMEOUT = 4.0
LEASE = TIMEOUT / 2
LIFETIME = 600
UNTIL_DUE = 500  # at least a fifth of its life and a quarter more before its end

Line = tuple[str, bool]


def run() -> Iterator[Line]:
    """Yield each figure, and whether it is what it has to be."""
    try:
        executable()
    except Unavailable as reason:
        yield f"Redis: not measured, since this {reason}", False
        return
    nursery = Nursery()
    try:
        for kind in ("folder", "Redis"):
            with _bench(nursery, kind) as bench:
                yield bench.cold()
        with _bench(nursery, "Redis") as bench:
            yield bench.hosts()
        for kind in ("folder", "Redis"):
            with _bench(nursery, kind) as bench:
                yield bench.due()
            with _bench(nursery, kind) as bench:
                yield bench.killed()
            with _bench(nursery, kind) as bench:
                yield bench.rejected()
        with _bench(nursery, "Redis") as bench:
            yield bench.redis_restarted()
        yield _round_trips()
    finally:
        nursery.close()


@contextlib.contextmanager
def _bench(nursery: Nursery, kind: str) -> Iterator[_Bench]:
    folder = Path(tempfile.mkdtemp(prefix="tv-"))
    auth = AuthorizationServer(
        [RegisteredClient(client_id="bench", client_secret=SECRET)], access_token_lifetime=LIFETIME
    )
    api = ProtectedApi(auth)
    try:
        with serve(auth), serve(api), RedisServer(folder) as server, nursery.fleet(PROCESSES) as fleet:
            yield _Bench(nursery, fleet, kind, folder, auth, api, server)
    finally:
        shutil.rmtree(folder)


class _Bench:
    """Eight processes, a store, and the servers that they talk to."""

    def __init__(
        self,
        nursery: Nursery,
        fleet: Fleet,
        kind: str,
        folder: Path,
        auth: AuthorizationServer,
        api: ProtectedApi,
        server: RedisServer,
    ) -> None:
        self.nursery, self.fleet, self.kind, self.auth, self.api, self.server = nursery, fleet, kind, auth, api, server
        self.client = {
            "token_endpoint": auth.token_endpoint,
            "client_id": "bench",
            "client_secret": SECRET,
            "base_url": api.origin,
            "timeout": TIMEOUT,
        }
        url = server.url if kind == "Redis" else f"file://{folder}/tokens"
        self.store = {"url": url, "encryption_keys": line_of("bench", 1)}

    def open(self) -> None:
        self.fleet.ask("open", client=self.client, store=self.store)

    def tokens(self, tasks: int = 1) -> Counter[str]:
        return Counter(token for answer in self.fleet.ask("tokens", tasks=tasks) for token in answer)

    def cold(self) -> Line:
        self.auth.token_delay = 0.2
        self.open()
        tokens = self.tokens(TASKS)
        count = len(self.auth.token_requests)
        return (
            f"{self.kind}: cold, {PROCESSES} processes × {TASKS} tasks: {count} token request (bound: 1)",
            (count, len(tokens)) == (1, 1),
        )

    def hosts(self) -> Line:
        hosts = self.fleet.processes[:3]
        for process, hours in zip(hosts, (-5, 0, 11), strict=True):
            process.ask("open", client=self.client, store=self.store, wall=hours * 3600.0)
        for process in hosts:
            process.begin("tokens", tasks=TASKS)
        tokens = {token for process in hosts for token in process.end()}
        count = len(self.auth.token_requests)
        return (
            f"Redis: cold, three hosts whose clocks are hours apart: {count} token request (bound: 1)",
            (count, len(tokens)) == (1, 1),
        )

    def due(self) -> Line:
        self.open()
        old = self.tokens()
        self.fleet.ask("load")
        self.fleet.ask("advance", seconds=UNTIL_DUE)
        _until(lambda: not old.keys() & self.tokens().keys())
        failed = _failed(self.fleet.ask("unload"))
        count = len(self.auth.token_requests) - 1
        return (
            f"{self.kind}: a token becomes due in {PROCESSES} processes under load: {count} token request (bound: 1), "
            f"{failed} failed calls (bound: 0)",
            (count, failed) == (1, 0),
        )

    def killed(self) -> Line:
        victim = self.nursery.process()
        victim.ask("open", client=self.client, store=self.store)
        self.open()
        self.auth.misbehave(Fault.hang(60))
        victim.begin("tokens")
        _until(lambda: self.auth.token_requests)
        for process in self.fleet.processes:
            process.begin("tokens", tasks=TASKS)
        began = time.monotonic()
        victim.kill()
        _until(lambda: len(self.auth.token_requests) > 1)
        seconds = time.monotonic() - began
        found = {token for process in self.fleet.processes for token in process.end()}
        failed = sum(token.startswith("error") for token in found)
        further = len(self.auth.token_requests) - 1
        return (
            f"{self.kind}: kill -9 of the process that has the lease: {further} further token request (bound: 1), "
            f"{seconds:.1f} s later (bound: the lease of {LEASE:g} s, and a second until it is looked at), {failed} failed "
            "calls (bound: 0)",
            (further, failed) == (1, 0) and seconds <= LEASE + 1,
        )

    def rejected(self) -> Line:
        self.api.reject_all = 'Bearer error="invalid_token"'
        self.open()
        began = time.monotonic()
        calls = sum(len(statuses) for statuses in self.fleet.ask("calls", count=125))
        seconds = time.monotonic() - began
        count = len(self.auth.token_requests)
        most = 2 + int(seconds // 10)
        return (
            f"{self.kind}: an API that answers 401 to everything, {PROCESSES} processes, {calls} calls in {seconds:.1f} s: "
            f"{count} token requests (bound: {most})",
            count <= most,
        )

    def redis_restarted(self) -> Line:
        self.open()
        self.fleet.ask("load")
        self.tokens()
        self.server.kill()
        self.fleet.ask("advance", seconds=UNTIL_DUE)
        _until(lambda: len(self.tokens()) == PROCESSES)
        away = len(self.auth.token_requests) - 1
        self.server.start()
        time.sleep(1.1)  # the longest that it is left alone after one failure
        self.fleet.ask("advance", seconds=UNTIL_DUE)
        _until(lambda: len(self.tokens()) == 1)
        failed = _failed(self.fleet.ask("unload"))
        after = len(self.auth.token_requests) - 1 - away
        return (
            f"Redis killed and started again under load: {failed} failed calls (bound: 0), {away} token requests of "
            f"{PROCESSES} processes while it was away (bound: {PROCESSES}), {after} when it was back (bound: 1)",
            failed == 0 and away <= PROCESSES and after == 1,
        )


def _round_trips() -> Line:
    folder = Path(tempfile.mkdtemp(prefix="tv-"))
    try:
        with RedisServer(folder) as server, server.client() as eye:
            store = RedisStore.from_url(server.url)
            store.write(KEY, b"value", 60, "")
            store.read(KEY)
            eye.config_resetstat()
            for _ in range(100):
                store.read(KEY)
            statistics: Any = eye.info("commandstats")
            calls = statistics["cmdstat_evalsha"]["calls"]
            store.close()
    finally:
        shutil.rmtree(folder)
    return f"Redis: round trips for 100 hits: {calls} (bound: 100)", calls == 100


def _failed(counts: list[dict[str, int]]) -> int:
    return sum(count for found in counts for name, count in found.items() if name != "good")


def _until(true: Any) -> None:
    deadline = time.monotonic() + 60
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
