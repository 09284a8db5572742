"""The fixtures of this room: Redis servers, one for each test that wants one, and folders.

Where redis-server is not there, the tests are skipped with the reason; with CI=true in the environment they fail instead,
so that a pipeline cannot lose them unseen.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stores.redis_server import RedisServer, Unavailable, executable


@pytest.fixture(scope="session")
def redis_installed() -> None:
    """redis-server and redis-cli are there."""
    try:
        executable()
        executable("redis-cli")
    except Unavailable as reason:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))


@pytest.fixture
def place(redis_installed: None) -> Iterator[Path]:
    """A folder with a short path, as Unix sockets need it."""
    folder = Path(tempfile.mkdtemp(prefix="tv-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def server(place: Path) -> Iterator[RedisServer]:
    """A redis-server on a Unix socket."""
    with RedisServer(place) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a store in a folder may be."""
    return tmp_path / "tokens"
