"""The recipes for the SDKs of OpenAI and Anthropic run with those SDKs, against an API of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from examples.inference_api import WORDS, InferenceApi
from examples.test_web_host import module_of
from tokenvalet import ClientConfig, OriginError, TokenRefusedError, TokenValet
from tokenvalet.testing import AuthorizationServer, Fault, RegisteredClient, serve

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "recipes"
SECRET = "a-secret-of-the-recipes"
ANSWER = "".join(WORDS)
KEYS = ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")


@pytest.fixture(params=["openai_sdk", "anthropic_sdk"])
def recipe(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The recipe, on a machine where keys of somebody are in the environment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in KEYS:
        monkeypatch.setenv(name, "a-key-of-somebody")
    return module_of(RECIPES / request.param / "recipe.py")


@pytest.fixture
def api() -> Iterator[InferenceApi]:
    auth = AuthorizationServer([RegisteredClient(client_id="app", client_secret=SECRET)])
    api = InferenceApi(auth)
    with serve(auth), serve(api):
        yield api


@pytest.fixture
def make_valet(recipe: Any, api: InferenceApi) -> Iterator[Callable[..., TokenValet]]:
    made: list[TokenValet] = []

    def make(**settings: Any) -> TokenValet:
        known = {
            "issuer": api.auth.issuer,
            "client_id": "app",
            "client_secret": SECRET,
            # As each SDK wants it.
            "base_url": api.origin + ("/v1" if hasattr(recipe, "OpenAI") else ""),
        }
        made.append(TokenValet({"llm": ClientConfig(**{**known, **settings})}))
        return made[-1]

    yield make
    for valet in made:
        valet.close()


async def asked(recipe: Any, valet: TokenValet) -> str:
    async with recipe.async_sdk(valet) as sdk:
        said: str = await recipe.ask_as_a_stream(sdk, "What is a token?")
    await valet.aclose()
    return said


def test_every_question_carries_the_token_and_nothing_else(recipe: Any, make_valet: Any, api: InferenceApi) -> None:
    valet = make_valet()
    with recipe.sdk(valet) as sdk:
        assert [recipe.ask(sdk, "What is a token?") for _ in range(2)] == [ANSWER] * 2
    assert asyncio.run(asked(recipe, valet)) == ANSWER
    (token,) = api.auth.issued_tokens
    assert [one.authorization for one in api.asked] == [[f"Bearer {token}"]] * 3
    assert [one.key for one in api.asked] == [[]] * 3


def test_a_rejected_token_is_replaced_and_the_sdk_notices_nothing(
    recipe: Any, make_valet: Any, api: InferenceApi
) -> None:
    valet = make_valet()
    valet.token("llm")
    api.auth.revoke_all()
    with recipe.sdk(valet) as sdk:
        assert recipe.ask(sdk, "What is a token?") == ANSWER
    assert [one.status for one in api.asked] == [401, 200]
    assert asyncio.run(asked(recipe, valet)) == ANSWER
    assert api.auth.issued == 2


def test_the_retries_of_the_sdk_carry_the_token_too(recipe: Any, make_valet: Any, api: InferenceApi) -> None:
    api.busy = 1
    with recipe.sdk(make_valet()) as sdk:
        assert recipe.ask(sdk, "What is a token?") == ANSWER
    assert [one.status for one in api.asked] == [503, 200]
    assert api.auth.issued == 1


def reason(recipe: Any, error: BaseException) -> BaseException | None:
    """Return what of a valet is in an error: OpenAI's SDK lets it through, and Anthropic's has it as the cause."""
    if hasattr(recipe, "OpenAI"):
        return error
    assert isinstance(error, anthropic.APIConnectionError)
    return error.__cause__


def test_why_there_is_no_token_can_be_seen(recipe: Any, make_valet: Any, api: InferenceApi) -> None:
    api.auth.misbehave(Fault.oauth_error("invalid_client", status=401), None)
    with recipe.sdk(make_valet()) as sdk, pytest.raises(Exception) as raised:
        recipe.ask(sdk.with_options(max_retries=1), "What is a token?")
    assert isinstance(reason(recipe, raised.value), TokenRefusedError)
    assert api.asked == []
    # The retries of an SDK are not felt by the provider.
    assert len(api.auth.token_requests) == 1


def test_no_token_goes_to_another_address(recipe: Any, make_valet: Any, api: InferenceApi) -> None:
    with recipe.sdk(make_valet()) as sdk, pytest.raises(Exception) as raised:
        recipe.ask(sdk.with_options(base_url="https://evil.example/v1", max_retries=0), "What is a token?")
    assert isinstance(reason(recipe, raised.value), OriginError)
    assert api.auth.token_requests == []
