"""Answers that end badly, first answers that are in the way, and bodies that fail: the error is handed on, nothing leaks."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator

import pytest

from contract.conftest import Opener
from contract.drivers import Body, Driver, Kind
from contract.servers import until
from support.raw_server import Behaviour, RawServer, reset_connection, wait
from tokenvalet.testing import AuthorizationServer, ProtectedApi

UNAUTHORIZED = b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer error="invalid_token"\r\n'
ASKS_FOR_A_NONCE = (
    b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: DPoP error="use_dpop_nonce"\r\nDPoP-Nonce: the-nonce\r\n'
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Do one thing after the other; the last one from then on."""
    waiting = itertools.chain(behaviours, itertools.repeat(behaviours[-1]))

    def behave(connection: socket.socket, request: bytes) -> None:
        next(waiting)(connection, request)

    return behave


def says(data: bytes) -> Behaviour:
    return lambda connection, _: connection.sendall(data)


def says_and_keeps_silent(data: bytes) -> Behaviour:
    def behave(connection: socket.socket, request: bytes) -> None:
        connection.sendall(data)
        while True:
            wait(connection, 30)

    return behave


def silent_midway(head: bytes) -> Behaviour:
    return says_and_keeps_silent(head + b"Content-Length: 1000\r\n\r\nand so")


def broken_midway(head: bytes) -> Behaviour:
    return says(head + b"Content-Length: 1000\r\nConnection: close\r\n\r\nand so")


def complete(head: bytes) -> Behaviour:
    return says(head + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}")


@pytest.fixture
def raw() -> Iterator[RawServer]:
    with RawServer(says(OK)) as server:
        yield server


@pytest.fixture(params=[UNAUTHORIZED, ASKS_FOR_A_NONCE], ids=["renewal", "nonce"])
def first_answer(request: pytest.FixtureRequest) -> bytes:
    """What makes a request be sent again."""
    answer: bytes = request.param
    return answer


# The first answer, which nobody is to see


@pytest.mark.standards("S-207")
@pytest.mark.parametrize("first", [silent_midway, broken_midway], ids=["silent", "broken"])
def test_a_first_answer_that_does_not_end_as_it_should_is_left_behind(
    open_session: Opener,
    needs: Callable[[str], None],
    raw: RawServer,
    first_answer: bytes,
    first: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs("status first")
    monkeypatch.setattr("tokenvalet.clients.leftovers.LONGEST_DISCARD_SECONDS", 0.1)
    assert callable(first)
    raw.behaviour = in_turn(first(first_answer), says(OK))
    session = open_session(raw.url, dpop=first_answer is ASKS_FOR_A_NONCE, pool_size=1)
    # Beside the test, which would else hang with it.
    assert session.start("GET", raw.url, timeout=60.0).result(10).status == 200
    assert session.start("GET", raw.url).result(10).status == 200
    assert len(raw.requests) == 3


# The second answer


@pytest.mark.standards("S-206", "S-207")
@pytest.mark.parametrize("second", [reset_connection, says(b"")], ids=["reset", "hung up"])
def test_a_connection_that_breaks_when_the_request_is_sent_again_is_the_callers_error(
    driver: Driver,
    open_session: Opener,
    auth: AuthorizationServer,
    raw: RawServer,
    first_answer: bytes,
    second: Behaviour,
) -> None:
    raw.behaviour = in_turn(complete(first_answer), second, says(OK))
    session = open_session(raw.url, dpop=first_answer is ASKS_FOR_A_NONCE, pool_size=1)
    with pytest.raises(driver.failures):
        # A library may send a GET anew where a connection that it has kept breaks.
        session.request("POST", raw.url)
    assert len(raw.requests) == 2
    assert session.get(raw.url).status == 200
    assert len(auth.token_requests) == (2 if first_answer is UNAUTHORIZED else 1)
    until(lambda: not raw._open)


@pytest.mark.standards("S-207")
def test_a_second_answer_that_takes_too_long_gives_its_connection_back(
    driver: Driver, open_session: Opener, raw: RawServer, first_answer: bytes
) -> None:
    raw.behaviour = in_turn(complete(first_answer), says_and_keeps_silent(b""), says(OK))
    session = open_session(raw.url, dpop=first_answer is ASKS_FOR_A_NONCE, pool_size=1)
    with pytest.raises(driver.failures):
        session.get(raw.url, timeout=0.6)
    assert session.get(raw.url).status == 200
    until(lambda: not raw._open)


@pytest.mark.standards("S-206")
def test_a_connection_that_breaks_on_shared_connections_leaves_none_open(
    pooled: Driver, open_pooled: Opener, raw: RawServer
) -> None:
    raw.behaviour = in_turn(complete(UNAUTHORIZED), reset_connection, broken_midway(OK[:17]), says(OK))
    session = open_pooled(raw.url)
    for _ in range(2):
        with pytest.raises(pooled.failures):
            session.request("POST", raw.url)
    assert session.get(raw.url).status == 200
    until(lambda: not raw._open)


# The body of the answer


def test_an_answer_that_breaks_off_is_the_callers_error(
    driver: Driver, open_session: Opener, raw: RawServer, dpop: bool
) -> None:
    raw.behaviour = in_turn(broken_midway(b"HTTP/1.1 200 OK\r\n"), broken_midway(b"HTTP/1.1 200 OK\r\n"), says(OK))
    session = open_session(raw.url, dpop=dpop, pool_size=1)
    with pytest.raises(driver.failures):
        session.get(raw.url)
    opened = session.open("GET", raw.url)
    assert opened.status == 200
    with pytest.raises(driver.failures):
        opened.rest()
    opened.close()
    assert session.get(raw.url).status == 200
    assert len(raw.requests) == 3


def test_an_answer_without_end_can_be_left(open_session: Opener, raw: RawServer) -> None:
    def endless(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"400\r\n" + b"a" * 1024 + b"\r\n")

    raw.behaviour = in_turn(endless, endless, says(OK))
    session = open_session(raw.url, pool_size=1)
    for _ in range(2):
        opened = session.open("GET", raw.url)
        assert opened.status == 200
        opened.close()
        until(lambda: not raw._open)
    assert session.get(raw.url).status == 200


# The body of the request


def test_a_body_that_fails_is_the_callers_own_error(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, dpop: bool
) -> None:
    session = open_session(dpop=dpop, pool_size=1)
    for _ in range(2):
        with pytest.raises(LookupError, match="no more"):
            session.request("POST", api.origin + "/echo", body=Body(kind="failing"))
    assert session.get(api.origin + "/echo").status == 200
    assert len(auth.token_requests) == 1


@pytest.mark.standards("S-206")
@pytest.mark.parametrize("kind", ["bytes", "multipart-file"])
def test_a_large_body_is_sent_again_whole(
    open_session: Opener, needs: Callable[[str], None], api: ProtectedApi, dpop: bool, kind: Kind
) -> None:
    if kind == "multipart-file":
        needs("multipart twice")
    api.reject_next(challenge=f'{"DPoP" if dpop else "Bearer"} error="invalid_token"')
    # Of bytes no more than a library takes without a warning.
    body = Body(kind=kind, content=b"0123456789abcdef" * (60_000 if kind == "bytes" else 200_000))
    assert open_session(dpop=dpop).request("POST", api.origin + "/echo", body=body).status == 200
    first, second = api.calls
    assert first.body_sha256 == second.body_sha256
    assert first.body_length == second.body_length >= len(body.content)
