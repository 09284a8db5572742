"""How many token requests: the stampede at a cold cache, and a revocation under load."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tokenvalet import TokenValet
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve

TASKS = 1000
THREADS = 64
TOKEN_DELAY = 0.2
PATH = "/api/v1/integration/health-records"

Line = tuple[str, bool]


def run() -> Iterator[Line]:
    """Yield each figure, and whether it is what it has to be."""
    for name, load in (
        (f"{TASKS} tasks", lambda valet: asyncio.run(_tasks(valet, TASKS))),
        (f"{THREADS} threads", lambda valet: _threads(valet, THREADS)),
        (f"{TASKS} tasks on two event loops and {THREADS} threads at once", _both),
    ):
        requests = _cold(load)
        yield (
            f"cold cache, {name}, token endpoint {TOKEN_DELAY:.1f} s: {requests} token request (bound: 1)",
            requests == 1,
        )
    for dpop in (False, True):
        further, unauthorized = _revocation(dpop)
        kind = "DPoP" if dpop else "Bearer"
        yield (
            f"200 tasks under load while the API revokes the token, {kind}: {further} further token request (bound: 1), "
            f"{unauthorized} callers saw a 401 (bound: 0)",
            (further, unauthorized) == (1, 0),
        )


@contextmanager
def _servers(dpop: bool = False) -> Iterator[tuple[AuthorizationServer, ProtectedApi, TokenValet]]:
    client = RegisteredClient(
        client_id="bench", auth_method="client_secret_basic", client_secret="bench-secret", scopes=("records:read",)
    )
    auth = AuthorizationServer(clients=[client])
    api = ProtectedApi(auth)
    with serve(auth), serve(api):
        settings = {
            "issuer": auth.issuer,
            "client_id": "bench",
            "client_secret": "bench-secret",
            "scope": "records:read",
            "dpop": dpop,
            "base_url": api.origin,
        }
        with TokenValet.from_dict({"clients": {"m2m": settings}}) as valet:
            yield auth, api, valet


def _cold(load: Callable[[TokenValet], Any]) -> int:
    with _servers() as (auth, _, valet):
        auth.token_delay = TOKEN_DELAY
        load(valet)
        return len(auth.token_requests)


async def _tasks(valet: TokenValet, count: int) -> None:
    await asyncio.gather(*(valet.async_token("m2m") for _ in range(count)))


def _threads(valet: TokenValet, count: int) -> None:
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda _: valet.token("m2m"), range(count)))


def _both(valet: TokenValet) -> None:
    loops = [threading.Thread(target=lambda: asyncio.run(_tasks(valet, TASKS // 2))) for _ in range(2)]
    for loop in loops:
        loop.start()
    _threads(valet, THREADS)
    for loop in loops:
        loop.join()


def _revocation(dpop: bool) -> tuple[int, int]:
    with _servers(dpop) as (auth, _, valet):

        async def worker(statuses: list[int], go_on: asyncio.Event) -> None:
            async with valet.async_client("m2m", timeout=60) as api:
                while not go_on.is_set():
                    statuses.append((await api.get(PATH)).status_code)
                statuses.append((await api.get(PATH)).status_code)

        async def load() -> list[int]:
            statuses: list[int] = []
            done = asyncio.Event()
            workers = [asyncio.create_task(worker(statuses, done)) for _ in range(200)]
            while len(statuses) < 400:
                await asyncio.sleep(0.02)
            auth.revoke_all()
            seen = len(statuses)
            while len(statuses) < seen + 400:
                await asyncio.sleep(0.02)
            done.set()
            await asyncio.gather(*workers)
            return statuses

        statuses = asyncio.run(load())
        return len(auth.token_requests) - 1, statuses.count(401)
