"""Renewals that nobody notices: under constant load, with the server away, and against an API that rejects everything."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import httpx2

from servers import CLIENT, SECRET, Servers, elsewhere
from tokenvalet import ClientConfig, Event, TokenValet, TokenValetError

PATH = "/api/v1/integration/health-records"
LOAD_SECONDS = float(os.environ.get("BENCH_LOAD_SECONDS", "60"))
CALLS_A_SECOND = 100
TIMES_DOWN = 10
LONG_OUTAGE = 12.0
STORM = 10_000
STORM_SECONDS = 10.0

Line = tuple[str, bool]


def run() -> Iterator[Line]:
    """Yield each figure, and whether it is what it has to be."""
    yield from asyncio.run(_under_load())
    yield asyncio.run(_down_until_just_before())
    yield from asyncio.run(_down_for_longer())
    yield asyncio.run(_everything_rejected())


@dataclass
class _Watch:
    """What the valet told, and how the calls went."""

    waits: int = 0
    begun: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    calls: list[tuple[float, float]] = field(default_factory=list)
    failed: list[tuple[float, str]] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        if event.name == "wait":
            self.waits += 1
        elif event.name == "renewal_started":
            self.begun.append(time.monotonic())
        elif event.name in ("token_cached", "renewal_failed"):
            self.ended.append(time.monotonic())

    def clear(self) -> None:
        self.waits = 0
        for one in (self.begun, self.ended, self.calls, self.failed):
            one.clear()

    def is_during_a_renewal(self, call: tuple[float, float]) -> bool:
        return any(call[0] < end and begin < call[1] for begin, end in zip(self.begun, self.ended, strict=False))


def _valet(servers: Servers, watch: _Watch) -> TokenValet:
    config = ClientConfig(
        token_endpoint=servers.token_endpoint, client_id=CLIENT, client_secret=SECRET, base_url=servers.api
    )
    return TokenValet({"m2m": config}, observers=[watch])


async def _calls(api: httpx2.AsyncClient, watch: _Watch, go_on: Callable[[], bool]) -> None:
    """Call at a constant rate, whether calls have come back or not."""

    async def call() -> None:
        began = time.monotonic()
        try:
            status = str((await api.get(PATH)).status_code)
        except TokenValetError as error:
            status = error.code
        watch.calls.append((began, time.monotonic()))
        if status != "200":
            watch.failed.append((began, status))

    tasks: set[asyncio.Task[None]] = set()
    first, number = time.monotonic(), 0
    while go_on():
        task = asyncio.create_task(call())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
        await asyncio.sleep(max(0.0, first + number / CALLS_A_SECOND - time.monotonic()))
    await asyncio.gather(*tasks)


async def _under_load() -> list[Line]:
    watch = _Watch()
    with elsewhere(lifetime=5, token_delay=0.2) as servers, _valet(servers, watch) as valet:
        async with valet.async_client("m2m", timeout=30) as api:
            await api.get(PATH)
            watch.clear()
            before, end = servers.requests(), time.monotonic() + LOAD_SECONDS
            await _calls(api, watch, lambda: time.monotonic() < end)
            requests = servers.requests() - before
    during: list[float] = []
    between: list[float] = []
    for call in watch.calls:
        (during if watch.is_during_a_renewal(call) else between).append(call[1] - call[0])
    ratio = _p99(during) / _p99(between)
    renewals = len(watch.begun)
    return [
        (
            f"{LOAD_SECONDS:.0f} s at {CALLS_A_SECOND} calls a second, tokens of 5 s, token endpoint 0.2 s: {watch.waits} "
            f"calls waited (bound: 0), {len(watch.failed)} failed or saw a 401 (bound: 0), {requests} token requests for "
            f"{renewals} renewals (bound: 1 each)",
            (watch.waits, len(watch.failed), requests) == (0, 0, renewals),
        ),
        (
            f"p99 of {len(during)} calls during renewals is {ratio:.2f} times that of {len(between)} between them "
            "(bound: 1.2)",
            ratio <= 1.2,
        ),
    ]


def _p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


async def _down_until_just_before() -> Line:
    watch = _Watch()
    with elsewhere(lifetime=5, token_delay=0.02) as servers, _valet(servers, watch) as valet:
        async with valet.async_client("m2m", timeout=30) as api:
            await api.get(PATH)
            watch.clear()
            done = False

            async def outages() -> None:
                nonlocal done
                for _ in range(TIMES_DOWN):
                    token = await valet.async_token("m2m")
                    await _until(token.due.monotonic - 0.05)
                    servers.tell("misbehave", "unavailable")
                    await _until(token.end.monotonic - 0.3)
                    servers.tell("behave")
                    await _until(token.end.monotonic + 0.1)
                done = True

            await asyncio.gather(outages(), _calls(api, watch, lambda: not done))
    return (
        f"server down from when a token is due until 0.3 s before its end, {TIMES_DOWN} times in a row: "
        f"{len(watch.failed)} of {len(watch.calls)} calls failed (bound: 0), {watch.waits} waited (bound: 0)",
        (len(watch.failed), watch.waits) == (0, 0),
    )


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))


async def _down_for_longer() -> list[Line]:
    watch = _Watch()
    with elsewhere(lifetime=5, token_delay=0.02) as servers, _valet(servers, watch) as valet:
        async with valet.async_client("m2m", timeout=30) as api:
            await api.get(PATH)
            watch.clear()
            servers.tell("misbehave", "unavailable")
            token = await valet.async_token("m2m")
            back = token.end.monotonic + LONG_OUTAGE
            stop = back + 20.0
            before = servers.requests()

            async def comes_back() -> int:
                await _until(back)
                requests = servers.requests() - before
                servers.tell("behave")
                return requests

            def go_on() -> bool:
                return time.monotonic() < min(stop, back + 0.5) or bool(watch.failed and _last_failed(watch))

            requests, _ = await asyncio.gather(
                comes_back(), _calls(api, watch, lambda: go_on() and time.monotonic() < stop)
            )
    after = [began for began, _ in watch.failed]
    probes = sum(begin > token.end.monotonic for begin in watch.begun)
    waited = [end - began for began, end in watch.calls if began in set(after)]
    recovery = max(after, default=back) - back
    attempts = len([begin for begin in watch.begun if begin < back])
    return [
        (
            f"server down for {LONG_OUTAGE:.0f} s longer than the token lives: {len(after)} calls failed, half of them "
            f"within {statistics.median(waited) * 1000:.1f} ms; {attempts} renewals were tried, {probes} since the end "
            f"({requests} token requests; bound: 20)",
            requests <= 20,
        ),
        (
            f"the first call succeeds {recovery:.1f} s after the server is back (bound: one interval, 15 s)",
            recovery <= 15.0,
        ),
    ]


def _last_failed(watch: _Watch) -> bool:
    return watch.failed[-1][0] >= max(began for began, _ in watch.calls[-20:]) - 0.2


async def _everything_rejected() -> Line:
    watch = _Watch()
    with elsewhere(lifetime=600, token_delay=0.02) as servers, _valet(servers, watch) as valet:
        rejecting = httpx2.MockTransport(lambda request: httpx2.Response(401))
        async with valet.async_client("m2m", transport=rejecting) as api:
            count = 0
            began = time.monotonic()
            per_call = STORM_SECONDS / STORM

            async def caller(number: int) -> None:
                nonlocal count
                await asyncio.sleep(max(0.0, began + number * per_call - time.monotonic()))
                if time.monotonic() - began < STORM_SECONDS - 0.3:
                    await api.get(PATH)
                    count += 1

            callers: list[Awaitable[None]] = [caller(number) for number in range(STORM)]
            await asyncio.gather(*callers)
            seconds = time.monotonic() - began
            requests = servers.requests()
    return (
        f"an API that answers 401 to everything, {count} calls in {seconds:.1f} s: {requests} token requests (bound: 2)",
        requests <= 2,
    )
