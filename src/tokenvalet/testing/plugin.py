"""Fixtures for the tests of programs that use tokenvalet; pytest finds them where the package is installed.

    def test_the_handler_reads_the_records(tokenvalet_valet, tokenvalet_server):
        assert my_handler(tokenvalet_valet) == ...
        tokenvalet_server.assert_token_requests(1, scope="records:read")

pytest loads this module in every run of everybody's tests, so that it imports nothing but pytest: the servers come with the
first fixture that is used. They need the `testing` extra. `docs/testing.md` has it all.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..config import ClientConfig
    from ..valet import TokenValet
    from .authorization_server import AuthorizationServer
    from .in_process import InProcessNetwork
    from .movable_clock import MovableClock
    from .protected_api import ProtectedApi

ISSUER = "https://login.tokenvalet.test"
API = "https://api.tokenvalet.test"
_SETTINGS = {"name": "test", "client_id": "test-client", "client_secret": "the-secret-of-a-test-and-of-nothing-else"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one setting."""
    parser.addini(
        "tokenvalet_socket",
        "serve the authorization server and the API of tokenvalet's fixtures on ports of this machine",
        type="bool",
        default=False,
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "tokenvalet(socket=False, **settings): how the fixtures of tokenvalet are set up for this test: on a socket or "
        "not, and the settings of the client, such as name, scope and dpop",
    )


def _marked(request: pytest.FixtureRequest) -> dict[str, Any]:
    marked: dict[str, Any] = {}
    # The nearest one comes first, and has the last word.
    for mark in reversed(list(request.node.iter_markers("tokenvalet"))):
        if mark.args:
            raise pytest.UsageError("the marker tokenvalet takes names and values, such as scope=['records:read']")
        marked |= mark.kwargs
    return marked


def _settings(request: pytest.FixtureRequest, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `ClientConfig` for a test."""
    every = {**settings, **_marked(request)}
    return {name: value for name, value in every.items() if name not in ("name", "socket")}


def _of_the_extra(name: str, module: str = "") -> Any:
    """Return a name of `tokenvalet.testing`, or end the test with a sentence where the extra is not installed."""
    try:
        return getattr(importlib.import_module(f"tokenvalet.testing.{module}".rstrip(".")), name)
    except ModuleNotFoundError as error:
        missing = error.name
        if missing is None or missing.partition(".")[0] not in ("joserfc", "starlette", "uvicorn"):
            raise
    pytest.fail(f"{missing} is missing: pip install 'tokenvalet[testing]'", pytrace=False)


@pytest.fixture
def tokenvalet_socket(request: pytest.FixtureRequest) -> bool:
    """Whether the servers are on ports of this machine; otherwise they are reached without a socket."""
    return bool(_marked(request).get("socket", request.config.getini("tokenvalet_socket")))


@pytest.fixture
def tokenvalet_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The settings of the client that `tokenvalet_valet` has: a `name`, and those of `ClientConfig`.

    Override it in a conftest.py to have those of your program; a marker changes them for one test.
    """
    return dict(_SETTINGS)


@pytest.fixture
def tokenvalet_clock() -> MovableClock:
    """The clock that the valet and both servers go by; it stands still until it is moved."""
    made: MovableClock = _of_the_extra("MovableClock")()
    return made


@pytest.fixture
def tokenvalet_network() -> InProcessNetwork:
    """What the servers are reached over without a socket; `attach` has a valet of your own use it."""
    made: InProcessNetwork = _of_the_extra("InProcessNetwork")()
    return made


@pytest.fixture
def tokenvalet_server(
    request: pytest.FixtureRequest,
    tokenvalet_clock: MovableClock,
    tokenvalet_network: InProcessNetwork,
    tokenvalet_socket: bool,
    tokenvalet_settings: dict[str, Any],
) -> Iterator[AuthorizationServer]:
    """A strict authorization server, which knows the client of `tokenvalet_settings` and grants it what it asks for.

    It knows its secret or its public key; a client with a certificate or with assertions of others is to be registered.
    """
    server: AuthorizationServer = _of_the_extra("AuthorizationServer")(clock=tokenvalet_clock.time)
    client = _of_the_extra("registered", "registration")(_settings(request, tokenvalet_settings))
    if client is not None:
        server.register(client)
    yield from _served(server, ISSUER, tokenvalet_network, tokenvalet_socket)


@pytest.fixture
def tokenvalet_api(
    tokenvalet_server: AuthorizationServer, tokenvalet_network: InProcessNetwork, tokenvalet_socket: bool
) -> Iterator[ProtectedApi]:
    """A strict API that takes the tokens of `tokenvalet_server`, Bearer and DPoP."""
    yield from _served(_of_the_extra("ProtectedApi")(tokenvalet_server), API, tokenvalet_network, tokenvalet_socket)


@pytest.fixture
def tokenvalet_config(
    request: pytest.FixtureRequest,
    tokenvalet_server: AuthorizationServer,
    tokenvalet_api: ProtectedApi,
    tokenvalet_settings: dict[str, Any],
) -> Mapping[str, ClientConfig]:
    """The client of `tokenvalet_settings`, configured for both servers: what to make a valet of your own of."""
    from ..config import ClientConfig

    settings = _settings(request, tokenvalet_settings)
    name = {**tokenvalet_settings, **_marked(request)}["name"]
    return {name: ClientConfig(**{"issuer": tokenvalet_server.issuer, "base_url": tokenvalet_api.origin, **settings})}


@pytest.fixture
def tokenvalet_valet(
    tokenvalet_config: Mapping[str, ClientConfig],
    tokenvalet_clock: MovableClock,
    tokenvalet_network: InProcessNetwork,
    tokenvalet_socket: bool,
) -> Iterator[TokenValet]:
    """A valet with that one client, which reaches both servers and, without a socket, nobody else."""
    from ..valet import TokenValet

    with TokenValet(tokenvalet_config, clock=tokenvalet_clock) as valet:
        if not tokenvalet_socket:
            tokenvalet_network.attach(valet)
        yield valet


def _served(server: Any, url: str, network: InProcessNetwork, socket: bool) -> Iterator[Any]:
    if not socket:
        network.serve(server, url)
        yield server
        return
    with _of_the_extra("serve")(server):
        yield server
