"""Connections: the first answer gives its own back before the request is sent again, and nothing is left open."""

from __future__ import annotations

import pytest

from contract.conftest import Opener, Servers
from contract.drivers import Body, about
from contract.servers import Recorder, Reply, until
from tokenvalet.testing import AuthorizationServer, ProtectedApi

INVALID = 'Bearer error="invalid_token"'


@pytest.mark.standards("S-207")
def test_a_renewal_needs_one_connection(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, connections: set[tuple[str, int]]
) -> None:
    session = open_session(pool_size=1)
    session.get(api.origin + "/echo")
    auth.revoke_all()
    assert session.get(api.origin + "/echo").status == 200
    assert [call.status for call in api.calls] == [200, 401, 200]
    assert len(connections) in about(open_session.driver, 1)


@pytest.mark.standards("S-207")
def test_a_nonce_needs_one_connection(
    open_session: Opener, api: ProtectedApi, connections: set[tuple[str, int]]
) -> None:
    api.require_dpop_nonce = True
    session = open_session(dpop=True, pool_size=1)
    for _ in range(3):
        assert session.get(api.origin + "/echo").status == 200
        api.rotate_nonce()
    assert [call.status for call in api.calls] == [401, 200] * 3
    assert len(connections) in about(open_session.driver, 1)


@pytest.mark.standards("S-207")
def test_a_401_that_is_handed_over_needs_one_connection(open_session: Opener, api: ProtectedApi) -> None:
    api.reject_all = INVALID
    session = open_session(pool_size=1)
    assert [session.get(api.origin + "/echo").status for _ in range(3)] == [401, 401, 401]
    body = Body(kind="generator")
    assert session.request("POST", api.origin + "/echo", body=body).status == 401


@pytest.mark.standards("S-207")
def test_the_shared_connection_is_used_again_after_a_401(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, connections: set[tuple[str, int]]
) -> None:
    session = open_session()
    session.get(api.origin + "/echo")
    auth.revoke_all()
    for _ in range(4):
        assert session.get(api.origin + "/echo").status == 200
    assert len(api.calls) == 6
    assert len(connections) in about(open_session.driver, 1)


@pytest.mark.standards("S-207")
@pytest.mark.parametrize(
    ("body", "pieces"),
    [
        (b"", 1),
        (b"x" * 60_000, 1),
        (b"x" * 1_000_000, 1),
        (b"x" * 1000, 20),
        (b"x" * 10_000, 100),
        (b"x" * 65536, None),
    ],
    ids=["empty", "small", "large", "small-chunked", "large-chunked", "endless"],
)
def test_whatever_the_length_of_the_first_answer_one_connection_is_enough(
    open_session: Opener, scripted: Recorder, body: bytes, pieces: int | None
) -> None:
    refusal = Reply(status=401, headers=(("www-authenticate", INVALID),), body=body, pieces=pieces)
    scripted.answer(refusal)
    session = open_session(scripted.origin, pool_size=1)
    assert session.get(scripted.origin).status == 200
    assert session.get(scripted.origin).status == 200
    assert len(scripted.requests) == 3
    if pieces is None:
        until(lambda: scripted.left_early == 1)


def test_an_answer_is_read_as_it_comes(open_session: Opener, api: ProtectedApi, dpop: bool) -> None:
    opened = open_session(dpop=dpop, pool_size=1).open("GET", api.origin + "/stream?chunks=20&size=4096")
    assert opened.status == 200
    first = opened.first()
    assert 0 < len(first) < 20 * 4096
    assert len(first + opened.rest()) == 20 * 4096


@pytest.mark.standards("S-206", "S-207")
def test_an_answer_is_read_as_it_comes_after_a_renewal_too(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    session = open_session(pool_size=1)
    session.get(api.origin + "/echo")
    auth.revoke_all()
    opened = session.open("GET", api.origin + "/stream?chunks=20&size=4096")
    assert (opened.status, len(opened.rest())) == (200, 20 * 4096)


def test_an_answer_that_nobody_reads_gives_its_connection_back_when_it_is_closed(
    open_session: Opener, api: ProtectedApi
) -> None:
    session = open_session(pool_size=1)
    for _ in range(3):
        opened = session.open("GET", api.origin + "/stream?chunks=1000&size=10000")
        assert opened.status == 200
        opened.close()
    assert session.get(api.origin + "/echo").status == 200


def test_a_401_that_nobody_reads_gives_its_connection_back_when_it_is_closed(
    open_session: Opener, api: ProtectedApi
) -> None:
    api.reject_all = INVALID
    session = open_session(pool_size=1)
    for _ in range(3):
        opened = session.open("POST", api.origin + "/echo", body=Body(kind="generator"))
        assert opened.status == 401
        opened.close()
    api.reset()
    assert session.get(api.origin + "/echo").status == 200


def test_closing_the_valet_leaves_no_connection_open(
    open_session: Opener, api: ProtectedApi, second_api: ProtectedApi, servers: Servers, dpop: bool
) -> None:
    valet = open_session.valet(api.origin, dpop=dpop)
    session = open_session.on(valet)
    calls = [session.start("GET", api.origin + "/echo") for _ in range(8)]
    assert {call.result().status for call in calls} == {200}
    assert servers.open_connections() > 0
    open_session.driver.close_valet(valet)
    until(lambda: servers.open_connections() == 0)
