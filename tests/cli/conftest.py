"""Servers on this machine for the commands to talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cli.command_line import SECRET
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve


@pytest.fixture
def auth() -> Iterator[AuthorizationServer]:
    client = RegisteredClient(client_id="records-web", client_secret=SECRET, scopes=("records:read", "records:write"))
    server = AuthorizationServer([client])
    with serve(server):
        yield server


@pytest.fixture
def api(auth: AuthorizationServer) -> Iterator[ProtectedApi]:
    server = ProtectedApi(auth)
    with serve(server):
        yield server
