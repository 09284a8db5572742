"""docs/how_to/recipes.md: its examples run as a reader would run them, and every recipe is on it and in a test."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tokenvalet import TokenValet
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how_to" / "recipes.md").read_text(encoding="utf-8")
SECRET = "a-secret-of-the-documentation"


@pytest.fixture
def api() -> Iterator[ProtectedApi]:
    served = ProtectedApi(AuthorizationServer([RegisteredClient(client_id="records-web", client_secret=SECRET)]))
    with serve(served.auth), serve(served):
        yield served


def test_the_examples_of_one_call_run_and_put_right_what_can_be(
    api: ProtectedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    settings = {"issuer": api.auth.issuer, "client_id": "records-web", "client_secret": SECRET, "base_url": api.origin}
    api.require_dpop_nonce = True
    with TokenValet.from_dict({"clients": {"m2m": {**settings, "dpop": True}}}) as valet:
        names: dict[str, Any] = {"valet": valet, "BASE_URL": api.origin}
        for example in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
            exec(example, names)
        assert b"hr-1" in names["records"]

        async def of_httpx2() -> bytes:
            async with httpx2.AsyncClient(trust_env=False) as client:

                async def send(method: str, url: str, headers: dict[str, str]) -> tuple[int, Any, bytes]:
                    response = await client.request(method, url, headers=headers)
                    return response.status_code, response.headers, response.content

                names["send"] = send
                body: bytes = await names["fetch_async"](f"{api.origin}/echo")
                return body

        api.auth.revoke_all()
        assert b"/echo" in asyncio.run(of_httpx2())
    assert [call.status for call in api.calls] == [401, 200, 401, 200]
    assert api.auth.issued == 2


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in ROOT.glob("examples/recipes/*/recipe.py")))
def test_every_recipe_is_on_the_page_and_is_run_by_a_test(folder: str) -> None:
    assert f"{{literalinclude}} ../../examples/recipes/{folder}/recipe.py" in PAGE
    tests = [path.read_text(encoding="utf-8") for path in ROOT.glob("tests/examples/test_*recipe*.py")]
    assert any(folder in text for text in tests)
