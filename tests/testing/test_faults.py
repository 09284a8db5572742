"""The faults of the authorization server: each goes out as it was made, as often as it was ordered."""

from __future__ import annotations

import time
import zlib

import httpx2
import pytest

from testing.makers import eventually
from tokenvalet.testing import AuthorizationServer, Fault


def ask(http: httpx2.Client, auth: AuthorizationServer, *, read: float = 5) -> httpx2.Response:
    form = {"grant_type": "client_credentials"}
    return http.post(auth.token_endpoint, data=form, auth=("web", "s3cret"), timeout=httpx2.Timeout(5, read=read))


@pytest.mark.parametrize(
    ("fault", "status", "headers", "body"),
    [
        (Fault.status_only(503, retry_after=7), 503, {"retry-after": "7", "content-length": "0"}, b""),
        (Fault.status_only(204), 204, {}, b""),
        (Fault.json(["x"], content_type="text/plain"), 200, {"content-type": "text/plain"}, b'["x"]'),
        (Fault.redirect("https://evil.example/"), 307, {"location": "https://evil.example/"}, b""),
        (
            Fault.oauth_error("invalid_client", description="no", status=401, headers={"WWW-Authenticate": "Basic"}),
            401,
            {"www-authenticate": "Basic", "content-type": "application/json"},
            b'{"error": "invalid_client", "error_description": "no"}',
        ),
        (Fault.oauth_error("invalid_scope"), 400, {}, b'{"error": "invalid_scope"}'),
        (Fault(status=418, headers=(("x-a", "1"),), body=b"\xff\x00"), 418, {"x-a": "1"}, b"\xff\x00"),
    ],
    ids=lambda value: "",
)
def test_a_fault_goes_out_as_it_is(
    http: httpx2.Client, auth: AuthorizationServer, fault: Fault, status: int, headers: dict[str, str], body: bytes
) -> None:
    auth.misbehave(fault)
    response = ask(http, auth)
    assert (response.status_code, response.content) == (status, body)
    assert headers.items() <= dict(response.headers).items()
    assert ask(http, auth).status_code == 200
    assert [seen.outcome for seen in auth.token_requests] == ["fault", "issued"]
    assert auth.token_requests[0].form == {"grant_type": ["client_credentials"]}


def test_html_is_html(http: httpx2.Client, auth: AuthorizationServer) -> None:
    auth.misbehave(Fault.html())
    response = ask(http, auth)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.text.startswith("<!doctype html>")


def test_faults_are_given_in_order_and_counted(http: httpx2.Client, auth: AuthorizationServer) -> None:
    auth.misbehave(Fault.status_only(500), times=2)
    auth.misbehave(Fault.status_only(429))
    assert [ask(http, auth).status_code for _ in range(4)] == [500, 500, 429, 200]
    auth.misbehave(Fault.status_only(500), times=None)
    assert [ask(http, auth).status_code for _ in range(3)] == [500, 500, 500]
    auth.behave()
    assert ask(http, auth).status_code == 200


def test_an_oversized_response_is_valid_json_of_that_size(http: httpx2.Client, auth: AuthorizationServer) -> None:
    auth.misbehave(Fault.oversized(300_000))
    response = ask(http, auth)
    assert len(response.content) == 300_000
    assert response.json()["access_token"] == "a"


def test_a_gzip_bomb_is_small_until_it_is_opened(http: httpx2.Client, auth: AuthorizationServer) -> None:
    auth.misbehave(Fault.gzip_bomb(1_000_000))
    form = {"grant_type": "client_credentials"}
    with http.stream("POST", auth.token_endpoint, data=form) as response:
        raw = b"".join(response.iter_raw())
    assert response.headers["content-encoding"] == "gzip"
    assert len(raw) < 2000
    assert len(zlib.decompress(raw, wbits=zlib.MAX_WBITS | 16)) == 1_000_000


def test_a_hang_outlasts_the_client(http: httpx2.Client, auth: AuthorizationServer) -> None:
    auth.misbehave(Fault.hang(30))
    with pytest.raises(httpx2.ReadTimeout):
        ask(http, auth, read=0.05)
    eventually(lambda: [seen.outcome for seen in auth.token_requests] == ["fault"])
    assert ask(http, auth).status_code == 200


def test_a_hang_that_is_waited_for_ends_in_a_503(http: httpx2.Client, auth: AuthorizationServer) -> None:
    auth.misbehave(Fault.hang(0.05))
    began = time.monotonic()
    assert ask(http, auth).status_code == 503
    assert time.monotonic() - began >= 0.05


def test_a_dropped_connection_has_no_answer(
    http: httpx2.Client, auth: AuthorizationServer, caplog: pytest.LogCaptureFixture
) -> None:
    auth.misbehave(Fault.disconnect())
    with pytest.raises(httpx2.RemoteProtocolError):
        ask(http, auth)
    assert ask(http, auth).status_code == 200
    assert not [record for record in caplog.records if record.name.startswith("uvicorn") and record.levelno >= 30]
