"""A configured proxy carries what is encrypted, inside CONNECT, and learns nothing of it."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest

from contract.conftest import Opener
from contract.drivers import about
from contract.servers import Recorder
from support.raw_server import RawServer
from tokenvalet.testing import AuthorizationServer, ProtectedApi, serve


def tunnel(connection: socket.socket, request: bytes) -> None:
    """Be a proxy: connect to where CONNECT says, and pass on what comes, both ways."""
    method, target, _ = request.split(b" ", 2)
    host, _, port = target.decode().rpartition(":")
    assert method == b"CONNECT"
    with socket.create_connection((host, int(port))) as other:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        to = {connection: other, other: connection}
        while True:
            for ready in select.select([connection, other], [], [], 30)[0]:
                if not (data := ready.recv(65536)):
                    return
                to[ready].sendall(data)


@pytest.fixture
def proxy() -> Iterator[RawServer]:
    with RawServer(tunnel) as server:
        yield server


@pytest.fixture
def secure_api(auth: AuthorizationServer, tls: Callable[..., ssl.SSLContext]) -> Iterator[ProtectedApi]:
    api = ProtectedApi(auth)
    with serve(api, ssl_context=tls("127.0.0.1")):
        yield api


@pytest.mark.standards("S-149")
def test_a_token_goes_through_a_proxy_and_is_not_shown_to_it(
    open_pooled: Opener, secure_api: ProtectedApi, auth: AuthorizationServer, proxy: RawServer, dpop: bool
) -> None:
    url = proxy.url.replace("//", "//somebody:proxy-password@")
    session = open_pooled(secure_api.origin, dpop=dpop, settings={"proxy": url})
    for _ in range(2):
        assert session.get(secure_api.origin + "/echo").status == 200
    connect = proxy.requests[0]
    assert len(proxy.requests) in about(open_pooled.driver, 1)
    assert connect.startswith(b"CONNECT " + secure_api.origin.removeprefix("https://").encode())
    assert b"proxy-authorization: basic" in connect.lower()
    assert b"\r\nauthorization:" not in connect.lower()
    assert b"dpop" not in connect.lower()
    assert auth.issued_tokens[0].encode() not in connect
    assert "proxy-password" not in str(secure_api.calls)


@pytest.mark.standards("S-149")
def test_of_several_origins_each_is_reached_in_its_own_way(
    open_pooled: Opener, secure_api: ProtectedApi, second_api: ProtectedApi, proxy: RawServer
) -> None:
    session = open_pooled(second_api.origin, secure_api.origin, settings={"proxy": proxy.url})
    assert session.get(second_api.origin + "/echo").status == 200
    assert proxy.requests == []
    assert session.get(secure_api.origin + "/echo").status == 200
    assert len(proxy.requests) in about(open_pooled.driver, 1)
    assert session.get(f"{secure_api.origin}/redirect?to={second_api.origin}/echo").status == 200
    assert len(proxy.requests) in about(open_pooled.driver, 1)
    assert (len(second_api.calls), len(secure_api.calls)) == (2, 2)


def test_a_proxy_that_is_not_there_is_not_gone_round(
    open_pooled: Opener, secure_api: ProtectedApi, proxy: RawServer
) -> None:
    session = open_pooled(secure_api.origin, settings={"proxy": proxy.url})
    proxy.behaviour = lambda connection, _: connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
    with contextlib.suppress(*open_pooled.driver.failures):
        session.get(secure_api.origin + "/echo")
        pytest.fail("there was an answer")
    assert secure_api.calls == []


@pytest.mark.standards("S-149")
def test_the_proxies_of_the_environment_are_used_when_they_are_asked_for(
    open_pooled: Opener, secure_api: ProtectedApi, proxy: RawServer, foreign: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, foreign.origin)
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    session = open_pooled(secure_api.origin, settings={"proxy": "environment"})
    assert session.get(secure_api.origin + "/echo").status == 200
    assert len(proxy.requests) in about(open_pooled.driver, 1)
    assert foreign.requests == []
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    session = open_pooled(secure_api.origin, settings={"proxy": "environment"})
    assert session.get(secure_api.origin + "/echo").status == 200
    assert len(proxy.requests) in about(open_pooled.driver, 1)
