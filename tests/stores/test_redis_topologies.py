"""Redis over TLS, behind a sentinel, as a cluster: each on this machine, each reached by its URL."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import trustme

from stores.makers import KEY, key_of
from stores.redis_server import RedisServer, cluster, free_port, sentinel
from support.children import until
from tokenvalet.stores import Lease, RedisStore, Store, StoreError

PASSWORD = "planted-password-planted"
ROUND = 40


@pytest.fixture
def _collected() -> Iterator[None]:
    """Collect what redis-py leaves behind: what it had open to a node that it lost is left to the garbage collector."""
    yield
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
        gc.collect()


def goes_round(store: Store) -> None:
    """Everything that a store has to do, once for each of many keys."""
    for number in range(ROUND):
        key = key_of(number)
        assert store.read(key) is None
        assert store.claim(key, "a", 5) == (Lease.GRANTED, None)
        assert store.claim(key, "b", 5)[0] is Lease.HELD
        store.write(key, str(number).encode(), 60, "a")
        entry = store.read(key)
        assert entry is not None
        assert entry.value == str(number).encode()
        store.claim(key, "a", 5)
        store.release(key, "a", 2)
        assert store.claim(key, "a", 5)[0] is Lease.PAUSED


# TLS


class Certificates:
    """An authority and a server certificate, in files."""

    def __init__(self, folder: Path, name: str) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert(name)
        self.settings = {}
        for option, blob in (
            ("tls_ca_cert_file", authority.cert_pem),
            ("tls_cert_file", issued.cert_chain_pems[0]),
            ("tls_key_file", issued.private_key_pem),
        ):
            path = folder / option
            blob.write_to_path(str(path))
            self.settings[option] = str(path)
        self.authority = self.settings["tls_ca_cert_file"]


@pytest.fixture(params=["127.0.0.1"])
def tls(request: pytest.FixtureRequest, place: Path) -> Iterator[tuple[str, str]]:
    """A server that speaks TLS: its address, and the file of its authority."""
    certificates = Certificates(place, request.param)
    port = free_port()
    with RedisServer(place, tls_port=port, tls_auth_clients="no", **certificates.settings):  # type: ignore[arg-type]
        yield f"rediss://127.0.0.1:{port}/0", certificates.authority


@pytest.mark.standards("S-191")
def test_over_tls_the_certificate_is_verified(tls: tuple[str, str]) -> None:
    url, authority = tls
    store = RedisStore.from_url(url)
    with pytest.raises(StoreError, match="ConnectionError"):
        store.read(KEY)
    store.close()
    trusting = RedisStore.from_url(f"{url}?ssl_ca_certs={authority}")
    goes_round(trusting)
    trusting.close()


@pytest.mark.standards("S-191")
@pytest.mark.parametrize("tls", ["cache.example.org"], indirect=True)
def test_over_tls_the_name_is_verified(tls: tuple[str, str]) -> None:
    url, authority = tls
    store = RedisStore.from_url(f"{url}?ssl_ca_certs={authority}")
    with pytest.raises(StoreError, match="ConnectionError"):
        store.read(KEY)
    store.close()


def test_what_speaks_no_tls_is_not_spoken_to_in_clear(place: Path) -> None:
    with RedisServer(place, port=free_port()) as server:
        store = RedisStore.from_url(f"rediss://127.0.0.1:{server.port}", timeout=0.3)
        with pytest.raises(StoreError):
            store.write(KEY, b"value", 60, "a")
        store.close()
        with server.client() as client:
            assert client.dbsize() == 0


# Sentinel


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_the_primary_is_asked_of_the_sentinels(place: Path, scheme: str) -> None:
    with (
        RedisServer(place, port=free_port(), requirepass=PASSWORD) as primary,
        sentinel(place, primary, password=PASSWORD) as port,
    ):
        # The first one is not there, and the second is asked.
        url = f"{scheme}+sentinel://:{PASSWORD}@127.0.0.1:1,127.0.0.1:{port}/primary/2?client_name=records"
        store = RedisStore.from_url(url)
        goes_round(store)
        with primary.client(password=PASSWORD, db=2) as client:
            assert client.dbsize() > ROUND
            assert "records" in [one["name"] for one in client.client_list()]
        store.close()
        unknown = RedisStore.from_url(f"{scheme}+sentinel://127.0.0.1:{port}/nobody")
        with pytest.raises(StoreError, match="MasterNotFoundError"):
            unknown.read(KEY)
        unknown.close()


@pytest.mark.standards("S-191")
def test_a_primary_behind_sentinels_is_reached_over_verified_tls(place: Path) -> None:
    from tokenvalet.stores.redis import client_maker

    client = client_maker("rediss+sentinel://a:26379/primary/1?ssl_ca_certs=/ca.pem", 1)()
    pool = client.connection_pool
    settings = pool.connection_kwargs
    assert (settings["ssl_ca_certs"], settings["db"], settings["socket_timeout"]) == ("/ca.pem", 1, 1)
    connection = pool.connection_class(**settings)
    assert (connection.cert_reqs.name, connection.check_hostname) == ("CERT_REQUIRED", True)
    (watcher,) = pool.sentinel_manager.sentinels
    assert watcher.connection_pool.connection_kwargs["ssl_ca_certs"] == "/ca.pem"
    assert issubclass(watcher.connection_pool.connection_class, redis.SSLConnection)


def test_when_the_sentinels_name_another_primary_that_one_is_used(place: Path) -> None:
    (place / "b").mkdir()
    first, second = RedisServer(place, port=free_port()), RedisServer(place / "b", port=free_port())
    with first, second, sentinel(place, first) as port:
        store = RedisStore.from_url(f"redis+sentinel://127.0.0.1:{port}/primary", timeout=0.5)
        store.write(KEY, b"value", 60, "a")
        with redis.Redis(port=port, socket_timeout=5) as watcher:
            watcher.sentinel_remove("primary")
            watcher.sentinel_monitor("primary", "127.0.0.1", second.port, 1)
        first.kill()
        with second.client() as client:
            until(lambda: _writes(store) and client.dbsize() == 1)
        store.close()


def _writes(store: RedisStore) -> bool:
    try:
        store.write(KEY, b"value", 60, "a")
    except StoreError:
        return False
    return True


# Cluster


@pytest.mark.usefixtures("_collected")
def test_a_cluster_keeps_every_key_on_one_of_its_nodes(place: Path) -> None:
    with cluster(place) as nodes:
        store = RedisStore.from_url(f"redis+cluster://127.0.0.1:{nodes[0].port}")
        goes_round(store)
        for node in nodes:
            with node.client() as client:
                assert client.dbsize() > 0
                assert all(client.pttl(key) != -1 for key in client.scan_iter(count=1000))
        with nodes[1].client() as client:
            client.script_flush()
        goes_round_again(store)
        store.close()
        own = redis.RedisCluster(host="127.0.0.1", port=nodes[2].port, socket_timeout=2, decode_responses=True)
        goes_round_again(RedisStore(own))
        own.close()
        nodes[0].kill()
        lost = RedisStore.from_url(f"redis+cluster://127.0.0.1:{nodes[1].port}", timeout=0.3)
        answers = {_outcome(lost, key_of(number)) for number in range(ROUND)}
        assert answers <= {"ok", "away"}
        assert "away" in answers
        lost.close()


def goes_round_again(store: RedisStore) -> None:
    for number in range(ROUND):
        entry = store.read(key_of(number))
        assert entry is not None
        assert entry.value == str(number).encode()


def _outcome(store: RedisStore, key: str) -> str:
    try:
        store.read(key)
    except StoreError:
        return "away"
    return "ok"
