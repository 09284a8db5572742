"""The servers, the drivers and the sessions of the suite. Servers and event loops are shared by all tests of a process."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

from contract.drivers import Custom, Driver, Session
from contract.loops import AsyncioLoop, Loops, TrioLoop
from contract.registry import CANCELLABLE, DRIVERS, POOLED
from contract.servers import Recorder, Watched
from tokenvalet import ClientConfig, TokenValet
from tokenvalet.observe import Observer
from tokenvalet.surroundings import Clock, system_clock
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, RunningServer, serve

CLIENT_ID = "records-web"
CLIENT_SECRET = "a-secret-that-is-planted-and-looked-for-Qm7x"


@pytest.fixture(scope="session")
def all_drivers() -> Iterator[dict[str, Driver]]:
    loops = Loops(asyncio=AsyncioLoop(), trio=TrioLoop())
    yield {name: entry.make(loops) for name, entry in DRIVERS.items()}
    loops.asyncio.close()
    loops.trio.close()


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, all_drivers: dict[str, Driver]) -> Driver:
    """Every driver in turn."""
    return all_drivers[request.param]


@pytest.fixture(params=CANCELLABLE)
def cancellable(request: pytest.FixtureRequest, all_drivers: dict[str, Driver]) -> Driver:
    """Every driver whose calls can be cancelled."""
    return all_drivers[request.param]


@pytest.fixture(params=POOLED)
def pooled(request: pytest.FixtureRequest, all_drivers: dict[str, Driver]) -> Driver:
    """Every driver whose sessions share the connections of the valet."""
    return all_drivers[request.param]


@pytest.fixture
def needs(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Skips the test where the library of the driver does not have something, which the list of drivers says why."""
    [kind] = {"driver", "cancellable", "pooled"} & set(request.fixturenames)
    driver: Driver = request.getfixturevalue(kind)

    def need(what: str) -> None:
        if (reason := DRIVERS[driver.name].lacks.get(what)) is not None:
            pytest.skip(f"{driver.name} has no {what}: {reason}")

    return need


# Servers


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="session")
def tls(ca: trustme.CA) -> Callable[..., ssl.SSLContext]:
    """Makes the TLS context of a server with these names."""

    def context(*names: str) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert(*names).configure_cert(made)
        return made

    return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """What runs during all tests."""

    auth: AuthorizationServer
    watched_auth: Watched
    api: ProtectedApi
    watched_api: Watched
    api_server: RunningServer
    second: ProtectedApi
    foreign: Recorder
    scripted: Recorder

    def open_connections(self) -> int:
        """How many connections to the API are open."""
        server = self.api_server._server
        assert server is not None
        return len(server.server_state.connections)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    auth = AuthorizationServer()
    api, second, foreign, scripted = ProtectedApi(auth), ProtectedApi(auth), Recorder(), Recorder()
    watched_auth, watched_api = Watched(auth), Watched(api)
    with serve(watched_auth), serve(watched_api) as api_server, serve(second), serve(foreign), serve(scripted):
        yield Servers(
            auth=auth,
            watched_auth=watched_auth,
            api=api,
            watched_api=watched_api,
            api_server=api_server,
            second=second,
            foreign=foreign,
            scripted=scripted,
        )


@pytest.fixture
def auth(servers: Servers) -> AuthorizationServer:
    """The authorization server, as new."""
    auth = servers.auth
    servers.watched_auth.release()
    auth.behave()
    auth.reset()
    auth.require_dpop_nonce = False
    auth.token_delay = 0.0
    auth.access_token_lifetime = 3600
    auth.register(registered())
    return auth


def registered(**changes: Any) -> RegisteredClient:
    scopes = ("records:read", "records:write")
    return RegisteredClient(**{"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "scopes": scopes, **changes})


def as_new(api: ProtectedApi) -> ProtectedApi:
    api.reset()
    api.audience = None
    api.require_dpop_nonce = False
    api.accept = ("Bearer", "DPoP")
    api.required_scope = None
    api.delay = 0.0
    return api


@pytest.fixture
def api(servers: Servers, auth: AuthorizationServer) -> ProtectedApi:
    """The API, as new."""
    servers.watched_api.release()
    servers.watched_api.connections.clear()
    return as_new(servers.api)


@pytest.fixture
def second_api(servers: Servers, auth: AuthorizationServer) -> ProtectedApi:
    """Another API at another origin, which takes the same tokens."""
    return as_new(servers.second)


@pytest.fixture
def connections(servers: Servers, api: ProtectedApi) -> set[tuple[str, int]]:
    """The connections that brought requests to the API."""
    return servers.watched_api.connections


@pytest.fixture
def foreign(servers: Servers) -> Recorder:
    """A server where no token belongs."""
    servers.foreign.reset()
    return servers.foreign


@pytest.fixture
def scripted(servers: Servers) -> Recorder:
    """A server to play an API with, answer by answer."""
    servers.scripted.reset()
    return servers.scripted


# Valets and sessions


@dataclass(slots=True)
class Opener:
    """Opens sessions with a driver, each on a valet of its own unless one is given."""

    driver: Driver
    auth: AuthorizationServer
    api: ProtectedApi
    ca_file: Path
    valets: list[TokenValet] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)

    def valet(
        self, *allowed: str, clock: Clock = system_clock, observers: Iterable[Observer] = (), **settings: Any
    ) -> TokenValet:
        """Make a valet whose client m2m may send its tokens to these origins, by default to the API."""
        valet = TokenValet({"m2m": self.config(*allowed, **settings)}, clock=clock, observers=observers)
        self.valets.append(valet)
        return valet

    def config(self, *allowed: str, **settings: Any) -> ClientConfig:
        known: dict[str, Any] = {
            "token_endpoint": self.auth.token_endpoint,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "allowed_origins": allowed or (self.api.origin,),
        }
        if any(origin.startswith("https:") for origin in known["allowed_origins"]):
            # And else not: what has files of its own for TLS is never on the shortest way that a call can go.
            known["ca_file"] = self.ca_file
        return ClientConfig(**{**known, **settings})

    def on(
        self, valet: TokenValet, *, pool_size: int | None = None, http2: Path | None = None, **custom: Any
    ) -> Session:
        """Open a session on a valet that there is; `custom`: what is set on the client, see `Custom`."""
        session = self.driver.open(valet, custom=Custom(**custom), pool_size=pool_size, http2=http2)
        self.sessions.append(session)
        return session

    def __call__(
        self, *allowed: str, dpop: bool = False, settings: dict[str, Any] | None = None, **options: Any
    ) -> Session:
        """Open a session; `allowed`, `dpop` and `settings` are for the client's configuration."""
        return self.on(self.valet(*allowed, dpop=dpop, **(settings or {})), **options)

    def close(self) -> None:
        for session in self.sessions:
            session.close()
        for valet in self.valets:
            self.driver.close_valet(valet)


@pytest.fixture
def opener_for(auth: AuthorizationServer, api: ProtectedApi, ca_file: Path) -> Iterator[Callable[[Driver], Opener]]:
    made: list[Opener] = []

    def make(driver: Driver) -> Opener:
        made.append(Opener(driver=driver, auth=auth, api=api, ca_file=ca_file))
        return made[-1]

    yield make
    for opener in made:
        opener.close()


@pytest.fixture
def open_session(driver: Driver, opener_for: Callable[[Driver], Opener]) -> Opener:
    return opener_for(driver)


@pytest.fixture
def open_pooled(pooled: Driver, opener_for: Callable[[Driver], Opener]) -> Opener:
    return opener_for(pooled)


@pytest.fixture
def open_cancellable(cancellable: Driver, opener_for: Callable[[Driver], Opener]) -> Opener:
    return opener_for(cancellable)


@pytest.fixture(params=[False, True], ids=["bearer", "dpop"])
def dpop(request: pytest.FixtureRequest) -> bool:
    """Both kinds of tokens in turn."""
    return bool(request.param)


@pytest.fixture(scope="session")
def privileged_host() -> str:
    """An address of this process's own, for servers on the default ports; skips where those ports are not to be had."""
    process = os.getpid()
    host = f"127.{1 + process // 250 % 250}.{1 + process % 250}.1"
    try:
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((host, 80))
    except OSError:
        pytest.skip("this user may not serve on port 80")
    return host
