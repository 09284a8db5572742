"""Any other library, one call at a time: here that of the standard library, which knows nothing of tokens."""

from __future__ import annotations

import asyncio
import copy
import http.client
import pickle
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import trio

from contract.servers import Recorder
from secrecy.walker import Plant, found, shown_by_error, shown_by_value
from tokenvalet import (
    ConfigurationError,
    OneCall,
    OriginError,
    ProofError,
    StepUpRequiredError,
    TokenParameters,
    TokenRefusedError,
    TokenValet,
)
from tokenvalet.testing import Fault, ProtectedApi

Make = Callable[..., TokenValet]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *answer: Any) -> None:
        return None


OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


def send(method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> tuple[int, Any]:
    """Send one request, as any library does."""
    request = urllib.request.Request(url, body, dict(headers), method=method)
    try:
        with OPENER.open(request, timeout=20) as response:
            response.read()
            return response.status, response.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers


def converse(call: OneCall, method: str, url: str, body: bytes | None = None) -> list[int]:
    """Send a request for as long as it is to be sent, as the how-to page says; return the statuses."""
    statuses = []
    while True:
        status, headers = send(method, url, call.headers, body)
        statuses.append(status)
        if not call.answered(status, headers):
            return statuses


async def converse_async(valet: TokenValet, method: str, url: str, in_thread: Any) -> list[int]:
    call = await valet.async_call("m2m", method, url)
    statuses = []
    while True:
        status, headers = await in_thread(send, method, url, call.headers)
        statuses.append(status)
        if not await call.answered(status, headers):
            return statuses


def test_a_bearer_token_arrives(make_valet: Make, served: ProtectedApi) -> None:
    url = f"{served.origin}/echo?page=2"
    with make_valet() as valet:
        for _ in range(3):
            assert converse(valet.call("m2m", "GET", url), "GET", url) == [200]
    assert [call.scheme for call in served.calls] == ["Bearer"] * 3
    assert served.auth.issued == 1


def test_the_only_client_needs_no_name(make_valet: Make, served: ProtectedApi) -> None:
    url = f"{served.origin}/echo"
    assert converse(make_valet().call(None, "GET", url), "GET", url) == [200]


@pytest.mark.standards("S-097", "S-104")
def test_a_proof_is_made_for_the_method_and_the_address_and_the_nonce_is_answered(
    make_valet: Make, served: ProtectedApi
) -> None:
    served.require_dpop_nonce = True
    url = f"{served.origin}/echo/%7Esome?page=2#top"
    valet = make_valet(dpop=True)
    assert converse(valet.call("m2m", "PUT", url), "PUT", url, b"what is put") == [401, 200]
    assert converse(valet.call("m2m", "PUT", url), "PUT", url, b"what is put") == [200]
    claims = [call.proof_claims or {} for call in served.calls]
    assert {one["htm"] for one in claims} == {"PUT"}
    assert {one["htu"] for one in claims} == {f"{served.origin}/echo/%7Esome"}
    assert len({one["jti"] for one in claims}) == 3
    assert served.auth.issued == 1


def test_a_path_outside_ascii_is_proved_as_libraries_write_it(make_valet: Make, served: ProtectedApi) -> None:
    call = make_valet(dpop=True).call("m2m", "GET", f"{served.origin}/echo/é")
    assert converse(call, "GET", f"{served.origin}/echo/%C3%A9") == [200]


@pytest.mark.standards("S-075", "S-205")
@pytest.mark.parametrize("dpop", [False, True])
def test_a_rejected_token_is_replaced_once_and_the_request_sent_again(
    dpop: bool, make_valet: Make, served: ProtectedApi
) -> None:
    valet, url = make_valet(dpop=dpop), f"{served.origin}/echo"
    assert converse(valet.call("m2m", "GET", url), "GET", url) == [200]
    served.auth.revoke_all()
    assert converse(valet.call("m2m", "GET", url), "GET", url) == [401, 200]
    assert served.auth.issued == 2


def test_an_api_that_rejects_every_token_costs_one_renewal(make_valet: Make, served: ProtectedApi) -> None:
    served.reject_all = 'Bearer error="invalid_token"'
    call, url = make_valet().call("m2m", "GET", f"{served.origin}/echo"), f"{served.origin}/echo"
    assert converse(call, "GET", url) == [401, 401]
    assert call.error is None
    assert served.auth.issued == 2


@pytest.mark.standards("S-206")
def test_a_request_that_cannot_be_sent_again_has_its_rejected_token_replaced_for_the_next(
    make_valet: Make, served: ProtectedApi
) -> None:
    valet, url = make_valet(), f"{served.origin}/echo"
    valet.token("m2m")
    served.auth.revoke_all()
    assert converse(valet.call("m2m", "GET", url, repeatable=False), "GET", url) == [401]
    assert converse(valet.call("m2m", "GET", url, repeatable=False), "GET", url) == [200]
    assert served.auth.issued == 2


def test_a_token_that_cannot_be_replaced_leaves_the_answer_and_the_reason(
    make_valet: Make, served: ProtectedApi
) -> None:
    valet, url = make_valet(), f"{served.origin}/echo"
    call = valet.call("m2m", "GET", url)
    served.auth.revoke_all()
    served.auth.misbehave(Fault.oauth_error("invalid_client", status=401), None)
    assert converse(call, "GET", url) == [401]
    assert isinstance(call.error, TokenRefusedError)


def test_an_answer_about_something_else_changes_nothing(make_valet: Make, served: ProtectedApi) -> None:
    valet = make_valet()
    for status in (204, 403, 404, 500):
        url = f"{served.origin}/status/{status}"
        assert converse(valet.call("m2m", "GET", url), "GET", url) == [status]
    assert served.auth.issued == 1


def test_a_stronger_authentication_is_nothing_that_sending_again_would_help(
    make_valet: Make, served: ProtectedApi
) -> None:
    call = make_valet().call("m2m", "GET", f"{served.origin}/echo")
    with pytest.raises(StepUpRequiredError):
        call.answered(401, {"WWW-Authenticate": 'Bearer error="insufficient_user_authentication", max_age="5"'})
    with pytest.raises(ConfigurationError):
        _ = call.headers


@pytest.mark.standards("S-140", "S-141", "S-142")
@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.org.evil.example/",
        "https://api.example.org@evil.example/",
        "https://evil.example/https://api.example.org/",
        "https://evil.example\\@api.example.org/",
        "https://api.example.org:444/",
        "http://api.example.org/",
        "wss://evil.example/",
        "wsx://api.example.org/",
        "//api.example.org/",
        "/records",
    ],
)
def test_no_token_is_asked_for_where_none_belongs(url: str, make_valet: Make, served: ProtectedApi) -> None:
    valet = make_valet(base_url="https://api.example.org")
    with pytest.raises(OriginError):
        valet.call("m2m", "GET", url)
    with pytest.raises(OriginError):
        asyncio.run(valet.async_call("m2m", "GET", url))
    assert served.auth.token_requests == []


def test_the_handshake_of_a_web_socket_is_a_request_to_the_same_origin(make_valet: Make, served: ProtectedApi) -> None:
    host = served.origin.partition("://")[2]
    call = make_valet(dpop=True).call("m2m", "GET", f"ws://{host}/echo")
    assert converse(call, "GET", f"{served.origin}/echo") == [200]


def test_the_next_hop_of_a_redirect_is_a_call_of_its_own(
    make_valet: Make, served: ProtectedApi, stranger: Recorder
) -> None:
    valet = make_valet(dpop=True)
    url = f"{served.origin}/redirect?to={stranger.origin}/away"
    call = valet.call("m2m", "GET", url)
    status, headers = send("GET", url, call.headers)
    assert not call.answered(status, headers)
    with pytest.raises(OriginError):
        valet.call("m2m", "GET", headers["location"])
    assert stranger.requests == []


def test_a_token_is_asked_for_with_parameters_of_its_own(make_valet: Make, served: ProtectedApi) -> None:
    valet, url = make_valet(), f"{served.origin}/echo"
    for scope in ("records:read", "records:write", "records:read"):
        call = valet.call("m2m", "GET", url, token_parameters=TokenParameters(scope=scope))
        assert converse(call, "GET", url) == [200]
    asked = [request.form.get("scope") for request in served.auth.token_requests]
    assert asked == [["records:read"], ["records:write"]]
    with pytest.raises(ConfigurationError) as raised:
        valet.call("m2m", "GET", url, token_parameters="records:read")  # type: ignore[arg-type]
    assert raised.value.code == "invalid_token_parameters"


CHALLENGE = 'DPoP error="use_dpop_nonce"'


def message() -> http.client.HTTPMessage:
    made = http.client.HTTPMessage()
    made["WWW-Authenticate"], made["DPoP-Nonce"] = CHALLENGE, "abc"
    return made


@pytest.mark.parametrize(
    "headers",
    [
        {"WWW-Authenticate": CHALLENGE, "DPoP-Nonce": "abc"},
        [("www-authenticate", CHALLENGE), ("dpop-nonce", "abc")],
        [(b"WWW-Authenticate", CHALLENGE.encode()), (b"dpop-nonce", b"abc")],
        iter([("WWW-Authenticate", "Basic"), ("WWW-Authenticate", CHALLENGE), ("DPoP-Nonce", "abc")]),
        message(),
    ],
    ids=["mapping", "pairs", "bytes", "iterator", "message"],
)
def test_headers_are_read_as_libraries_have_them(headers: Any, make_valet: Make, served: ProtectedApi) -> None:
    call = make_valet(dpop=True).call("m2m", "GET", f"{served.origin}/echo")
    before = call.headers["DPoP"]
    assert call.answered(401, headers)
    assert call.headers["DPoP"] != before
    assert served.auth.issued == 1


def test_a_call_that_is_over_has_no_headers_any_more(make_valet: Make, served: ProtectedApi) -> None:
    call = make_valet().call("m2m", "GET", f"{served.origin}/echo")
    assert call.headers == call.headers
    assert not call.answered(200)
    for misuse in (lambda: call.headers, lambda: call.answered(200)):
        with pytest.raises(ConfigurationError) as raised:
            misuse()
        assert raised.value.code == "call_is_over"


async def of_asyncio(valet: TokenValet, served: ProtectedApi) -> None:
    url = f"{served.origin}/echo"
    assert await converse_async(valet, "GET", url, asyncio.to_thread) == [401, 200]
    served.auth.revoke_all()
    assert await converse_async(valet, "GET", url, asyncio.to_thread) == [401, 200]


async def of_trio(valet: TokenValet, served: ProtectedApi) -> None:
    url = f"{served.origin}/echo"
    assert await converse_async(valet, "GET", url, trio.to_thread.run_sync) == [401, 200]
    served.auth.revoke_all()
    assert await converse_async(valet, "GET", url, trio.to_thread.run_sync) == [401, 200]


@pytest.mark.parametrize("run", [lambda *a: asyncio.run(of_asyncio(*a)), lambda *a: trio.run(of_trio, *a)])
def test_the_same_holds_on_event_loops(run: Any, make_valet: Make, served: ProtectedApi) -> None:
    served.require_dpop_nonce = True
    run(make_valet(dpop=True), served)
    assert served.auth.issued == 2


def test_who_forgets_to_await_the_verdict_does_not_send_for_ever(make_valet: Make, served: ProtectedApi) -> None:
    async def forgetful() -> None:
        call = await make_valet().async_call("m2m", "GET", f"{served.origin}/echo")
        unawaited = call.answered(401)
        with pytest.raises(ConfigurationError, match="await"):
            _ = call.headers
        assert await unawaited
        assert call.headers["Authorization"]

    asyncio.run(forgetful())


def test_a_token_that_cannot_be_replaced_leaves_the_reason_on_event_loops(
    make_valet: Make, served: ProtectedApi
) -> None:
    async def rejected() -> None:
        call = await make_valet().async_call("m2m", "GET", f"{served.origin}/echo")
        served.auth.misbehave(Fault.oauth_error("invalid_client", status=401), None)
        assert not await call.answered(401)
        assert isinstance(call.error, TokenRefusedError)

    asyncio.run(rejected())


def test_no_secret_shows(make_valet: Make, served: ProtectedApi) -> None:
    call = make_valet(dpop=True).call("m2m", "GET", f"{served.origin}/echo?secret=of-the-query")
    headers = call.headers
    shown = f"{call!r} {headers!r} {headers}"
    for secret in (served.auth.issued_tokens[0], headers["DPoP"], "of-the-query"):
        assert secret not in shown
    assert "'m2m': GET" in shown
    assert "Authorization and DPoP" in shown
    for failing in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="not pickled"):
            failing(call)


def test_what_a_call_changes_in_the_headers_of_one_sending_is_its_own(make_valet: Make, served: ProtectedApi) -> None:
    call = make_valet().call("m2m", "GET", f"{served.origin}/echo")
    call.headers.clear()
    assert list(call.headers) == ["Authorization"]


def test_what_happens_to_a_call_is_told(make_valet: Make, served: ProtectedApi) -> None:
    told: list[tuple[str, str, str]] = []
    served.reject_all = 'Bearer error="invalid_token"'
    valet, url = make_valet(), f"{served.origin}/echo?secret=of-the-query"
    valet._around.observers.add(lambda event: told.append((event.name, event.cause, event.detail)))
    converse(valet.call("m2m", "GET", url), "GET", url)
    with pytest.raises(OriginError):
        valet.call("m2m", "GET\n", "https://evil.example/")
    of_calls = [event for event in told if event[0].startswith("call_")]
    assert of_calls == [
        ("call_sent", "", "GET /echo 401"),
        ("call_retried", "renewed", ""),
        ("call_sent", "", "GET /echo 401"),
        ("call_rejected", "", "the API answered 401, which is handed to the caller"),
        ("call_refused", "", "GET\\n"),
    ]


@pytest.mark.standards("S-162")
def test_what_an_error_shows_of_a_call_has_no_secret_in_it(make_valet: Make, served: ProtectedApi) -> None:
    call = make_valet(dpop=True).call("m2m", "GET", f"{served.origin}/echo")
    plants = [Plant.of("token", served.auth.issued_tokens[0]), Plant.of("proof", call.headers["DPoP"])]
    with pytest.raises(ProofError) as raised:
        call.answered(401, {"WWW-Authenticate": 'DPoP algs="PS512", error="invalid_token"'})
    assert found(plants, shown_by_error(raised.value)) == []
    assert found(plants, shown_by_value("the call", call)) == []
