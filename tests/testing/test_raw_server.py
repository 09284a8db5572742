"""The raw server: each behaviour does what it is named for, and nothing of it is left behind."""

from __future__ import annotations

import ssl
import threading
import time

import httpx2
import pytest
import trustme

from support.raw_server import (
    Behaviour,
    RawServer,
    answer,
    close_midway,
    close_without_answer,
    content_length_mismatch,
    endless_body,
    endless_headers,
    garbage_bytes,
    gzip_bomb,
    never_answer,
    reset_connection,
    trickle,
    trickle_headers,
)
from testing.makers import eventually


def test_requests_and_connections_are_counted(http: httpx2.Client) -> None:
    with RawServer(answer(b'{"a":1}')) as server:
        assert http.post(server.url + "/token", content=b"x=y").json() == {"a": 1}
        assert http.get(server.url).json() == {"a": 1}
    assert (server.connections, len(server.requests)) == (2, 2)
    assert server.requests[0].startswith(b"POST /token HTTP/1.1\r\n")
    assert server.requests[0].endswith(b"\r\n\r\nx=y")


def test_the_behaviour_may_change_and_be_of_any_make(http: httpx2.Client) -> None:
    no_content = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    with RawServer(lambda connection, request: connection.sendall(no_content)) as server:
        assert http.get(server.url).status_code == 204
        server.behaviour = answer(status="503 Busy", headers=b"Retry-After: 1\r\n")
        response = http.get(server.url)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


@pytest.mark.standards("S-210")
def test_a_trickle_outlasts_a_timeout_per_read(http: httpx2.Client) -> None:
    for behaviour in (trickle(b"[1,2,3,4,5]", 0.03), trickle_headers(0.004)):
        with RawServer(behaviour) as server:
            began = time.monotonic()
            assert http.get(server.url, timeout=httpx2.Timeout(5, read=0.25)).status_code == 200
            assert time.monotonic() - began > 0.3


@pytest.mark.parametrize(
    "behaviour",
    [
        close_without_answer,
        reset_connection,
        close_midway(b"0123456789"),
        close_midway(b"0123456789", after=0),
        garbage_bytes(),
        garbage_bytes(b"HTTP/1.1 999999 \r\n\r\n"),
        endless_headers,
        content_length_mismatch(b"{}", announced=3),
    ],
    ids=lambda behaviour: getattr(behaviour, "__qualname__", "").partition(".")[0],
)
def test_what_is_no_whole_response_is_an_error_of_the_transport(http: httpx2.Client, behaviour: Behaviour) -> None:
    with RawServer(behaviour) as server, pytest.raises(httpx2.TransportError):
        http.get(server.url)


def test_a_length_that_is_too_small_cuts_the_body(http: httpx2.Client) -> None:
    with RawServer(content_length_mismatch(b"{} and more", announced=2)) as server:
        assert http.get(server.url).content == b"{}"


def test_an_endless_body_has_no_end(http: httpx2.Client) -> None:
    with RawServer(endless_body) as server, http.stream("GET", server.url) as response:
        size = 0
        for piece in response.iter_raw():
            size += len(piece)
            if size > 5_000_000:
                break
    assert size > 5_000_000


def test_a_gzip_bomb_has_a_small_content_length(http: httpx2.Client) -> None:
    with RawServer(gzip_bomb(2_000_000)) as server:
        response = http.get(server.url)
    assert int(response.headers["content-length"]) < 5000
    assert len(response.json()["padding"]) > 1_900_000


def test_silence_is_kept_until_the_client_gives_up(http: httpx2.Client) -> None:
    with RawServer(never_answer) as server, pytest.raises(httpx2.ReadTimeout):
        http.get(server.url, timeout=httpx2.Timeout(5, read=0.05))


@pytest.mark.parametrize("behaviour", [never_answer, endless_body, trickle(b"0123456789", 30)])
def test_leaving_ends_every_thread_at_once(behaviour: Behaviour) -> None:
    failures: list[type[Exception]] = []

    def ask(url: str) -> None:
        try:
            with httpx2.stream("GET", url, timeout=20, verify=False) as response:
                while True:
                    time.sleep(0.001)
                    next(response.iter_raw(1))
        except (httpx2.TransportError, httpx2.StreamConsumed) as failure:
            failures.append(type(failure))

    with RawServer(behaviour) as server:
        asking = threading.Thread(target=ask, args=(server.url,))
        asking.start()
        eventually(lambda: bool(server.requests))
        began = time.monotonic()
    assert time.monotonic() - began < 3
    asking.join(5)
    assert failures
    assert not [thread for thread in threading.enumerate() if thread.name == f"raw:{server.port}"]


def test_tls_is_spoken_where_it_is_asked_for() -> None:
    authority = trustme.CA()
    server_context, client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    with RawServer(answer(), ssl_context=server_context) as server:
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(server.url, verify=client_context, trust_env=False)
        authority.configure_trust(client_context)
        assert httpx2.get(server.url, verify=client_context, trust_env=False).json() == {}
    assert (server.url[:8], server.handshake_failures, len(server.requests)) == ("https://", 1, 1)
