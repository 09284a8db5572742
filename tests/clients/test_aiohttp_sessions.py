"""aiohttp: sessions of the user's own, other middlewares beside ours, and requests that the library sends anew."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
import trustme

from contract.servers import Recorder, claims_of
from support.raw_server import RawServer, read_request
from tokenvalet import ConfigurationError, OriginError, TokenParameters, TokenValet
from tokenvalet.testing import ProtectedApi, serve

Make = Callable[..., TokenValet]
T = TypeVar("T")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def run(valet: TokenValet, function: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        async with valet:
            return await function()

    return asyncio.run(main())


async def status(session: aiohttp.ClientSession, url: str, **options: Any) -> int:
    async with session.get(url, **options) as response:
        await response.read()
        return response.status


@pytest.mark.parametrize("name", ["connector", "middlewares", "trust_env", "auth", "proxy", "request_class"])
def test_what_would_get_round_the_token_cannot_be_given_to_a_ready_session(make_valet: Make, name: str) -> None:
    valet = make_valet()

    async def make() -> None:
        valet.aiohttp_session("m2m", **{name: None})

    with pytest.raises(ConfigurationError, match=rf"aiohttp_session\(\): {name}=") as raised:
        run(valet, make)
    assert raised.value.code == "unfit_client_option"


@pytest.mark.parametrize("setting", [{"ssl": False}, {"proxy": "http://127.0.0.1:1"}])
def test_what_the_configuration_decides_cannot_be_given_with_a_request(
    make_valet: Make, served: ProtectedApi, setting: dict[str, Any]
) -> None:
    valet = make_valet()

    async def call() -> None:
        async with valet.aiohttp_session("m2m") as session:
            await status(session, "echo", **setting)

    with pytest.raises(ConfigurationError) as raised:
        run(valet, call)
    assert raised.value.code == "unfit_client_option"
    assert (served.calls, served.auth.token_requests) == ([], [])


def test_a_ready_session_sends_nothing_without_a_middleware_of_ours(make_valet: Make, served: ProtectedApi) -> None:
    valet = make_valet()

    async def call() -> int:
        async with valet.aiohttp_session("m2m") as session:
            for _ in range(2):
                with pytest.raises(ConfigurationError) as raised:
                    await status(session, "echo", middlewares=[])
                assert raised.value.code == "middleware_left_out"
                assert await status(session, "echo") == 200
            own = valet.aiohttp_middleware("m2m", token_parameters=TokenParameters(scope="records:write"))
            return await status(session, "echo", middlewares=[own])

    assert run(valet, call) == 200
    assert [call.status for call in served.calls] == [200, 200, 200]
    assert [asked.form.get("scope") for asked in served.auth.token_requests] == [None, ["records:write"]]


def test_a_path_is_put_behind_the_whole_base_url(make_valet: Make, served: ProtectedApi) -> None:
    valet = make_valet(base_url=served.origin + "/echo")

    async def call() -> int:
        async with valet.aiohttp_session("m2m") as session:
            return await status(session, "records")

    assert run(valet, call) == 200
    assert served.calls[0].path == "/echo/records"


@pytest.mark.parametrize("dpop", [False, True])
def test_a_middleware_that_sends_a_request_twice_at_once_gets_two_answers(
    make_valet: Make, served: ProtectedApi, dpop: bool
) -> None:
    valet = make_valet(dpop=dpop)

    async def hedge(request: Any, handler: Any) -> Any:
        first, second = await asyncio.gather(handler(request), handler(request))
        first.release()
        assert "Authorization" not in request.headers
        return second

    async def call() -> int:
        async with aiohttp.ClientSession(middlewares=[hedge, valet.aiohttp_middleware("m2m")]) as session:
            await valet.async_token("m2m")
            return await status(session, served.origin + "/echo")

    assert run(valet, call) == 200
    assert [call.status for call in served.calls] == [200, 200]


def test_a_request_that_aiohttp_sends_anew_has_a_proof_of_its_own(make_valet: Make) -> None:
    received: list[bytes] = []

    def behave(connection: socket.socket, request: bytes) -> None:
        """Keep the first connection, and break it when it is used again."""
        received.append(request)
        connection.sendall(OK)
        if len(received) == 1:
            received.append(read_request(connection))

    with RawServer(behave) as raw:
        valet = make_valet(dpop=True, base_url=raw.url)

        async def call() -> list[int]:
            async with valet.aiohttp_session("m2m") as session:
                return [await status(session, "records") for _ in range(2)]

        assert run(valet, call) == [200, 200]
        sent = [
            line.partition(b": ")[2].decode()
            for request in received
            for line in request.split(b"\r\n")
            if line.lower().startswith(b"dpop:")
        ]
    assert len(sent) == 3
    assert len({claims_of(proof)["jti"] for proof in sent}) == 3


def test_the_authorities_of_the_configuration_hold_on_a_session_of_ones_own(
    make_valet: Make, served: ProtectedApi, tmp_path: Path
) -> None:
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    secure = ProtectedApi(served.auth)
    with serve(secure, ssl_context=context):
        valet = make_valet(base_url=secure.origin, ca_file=str(tmp_path / "ca.pem"))

        async def call() -> int:
            async with aiohttp.ClientSession(middlewares=[valet.aiohttp_middleware("m2m")]) as session:
                with pytest.raises(ConfigurationError):
                    await status(session, secure.origin + "/echo", ssl=False)
                return await status(session, secure.origin + "/echo")

        assert run(valet, call) == 200


def test_a_redirect_is_known_for_one_in_its_own_call_only(
    make_valet: Make, served: ProtectedApi, stranger: Recorder
) -> None:
    valet = make_valet()

    async def call() -> None:
        async with valet.aiohttp_session("m2m") as session:
            assert await status(session, f"redirect?to={stranger.origin}/1") == 200
            assert await status(session, f"redirect?to={stranger.origin}/2", allow_redirects=False) == 307
            with pytest.raises(OriginError):
                await status(session, stranger.origin + "/3")

    run(valet, call)
    assert [(request.target, request.is_bare) for request in stranger.requests] == [("/1", True)]


def test_the_answer_and_its_errors_show_headers_without_a_token(make_valet: Make, served: ProtectedApi) -> None:
    valet = make_valet(dpop=True)

    async def call() -> aiohttp.ClientResponseError:
        async with valet.aiohttp_session("m2m", raise_for_status=True) as session:
            with pytest.raises(aiohttp.ClientResponseError) as raised:
                await status(session, "status/500")
            return raised.value

    error = run(valet, call)
    assert error.request_info is not None
    assert not {"authorization", "dpop"} & {name.lower() for name in error.request_info.headers}
    assert len(served.calls) == 1
