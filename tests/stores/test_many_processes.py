"""Whole valets in processes of their own, on one store: one token request for all, whatever happens (promises 2, 14).

How many token requests there were is what the authorization server has counted.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stores.fleet import Fleet, Nursery
from stores.makers import Heard, line_of
from stores.redis_server import RedisServer
from support.children import Forked, until
from tokenvalet import ClientConfig, StoreConfig, TokenValet
from tokenvalet.testing import AuthorizationServer, Fault, ProtectedApi, RegisteredClient, serve

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

SIZE = 8
SECRET = "planted-client-secret-planted"
KEYS = line_of("a", 1)
NAMES = (f"web-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def fleet(nursery: Nursery) -> Iterator[Fleet]:
    """Eight processes, without a valet yet."""
    with nursery.fleet(SIZE) as fleet:
        yield fleet


@pytest.fixture
def client_id() -> str:
    return next(NAMES)


@pytest.fixture
def auth(client_id: str) -> Iterator[AuthorizationServer]:
    server = AuthorizationServer([RegisteredClient(client_id=client_id, client_secret=SECRET)])
    with serve(server):
        yield server


@pytest.fixture
def api(auth: AuthorizationServer) -> Iterator[ProtectedApi]:
    protected = ProtectedApi(auth)
    with serve(protected):
        yield protected


@pytest.fixture
def client(auth: AuthorizationServer, client_id: str) -> dict[str, Any]:
    """The configuration of the client, as JSON."""
    return {"token_endpoint": auth.token_endpoint, "client_id": client_id, "client_secret": SECRET}


@pytest.fixture(params=["folder", "redis"])
def store(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The configuration of the store, as JSON: each kind in turn."""
    if request.param == "folder":
        url = f"file://{request.getfixturevalue('folder')}"
    else:
        url = request.getfixturevalue("server").url
    return {"url": url, "encryption_keys": KEYS}


def on(server: RedisServer, **settings: Any) -> dict[str, Any]:
    return {"url": server.url, "encryption_keys": KEYS, **settings}


def one_of(answers: list[Any]) -> str:
    """Return the one token that all were given."""
    (token,) = {token for answer in answers for token in answer}
    assert not token.startswith("error"), token
    return str(token)


# From cold


@pytest.mark.standards("S-200")
def test_eight_processes_with_fifty_tasks_each_ask_once(
    fleet: Fleet, auth: AuthorizationServer, client: dict[str, Any], store: dict[str, Any]
) -> None:
    auth.token_delay = 0.2
    fleet.ask("open", client=client, store=store)
    one_of(fleet.ask("tokens", tasks=50))
    assert len(auth.token_requests) == 1
    names = [name for answer in fleet.ask("names") for name in answer]
    assert (names.count("token_cached"), names.count("store_hit")) == (1, SIZE - 1)


@pytest.mark.standards("S-187", "S-204")
def test_hosts_whose_clocks_differ_by_hours_share_a_token_and_agree_on_its_life(
    fleet: Fleet, auth: AuthorizationServer, client: dict[str, Any], server: RedisServer
) -> None:
    for number, process in enumerate(fleet.processes):
        process.ask("open", client=client, store=on(server), wall=(number - 4) * 7200.0)
    one_of(fleet.ask("tokens", tasks=5))
    assert len(auth.token_requests) == 1
    assert all(3500 < left <= 3600 for left in fleet.ask("expires_in"))


def test_a_process_that_comes_later_finds_the_token_with_the_life_that_it_has_left(
    fleet: Fleet, auth: AuthorizationServer, client: dict[str, Any], store: dict[str, Any]
) -> None:
    auth.access_token_lifetime = 60
    first, second, *_ = fleet.processes
    for process in (first, second):
        process.ask("open", client=client, store=store)
    first.ask("tokens")
    time.sleep(0.3)
    assert 30 < second.ask("expires_in") < 59.8
    assert len(auth.token_requests) == 1


@pytest.mark.standards("S-183")
def test_two_clients_with_one_client_id_and_two_secrets_share_nothing(
    fleet: Fleet, auth: AuthorizationServer, client: dict[str, Any], store: dict[str, Any]
) -> None:
    right, wrong, *_ = fleet.processes
    right.ask("open", client=client, store=store)
    assert one_of([right.ask("tokens")])
    wrong.ask("open", client={**client, "client_secret": SECRET + "x"}, store=store)
    assert wrong.ask("tokens") == ["error: token_refused"]
    assert len(auth.token_requests) == 2


# Renewals


def test_a_due_token_is_renewed_by_one_of_eight_and_nobody_waits(
    fleet: Fleet, auth: AuthorizationServer, client: dict[str, Any], store: dict[str, Any]
) -> None:
    auth.access_token_lifetime = 600
    fleet.ask("open", client=client, store=store)
    old = one_of(fleet.ask("tokens"))
    auth.token_delay = 0.2
    fleet.ask("load")
    fleet.ask("advance", seconds=560)  # due, and not expired
    until(lambda: all(answer != [old] for answer in fleet.ask("tokens")))
    assert all(set(counts) == {"good"} for counts in fleet.ask("unload"))
    new = one_of(fleet.ask("tokens"))
    assert new != old
    assert len(auth.token_requests) == 2
    # For those who were not the one it was a look into the store, in the background.
    assert sum(answer.count("token_cached") for answer in fleet.ask("names")) == 2


@pytest.mark.standards("S-205")
def test_a_token_that_the_api_rejects_is_renewed_once_and_the_others_take_the_new_one(
    fleet: Fleet, auth: AuthorizationServer, api: ProtectedApi, client: dict[str, Any], store: dict[str, Any]
) -> None:
    fleet.ask("open", client={**client, "base_url": api.origin}, store=store)
    assert fleet.ask("calls") == [[200]] * SIZE
    auth.revoke_all()
    first, *others = fleet.processes
    assert first.ask("calls") == [200]
    for process in others:
        process.begin("calls", count=3)
    assert [process.end() for process in others] == [[200] * 3] * len(others)
    assert len(auth.token_requests) == 2


@pytest.mark.standards("S-205")
def test_an_api_that_rejects_everything_costs_two_token_requests_in_all(
    fleet: Fleet, auth: AuthorizationServer, api: ProtectedApi, client: dict[str, Any], store: dict[str, Any]
) -> None:
    api.reject_all = 'Bearer error="invalid_token"'
    fleet.ask("open", client={**client, "base_url": api.origin}, store=store)
    assert fleet.ask("calls", count=10) == [[401] * 10] * SIZE
    assert len(auth.token_requests) <= 2


def test_a_forced_renewal_is_shared_and_one_that_begins_later_is_another(
    fleet: Fleet, auth: AuthorizationServer, client: dict[str, Any], store: dict[str, Any]
) -> None:
    first, second, *_ = fleet.processes
    for process in (first, second):
        process.ask("open", client=client, store=store)
    old = one_of([first.ask("tokens"), second.ask("tokens")])
    new = one_of([first.ask("tokens", tasks=20, force_renewal=True)])
    assert new != old
    assert len(auth.token_requests) == 2
    # Nobody was told, and what it has is as good as before.
    assert one_of([second.ask("tokens")]) == old


def test_after_invalidate_what_the_store_holds_is_not_used_either(
    fleet: Fleet, auth: AuthorizationServer, client: dict[str, Any], store: dict[str, Any]
) -> None:
    first, second, *_ = fleet.processes
    for process in (first, second):
        process.ask("open", client=client, store=store)
    old = one_of([first.ask("tokens"), second.ask("tokens")])
    first.ask("invalidate")
    new = one_of([first.ask("tokens", tasks=5)])
    assert new != old
    second.ask("invalidate")
    assert one_of([second.ask("tokens")]) not in (old,)
    assert len(auth.token_requests) <= 3


# Processes that die, hang and fork


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_when_the_process_with_the_lease_dies_or_hangs_another_asks_and_no_caller_fails(
    fleet: Fleet,
    nursery: Nursery,
    auth: AuthorizationServer,
    client: dict[str, Any],
    store: dict[str, Any],
    how: str,
) -> None:
    settings = {**client, "timeout": 4}  # and so a lease of two seconds
    victim = nursery.process()
    try:
        victim.ask("open", client=settings, store=store)
        fleet.ask("open", client=settings, store=store)
        auth.misbehave(Fault.hang(30))
        victim.begin("tokens")
        until(lambda: auth.token_requests)
        for process in fleet.processes:
            process.begin("tokens", tasks=10)
        if how == "kill":
            victim.kill()
        else:
            victim.send(signal.SIGSTOP)
        one_of([process.end() for process in fleet.processes])
        assert len(auth.token_requests) == 2
    finally:
        victim.kill()


@pytest.mark.standards("S-209")
def test_a_valet_that_is_closed_in_the_middle_of_a_renewal_gives_the_lease_back(
    fleet: Fleet, auth: AuthorizationServer, client: dict[str, Any], store: dict[str, Any]
) -> None:
    heard = Heard()
    settings = {**client, "timeout": 600}  # and so a lease of five minutes
    with TokenValet(ClientConfig(name="m2m", **settings), store=StoreConfig(**store), observers=[heard]) as valet:
        auth.misbehave(Fault.hang(30))
        valet._renewer.get(valet._clients["m2m"].ticket())
        until(lambda: auth.token_requests)
    fleet.ask("open", client=client, store=store)
    one_of(fleet.ask("tokens"))
    assert len(auth.token_requests) == 2
    assert "store_away" not in heard.names()


@pytest.mark.standards("S-203")
def test_children_that_are_forked_in_the_middle_of_a_renewal_share_what_comes_of_it(
    auth: AuthorizationServer, client: dict[str, Any], store: dict[str, Any]
) -> None:
    with TokenValet(ClientConfig(name="m2m", **client), store=StoreConfig(**store)) as valet:
        auth.token_delay = 0.3
        pending = valet._renewer.get(valet._clients["m2m"].ticket())
        until(lambda: auth.token_requests)
        children = [Forked(lambda: [valet.token("m2m").value]) for _ in range(4)]
        token = one_of([child.result() for child in children])
        assert valet.token("m2m").value == token
        assert pending is not None
    assert len(auth.token_requests) == 1


# DPoP


def test_a_bound_token_is_shared_among_holders_of_its_key(
    fleet: Fleet,
    auth: AuthorizationServer,
    api: ProtectedApi,
    client: dict[str, Any],
    store: dict[str, Any],
    tmp_path: Path,
) -> None:
    key = tmp_path / "proof-key.pem"
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key.write_bytes(pem)
    key.chmod(0o600)
    settings = {**client, "base_url": api.origin, "dpop": True, "dpop_key_file": str(key)}
    fleet.ask("open", client=settings, store=store)
    assert fleet.ask("calls", count=3) == [[200] * 3] * SIZE
    assert len(auth.token_requests) == 1


@pytest.mark.standards("S-186")
def test_a_token_that_is_bound_to_a_key_of_this_process_is_not_stored(
    fleet: Fleet, auth: AuthorizationServer, api: ProtectedApi, client: dict[str, Any], server: RedisServer
) -> None:
    first, second, *_ = fleet.processes
    for process in (first, second):
        process.ask("open", client={**client, "base_url": api.origin, "dpop": True}, store=on(server))
        assert process.ask("calls", count=3) == [200] * 3
    assert len(auth.token_requests) == 2
    with server.client() as eye:
        assert eye.dbsize() == 0


# What lies in the store


@pytest.mark.standards("S-184", "S-186", "S-187")
def test_nothing_of_a_token_or_a_secret_is_in_the_store_and_all_of_it_ends(
    fleet: Fleet, auth: AuthorizationServer, client: dict[str, Any], client_id: str, server: RedisServer
) -> None:
    fleet.ask("open", client=client, store=on(server))
    token = one_of(fleet.ask("tokens"))
    with server.client() as eye:
        (name,) = eye.keys()
        value = eye.get(name)
        assert isinstance(value, bytes)
        left = eye.pttl(name)
        assert 3500_000 < left <= 3600_000
    for planted in (token, SECRET, client_id):
        assert planted.encode() not in name + value


# Trouble


@pytest.mark.standards("S-188")
def test_a_store_that_is_not_there_at_the_start_costs_each_process_one_token_request_and_is_told_once(
    fleet: Fleet, auth: AuthorizationServer, client: dict[str, Any], server: RedisServer
) -> None:
    server.kill()
    fleet.ask("open", client=client, store=on(server))
    answers = fleet.ask("tokens", tasks=20)
    assert all(len(answer) == 1 and not answer[0].startswith("error") for answer in answers)
    assert len(auth.token_requests) == SIZE
    for names in fleet.ask("names"):
        assert names.count("store_away") == 1
    server.start()


@pytest.mark.standards("S-188")
def test_a_store_that_is_killed_and_started_again_under_load_fails_no_call(
    fleet: Fleet, auth: AuthorizationServer, client: dict[str, Any], server: RedisServer
) -> None:
    auth.access_token_lifetime = 600
    fleet.ask("open", client=client, store=on(server))
    fleet.ask("load")
    one_of(fleet.ask("tokens"))
    server.kill()
    fleet.ask("advance", seconds=560)  # due while the store is away
    until(lambda: len({token for answer in fleet.ask("tokens") for token in answer}) == SIZE)
    assert len(auth.token_requests) == 1 + SIZE
    server.start()
    time.sleep(1.1)  # the longest that it is left alone after one failure
    fleet.ask("advance", seconds=560)
    until(lambda: len({token for answer in fleet.ask("tokens") for token in answer}) == 1)
    assert all(set(counts) == {"good"} for counts in fleet.ask("unload"))
    # One at the start, one for each process while it was away, one for all when it was back.
    assert len(auth.token_requests) == 1 + SIZE + 1
    for names in fleet.ask("names"):
        assert (names.count("store_away"), names.count("store_back")) == (1, 1)


@pytest.mark.standards("S-188")
def test_a_store_that_hangs_costs_a_due_token_nothing_and_a_first_one_its_time_out(
    fleet: Fleet, auth: AuthorizationServer, client: dict[str, Any], server: RedisServer
) -> None:
    first, second, *_ = fleet.processes
    for process in (first, second):
        process.ask("open", client=client, store=on(server, timeout=0.3))
    old = one_of([first.ask("tokens")])
    server.pause()
    try:
        first.ask("advance", seconds=3400)
        assert one_of([first.ask("tokens")]) == old
        until(lambda: first.ask("tokens") != [old])
        assert not one_of([second.ask("tokens", tasks=20)]).startswith("error")
        assert len(auth.token_requests) == 3
    finally:
        server.go_on()


@pytest.mark.standards("S-191")
def test_trouble_with_a_store_shows_no_password(
    fleet: Fleet, auth: AuthorizationServer, client: dict[str, Any], server: RedisServer
) -> None:
    password = "planted-password-planted"
    process = fleet.processes[0]
    process.ask("open", client=client, store=on(server, url=f"unix://web:{password}@{server.socket}"))
    one_of([process.ask("tokens")])
    assert "store_away" in process.ask("shown")
    assert password not in process.ask("shown")


@pytest.mark.standards("S-184")
def test_hosts_with_the_new_key_and_hosts_without_it_go_on_side_by_side(
    fleet: Fleet, auth: AuthorizationServer, client: dict[str, Any], server: RedisServer
) -> None:
    behind, ahead = {"encryption_keys": KEYS}, {"encryption_keys": f"{line_of('new', 2)}\n{KEYS}"}
    for number, process in enumerate(fleet.processes):
        process.ask("open", client=client, store=on(server, **(ahead if number % 2 else behind)))
    answers = fleet.ask("tokens", tasks=5)
    assert not any(token.startswith("error") for answer in answers for token in answer)
    # Those that lack the new key may have to ask once for themselves; what they store all can open.
    assert len(auth.token_requests) <= 2
    fleet.ask("open", client=client, store=on(server, **ahead))
    auth.reset()
    one_of(fleet.ask("tokens"))
    assert auth.token_requests == []


def test_a_store_that_is_removed_in_the_middle_is_filled_again(
    fleet: Fleet, auth: AuthorizationServer, client: dict[str, Any], folder: Path
) -> None:
    first, second, *_ = fleet.processes
    store = {"url": f"file://{folder}", "encryption_keys": KEYS}
    for process in (first, second):
        process.ask("open", client=client, store=store)
    first.ask("tokens")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    second.ask("tokens")
    assert len(auth.token_requests) == 2
    assert list(folder.glob("*.token"))
    assert "store_away" not in first.ask("names") + second.ask("names")
