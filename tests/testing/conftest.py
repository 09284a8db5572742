"""The servers that the tests of this folder talk to, over real sockets, and a clock that they all share."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from testing.makers import Clock, Prover
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def auth(clock: Clock) -> Iterator[AuthorizationServer]:
    """An authorization server with one client: id "web", secret "s3cret", by client_secret_basic."""
    web = RegisteredClient(client_id="web", client_secret="s3cret", scopes=("records:read", "records:write"))
    server = AuthorizationServer(clients=[web], clock=clock)
    with serve(server):
        yield server


@pytest.fixture
def api(auth: AuthorizationServer) -> Iterator[ProtectedApi]:
    server = ProtectedApi(auth)
    with serve(server):
        yield server


@pytest.fixture(scope="session")
def http() -> Iterator[httpx2.Client]:
    """One for all tests: loading the system's certificates takes longer than most of them."""
    with httpx2.Client(trust_env=False) as client:
        yield client


@pytest.fixture
def prover(clock: Clock) -> Prover:
    return Prover(clock)
