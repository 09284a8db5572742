"""One authorization server for the tests of this folder, over a real socket; each test registers a client of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from configuration.makers import MonotonicClock, SendsNothing
from tokenvalet import files
from tokenvalet.testing import AuthorizationServer, serve


@pytest.fixture(scope="session")
def auth() -> Iterator[AuthorizationServer]:
    server = AuthorizationServer()
    with serve(server):
        yield server


@pytest.fixture(scope="session")
def new_client_id() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"client-{next(numbers)}"


@pytest.fixture
def client_id(new_client_id: Callable[[], str]) -> str:
    return new_client_id()


@pytest.fixture
def nothing() -> SendsNothing:
    return SendsNothing()


@pytest.fixture
def clock() -> MonotonicClock:
    return MonotonicClock()


@pytest.fixture(autouse=True)
def _no_file_was_warned_of() -> None:
    files._warned_of.clear()
