"""The recipe for gRPC runs with grpcio, against a server of this machine, over TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from contract.servers import Watched, claims_of, until
from examples.grpc_api import GrpcApi
from examples.test_web_host import module_of
from secrecy.walker import Plant, found, shown_by_error
from tokenvalet import ClientConfig, TokenValet
from tokenvalet.testing import AuthorizationServer, Fault, RegisteredClient, serve

SECRET = "a-secret-of-the-recipes"
RECIPE: Any = module_of(Path(__file__).resolve().parents[2] / "examples" / "recipes" / "grpc_calls" / "recipe.py")
AUTHORITY = trustme.CA()
TLS = grpc.ssl_channel_credentials(AUTHORITY.cert_pem.bytes())


@pytest.fixture
def provider() -> Iterator[Watched]:
    """An authorization server, which can be told to keep its answers back."""
    watched = Watched(AuthorizationServer([RegisteredClient(client_id="app", client_secret=SECRET)]))
    with serve(watched):
        yield watched


@pytest.fixture
def api(provider: Watched, monkeypatch: pytest.MonkeyPatch) -> Iterator[GrpcApi]:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(provider.subject, AuthorizationServer)
    with GrpcApi(provider.subject, AUTHORITY) as served:
        yield served


@pytest.fixture
def make_valet(api: GrpcApi) -> Iterator[Callable[..., TokenValet]]:
    made: list[TokenValet] = []

    def make(**settings: Any) -> TokenValet:
        known = {
            "token_endpoint": api.auth.token_endpoint,
            "client_id": "app",
            "client_secret": SECRET,
            "base_url": f"https://{api.target}",
        }
        made.append(TokenValet({"m2m": ClientConfig(**{**known, **settings})}))
        return made[-1]

    yield make
    for valet in made:
        valet.close()


def unary(channel: grpc.Channel) -> Any:
    return channel.unary_unary("/echo/Unary")(b"a", timeout=20)


def many(channel: grpc.Channel) -> list[Any]:
    return list(channel.unary_stream("/echo/Many")(b"a", timeout=20))


def collect(channel: grpc.Channel) -> Any:
    return channel.stream_unary("/echo/Collect")(iter([b"a", b"b"]), timeout=20)


def chat(channel: grpc.Channel) -> list[Any]:
    return list(channel.stream_stream("/echo/Chat")(iter([b"a", b"b"]), timeout=20))


async def aio_unary(channel: grpc.aio.Channel) -> Any:
    return await channel.unary_unary("/echo/Unary")(b"a", timeout=20)


async def aio_many(channel: grpc.aio.Channel) -> list[Any]:
    return [one async for one in channel.unary_stream("/echo/Many")(b"a", timeout=20)]


async def aio_collect(channel: grpc.aio.Channel) -> Any:
    return await channel.stream_unary("/echo/Collect")(iter([b"a", b"b"]), timeout=20)


async def aio_chat(channel: grpc.aio.Channel) -> list[Any]:
    return [one async for one in channel.stream_stream("/echo/Chat")(iter([b"a", b"b"]), timeout=20)]


KINDS = {
    "unary": (unary, aio_unary),
    "many": (many, aio_many),
    "collect": (collect, aio_collect),
    "chat": (chat, aio_chat),
}
ECHOED = {"unary": b"a", "many": [b"a"] * 3, "collect": b"ab", "chat": [b"a", b"b"]}
STREAMS = [kind for kind in KINDS if kind != "unary"]


@pytest.fixture(params=["sync", "aio"])
def call(request: pytest.FixtureRequest) -> Callable[[TokenValet, str, str], Any]:
    """Makes one call of a kind, on a channel of its own, blocking or on an event loop."""

    def blocking(valet: TokenValet, target: str, kind: str) -> Any:
        with RECIPE.channel(valet, target, TLS) as channel:
            return KINDS[kind][0](channel)

    def on_a_loop(valet: TokenValet, target: str, kind: str) -> Any:
        async def run() -> Any:
            async with RECIPE.aio_channel(valet, target, TLS) as channel:
                return await KINDS[kind][1](channel)

        return asyncio.run(run())

    return blocking if request.param == "sync" else on_a_loop


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_call_carries_the_token(call: Any, kind: str, make_valet: Any, api: GrpcApi) -> None:
    valet = make_valet()
    for _ in range(2):
        assert call(valet, api.target, kind) == ECHOED[kind]
    (token,) = api.auth.issued_tokens
    assert [one.authorization for one in api.seen] == [[f"Bearer {token}"]] * 2


def test_a_rejected_token_is_replaced_once_and_a_unary_call_made_once_more(
    call: Any, make_valet: Any, api: GrpcApi
) -> None:
    valet = make_valet()
    valet.token("m2m")
    api.auth.revoke_all()
    assert call(valet, api.target, "unary") == b"a"
    assert [one.let_in for one in api.seen] == [False, True]
    assert api.auth.issued == 2


def test_a_future_is_made_once_more_too(make_valet: Any, api: GrpcApi) -> None:
    valet = make_valet()
    valet.token("m2m")
    api.auth.revoke_all()
    with RECIPE.channel(valet, api.target, TLS) as channel:
        assert channel.unary_unary("/echo/Unary").future(b"a").result(20) == b"a"
    assert [one.let_in for one in api.seen] == [False, True]


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_is_not_made_again_and_the_next_one_has_a_new_token(
    call: Any, kind: str, make_valet: Any, api: GrpcApi
) -> None:
    valet = make_valet()
    valet.token("m2m")
    api.auth.revoke_all()
    code, attempts = grpc.StatusCode.INTERNAL, 0
    # Which gRPC says by itself where the API has answered before all messages of a stream were sent.
    while code is grpc.StatusCode.INTERNAL and attempts < 10:
        attempts += 1
        with pytest.raises(grpc.RpcError) as raised:
            call(valet, api.target, kind)
        code = raised.value.code()
    assert code is grpc.StatusCode.UNAUTHENTICATED
    until(lambda: api.auth.issued == 2)
    assert call(valet, api.target, kind) == ECHOED[kind]
    assert [one.let_in for one in api.seen] == [False] * attempts + [True]


def test_an_api_that_rejects_every_token_costs_one_renewal(call: Any, make_valet: Any, api: GrpcApi) -> None:
    api.rejects_all = True
    with pytest.raises(grpc.RpcError) as raised:
        call(make_valet(), api.target, "unary")
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert [one.let_in for one in api.seen] == [False, False]
    assert api.auth.issued == 2


def test_what_no_new_token_would_mend_is_left_to_the_caller(call: Any, make_valet: Any, api: GrpcApi) -> None:
    api.rejects_all = True
    api.challenge = 'Bearer error="insufficient_scope"'
    with pytest.raises(grpc.RpcError):
        call(make_valet(), api.target, "unary")
    assert [one.let_in for one in api.seen] == [False]
    assert api.auth.issued == 1


@pytest.mark.parametrize("kind", KINDS)
def test_why_there_is_no_token_can_be_seen_and_no_secret(call: Any, kind: str, make_valet: Any, api: GrpcApi) -> None:
    api.auth.misbehave(Fault.oauth_error("invalid_client", status=401), None)
    with pytest.raises(grpc.RpcError) as raised:
        call(make_valet(), api.target, kind)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "client 'm2m'" in raised.value.details()
    assert "invalid_client" in raised.value.details()
    assert found([Plant.of("secret", SECRET)], shown_by_error(raised.value)) == []
    assert api.seen == []
    assert len(api.auth.token_requests) == 1


@pytest.mark.standards("S-140")
def test_no_token_goes_to_another_address(call: Any, make_valet: Any, api: GrpcApi) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        call(make_valet(base_url="https://api.example.org"), api.target, "unary")
    assert "allowed_origins" in raised.value.details()
    assert api.seen == []
    assert api.auth.token_requests == []


def test_no_token_goes_over_a_channel_without_tls(make_valet: Any, api: GrpcApi) -> None:
    valet = make_valet(allowed_origins=[f"https://{api.insecure_target}"])
    bare = grpc.insecure_channel(api.insecure_target)
    with (
        grpc.intercept_channel(bare, RECIPE.ValetInterceptor(valet)) as channel,
        pytest.raises(grpc.RpcError) as raised,
    ):
        unary(channel)
    assert "security level" in raised.value.details()
    assert api.seen == []
    assert api.auth.token_requests == []


def test_a_bound_token_comes_with_a_proof_for_the_method(call: Any, make_valet: Any, api: GrpcApi) -> None:
    valet = make_valet(dpop=True)
    valet.token("m2m")
    api.auth.revoke_all()
    api.challenge = 'DPoP error="invalid_token"'
    assert call(valet, api.target, "unary") == b"a"
    assert [one.authorization[0].partition(" ")[0] for one in api.seen] == ["DPoP"] * 2
    claims = [claims_of(one.proofs[0]) for one in api.seen]
    assert {(one["htm"], one["htu"]) for one in claims} == {("POST", f"https://{api.target}/echo/Unary")}
    assert len({one["jti"] for one in claims}) == 2


@pytest.mark.parametrize("at_first", ["no token", "a rejected one"])
def test_the_event_loop_goes_on_while_a_token_is_got(
    at_first: str, make_valet: Any, api: GrpcApi, provider: Watched
) -> None:
    valet = make_valet()
    if at_first == "a rejected one":
        valet.token("m2m")
        api.auth.revoke_all()

    async def run() -> Any:
        asked_before = len(api.auth.token_requests)
        provider.hold()
        async with asyncio.timeout(20), RECIPE.aio_channel(valet, api.target, TLS) as channel:
            calling = asyncio.create_task(aio_unary(channel))
            # Were the loop to wait for the token, nobody would let the provider answer.
            while len(api.auth.token_requests) == asked_before:
                await asyncio.sleep(0.002)
            provider.release()
            return await calling

    try:
        assert asyncio.run(run()) == b"a"
    finally:
        provider.release()
