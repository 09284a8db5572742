"""What is done with each peer, and what is counted: each in a process of its own, against the one server."""

from __future__ import annotations

import asyncio
import gc
import inspect
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .adapters import Client, Peer
from .server import Server

__all__ = ["SCENARIOS", "run"]

AT_ONCE = 64
DELAY = 0.2  # of the token endpoint, in seconds
WAITED = 0.1  # a call that took longer than this has waited for a token
SHORT = 5.0  # a token's life where the peer's leeway is a share of it
LOAD_SECONDS, CALLS_A_SECOND = 8.0, 60
ROUNDS, CALLS = 6, 150
TOKENS = 200


class Crowd:
    """Makes calls of one client, many at once, whether it is synchronous or not. Errors count as status 0."""

    def __init__(self, peer: Peer, server: Server) -> None:
        self._runner = asyncio.Runner() if peer.is_async else None
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self.client: Client = peer.open(server)

    def one(self, call: Callable[[], Any]) -> int:
        """Make one call and return its status."""
        return self._runner.run(_safe_async(call)) if self._runner is not None else _safe(call)

    def many(self, count: int) -> list[int]:
        """Make so many calls at once."""
        if self._runner is not None:
            return self._runner.run(_gathered([self.client.call] * count))
        return list(self._pool.map(_safe, [self.client.call] * count))

    def row(self, call: Callable[[], Any], count: int) -> float:
        """Make calls one after the other, and return the seconds of one."""
        if self._runner is not None:
            return self._runner.run(_row_async(call, count))
        began = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - began) / count

    def paced(self, seconds: float) -> list[tuple[int, float]]:
        """Call at a constant rate, whether calls have come back or not; return status and seconds of each."""
        number = int(seconds * CALLS_A_SECOND)
        if self._runner is not None:
            return self._runner.run(_paced_async(self.client.call, number))
        began = time.perf_counter()
        futures = []
        for place in range(number):
            time.sleep(max(0.0, began + place / CALLS_A_SECOND - time.perf_counter()))
            futures.append(self._pool.submit(_timed, self.client.call))
        return [future.result() for future in futures]

    def close(self) -> None:
        """End it."""
        ended = self.client.close()
        if self._runner is not None:
            if inspect.isawaitable(ended):
                self._runner.run(_awaited(ended))
            self._runner.close()
        self._pool.shutdown()


def cold(peer: Peer, server: Server) -> dict[str, Any]:
    """Sixty-four callers with an empty cache."""
    server.be(delay=DELAY)
    crowd = Crowd(peer, server)
    statuses = crowd.many(AT_ONCE)
    crowd.close()
    return {"token requests": server.token_requests(), "failed": sum(one != 200 for one in statuses)}


def warm(peer: Peer, server: Server) -> dict[str, Any]:
    """What a call costs beyond the same call with a static header, the best of several rounds in turns."""
    server.be()
    crowd = Crowd(peer, server)
    crowd.one(crowd.client.call)
    crowd.one(crowd.client.plain)
    pairs = [(crowd.row(crowd.client.call, CALLS), crowd.row(crowd.client.plain, CALLS)) for _ in range(ROUNDS)]
    crowd.close()
    call, plain = min(one for one, _ in pairs), min(one for _, one in pairs)
    return {"times a static header": round(call / plain, 2), "added, µs": round((call - plain) * 1e6)}


def renewal(peer: Peer, server: Server) -> dict[str, Any]:
    """A token that is to be renewed about five seconds after the start, under load."""
    lifetime = int(SHORT if peer.leeway is None else peer.leeway + SHORT)
    server.be(delay=DELAY, lifetime=lifetime)
    crowd = Crowd(peer, server)
    crowd.one(crowd.client.call)
    calls = crowd.paced(LOAD_SECONDS)
    crowd.close()
    return {
        "waited": sum(seconds > WAITED for _, seconds in calls),
        "failed": sum(status != 200 for status, _ in calls),
        "token requests": server.token_requests() - 1,
    }


def revoked(peer: Peer, server: Server) -> dict[str, Any]:
    """The API revokes the token; then sixty-four callers, twice."""
    server.be(delay=DELAY)
    crowd = Crowd(peer, server)
    crowd.one(crowd.client.call)
    server.revoke()
    statuses = crowd.many(AT_ONCE) + crowd.many(AT_ONCE)
    crowd.close()
    return {"saw a 401": sum(one != 200 for one in statuses), "token requests": server.token_requests() - 1}


def outage(peer: Peer, server: Server) -> dict[str, Any]:
    """The token endpoint is down when a new token would be due; the old one is good for seconds more."""
    lifetime, until = (SHORT, 4.2) if peer.leeway is None else (peer.leeway + 2.0, 2.3)
    server.be(lifetime=int(lifetime))
    crowd = Crowd(peer, server)
    crowd.one(crowd.client.call)
    server.become(failing=True)
    time.sleep(until)
    statuses = [crowd.one(crowd.client.call) for _ in range(20)]
    crowd.close()
    return {"failed of 20": sum(one != 200 for one in statuses)}


def memory(peer: Peer, server: Server) -> dict[str, Any]:
    """What two hundred tokens take, with a client for each; of tokenvalet, which keeps them all, with a scope for each."""
    server.be()
    if peer.package == "tokenvalet":
        from .adapters import _valet

        valet = _valet(server)
        valet.token("m2m", scope="first")
        before = _traced()
        for number in range(TOKENS):
            valet.token("m2m", scope=f"records:{number}")
        after = _traced()
        valet.close()
        return {"KiB": round((after - before) / TOKENS / 1024, 1)}
    crowds = [Crowd(peer, server)]
    crowds[0].one(crowds[0].client.call)
    before = _traced()
    kept = [Crowd(peer, server) for _ in range(20)]
    for crowd in kept:
        crowd.one(crowd.client.call)
    after = _traced()
    for crowd in kept + crowds:
        crowd.close()
    return {"KiB": round((after - before) / len(kept) / 1024, 1)}


SCENARIOS: dict[str, Callable[[Peer, Server], dict[str, Any]]] = {
    "cold": cold,
    "warm": warm,
    "renewal": renewal,
    "revoked": revoked,
    "outage": outage,
    "memory": memory,
}


def run(peer: Peer, server: Server) -> dict[str, dict[str, Any]]:
    """Return what came of every scenario."""
    found: dict[str, dict[str, Any]] = {}
    for name, scenario in SCENARIOS.items():
        try:
            found[name] = scenario(peer, server)
        except Exception as error:  # noqa: BLE001  a peer that cannot do it is told in the table
            found[name] = {"not measured": type(error).__name__}
    return found


def _traced() -> int:
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _safe(call: Callable[[], Any]) -> int:
    try:
        return int(call())
    except Exception:  # noqa: BLE001  whatever a peer raises is a call that failed
        return 0


def _timed(call: Callable[[], Any]) -> tuple[int, float]:
    began = time.perf_counter()
    return _safe(call), time.perf_counter() - began


async def _safe_async(call: Callable[[], Any]) -> int:
    try:
        return int(await call())
    except Exception:  # noqa: BLE001
        return 0


async def _gathered(calls: list[Callable[[], Any]]) -> list[int]:
    return list(await asyncio.gather(*map(_safe_async, calls)))


async def _row_async(call: Callable[[], Any], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        await call()
    return (time.perf_counter() - began) / count


async def _paced_async(call: Callable[[], Any], number: int) -> list[tuple[int, float]]:
    async def timed() -> tuple[int, float]:
        began = time.perf_counter()
        return await _safe_async(call), time.perf_counter() - began

    began, tasks = time.perf_counter(), []
    for place in range(number):
        await asyncio.sleep(max(0.0, began + place / CALLS_A_SECOND - time.perf_counter()))
        tasks.append(asyncio.create_task(timed()))
    return list(await asyncio.gather(*tasks))


async def _awaited(ended: Any) -> None:
    await ended
