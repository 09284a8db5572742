"""What the tokens cost on each HTTP client: warm calls with a Bearer token, against the same client with a static header.

Over a real socket, to a server in a process of its own that answers at once and looks at nothing, since whatever time a
server takes makes the ratio look better. Both ways take turns in batches of a few milliseconds, in an order that changes,
so that what slows the machine slows both; and the median of the ratios of neighbours counts, which few batches do not move.

A call ends with the status of the answer and its body in hand, as every caller wants them. The others have both by the time
that they hand an answer over; pyreqwest leaves them outside of Python as long as nobody asks. What calls cost whose answers
nobody looks at is a line of its own, without a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import httpx
import httpx2
import requests
from pyreqwest.client import ClientBuilder, SyncClientBuilder

import costs
from tokenvalet import TokenValet

BOUND = 1.03
PATH = "/api/v1/integration/health-records"
ROUNDS = 240
BATCH = 20
WARM_UP = 10

Line = tuple[str, bool]
Call = Callable[[], Any]
AsyncCall = Callable[[], Awaitable[Any]]


def run() -> Iterator[Line]:
    """Yield the ratio of each client, and whether it is within its bound."""
    with _server() as url:
        for name, measure in CLIENTS.items():
            with costs._valet({"allowed_origins": [url], "base_url": url}) as valet:
                ratio, plain = measure(valet, url + PATH, {"Authorization": valet.token("m2m").authorization.decode()})
            text = f"warm, {name}: {ratio:.3f} times the same client with a static header, {plain:.0f} µs"
            is_held = name not in UNBOUND
            yield f"{text} (bound: {BOUND})" if is_held else text, ratio <= BOUND or not is_held


def _compared(plain: Call, ours: Call) -> tuple[float, float]:
    """Return how many times longer ours takes, and the microseconds of a plain call."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS + WARM_UP):
        for which, call in ((0, plain), (1, ours)) if number % 2 else ((1, ours), (0, plain)):
            began = time.perf_counter()
            for _ in range(BATCH):
                call()
            times[which].append(time.perf_counter() - began)
    return _of(times)


async def _async_compared(plain: AsyncCall, ours: AsyncCall) -> tuple[float, float]:
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS + WARM_UP):
        for which, call in ((0, plain), (1, ours)) if number % 2 else ((1, ours), (0, plain)):
            began = time.perf_counter()
            for _ in range(BATCH):
                await call()
            times[which].append(time.perf_counter() - began)
    return _of(times)


def _of(times: tuple[list[float], list[float]]) -> tuple[float, float]:
    plain, ours = (one[WARM_UP:] for one in times)
    ratio = statistics.median(after / before for before, after in zip(plain, ours, strict=True))
    return ratio, statistics.median(plain) / BATCH * 1e6


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _httpx2(valet: TokenValet, url: str, headers: dict[str, str]) -> tuple[float, float]:
    with httpx2.Client(headers=headers) as plain, valet.client("m2m") as ours, _no_collection():
        return _compared(lambda: plain.get(url), lambda: ours.get(url))


def _httpx(valet: TokenValet, url: str, headers: dict[str, str]) -> tuple[float, float]:
    transport = valet.transport("m2m", httpx)
    with httpx.Client(headers=headers) as plain, httpx.Client(transport=transport) as ours, _no_collection():
        return _compared(lambda: plain.get(url), lambda: ours.get(url))


def _httpx2_async(valet: TokenValet, url: str, headers: dict[str, str]) -> tuple[float, float]:
    async def measure() -> tuple[float, float]:
        async with httpx2.AsyncClient(headers=headers) as plain, valet.async_client("m2m") as ours:
            with _no_collection():
                return await _async_compared(lambda: plain.get(url), lambda: ours.get(url))

    return asyncio.run(measure())


def _httpx_async(valet: TokenValet, url: str, headers: dict[str, str]) -> tuple[float, float]:
    async def measure() -> tuple[float, float]:
        transport = valet.transport("m2m", httpx)
        async with httpx.AsyncClient(headers=headers) as plain, httpx.AsyncClient(transport=transport) as ours:
            with _no_collection():
                return await _async_compared(lambda: plain.get(url), lambda: ours.get(url))

    return asyncio.run(measure())


def _requests(valet: TokenValet, url: str, headers: dict[str, str]) -> tuple[float, float]:
    with requests.Session() as plain, valet.requests_session("m2m") as ours, _no_collection():
        # As in a ready session; looking for a .netrc file and proxies would make the plain one slower.
        plain.trust_env = False
        plain.headers.update(headers)
        return _compared(lambda: plain.get(url), lambda: ours.get(url))


def _aiohttp(valet: TokenValet, url: str, headers: dict[str, str]) -> tuple[float, float]:
    async def get(session: aiohttp.ClientSession) -> None:
        async with session.get(url) as response:
            await response.read()

    async def measure() -> tuple[float, float]:
        async with aiohttp.ClientSession(headers=headers) as plain, valet.aiohttp_session("m2m") as ours:
            with _no_collection():
                return await _async_compared(lambda: get(plain), lambda: get(ours))

    return asyncio.run(measure())


def _read(response: Any) -> None:
    """Have the status and the body of an answer of pyreqwest."""
    assert response.status == 200
    response.bytes()


def _pyreqwest(valet: TokenValet, url: str, headers: dict[str, str]) -> tuple[float, float]:
    builder = SyncClientBuilder().default_headers(headers)
    with builder.build() as plain, valet.pyreqwest_sync_client("m2m") as ours, _no_collection():
        return _compared(lambda: _read(plain.get(url).build().send()), lambda: _read(ours.get(url).build().send()))


def _pyreqwest_unread(valet: TokenValet, url: str, headers: dict[str, str]) -> tuple[float, float]:
    builder = SyncClientBuilder().default_headers(headers)
    with builder.build() as plain, valet.pyreqwest_sync_client("m2m") as ours, _no_collection():
        return _compared(lambda: plain.get(url).build().send(), lambda: ours.get(url).build().send())


def _pyreqwest_async(valet: TokenValet, url: str, headers: dict[str, str]) -> tuple[float, float]:
    async def get(client: Any) -> None:
        response = await client.get(url).build().send()
        assert response.status == 200
        await response.bytes()

    async def measure() -> tuple[float, float]:
        builder = ClientBuilder().default_headers(headers)
        async with builder.build() as plain, valet.pyreqwest_client("m2m") as ours:
            with _no_collection():
                return await _async_compared(lambda: get(plain), lambda: get(ours))

    return asyncio.run(measure())


UNBOUND = {"pyreqwest, its answers left unread": _pyreqwest_unread}
CLIENTS = {
    "httpx2": _httpx2,
    "httpx2 on asyncio": _httpx2_async,
    "httpx": _httpx,
    "httpx on asyncio": _httpx_async,
    "requests": _requests,
    "aiohttp": _aiohttp,
    "pyreqwest": _pyreqwest,
    "pyreqwest on asyncio": _pyreqwest_async,
    **UNBOUND,
}


# The server


class _Answers(asyncio.Protocol):
    """Answers every request, which has no body, with the same few bytes."""

    ANSWER = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n"
        b"Date: Tue, 24 Nov 2026 12:00:00 GMT\r\n\r\n" + b'{"ok":true}'
    )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):
            self._transport.write(self.ANSWER)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Answers, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextlib.contextmanager
def _server(code: str = "import asyncio, adapters; asyncio.run(adapters._serve())") -> Iterator[str]:
    """Run a server in a process of its own, which prints its port and ends with its standard input."""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=sys.path[0]
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()
