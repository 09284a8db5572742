"""Whatever goes wrong with a call to the API: no token and no proof in the error, its frames, the log or the events."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import trio
import trustme

from secrecy.mirrors import RAW_ANSWERS
from secrecy.stage import PROXY_PASSWORD, QUERY_SECRET, Stage
from secrecy.walker import LogRecords, Plant, found, shown_by_error, shown_by_value
from support.raw_server import (
    RawServer,
    close_midway,
    close_without_answer,
    never_answer,
    reset_connection,
)
from tokenvalet import OriginError, TokenParameters, TokenValet, TokenValetError, ValetClosedError
from tokenvalet.core.guard import parse_origin
from tokenvalet.testing import Fault, serve

Call = Callable[[Any, str], Any]  # with the client's options and the address


# Three ways to call -------------------------------------------------------------------------------------------------


def in_a_thread(valet: TokenValet, options: dict[str, Any], url: str, **request: Any) -> httpx2.Response:
    with valet.client("m2m", **options) as api:
        return api.request(request.pop("method", "GET"), url, **request)


async def _call(valet: TokenValet, options: dict[str, Any], url: str, **request: Any) -> httpx2.Response:
    async with valet.async_client("m2m", **options) as api:
        return await api.request(request.pop("method", "GET"), url, **request)


def on_asyncio(*args: Any, **request: Any) -> httpx2.Response:
    return asyncio.run(_call(*args, **request), debug=True)


def on_trio(*args: Any, **request: Any) -> httpx2.Response:
    return trio.run(functools.partial(_call, *args, **request))


@pytest.fixture(params=[in_a_thread, on_asyncio, on_trio], ids=["threads", "asyncio", "trio"])
def call(request: pytest.FixtureRequest) -> Callable[..., httpx2.Response]:
    way: Callable[..., httpx2.Response] = request.param
    return way


def error_of(run: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:
        run()
    assert not isinstance(caught.value, AssertionError)
    return caught.value


def sent_to(server: RawServer) -> list[Plant]:
    lines = [line for request in server.requests for line in request.decode("latin-1").splitlines()]
    named = [line for line in lines if line.lower().startswith(("authorization:", "dpop:"))]
    return [Plant.of("what was sent", line.rpartition(" ")[2]) for line in named]


def leaks(stage: Stage, error: BaseException, log: LogRecords, plants: list[Plant]) -> list[str]:
    texts = [*shown_by_error(error), *log.texts(), *shown_by_value("the events", stage.listener.events)]
    return found([*stage.plants(), *plants], texts)


# The connection -----------------------------------------------------------------------------------------------------

BROKEN = {
    "silence": never_answer,
    "the connection is closed": close_without_answer,
    "the connection is reset": reset_connection,
    "it ends midway": close_midway(b"a" * 100),
    "a field that is none": lambda connection, request: connection.sendall(b"HTTP/1.1 200 OK\r\nno field\r\n\r\n"),
    "no HTTP": lambda connection, request: connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "no gzip": lambda connection, request: connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"
    ),
}


# On trio, httpx2 leaves generators of its own unfinished where it cannot decode a body.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.standards("S-162", "S-161")
@pytest.mark.parametrize("dpop", [False, True], ids=["bearer", "dpop"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_call_that_breaks_shows_no_token(
    name: str, dpop: bool, call: Callable[..., httpx2.Response], stage: Stage, log: LogRecords
) -> None:
    with RawServer(BROKEN[name]) as server, stage.valet("client_secret_basic", dpop=dpop, base_url=server.url) as valet:
        error = error_of(lambda: call(valet, {"timeout": 0.2}, f"/records?key={QUERY_SECRET}"))
    plants = sent_to(server)
    assert len(plants) >= 1 + dpop
    assert leaks(stage, error, log, plants) == []


@pytest.mark.standards("S-162", "S-073")
def test_nobody_at_the_address_and_no_trust_in_it_show_no_token(
    call: Callable[..., httpx2.Response], stage: Stage, log: LogRecords
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with RawServer(never_answer, ssl_context=context) as server:
        with stage.valet("client_secret_basic", dpop=True, base_url=server.url) as valet:
            untrusted = error_of(lambda: call(valet, {"timeout": 5}, "/records"))
        port = server.port
    with stage.valet("client_secret_basic", dpop=True, base_url=f"http://127.0.0.1:{port}") as valet:
        unreachable = error_of(lambda: call(valet, {"timeout": 5}, "/records"))
    assert isinstance(untrusted, httpx2.ConnectError)
    assert stage.auth.issued == 2
    for error in (untrusted, unreachable):
        assert leaks(stage, error, log, []) == []


@pytest.mark.standards("S-162", "S-167")
def test_the_password_of_a_proxy_is_shown_nowhere(
    call: Callable[..., httpx2.Response], stage: Stage, log: LogRecords
) -> None:
    plants = [
        Plant.of("the proxy's password", PROXY_PASSWORD),
        Plant("as Basic", ("OnBsYW50ZWQtcHJve",)),
    ]
    refuses = {
        "refuses": lambda connection, request: connection.sendall(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"),
        "says it back": RAW_ANSWERS["a status line"],
        "is silent": never_answer,
        "hangs up": close_without_answer,
    }
    for behaviour in refuses.values():
        with RawServer(behaviour) as server:
            proxy = f"http://somebody:{PROXY_PASSWORD}@127.0.0.1:{server.port}"
            with stage.valet(
                "client_secret_basic", proxy=proxy, base_url="https://api.example.org", timeout=0.3
            ) as valet:
                error = error_of(functools.partial(call, valet, {"timeout": 0.15}, "/records"))
                assert leaks(stage, error, log, plants) == []
            options: dict[str, Any] = {
                "issuer": None,
                "token_endpoint": "https://login.example.org/token",
                "timeout": 0.3,
            }
            with stage.valet("client_secret_basic", proxy=proxy, **options) as valet:
                error = error_of(functools.partial(valet.token, "m2m"))
                assert leaks(stage, error, log, plants) == []
            assert len(server.requests) >= 2


@pytest.mark.standards("S-162", "S-167")
def test_the_password_of_a_proxy_is_not_in_the_error_of_a_valet_that_was_closed(stage: Stage, log: LogRecords) -> None:
    plants = [Plant.of("the proxy's password", PROXY_PASSWORD)]
    proxy = f"http://somebody:{PROXY_PASSWORD}@127.0.0.1:1"
    allowed = ["https://api.example.org", stage.api.origin]
    with stage.valet("client_secret_basic", proxy=proxy, base_url=allowed[0], allowed_origins=allowed) as valet:
        pools = valet._pools.of(valet._named("m2m"), httpx2)
    with pytest.raises(ValetClosedError) as caught:
        pools.sync_pool(parse_origin(allowed[0]), None, abroad=False)
    assert leaks(stage, caught.value, log, plants) == []


# What we refuse -----------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-162", "S-071", "S-140", "S-141", "S-147")
def test_a_refusal_before_anything_is_sent_shows_neither_token_nor_the_callers_own_header(
    call: Callable[..., httpx2.Response], stage: Stage, log: LogRecords
) -> None:
    own = Plant.of("the caller's own credentials", "planted-own-credentials-Dn4x")
    query = Plant.of("the query", QUERY_SECRET)
    refused: list[tuple[str, dict[str, Any]]] = [
        ("/records", {"headers": {"Authorization": "Bearer planted-own-credentials-Dn4x"}}),
        ("/records", {"headers": {"DPoP": "planted-own-credentials-Dn4x"}}),
        (f"https://abroad.example/records?sig={QUERY_SECRET}", {}),
        (
            f"/redirect?to=https://abroad.example/%3F{QUERY_SECRET}",
            {"method": "POST", "content": b"a", "follow_redirects": True},
        ),
        ("/records", {"extensions": {"tokenvalet": {"ticket": "planted-own-credentials-Dn4x"}}}),
    ]
    with stage.valet("client_secret_basic", dpop=True) as valet:
        assert call(valet, {}, "/echo").status_code == 200
        for url, request in refused:
            error = error_of(functools.partial(call, valet, {}, url, **request))
            assert isinstance(error, TokenValetError)
            assert leaks(stage, error, log, []) == []
            # httpx2 itself logs and names the addresses that it is told to call; our own texts do not.
            ours = [("the error", f"{error!r} {error}"), *(("our log", line) for line in log.lines())]
            assert found([own, query], ours) == []


@pytest.mark.standards("S-162", "S-136")
def test_what_a_callable_of_the_users_raises_brings_no_token_along(
    call: Callable[..., httpx2.Response], stage: Stage, log: LogRecords
) -> None:
    def customize(request: Any) -> TokenParameters:
        raise RuntimeError("by the user")

    def listen(event: Any) -> None:
        raise RuntimeError(str(event))

    with stage.valet("client_secret_basic", dpop=True) as valet:
        assert call(valet, {}, "/echo").status_code == 200
        error = error_of(lambda: call(valet, {"customize": customize}, "/echo"))
        assert str(error) == "by the user"
        assert leaks(stage, error, log, []) == []
    with stage.valet("client_secret_basic", dpop=True, options={"observers": [listen]}) as valet:
        assert call(valet, {}, "/echo").status_code == 200
    assert any("an observer of tokenvalet raised RuntimeError" in line for line in log.lines())
    assert found(stage.plants(), log.texts()) == []


# What the API says --------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-162", "S-166", "S-084")
@pytest.mark.parametrize(
    "challenge",
    [
        'DPoP error="insufficient_user_authentication", acr_values="level-2 \x9b31m", max_age="5"',
        'DPoP error="invalid_token", error_description="no", algs="RS256 \x9b31m"',
    ],
    ids=["step up", "algorithms"],
)
def test_a_challenge_that_raises_an_error_shows_no_token(
    challenge: str, call: Callable[..., httpx2.Response], stage: Stage, log: LogRecords
) -> None:
    stage.api.reject_next(challenge=challenge)
    with stage.valet("client_secret_basic", dpop=True) as valet:
        error = error_of(lambda: call(valet, {}, "/echo"))
    assert isinstance(error, TokenValetError)
    assert not isinstance(error, OriginError)
    assert "\x9b" not in str(error) + "".join(map(str, vars(error).values()))
    assert leaks(stage, error, log, []) == []


@pytest.mark.standards("S-162", "S-205")
def test_a_401_for_which_no_token_could_be_had_hands_over_an_error_without_secrets(
    call: Callable[..., httpx2.Response], stage: Stage, log: LogRecords
) -> None:
    with stage.valet("client_secret_basic", dpop=True) as valet:
        assert call(valet, {}, "/echo").status_code == 200
        stage.auth.revoke_all()
        stage.auth.misbehave(Fault.oauth_error("invalid_client", status=401), times=None)
        response = call(valet, {}, "/echo")
    assert response.status_code == 401
    error = response.extensions["tokenvalet.error"]
    assert isinstance(error, TokenValetError)
    assert leaks(stage, error, log, []) == []
    assert found(stage.plants(), shown_by_value("the extensions", dict(response.extensions))) == []
    with pytest.raises(httpx2.HTTPStatusError) as caught:
        response.raise_for_status()
    assert leaks(stage, caught.value, log, []) == []


# Cancelling ---------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-162", "S-201")
@pytest.mark.parametrize("where", ["token endpoint", "api"])
def test_a_call_that_is_cancelled_shows_no_token(where: str, stage: Stage, log: LogRecords) -> None:
    caught: list[BaseException] = []

    async def main(valet: TokenValet) -> None:
        async with valet.async_client("m2m") as api:
            task = asyncio.create_task(api.get("/records"))
            seen = stage.auth.token_requests if where == "token endpoint" else server.requests
            while not seen:
                await asyncio.sleep(0.002)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as error:
                caught.append(error)

    with RawServer(never_answer) as server, stage.valet("client_secret_basic", dpop=True, base_url=server.url) as valet:
        stage.auth.token_delay = 0.2 if where == "token endpoint" else 0.0
        asyncio.run(main(valet), debug=True)
        plants = sent_to(server)
    assert len(caught) == 1
    assert leaks(stage, caught[0], log, plants) == []


# A debug page -------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-162")
def test_a_debug_page_of_a_web_host_shows_no_secret(stage: Stage) -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    with (
        RawServer(BROKEN["no HTTP"]) as server,
        stage.valet("client_secret_basic", dpop=True, base_url=server.url) as valet,
    ):

        async def records(request: Request) -> PlainTextResponse:
            async with valet.async_client("m2m") as api:
                await api.get("/records")
            raise AssertionError

        app = Starlette(debug=True, routes=[Route("/", records)])
        with serve(app) as host, httpx2.Client() as browser:
            page = browser.get(host.url, headers={"accept": "text/html"})
        assert page.status_code == 500
        assert "RemoteProtocolError" in page.text
        assert found([*stage.plants(), *sent_to(server)], [("the page", page.text)]) == []
