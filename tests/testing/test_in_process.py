"""Without a socket: every HTTP client of a valet, and the valet's own back channel, reach the servers of the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests
import trio

from tokenvalet import ClientConfig, TokenParameters, TokenRequestError, TokenResponseError, TokenValet
from tokenvalet.testing import (
    AuthorizationServer,
    Fault,
    InProcessNetwork,
    MovableClock,
    ProtectedApi,
    RegisteredClient,
)

ISSUER, API = "https://login.tokenvalet.test", "https://api.tokenvalet.test"
RECORDS = "/api/v1/integration/health-records"


class Place:
    """Servers without a socket, and a valet that is attached to them."""

    def __init__(self, **settings: Any) -> None:
        self.clock = MovableClock()
        self.auth = AuthorizationServer(
            [RegisteredClient(client_id="web", client_secret="s3cret", scopes=None)], clock=self.clock.time
        )
        self.api = ProtectedApi(self.auth)
        self.network = InProcessNetwork()
        self.network.serve(self.auth, ISSUER)
        self.network.serve(self.api, API)
        known = {"issuer": ISSUER, "base_url": API, "client_id": "web", "client_secret": "s3cret", "timeout": 5}
        self.valet = TokenValet({"m2m": ClientConfig(**{**known, **settings})}, clock=self.clock)
        self.network.attach(self.valet)


@pytest.fixture
def no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects, or asks for an address, fails; a loop may still wake itself."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket was used")

    for name in ("connect", "connect_ex", "bind", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(params=[False, True], ids=["bearer", "dpop"])
def place(request: pytest.FixtureRequest, no_socket: None) -> Iterator[Place]:
    made = Place(dpop=request.param, scope=["records:read"])
    made.auth.require_dpop_nonce = made.api.require_dpop_nonce = request.param
    with made.valet:
        yield made


def by_httpx2(valet: TokenValet, path: str, **options: Any) -> tuple[int, int]:
    with valet.client("m2m") as api:
        answer = api.request("POST" if options else "GET", path, **options)
        return answer.status_code, len(answer.content)


def by_httpx(valet: TokenValet, path: str, **options: Any) -> tuple[int, int]:
    with httpx.Client(transport=valet.transport("m2m", httpx), base_url=API) as api:
        answer = api.request("POST" if options else "GET", path, **options)
        return answer.status_code, len(answer.content)


def by_requests(valet: TokenValet, path: str, **options: Any) -> tuple[int, int]:
    with valet.requests_session("m2m") as api:
        answer = api.request("POST" if options else "GET", path, data=options.get("content"))
        return answer.status_code, len(answer.content)


async def _httpx2(valet: TokenValet, path: str, options: Any) -> tuple[int, int]:
    async with valet.async_client("m2m") as api:
        answer = await api.request("POST" if options else "GET", path, **options)
        return answer.status_code, len(answer.content)


async def _aiohttp(valet: TokenValet, path: str, options: Any) -> tuple[int, int]:
    method, body = "POST" if options else "GET", options.get("content")
    async with valet.aiohttp_session("m2m") as api, api.request(method, path, data=body) as answer:
        result = answer.status, len(await answer.read())
    await valet.aclose()
    return result


WAYS: dict[str, Callable[..., tuple[int, int]]] = {
    "httpx2": by_httpx2,
    "httpx": by_httpx,
    "requests": by_requests,
    "httpx2 on asyncio": lambda valet, path, **options: asyncio.run(_httpx2(valet, path, options)),
    "httpx2 on trio": lambda valet, path, **options: trio.run(_httpx2, valet, path, options),
    "aiohttp": lambda valet, path, **options: asyncio.run(_aiohttp(valet, path, options)),
}


@pytest.fixture(params=WAYS)
def call(request: pytest.FixtureRequest) -> Callable[..., tuple[int, int]]:
    return WAYS[request.param]


def test_a_call_carries_a_token_that_the_api_takes(place: Place, call: Callable[..., tuple[int, int]]) -> None:
    assert call(place.valet, RECORDS)[0] == 200
    place.auth.assert_token_requests(1, scope="records:read", outcome="issued")
    place.api.assert_calls(1, path=RECORDS, status=200)


def test_a_revoked_token_is_replaced(place: Place, call: Callable[..., tuple[int, int]]) -> None:
    place.valet.token("m2m")
    place.auth.revoke_all()
    assert call(place.valet, RECORDS)[0] == 200
    assert place.auth.issued == 2


def test_a_body_arrives_whole(place: Place, call: Callable[..., tuple[int, int]]) -> None:
    assert call(place.valet, "/echo", content=b"x" * 200_000)[0] == 200
    assert place.api.calls[-1].body_length == 200_000


def test_a_streamed_answer_arrives_whole(place: Place, call: Callable[..., tuple[int, int]]) -> None:
    assert call(place.valet, "/stream?chunks=7&size=1000") == (200, 7000)


def test_nobody_else_can_be_reached(no_socket: None, call: Callable[..., tuple[int, int]]) -> None:
    place = Place()
    with place.valet:
        place.valet.token("m2m")
        place.network.stop(API)
        errors = (httpx2.ConnectError, httpx.ConnectError, requests.ConnectionError, aiohttp.ClientConnectionError)
        with pytest.raises(errors, match=f"nothing answers at {API} in this test, which can reach {ISSUER}"):
            call(place.valet, RECORDS)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.disconnect(), "token_request_broken_answer"),
        (Fault.hang(30), "token_request_timeout"),
        (Fault.status_only(500), "token_request_server_error"),
    ],
    ids=["cut", "silent", "500"],
)
def test_faults_are_met_as_on_a_connection(fault: Fault, code: str, no_socket: None) -> None:
    place = Place(timeout=0.1, token_endpoint=f"{ISSUER}/token")
    place.auth.misbehave(fault, None)
    with place.valet, pytest.raises(TokenRequestError) as caught:
        place.valet.token("m2m")
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault.oversized(2 * 1024 * 1024), "more than 1048576 bytes"),
        (Fault.gzip_bomb(1024 * 1024), "it came compressed"),
    ],
    ids=["oversized", "compressed"],
)
def test_what_is_not_read_on_a_connection_is_not_read_here(fault: Fault, text: str, no_socket: None) -> None:
    place = Place()
    place.auth.misbehave(fault.at("token"), None)
    with place.valet, pytest.raises(TokenResponseError, match=text):
        place.valet.token("m2m")


def test_a_server_that_was_stopped_is_away_until_it_is_served_again(no_socket: None) -> None:
    place = Place()
    with place.valet:
        place.network.stop(ISSUER)
        with pytest.raises(TokenRequestError) as caught:
            place.valet.token("m2m")
        assert caught.value.code == "token_request_unreachable"
        place.network.serve(place.auth, ISSUER)
        place.clock.advance(60)
        assert place.valet.token("m2m").expires_in > 0


def test_an_api_that_is_slower_than_the_timeout_is_a_timeout(no_socket: None) -> None:
    place = Place()
    place.api.delay = 30
    with place.valet:
        with place.valet.client("m2m", timeout=0.05) as api, pytest.raises(httpx2.ReadTimeout):
            api.get(RECORDS)
        with place.valet.requests_session("m2m") as session, pytest.raises(requests.ReadTimeout):
            session.get(RECORDS, timeout=0.05)

        async def asynchronously() -> None:
            async with place.valet.async_client("m2m", timeout=0.05) as client:
                with pytest.raises(httpx2.ReadTimeout):
                    await client.get(RECORDS)

        asyncio.run(asynchronously())
        trio.run(asynchronously)


def test_a_delay_is_waited_for(no_socket: None) -> None:
    place = Place()
    place.api.delay = place.auth.token_delay = 0.01
    with place.valet:
        assert by_httpx2(place.valet, RECORDS)[0] == 200
        assert asyncio.run(_httpx2(place.valet, RECORDS, {}))[0] == 200
        assert trio.run(_httpx2, place.valet, RECORDS, {})[0] == 200


def test_a_redirect_within_the_api_gets_its_own_proof(no_socket: None) -> None:
    place = Place(dpop=True)
    with place.valet, place.valet.client("m2m", follow_redirects=True) as api:
        assert api.get(f"/redirect?to={RECORDS}").status_code == 200
    place.api.assert_calls(2, scheme="DPoP")


def test_an_escaped_path_arrives_as_it_was_sent(no_socket: None) -> None:
    place = Place(dpop=True)
    with place.valet, place.valet.client("m2m") as api:
        assert api.get("/echo/a%2Fb%20c?d=%20").status_code == 200
    seen = place.api.calls[-1]
    assert (seen.path, seen.query) == ("/echo/a%2Fb%20c", "d=%20")


def test_time_that_is_moved_makes_tokens_expire_for_everybody(no_socket: None) -> None:
    place = Place()
    with place.valet:
        first = place.valet.token("m2m")
        place.clock.advance(3601)
        assert first.expires_in == 0
        assert by_httpx2(place.valet, RECORDS)[0] == 200
        assert place.auth.issued == 2
        place.clock.jump(3601)  # the wall clock alone
        assert place.valet.token("m2m").expires_in > 0
        assert place.auth.issued == 3


def test_the_text_of_an_assertion_that_fails_lists_what_was_seen_and_no_secret(no_socket: None) -> None:
    place = Place()
    with place.valet:
        place.valet.token("m2m", scope="records:read")
        token = place.valet.token("m2m", scope="records:write").value
        with place.valet.client("m2m") as api:
            api.get(f"{RECORDS}?ticket=planted", extensions={"tokenvalet": TokenParameters(scope="records:write")})
    with pytest.raises(AssertionError) as caught:
        place.auth.assert_token_requests(2, scope="records:read")
    assert str(caught.value).splitlines() == [
        "expected 2 token requests with scope='records:read', and 1 of 2 is so:",
        "  1. ✓ client_id='web' by client_secret_basic, scope='records:read' → issued",
        "  2.   client_id='web' by client_secret_basic, scope='records:write' → issued",
    ]
    with pytest.raises(AssertionError) as nobody:
        place.auth.assert_token_requests(client_id="somebody")
    assert str(nobody.value).startswith(
        "expected at least one token request with client_id='somebody', and 0 of 2 are so"
    )
    with pytest.raises(AssertionError) as calls:
        place.api.assert_calls(0)
    assert str(calls.value) == f"expected 0 API calls, and there was 1:\n  1.   GET {RECORDS} with Bearer → 200"
    text = f"{caught.value}{nobody.value}{calls.value}"
    assert not [secret for secret in ("s3cret", token, "planted") if secret in text]


def test_assertions_hold_where_they_should(no_socket: None) -> None:
    place = Place()
    place.auth.assert_token_requests(0)
    place.api.assert_calls(0)
    with pytest.raises(AssertionError, match=r"^expected at least one token request, and there were none$"):
        place.auth.assert_token_requests()
    with place.valet:
        place.valet.token("m2m", scope="b a", resource="https://one.example")
        place.auth.misbehave(Fault.oauth_error("invalid_scope"))
        with pytest.raises(Exception, match="invalid_scope"):
            place.valet.token("m2m", audience="two")
    check = place.auth.assert_token_requests
    check(2)
    check(1, scope="a b")
    check(1, scope=["a", "b"])
    check(1, resource="https://one.example")
    check(1, audience="two", outcome="fault")
    check(1, client_id="web", outcome="issued")


def test_an_application_that_needs_an_event_loop_is_told_to_use_a_socket() -> None:
    class Foreign:
        url = ""

        async def app(self, scope: Any, receive: Any, send: Any) -> None:
            await asyncio.Future()

        def served_at(self, url: str) -> None:
            self.url = url

    network = InProcessNetwork()
    network.serve(Foreign(), API)

    async def call() -> None:
        await network._ways.send_async("GET", API, [], b"", None)

    with pytest.raises(RuntimeError, match="serve it on a port"):
        asyncio.run(call())
