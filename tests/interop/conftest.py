"""The fixtures of this room: one Node process per test session (and xdist worker), its counters at zero for each test.

Where Node.js is not there, the tests are skipped with the reason; with CI=true in the environment they fail instead, so
that a pipeline cannot lose them unseen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from interop.harness import Provider, Unavailable, install, start


@pytest.fixture(scope="session")
def node() -> str:
    """The path of node, with the packages installed."""
    try:
        return install()
    except Unavailable as reason:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def running_provider(node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """Both servers, started once."""
    with start(node, tmp_path_factory.mktemp("interop")) as provider:
        yield provider


@pytest.fixture
def provider(running_provider: Provider) -> Provider:
    """Both servers, with all counters at zero and nonces required at both ends."""
    running_provider.reset()
    return running_provider
