"""serve(): quick to start, quick to stop whatever hangs, quiet, and the same port after an outage."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from testing.makers import eventually
from tokenvalet.testing import AuthorizationServer, Fault, ProtectedApi, serve


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("hello")(scope, receive, send)


def test_the_address_is_known_to_what_is_served() -> None:
    auth = AuthorizationServer(issuer_path="/a")
    api = ProtectedApi(auth)
    with serve(auth) as login, serve(api) as records:
        assert auth.issuer == f"http://127.0.0.1:{login.port}/a"
        assert api.origin == records.url == f"http://127.0.0.1:{records.port}"


def test_a_second_port_for_the_same_application_changes_no_address(http: httpx2.Client) -> None:
    auth = AuthorizationServer()
    with serve(auth) as first, serve(auth.app) as second:
        assert auth.issuer == first.url
        assert http.get(second.url + "/jwks").json() == http.get(first.url + "/jwks").json()


def test_any_application_is_served_and_its_lifespan_is_run(http: httpx2.Client) -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        events.append("up")
        yield
        events.append("down")

    def root(request: object) -> PlainTextResponse:
        return PlainTextResponse("hello")

    with serve(Starlette(routes=[Route("/", root)], lifespan=lifespan)) as server:
        assert events == ["up"]
        assert http.get(server.url).text == "hello"
    assert events == ["up", "down"]


def test_an_application_that_cannot_start_is_an_error() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    with pytest.raises(RuntimeError, match="did not start"):
        serve(broken).start()


def test_a_port_that_is_taken_is_an_error() -> None:
    with serve(hello) as server, pytest.raises(OSError):
        serve(hello, port=server.port).start()


def test_an_outage_refuses_connections_and_ends_on_the_same_port(http: httpx2.Client) -> None:
    auth = AuthorizationServer()
    with serve(auth) as server:
        issuer = auth.issuer
        assert http.get(issuer + "/jwks").status_code == 200
        server.stop()
        server.stop()
        with pytest.raises(httpx2.ConnectError):
            http.get(issuer + "/jwks")
        auth.issuer = "https://set-by-hand.example"
        server.start()
        server.start()
        assert http.get(issuer + "/jwks").status_code == 200
        assert auth.issuer == "https://set-by-hand.example"


def test_stopping_waits_for_nobody_for_long(caplog: pytest.LogCaptureFixture) -> None:
    auth = AuthorizationServer()
    auth.misbehave(Fault.hang(60))
    outcome: list[str] = []

    def ask() -> None:
        try:
            httpx2.post(auth.token_endpoint, timeout=30, verify=False)
        except httpx2.RemoteProtocolError:
            outcome.append("cut")

    with serve(auth) as server, socket.create_connection(("127.0.0.1", server.port)):
        asking = threading.Thread(target=ask)
        asking.start()
        eventually(lambda: bool(auth.token_requests))
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 3
        asking.join(5)
    assert outcome == ["cut"]
    assert not [record for record in caplog.records if record.name.startswith("uvicorn") and record.levelno >= 30]


def test_a_request_under_way_is_given_a_moment_to_end() -> None:
    auth = AuthorizationServer(token_delay=0.02)
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(httpx2.post(auth.token_endpoint, verify=False).status_code)

    with serve(auth):
        asking = threading.Thread(target=ask)
        asking.start()
        eventually(lambda: bool(auth.token_requests))
    asking.join(5)
    assert statuses == [400]


def test_starting_and_stopping_take_a_moment() -> None:
    took = []
    for _ in range(10):
        began = time.monotonic()
        with serve(hello):
            pass
        took.append(time.monotonic() - began)
    assert min(took) < 0.1  # the quickest, since the machine may have other things to do


def test_a_kept_connection_is_answered_without_delay(http: httpx2.Client) -> None:
    with serve(hello) as server:
        took = []
        for _ in range(20):
            began = time.monotonic()
            http.post(server.url, content=b"x")
            took.append(time.monotonic() - began)
    assert min(took[1:]) < 0.03  # 40 ms each where Nagle's algorithm is on


def test_requests_leave_no_line_in_the_access_log(http: httpx2.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), serve(hello) as server:
        http.get(server.url + "/?secret")
    assert not [record for record in caplog.records if record.name == "uvicorn.access"]


def test_ipv6_is_served_where_there_is_any(http: httpx2.Client) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with serve(hello, host="::1") as server:
        assert server.url == f"http://[::1]:{server.port}"
        assert http.get(server.url).text == "hello"


@pytest.fixture
def many_files() -> Iterator[None]:
    """Both ends of a thousand connections are files of this one process."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("this process may not open enough files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_thousand_connections_at_once_are_all_answered() -> None:
    with serve(hello) as server, ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(1000)]
        for connection in connections:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answers = [connection.recv(4096) for connection in connections]
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
