"""An authorization server and an API for the tests of this folder, as new for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from secrecy.stage import Stage
from secrecy.walker import LogRecords
from tokenvalet import files
from tokenvalet.testing import AuthorizationServer, ProtectedApi, serve


@pytest.fixture(scope="session")
def servers() -> Iterator[tuple[AuthorizationServer, ProtectedApi]]:
    auth = AuthorizationServer()
    api = ProtectedApi(auth)
    with serve(auth), serve(api):
        yield auth, api


@pytest.fixture
def stage(servers: tuple[AuthorizationServer, ProtectedApi], tmp_path: Path) -> Stage:
    auth, api = servers
    auth.clients = {}
    auth.behave()
    auth.reset()
    auth.require_dpop_nonce = False
    auth.access_token_lifetime = 3600
    auth.metadata_overrides = {}
    auth.token_delay = 0.0
    api.reset()
    api.require_dpop_nonce = False
    api.delay = 0.0
    files._warned_of.clear()
    return Stage(auth, api, tmp_path)


@pytest.fixture
def log() -> Iterator[LogRecords]:
    """Every logger at DEBUG."""
    with LogRecords() as records:
        yield records
