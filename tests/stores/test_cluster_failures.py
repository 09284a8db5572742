"""A Redis Cluster that loses a node under load: no call fails, and it is asked again when it is whole (S-188).

The node that is killed is the one that holds the token.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stores.fleet import Fleet, Nursery
from stores.makers import line_of
from stores.redis_server import RedisServer, cluster, holders, wait_for_the_cluster
from support.children import until
from tokenvalet.testing import AuthorizationServer, RegisteredClient, serve

SIZE = 4
SECRET = "planted-client-secret-planted"
LIFETIME = 600
UNTIL_DUE = 560


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    # What a client of redis-py had open to a node that has left the cluster, it leaves to the garbage collector.
    made = Nursery("ignore:unclosed <socket:ResourceWarning")
    yield made
    made.close()


@pytest.fixture
def fleet(nursery: Nursery) -> Iterator[Fleet]:
    with nursery.fleet(SIZE) as fleet:
        yield fleet


@pytest.fixture
def auth() -> Iterator[AuthorizationServer]:
    client = RegisteredClient(client_id="web", client_secret=SECRET)
    server = AuthorizationServer([client], access_token_lifetime=LIFETIME)
    with serve(server):
        yield server


def open_on(fleet: Fleet, auth: AuthorizationServer, nodes: list[RedisServer]) -> str:
    """Give each process a valet that shares the cluster, and return the token that all have."""
    client = {"token_endpoint": auth.token_endpoint, "client_id": "web", "client_secret": SECRET}
    store = {"url": f"redis+cluster://127.0.0.1:{nodes[0].port}", "encryption_keys": line_of("a", 1)}
    fleet.ask("open", client=client, store=store)
    (token,) = tokens(fleet)
    assert len(auth.token_requests) == 1
    return token


def tokens(fleet: Fleet) -> set[str]:
    return {token for answer in fleet.ask("tokens") for token in answer}


def events(fleet: Fleet, name: str) -> list[int]:
    names: list[Any] = fleet.ask("names")
    return [found.count(name) for found in names]


@pytest.mark.standards("S-188")
def test_a_cluster_that_loses_the_node_with_the_token_fails_no_call_and_is_used_again_when_it_is_whole(
    fleet: Fleet, auth: AuthorizationServer, place: Path
) -> None:
    with cluster(place, node_timeout=500) as nodes:
        old = open_on(fleet, auth, nodes)
        fleet.ask("load")
        (holder,) = holders(nodes)
        holder.kill()
        fleet.ask("advance", seconds=UNTIL_DUE)
        until(lambda: len(tokens(fleet)) == SIZE and old not in tokens(fleet))
        assert len(auth.token_requests) == 1 + SIZE
        holder.start()
        wait_for_the_cluster(nodes, len(nodes))
        time.sleep(1.1)  # the longest that it is left alone after one failure
        fleet.ask("advance", seconds=UNTIL_DUE)
        until(lambda: len(tokens(fleet)) == 1)
        assert all(set(counts) == {"good"} for counts in fleet.ask("unload"))
        # One at the start, one for each process while the node was away, one for all when it was back.
        assert len(auth.token_requests) == 1 + SIZE + 1
        assert (events(fleet, "store_away"), events(fleet, "store_back")) == ([1] * SIZE, [1] * SIZE)


@pytest.mark.standards("S-188")
def test_when_a_replica_takes_over_from_the_node_with_the_token_that_one_is_asked(
    fleet: Fleet, auth: AuthorizationServer, place: Path
) -> None:
    with cluster(place, replicas=1, node_timeout=500) as nodes:
        old = open_on(fleet, auth, nodes)
        fleet.ask("load")
        (holder,) = holders(nodes[:3])
        until(lambda: len(holders(nodes)) == 2)  # the replica has it too
        holder.kill()
        rest = [node for node in nodes if node is not holder]
        until(lambda: is_replaced(holder, rest))
        fleet.ask("advance", seconds=UNTIL_DUE)
        until(lambda: old not in tokens(fleet))
        until(lambda: len(tokens(fleet)) == 1)
        assert all(set(counts) == {"good"} for counts in fleet.ask("unload"))
        assert len(auth.token_requests) == 2
        assert events(fleet, "store_away") == [0] * SIZE


def is_replaced(dead: RedisServer, nodes: list[RedisServer]) -> bool:
    """Whether all of these nodes agree that one has failed, and that there are three masters all the same."""
    for node in nodes:
        with node.client() as client:
            info = dict(client.execute_command("CLUSTER INFO"))
            known: Any = client.execute_command("CLUSTER NODES")
        flags = {address: one["flags"].split(",") for address, one in known.items()}
        masters = [one for one in flags.values() if "master" in one and "fail" not in one]
        has_failed = any(address.endswith(f":{dead.port}") and "fail" in one for address, one in flags.items())
        if not has_failed or len(masters) != 3 or info.get("cluster_state") != "ok":
            return False
    return True
