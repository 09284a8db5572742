"""Calls a second, 64 at a time on one event loop: through tokenvalet with pyreqwest, beside httpx2 with a static header.

Over real sockets, to a server that answers at once, in turns of a few hundred calls within one run; the median of the ratios
of neighbours counts. The server does nothing but receive and send, for it shares two cores with its client. Beside httpx2 as
it comes there is one that keeps all of its connections: by default it keeps twenty, and closes the others behind every call.
The bound is held against the faster of the two.

pyreqwest has a thread of its own, which waits for the interpreter's lock up to 5 ms at a time. So all of it is measured as
Python comes, and with the shorter interval that the how-to page names, which changes nothing for httpx2.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator

import httpx2
from pyreqwest.client import ClientBuilder

import costs
from adapters import PATH, _Answers, _server
from tokenvalet import TokenValet

AT_A_TIME = 64
ROUNDS = 11
SWITCH_INTERVAL = 0.0005  # seconds
CALLS = 320  # of the slow ones in a round
CALLS_OF_THE_FAST = 3200
BOUND = 8.0
OURS = "tokenvalet with pyreqwest"
FAST = "pyreqwest with a static header"

Line = tuple[str, bool]
AsyncCall = Callable[[], Awaitable[object]]


def run() -> Iterator[Line]:
    """Yield the calls a second of each, and whether tokenvalet's are as many times httpx2's as they are to be."""
    usual = sys.getswitchinterval()
    with _server("import throughput; throughput._serve()") as url:
        for interval in (usual, SWITCH_INTERVAL):
            sys.setswitchinterval(interval)
            try:
                with costs._valet({"allowed_origins": [url], "base_url": url}) as valet:
                    rates = asyncio.run(_rates(valet, url + PATH))
            finally:
                sys.setswitchinterval(usual)
            yield from _told(rates, f"switch interval {interval * 1000:g} ms", is_held=interval == SWITCH_INTERVAL)


def _told(rates: dict[str, list[float]], how: str, *, is_held: bool) -> Iterator[Line]:
    ours = rates.pop(OURS)
    fast = rates.pop(FAST)
    fastest = max(rates, key=lambda name: statistics.median(rates[name]))
    ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, rates[fastest], strict=True))
    alone = statistics.median(mine / theirs for mine, theirs in zip(ours, fast, strict=True))
    for name, found in rates.items():
        yield f"{AT_A_TIME} at a time, {how}, {name}: {statistics.median(found):,.0f} calls a second", True
    bound = f" (bound: at least {BOUND:.0f})" if is_held else ""
    yield (
        f"{AT_A_TIME} at a time, {how}, {OURS}: {statistics.median(ours):,.0f} calls a second, {alone:.2f} times {FAST}, "
        f"{ratio:.1f} times {fastest}{bound}",
        ratio >= BOUND or not is_held,
    )


async def _rates(valet: TokenValet, url: str) -> dict[str, list[float]]:
    headers = {"Authorization": (await valet.async_token("m2m")).authorization.decode()}
    keeping = httpx2.Limits(max_connections=AT_A_TIME, max_keepalive_connections=AT_A_TIME)
    async with (
        httpx2.AsyncClient(headers=headers) as plain,
        httpx2.AsyncClient(headers=headers, limits=keeping) as roomy,
        ClientBuilder().default_headers(headers).build() as fast,
        valet.pyreqwest_client("m2m") as ours,
    ):

        async def of_httpx2(client: httpx2.AsyncClient) -> bytes:
            return (await client.get(url)).content

        async def of_pyreqwest(client: object) -> bytes:
            response = await client.get(url).build().send()  # type: ignore[attr-defined]
            return bytes(await response.bytes())

        contenders: dict[str, tuple[AsyncCall, int]] = {
            "httpx2 with a static header": (lambda: of_httpx2(plain), CALLS),
            "httpx2 that keeps its connections": (lambda: of_httpx2(roomy), CALLS),
            FAST: (lambda: of_pyreqwest(fast), CALLS_OF_THE_FAST),
            OURS: (lambda: of_pyreqwest(ours), CALLS_OF_THE_FAST),
        }
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(ROUNDS + 1):
            for name in contenders if number % 2 else reversed(contenders):
                call, calls = contenders[name]
                rate = await _rate(call, calls)
                if number:  # the first round warms up
                    rates[name].append(rate)
    await valet.aclose()
    return rates


def _serve() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    waiting.register(sys.stdin, selectors.EVENT_READ)
    print(listener.getsockname()[1], flush=True)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is sys.stdin:
                return
            if key.fileobj is listener:
                waiting.register(listener.accept()[0], selectors.EVENT_READ)
                continue
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            if data := connection.recv(65536):
                if data.endswith(b"\r\n\r\n"):
                    connection.send(_Answers.ANSWER)
            else:
                waiting.unregister(connection)
                connection.close()


async def _rate(call: AsyncCall, calls: int) -> float:
    """Return the calls a second of `calls` calls by as many users as there are at a time."""
    left = calls

    async def user() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(user() for _ in range(AT_A_TIME)))
    return calls / (time.perf_counter() - began)
