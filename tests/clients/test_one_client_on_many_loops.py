"""One client of httpx2 or httpx on several event loops: each is served by connections of its own, whoever was before."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import httpx
import httpx2
import pytest
import trio

from tokenvalet import TokenValet
from tokenvalet.testing import ProtectedApi

CALLS = 4
ROUNDS = 25


@pytest.fixture(params=[httpx2, httpx], ids=["httpx2", "httpx"])
def client(request: pytest.FixtureRequest, make_valet: Callable[..., TokenValet], served: ProtectedApi) -> Any:
    library = request.param
    # Never closed, for that would need a loop; its connections are the valet's.
    return library.AsyncClient(transport=make_valet().transport("m2m", library), base_url=served.origin)


async def called(client: Any) -> list[int]:
    return [(await client.get("/echo")).status_code for _ in range(CALLS)]


def test_a_client_goes_from_loop_to_loop(client: Any, served: ProtectedApi) -> None:
    statuses = [asyncio.run(called(client)), trio.run(called, client), asyncio.run(called(client))]
    assert statuses == [[200] * CALLS] * 3
    assert (len(served.calls), served.auth.issued) == (3 * CALLS, 1)


def test_a_client_serves_loops_that_run_at_once(client: Any, served: ProtectedApi) -> None:
    turn = threading.Barrier(3)
    found: list[int] = []

    def in_turns() -> None:
        with asyncio.Runner() as loop:
            for _ in range(ROUNDS):
                turn.wait(timeout=30)
                found.extend(loop.run(called(client)))

    threads = [threading.Thread(target=in_turns) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * (3 * ROUNDS * CALLS)
    assert (len(served.calls), served.auth.issued) == (3 * ROUNDS * CALLS, 1)
