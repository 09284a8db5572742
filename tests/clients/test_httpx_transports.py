"""httpx2 and httpx: transports of the user's own inside ours, extensions, and options that are not for a client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from tokenvalet import ClientConfig, ConfigurationError, TokenValet
from tokenvalet.clients.leftovers import scrub
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve

SECRET = "a-secret-of-the-tests"


@pytest.fixture(params=[httpx2, httpx], ids=["httpx2", "httpx"])
def library(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def api() -> Iterator[ProtectedApi]:
    auth = AuthorizationServer([RegisteredClient(client_id="web", client_secret=SECRET)])
    served = ProtectedApi(auth)
    with serve(auth), serve(served):
        yield served


@pytest.fixture
def valet(api: ProtectedApi) -> Iterator[TokenValet]:
    config = ClientConfig(
        token_endpoint=api.auth.token_endpoint,
        client_id="web",
        client_secret=SECRET,
        base_url=api.origin,
        dpop=True,
    )
    with TokenValet({"m2m": config}) as made:
        yield made


def recording(library: Any) -> Any:
    """Return a transport of the user's own, that needs to be entered, and answers by itself."""

    class Recording(library.BaseTransport, library.AsyncBaseTransport):  # type: ignore[misc]
        def __init__(self) -> None:
            self.told: list[str] = []

        def __enter__(self) -> Any:
            self.told.append("entered")
            return self

        def __exit__(self, *exception: object) -> None:
            self.told.append("left")

        async def __aenter__(self) -> Any:
            return self.__enter__()

        async def __aexit__(self, *exception: object) -> None:
            self.__exit__()

        def handle_request(self, request: Any) -> Any:
            self.told.append("proof" if "dpop" in request.headers else "bare")
            return library.Response(200, json={})

        async def handle_async_request(self, request: Any) -> Any:
            return self.handle_request(request)

        def close(self) -> None:
            self.told.append("closed")

        async def aclose(self) -> None:
            self.close()

    return Recording()


def test_a_transport_of_the_users_own_is_entered_used_and_left_with_the_client(
    valet: TokenValet, api: ProtectedApi, library: Any
) -> None:
    inner = recording(library)
    with library.Client(transport=valet.transport("m2m", library, inner=inner)) as client:
        assert client.get(api.origin + "/echo").status_code == 200
    assert inner.told == ["entered", "proof", "left"]
    inner = recording(library)
    library.Client(transport=valet.transport("m2m", library, inner=inner)).close()
    assert inner.told == ["closed"]


def test_it_is_so_for_asynchronous_clients_too(valet: TokenValet, api: ProtectedApi, library: Any) -> None:
    async def use(inner: Any, other: Any) -> None:
        async with library.AsyncClient(transport=valet.transport("m2m", library, inner=inner)) as client:
            assert (await client.get(api.origin + "/echo")).status_code == 200
        await library.AsyncClient(transport=valet.transport("m2m", library, inner=other)).aclose()

    inner, other = recording(library), recording(library)
    asyncio.run(use(inner, other))
    assert (inner.told, other.told) == (["entered", "proof", "left"], ["closed"])


def test_entering_a_client_without_a_transport_of_ones_own_is_fine(
    valet: TokenValet, api: ProtectedApi, library: Any
) -> None:
    async def use() -> int:
        async with library.AsyncClient(transport=valet.transport("m2m", library)) as client:
            status: int = (await client.get(api.origin + "/echo")).status_code
        await valet.aclose()
        return status

    with library.Client(transport=valet.transport("m2m", library)) as client:
        assert client.get(api.origin + "/echo").status_code == 200
    assert asyncio.run(use()) == 200


@pytest.mark.standards("S-093")
@pytest.mark.parametrize("target", [b"/echo/a%2Fb//c", b"/echo?q=/other", b"/echo/./../echo"])
def test_a_target_that_an_extension_sets_is_what_the_proof_is_for(
    valet: TokenValet, api: ProtectedApi, library: Any, target: bytes
) -> None:
    with library.Client(transport=valet.transport("m2m", library)) as client:
        client.get(api.origin + "/somewhere/else", extensions={"target": target})
    [call] = api.calls
    assert call.proof_claims is not None
    assert call.path == target.decode().partition("?")[0]
    assert call.proof_claims["htu"] == api.origin + call.path


def test_an_extension_of_the_callers_is_handed_on_and_not_changed(
    valet: TokenValet, api: ProtectedApi, library: Any
) -> None:
    given = {"timeout": {"read": 5.0, "connect": 5.0, "write": 5.0, "pool": 5.0}, "of-my-own": 1}
    kept = {name: dict(value) if isinstance(value, dict) else value for name, value in given.items()}
    api.require_dpop_nonce = True  # so that the first answer is read and thrown away
    with library.Client(transport=valet.transport("m2m", library)) as client:
        request = library.Request("GET", api.origin + "/echo", extensions=given)
        assert client.send(request).status_code == 200
    assert (given, request.extensions) == (kept, kept)
    assert len(api.calls) == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("auth", ("somebody", "password")),
        ("verify", False),
        ("cert", "cert.pem"),
        ("proxy", "http://127.0.0.1:3128"),
        ("mounts", {}),
        ("trust_env", True),
        ("http1", True),
        ("http2", True),
        ("limits", None),
    ],
)
def test_an_option_that_would_go_past_the_token_is_refused_with_the_remedy(
    valet: TokenValet, option: str, value: Any
) -> None:
    for make in (valet.client, valet.async_client):
        with pytest.raises(ConfigurationError, match=f"{option}= cannot be given here") as raised:
            make("m2m", **{option: value})
        assert raised.value.code == "unfit_client_option"


@pytest.mark.parametrize("unfit", [asyncio, "httpx", 1])
def test_a_library_that_is_neither_is_refused(valet: TokenValet, unfit: ModuleType) -> None:
    with pytest.raises(ConfigurationError) as raised:
        valet.transport("m2m", unfit)
    assert raised.value.code == "unknown_library"


@pytest.mark.standards("S-162")
def test_every_error_of_a_group_loses_its_frames() -> None:
    def fail(number: int) -> None:
        raise OSError(number)

    errors: list[Exception] = []
    for number in range(2):
        try:
            fail(number)
        except OSError as error:
            errors.append(error)
    cause = ExceptionGroup("both", errors)
    with pytest.raises(ConnectionError) as raised:
        raise ConnectionError from cause
    scrub(raised.value)
    assert [one.__traceback__ for one in (raised.value, cause, *errors)] == [None] * 4
