"""docs/how_to/clients.md is run: every example, one after the other, as a reader would."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from tokenvalet import TokenParameters, TokenValet
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve

PAGE = (Path(__file__).parents[2] / "docs" / "how_to" / "clients.md").read_text(encoding="utf-8")
SECRET = "a-secret-of-the-documentation"


def test_every_example_runs() -> None:
    client = RegisteredClient(client_id="records-web", client_secret=SECRET, scopes=("records:read",))
    auth = AuthorizationServer([client])
    api = ProtectedApi(auth)
    with serve(auth), serve(api):
        settings = {
            "token_endpoint": auth.token_endpoint,
            "client_id": "records-web",
            "client_secret": SECRET,
            "base_url": api.origin,
        }
        with TokenValet.from_dict({"clients": {"m2m": settings}}) as valet:
            names: dict[str, Any] = {"valet": valet, "TokenParameters": TokenParameters, "BASE_URL": api.origin}
            for example in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
                exec(example, names)

            async def of_aiohttp() -> tuple[Any, int]:
                found = await names["records"](), await names["echo"]()
                assert await names["records_fast"]() == found[0]
                await valet.aclose()
                return found

            records, status = asyncio.run(of_aiohttp())
            names["session"].close()
    assert (len(records), status) == (3, 200)
    assert {call.status for call in api.calls} == {200}
    assert [asked.form.get("scope") for asked in auth.token_requests] == [None, ["records:read"]]
