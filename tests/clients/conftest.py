"""An authorization server, an API and a stranger, for the tests of what one HTTP library alone has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from contract.servers import Recorder
from tokenvalet import TokenValet
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve

SECRET = "a-secret-of-the-tests"


@pytest.fixture
def served() -> Iterator[ProtectedApi]:
    """An API, with its authorization server as `.auth`."""
    client = RegisteredClient(client_id="web", client_secret=SECRET, scopes=("records:read", "records:write"))
    auth = AuthorizationServer([client])
    api = ProtectedApi(auth)
    with serve(auth), serve(api):
        yield api


@pytest.fixture
def stranger() -> Iterator[Recorder]:
    """A server where no token belongs."""
    recorder = Recorder()
    with serve(recorder):
        yield recorder


@pytest.fixture
def make_valet(served: ProtectedApi) -> Iterator[Callable[..., TokenValet]]:
    """Makes a valet with a client m2m; its settings may be added to, and what the valet itself is given."""
    made: list[TokenValet] = []

    def make(*, surroundings: Mapping[str, Any] | None = None, **settings: Any) -> TokenValet:
        known = {
            "token_endpoint": served.auth.token_endpoint,
            "client_id": "web",
            "client_secret": SECRET,
            "base_url": served.origin,
        }
        made.append(TokenValet.from_dict({"clients": {"m2m": {**known, **settings}}}, **(surroundings or {})))
        return made[-1]

    yield make
    for valet in made:
        valet.close()
