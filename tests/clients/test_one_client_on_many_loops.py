"""One client of httpx2 or httpx on several event loops: each is served by connections of its own, whoever was before."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest
import trio

from tokenvalet import ClientConfig, TokenValet
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve

SECRET = "a-secret-of-the-clients"
CALLS = 4
ROUNDS = 25


@pytest.fixture
def auth() -> Iterator[AuthorizationServer]:
    server = AuthorizationServer([RegisteredClient(client_id="app", client_secret=SECRET)])
    with serve(server):
        yield server


@pytest.fixture
def api(auth: AuthorizationServer) -> Iterator[ProtectedApi]:
    server = ProtectedApi(auth)
    with serve(server):
        yield server


@pytest.fixture(params=[httpx2, httpx], ids=["httpx2", "httpx"])
def client(request: pytest.FixtureRequest, auth: AuthorizationServer, api: ProtectedApi) -> Iterator[Any]:
    config = ClientConfig(issuer=auth.issuer, client_id="app", client_secret=SECRET, base_url=api.origin)
    library = request.param
    with TokenValet({"m2m": config}) as valet:
        # On no loop, so that there is none to close it on; its connections are the valet's.
        yield library.AsyncClient(transport=valet.transport("m2m", library), base_url=api.origin)


async def called(client: Any) -> list[int]:
    return [(await client.get("/echo")).status_code for _ in range(CALLS)]


def test_a_client_goes_from_loop_to_loop(client: Any, api: ProtectedApi, auth: AuthorizationServer) -> None:
    statuses = [asyncio.run(called(client)), trio.run(called, client), asyncio.run(called(client))]
    assert statuses == [[200] * CALLS] * 3
    assert (len(api.calls), auth.issued) == (3 * CALLS, 1)


def test_a_client_serves_loops_that_run_at_once(client: Any, api: ProtectedApi, auth: AuthorizationServer) -> None:
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
    assert (len(api.calls), auth.issued) == (3 * ROUNDS * CALLS, 1)
