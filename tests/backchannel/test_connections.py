"""Connections to the token endpoint: when one is used again, what a stale one costs, and what it never brings along."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpcore2
import pytest

from backchannel.endpoints import TOKEN, Endpoint, http_answer, says, token_bytes, told, valet_for
from backchannel.issuers import SECRET, Authority, config, failure, issuer_of_tests
from life.makers import Clock, Seen, until
from support.children import Forked
from support.raw_server import close_without_answer, reset_connection
from tokenvalet import TokenRequestError, TokenResponseError, TokenValet
from tokenvalet.deadlines import DeadlineBackend
from tokenvalet.testing import serve


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries that do not take their time."""
    monkeypatch.setattr("tokenvalet.core.policy.FIRST_PAUSE", 0.001)


@pytest.fixture(params=["plain", "TLS"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., tuple[Endpoint, dict[str, Any]]]:
    """Make endpoints with these answers, and say what a client needs to trust them."""

    def make(*answers: Any) -> tuple[Endpoint, dict[str, Any]]:
        if request.param == "plain":
            return Endpoint(*answers), {}
        authority = Authority(tmp_path)
        return Endpoint(*answers, ssl_context=authority.server()), {"ca_file": authority.file}

    return make


# Used again ------------------------------------------------------------------------------------------------------


def test_a_connection_is_used_again(made: Any) -> None:
    server, trust = made(token_bytes("one"), token_bytes("two"))
    with server, valet_for(server.token_endpoint, **trust) as valet:
        assert [valet.token(scope=scope).value for scope in "ab"] == ["one", "two"]
        assert server.heard == [(1, 1), (1, 2)]


def test_a_connection_that_is_to_be_closed_is_not_used_again(made: Any) -> None:
    last = http_answer(b'{"access_token":"one","token_type":"Bearer"}', b"Connection: close")
    server, trust = made(last, token_bytes("two"))
    with server, valet_for(server.token_endpoint, **trust) as valet:
        assert [valet.token(scope=scope).value for scope in "ab"] == ["one", "two"]
        assert server.heard == [(1, 1), (2, 1)]


def test_a_connection_that_nobody_used_for_a_while_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenvalet.backchannel.KEEP_ALIVE", -1.0)
    with Endpoint(token_bytes()) as server, valet_for(server.token_endpoint) as valet:
        for scope in "ab":
            valet.token(scope=scope)
        assert server.heard == [(1, 1), (2, 1)]


@pytest.mark.parametrize(
    "refused",
    [
        http_answer(b"x" * (1024 * 1024 + 1)),
        http_answer(b"x" * 1000, b"Content-Encoding: gzip"),
    ],
    ids=["long", "compressed"],
)
def test_a_connection_with_an_answer_on_it_that_was_not_read_is_not_used_again(made: Any, refused: bytes) -> None:
    server, trust = made(refused, token_bytes("two"))
    with server, valet_for(server.token_endpoint, **trust) as valet:
        assert isinstance(failure(valet), TokenResponseError)
        assert valet.token(scope="b").value == "two"
        assert server.heard == [(1, 1), (2, 1)]


def test_closing_the_valet_closes_its_connections(made: Any) -> None:
    server, trust = made(token_bytes())
    with server:
        with valet_for(server.token_endpoint, **trust) as valet:
            valet.token()
            assert server.connected == 1
        until(lambda: server.connected == 0)


def test_a_forked_child_that_closes_the_valet_closes_no_connection_of_its_parent(made: Any) -> None:
    server, trust = made(token_bytes("one"), token_bytes("two"))
    with server, valet_for(server.token_endpoint, **trust) as valet:
        valet.token()
        Forked(valet.close).result()
        assert valet.token(scope="b").value == "two"
        assert server.heard == [(1, 1), (1, 2)]


@pytest.mark.parametrize("when", ["before", "while it is made", "as soon as it is made"])
def test_a_connection_that_came_about_while_the_valet_closed_is_closed_too(
    made: Any, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    server, trust = made(token_bytes())
    connect = httpcore2.SyncBackend.connect_tcp
    kept: list[Any] = []

    def connected(backend: Any, *where: Any) -> Any:
        kept.append(connect(backend, *where))
        if when == "while it is made":
            valet._around.backchannel.close()
        return kept[-1]

    def handed_over(backend: Any, *where: Any, **how: Any) -> Any:
        stream = hand_over(backend, *where, **how)
        if when == "as soon as it is made":
            valet._around.backchannel.close()
        return stream

    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", connected)
    hand_over = DeadlineBackend.connect_tcp
    monkeypatch.setattr(DeadlineBackend, "connect_tcp", handed_over)
    with server, valet_for(server.token_endpoint, **trust) as valet:
        if when == "before":
            valet._around.backchannel.close()
        assert isinstance(failure(valet), TokenRequestError)
        until(lambda: server.connected == 0)
    assert server.heard == []
    assert {stream.get_extra_info("socket").fileno() for stream in kept} == {-1}


def test_a_connection_that_began_to_speak_tls_while_the_valet_closed_is_closed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    connect = httpcore2.SyncBackend.connect_tcp
    kept: list[Any] = []

    def connected(backend: Any, *where: Any) -> Any:
        stream = connect(backend, *where)
        start = stream.start_tls

        def started(*how: Any) -> Any:
            kept.append(start(*how))
            valet._around.backchannel.close()
            return kept[-1]

        monkeypatch.setattr(stream, "start_tls", started)
        return stream

    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", connected)
    with Endpoint(token_bytes(), ssl_context=authority.server()) as server:
        with valet_for(server.token_endpoint, ca_file=authority.file) as valet:
            assert failure(valet).code == "token_request_unreachable"
            until(lambda: server.connected == 0)
        assert server.heard == []
    assert {stream.get_extra_info("socket").fileno() for stream in kept} == {-1}


# Stale -----------------------------------------------------------------------------------------------------------


def closed_by_then(server: Endpoint) -> None:
    """Wait until the server has closed all connections."""
    until(lambda: server.connected == 0)


def test_a_connection_that_the_server_closed_meanwhile_costs_nothing(made: Any) -> None:
    server, trust = made(says(token_bytes("one")), token_bytes("two"))
    with server, valet_for(server.token_endpoint, **trust) as valet:
        assert valet.token().value == "one"
        closed_by_then(server)
        # Forced, since such a renewal is not retried: nothing was sent on the dead connection.
        assert valet.token(force_renewal=True).value == "two"
        assert server.heard == [(1, 1), (2, 1)]


@pytest.mark.parametrize(
    "goodbye",
    [b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", b"nonsense"],
    ids=["408", "nonsense"],
)
def test_a_connection_on_which_the_server_took_leave_is_not_used_again(goodbye: bytes) -> None:
    def leave(connection: socket.socket, request: bytes) -> None:
        connection.sendall(token_bytes("one"))
        asked.wait_for("token_cached")
        connection.sendall(goodbye)

    asked = Seen()
    with (
        Endpoint(leave, token_bytes("two")) as server,
        valet_for(server.token_endpoint, observers=[asked]) as valet,
    ):
        assert valet.token().value == "one"
        closed_by_then(server)
        assert valet.token(force_renewal=True).value == "two"
        assert server.heard == [(1, 1), (2, 1)]


@pytest.mark.standards("S-018")
@pytest.mark.parametrize("broken", [close_without_answer, reset_connection], ids=["closed", "reset"])
def test_a_request_that_a_used_connection_swallowed_is_never_sent_again_as_it_was(broken: Any) -> None:
    # The server may have taken it. A renewal with a token to fall back on leaves the next attempt to the intervals.
    clock = Clock()
    with Endpoint(token_bytes("one"), broken, token_bytes("two")) as server:
        with valet_for(server.token_endpoint, clock=clock) as valet:
            valet.token()
            with pytest.raises(TokenRequestError) as caught:
                valet.token(force_renewal=True)
            assert caught.value.code == "token_request_broken_answer"
            told(caught.value, server.token_endpoint, "try again later")
            assert valet.token().value == "one"
        assert server.heard == [(1, 1), (1, 2)]


def test_a_first_renewal_takes_a_new_connection_after_one_that_swallowed_its_request() -> None:
    with (
        Endpoint(token_bytes("one"), close_without_answer, token_bytes("two")) as server,
        valet_for(server.token_endpoint) as valet,
    ):
        assert [valet.token(scope=scope).value for scope in "ab"] == ["one", "two"]
        assert server.heard == [(1, 1), (1, 2), (2, 1)]


# Left over -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("surplus", [token_bytes("of somebody else"), token_bytes("of somebody else") * 3])
def test_an_answer_too_many_is_never_taken_for_that_of_the_next_request(surplus: bytes) -> None:
    configs: dict[str, Any] = {}
    with Endpoint(token_bytes("one") + surplus, token_bytes("two")) as server:
        for name in ("one", "two"):
            configs[name] = config(token_endpoint=server.token_endpoint, client_id=name)
        with TokenValet(configs) as valet:
            # Without the surplus, the second request would be answered by what was meant for the first client.
            assert [valet.token(name).value for name in configs] == ["one", "two"]
        assert server.heard[-1] == (2, 1)


def test_an_answer_too_many_is_an_error_where_nothing_is_retried() -> None:
    with (
        Endpoint(token_bytes("one") * 2, token_bytes("two")) as server,
        valet_for(server.token_endpoint) as valet,
    ):
        valet.token()
        with pytest.raises(TokenRequestError) as caught:
            valet.token(force_renewal=True)
        assert caught.value.code == "token_request_broken_answer"
        told(caught.value, server.token_endpoint, "an answer was there before the request was sent", "try again later")


def test_a_provisional_answer_too_many_does_no_harm() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\n"
    with (
        Endpoint(early + token_bytes("one") + early, token_bytes("two")) as server,
        valet_for(server.token_endpoint) as valet,
    ):
        assert [valet.token(scope=scope).value for scope in "ab"] == ["one", "two"]


@pytest.mark.standards("S-314")
def test_a_cookie_is_not_kept_for_the_next_request() -> None:
    cookie = http_answer(b'{"access_token":"one","token_type":"Bearer"}', b"Set-Cookie: session=1; Path=/")
    with Endpoint(cookie, token_bytes("two")) as server, valet_for(server.token_endpoint) as valet:
        for scope in "ab":
            valet.token(scope=scope)
        assert [b"cookie" in request.lower() for request in server.requests] == [False, False]


# Where a host is -------------------------------------------------------------------------------------------------


Look = Callable[..., list[Any]]


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Look], None]]:
    """Say how names are looked up."""

    def decide(look: Look) -> None:
        monkeypatch.setattr("tokenvalet.deadlines.socket.getaddrinfo", look)

    yield decide
    monkeypatch.undo()


def entry(address: str, port: int) -> Any:
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))


@pytest.mark.standards("S-210")
def test_a_name_that_is_never_looked_up_meets_the_deadline(looked_up: Any) -> None:
    released, asked = threading.Event(), threading.Semaphore(0)

    def hang(*_: Any, **__: Any) -> list[Any]:
        asked.release()
        assert released.wait(10)
        return []

    looked_up(hang)
    endpoint = "http://localhost:1/token"
    try:
        with valet_for(endpoint, timeout=0.2) as valet:
            error = failure(valet)
        assert isinstance(error, TokenRequestError)
        assert error.code == "token_request_timeout"
        told(error, endpoint, "it took longer than", "raise timeout")
        assert asked.acquire(timeout=0)
    finally:
        released.set()
    until(lambda: not any(thread.name == "tokenvalet-resolver" for thread in threading.enumerate()))


def test_a_name_that_nobody_knows_is_told_as_such(looked_up: Any) -> None:
    def unknown(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    looked_up(unknown)
    with valet_for("https://login.example.org/token") as valet:
        error = failure(valet)
    assert error.code == "token_request_unreachable"
    told(error, "https://login.example.org/token", "Name or service not known", "is the address right")


@pytest.mark.standards("S-210")
def test_many_dead_addresses_share_the_deadline(monkeypatch: pytest.MonkeyPatch, looked_up: Any) -> None:
    tried: list[tuple[str, float]] = []

    def dead(address: tuple[str, int], timeout: float, **_: Any) -> socket.socket:
        tried.append((address[0], timeout))
        raise TimeoutError("timed out")

    looked_up(lambda host, port, **_: [entry(f"127.0.0.{last}", port) for last in (1, 2, 3, 4)])
    monkeypatch.setattr("socket.create_connection", dead)
    with valet_for("http://localhost:1/token", timeout=12) as valet, pytest.raises(TokenRequestError) as caught:
        valet.token(force_renewal=True)
    assert caught.value.code == "token_request_timeout"
    assert [address for address, _ in tried] == [f"127.0.0.{last}" for last in (1, 2, 3, 4)]
    for (_, seconds), share in zip(tried, (3, 4, 6, 12), strict=True):
        assert seconds <= share


def test_the_next_address_is_asked_where_one_refuses(looked_up: Any) -> None:
    real = socket.getaddrinfo

    def two(host: str, port: int, *rest: Any, **more: Any) -> list[Any]:
        if host != "localhost":
            return list(real(host, port, *rest, **more))
        return [entry("127.0.0.2", port), entry("127.0.0.1", port)]

    with Endpoint(token_bytes()) as server:
        looked_up(two)
        with valet_for(f"http://localhost:{server.port}/token") as valet:
            assert valet.token().value == TOKEN
        assert server.heard == [(1, 1)]


def test_a_host_without_any_address_is_unreachable(looked_up: Any) -> None:
    looked_up(lambda *_, **__: [])
    with valet_for("http://localhost:1/token") as valet:
        assert failure(valet).code == "token_request_unreachable"


def test_an_address_needs_no_look_up(looked_up: Any) -> None:
    def never(host: str, *_: Any, **__: Any) -> list[Any]:
        raise AssertionError(host)

    auth = issuer_of_tests()
    try:
        running = serve(auth, host="::1")
        running.start()
    except OSError:
        pytest.skip("this machine has no IPv6")
    try:
        with Endpoint(token_bytes()) as server:
            real = socket.getaddrinfo
            looked_up(lambda host, *rest, **more: real(host, *rest, **more) if host[0] in "1:" else never(host))
            for endpoint in (server.token_endpoint, auth.token_endpoint):
                with valet_for(endpoint) as valet:
                    assert valet.token().token_type == "Bearer"
    finally:
        running.stop()


def test_a_connection_carries_what_is_needed_and_no_more() -> None:
    """S-030, S-052, S-211: a POST of a form, asking for JSON as it is, that nobody may store."""
    with Endpoint(token_bytes()) as server, valet_for(server.token_endpoint, scope="a b") as valet:
        valet.token()
    head, _, content = server.requests[0].decode().partition("\r\n\r\n")
    line, *fields = head.split("\r\n")
    assert line == "POST /token HTTP/1.1"
    named = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    assert named.pop("authorization").startswith("Basic ")
    assert named == {
        "host": f"127.0.0.1:{server.port}",
        "content-type": "application/x-www-form-urlencoded",
        "accept": "application/json",
        "accept-encoding": "identity",
        "cache-control": "no-store",
        "connection": "keep-alive",
        "content-length": str(len(content)),
    }
    assert content == "grant_type=client_credentials&scope=a+b"
    assert SECRET not in line
