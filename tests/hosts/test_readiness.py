"""Readiness: what a probe is told, and that it costs the provider nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator

import pytest

from tokenvalet import ClientConfig, ConfigurationError, TokenValet
from tokenvalet.readiness import ClientReadiness, Readiness
from tokenvalet.testing import AuthorizationServer, Fault, MovableClock, RegisteredClient, serve

SECRET = "a-secret-that-no-probe-shows"

Probe = Callable[..., Readiness]


@pytest.fixture
def auth() -> Iterator[AuthorizationServer]:
    server = AuthorizationServer([RegisteredClient(client_id="records-web", client_secret=SECRET)])
    with serve(server):
        yield server


@pytest.fixture
def valet(auth: AuthorizationServer) -> Iterator[TokenValet]:
    client = {"issuer": auth.issuer, "client_id": "records-web", "client_secret": SECRET}
    other = {**client, "client_id": "nobody"}
    with TokenValet.from_dict({"clients": {"m2m": client, "other": other}}) as made:
        yield made


@pytest.fixture(params=["sync", "async"])
def probe(request: pytest.FixtureRequest, valet: TokenValet) -> Probe:
    def asynchronous(*names: str, **options: float) -> Readiness:
        return asyncio.run(valet.async_readiness(*names, **options))  # type: ignore[arg-type]

    return valet.readiness if request.param == "sync" else asynchronous


def test_however_often_a_probe_asks_there_is_one_token_request(auth: AuthorizationServer, probe: Probe) -> None:
    for _ in range(5):
        found = probe("m2m", patience=30.0)
        assert found.ready
        (client,) = found.clients
        assert (client.client, client.state, client.code) == ("m2m", "fresh", None)
        assert client.expires_in is not None
        assert 0 < client.expires_in <= 3600
    assert auth.issued == 1


def test_a_refusal_is_told_by_its_code_and_is_not_asked_for_again(auth: AuthorizationServer, probe: Probe) -> None:
    for _ in range(5):
        found = probe(patience=30.0)
        assert not found.ready
        by_name = {one.client: one for one in found.clients}
        assert by_name["m2m"].ready
        assert (by_name["other"].ready, by_name["other"].state) == (False, "failed")
        assert by_name["other"].code == "token_refused"
        assert by_name["other"].retry_in is not None
        assert 0 < by_name["other"].retry_in <= 60
    assert len(auth.token_requests) == 2


def test_nothing_of_the_server_and_no_secret_is_in_the_answer(auth: AuthorizationServer, probe: Probe) -> None:
    text = json.dumps(probe(patience=30.0).as_dict()) + repr(probe())
    for hidden in (SECRET, "invalid_client", auth.issuer, "Bearer"):
        assert hidden not in text


def test_a_failing_renewal_is_told_beside_the_token_that_there_is(
    auth: AuthorizationServer, valet: TokenValet, probe: Probe
) -> None:
    valet.token("m2m")
    auth.misbehave(Fault.oauth_error("invalid_client", status=401), None)
    with pytest.raises(Exception, match="invalid_client"):
        valet.token("m2m", force_renewal=True)
    (client,) = probe("m2m").clients
    assert (client.ready, client.state, client.code) == (True, "fresh", "token_refused")


def test_a_probe_waits_for_a_first_token_no_longer_than_it_is_told_to(auth: AuthorizationServer, probe: Probe) -> None:
    auth.misbehave(Fault.hang(1.0), 1)
    (client,) = probe("m2m", patience=0.0).clients
    assert (client.ready, client.state, client.expires_in, client.code) == (False, "waiting", None, None)
    (client,) = probe("m2m", patience=0.0, ask=False).clients
    assert (client.ready, client.state) == (True, "waiting")


def test_a_client_is_ready_to_the_end_of_its_token_while_the_server_is_down(auth: AuthorizationServer) -> None:
    clock = MovableClock()
    client = {"issuer": auth.issuer, "client_id": "records-web", "client_secret": SECRET}
    with TokenValet.from_dict({"clients": {"m2m": client}}, clock=clock) as valet:
        valet.token("m2m")
        auth.misbehave(Fault.status_only(503), None)
        clock.advance(3590)
        (first,) = valet.readiness().clients
        assert (first.ready, first.state, first.expires_in) == (True, "due", 10.0)
        wait_until(lambda: valet.readiness(ask=False).clients[0].code is not None)
        (failing,) = valet.readiness().clients
        assert (failing.ready, failing.state, failing.code) == (True, "due", "token_request_server_error")
        asked = len(auth.token_requests)
        valet.readiness()
        assert len(auth.token_requests) == asked
        clock.advance(11)
        (over,) = valet.readiness(patience=30.0).clients
        assert (over.ready, over.state, over.expires_in) == (False, "failed", None)


def wait_until(true: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_token_is_never_said_to_live_longer_nor_a_server_to_be_left_alone_shorter() -> None:
    one = ClientReadiness(client="m2m", ready=True, state="due", expires_in=9.9, code="token_refused", retry_in=0.2)
    assert json.dumps(one.as_dict()) == (
        '{"ready": true, "state": "due", "expires_in": 9, "retry_in": 1, "code": "token_refused"}'
    )


def test_only_looking_asks_for_nothing(auth: AuthorizationServer, valet: TokenValet, probe: Probe) -> None:
    (client,) = probe("m2m", ask=False).clients
    assert (client.ready, client.state) == (True, "idle")
    assert auth.token_requests == []
    valet.token("m2m")
    (client,) = probe("m2m", ask=False).clients
    assert (client.ready, client.state) == (True, "fresh")


def test_clients_of_a_resolver_are_not_asked_about_and_added_ones_are(auth: AuthorizationServer) -> None:
    config = ClientConfig(issuer=auth.issuer, client_id="records-web", client_secret=SECRET)
    with TokenValet(resolver=lambda name: config) as valet:
        valet.token("tenant-1")
        assert valet.readiness() == Readiness(clients=())
        valet.add_client("m2m", config)
        assert [one.client for one in valet.readiness(patience=30.0).clients] == ["m2m"]


def test_a_name_that_there_is_none_of_is_a_fault_of_the_program(probe: Probe) -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'm2m'"):
        probe("m3m")


def test_a_valet_that_is_closed_is_not_ready(valet: TokenValet, probe: Probe) -> None:
    valet.close()
    assert probe("m2m").clients == (ClientReadiness(client="m2m", ready=False, state="failed", code="valet_closed"),)
