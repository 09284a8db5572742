"""The store in Redis, on a real server: no key without an end, one round trip for a hit, trouble explained."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from stores.makers import KEY, OTHER, PLANTED, Heard, key_of, secret_of
from stores.redis_server import RedisServer
from support.children import Forked, until
from tokenvalet.observe import Observers
from tokenvalet.shelf import Shelf
from tokenvalet.stores import Lease, RedisStore, StoreError
from tokenvalet.stores.redis import CLAIM, LONGEST_LEASE, READ, RELEASE, WRITE, client_maker
from tokenvalet.stores.sealing import Sealer

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

PASSWORD = "planted-password-planted"
TOKEN, LEASE = f"tokenvalet:{{{KEY}}}:token", f"tokenvalet:{{{KEY}}}:lease"


@pytest.fixture
def store(server: RedisServer) -> Iterator[RedisStore]:
    made = RedisStore.from_url(server.url)
    yield made
    made.close()


@pytest.fixture
def eye(server: RedisServer) -> Iterator[Any]:
    """A client of the test's own, which looks at what there is."""
    with server.client() as client:
        yield client


def endless(eye: Any) -> list[bytes]:
    """Return the keys that have no end; one that has come to it meanwhile has had one."""
    return [key for key in eye.scan_iter(count=1000) if eye.pttl(key) == -1]


def scripts_run(eye: Any) -> dict[str, int]:
    """Return how often each command was called, those in scripts included."""
    stats = eye.info("commandstats")
    return {name.removeprefix("cmdstat_"): found["calls"] for name, found in stats.items()}


def trouble(use: Callable[[], Any]) -> str:
    """Return what a store says of its trouble; never a value, never a password."""
    with pytest.raises(StoreError) as caught:
        use()
    assert caught.value.__cause__ is None
    for text in (str(caught.value), repr(caught.value)):
        assert PASSWORD not in text
        assert PLANTED not in text
    return str(caught.value)


# Keys and ends


@pytest.mark.standards("S-187")
def test_no_step_leaves_a_key_without_an_end(store: RedisStore, eye: Any) -> None:
    steps: list[Callable[[], Any]] = [
        lambda: store.read(KEY),
        lambda: store.claim(KEY, "a", 5),
        lambda: store.claim(KEY, "a", 5),
        lambda: store.claim(KEY, "b", 5),
        lambda: store.release(KEY, "b", 2),
        lambda: store.release(KEY, "a", 2),
        lambda: store.claim(KEY, "a", 5),
        lambda: store.write(KEY, b"value", 60, "b"),
        lambda: store.claim(OTHER, "a", 0.0001),
        lambda: store.write(OTHER, b"value", 0.0001, "a"),
        lambda: eye.delete(LEASE),
        lambda: store.claim(KEY, "a", 5),
        lambda: store.write(KEY, b"value", 86_400, "a"),
        lambda: store.release(KEY, "a", 2),
    ]
    for step in steps:
        step()
        assert endless(eye) == []
    assert eye.keys() == [TOKEN.encode()]


@pytest.mark.standards("S-187")
def test_the_life_that_is_left_is_what_the_server_says(store: RedisStore, eye: Any) -> None:
    store.write(KEY, b"value", 3600, "a")
    eye.pexpire(TOKEN, 1500)
    entry = store.read(KEY)
    assert entry is not None
    assert 1 < entry.left <= 1.5


@pytest.mark.standards("S-187")
def test_a_value_without_an_end_is_missing(store: RedisStore, eye: Any) -> None:
    eye.set(TOKEN, b"value")
    assert store.read(KEY) is None
    assert store.claim(KEY, "a", 5) == (Lease.GRANTED, None)


def test_all_names_begin_with_the_prefix_and_both_of_a_key_are_in_one_slot(server: RedisServer, eye: Any) -> None:
    store = RedisStore.from_url(server.url, prefix="records:")
    store.claim(KEY, "a", 5)
    store.write(KEY, b"value", 60, "")
    assert sorted(eye.keys()) == [f"records:{{{KEY}}}:lease".encode(), f"records:{{{KEY}}}:token".encode()]
    assert len(set(map(key_slot, eye.keys()))) == 1
    assert RedisStore.from_url(server.url).read(KEY) is None
    store.close()


@pytest.mark.standards("S-191")
def test_the_scripts_never_change_whatever_the_values_are(store: RedisStore, eye: Any) -> None:
    """What is sent goes along as arguments, and none of it can be taken for code."""
    evil = b"'] redis.call('FLUSHALL') --[[ ]] \" \\ \x00 \n {0} %s"
    store.claim(KEY, "own'er]]", 5)
    store.write(KEY, evil, 60, "own'er]]")
    entry = store.read(KEY)
    assert entry is not None
    assert entry.value == evil
    store.claim(KEY, "a", 5)
    store.release(KEY, "a", 1)
    assert (
        eye.script_exists(*(hashlib.sha1(text.encode()).hexdigest() for text in (READ, CLAIM, WRITE, RELEASE)))
        == [True] * 4
    )
    assert eye.info("memory")["number_of_cached_scripts"] == 4


# Round trips


def test_a_hit_costs_one_round_trip(store: RedisStore, eye: Any) -> None:
    store.write(KEY, b"value", 60, "a")
    store.read(KEY)
    eye.config_resetstat()
    for _ in range(10):
        assert store.read(KEY) is not None
    found = scripts_run(eye)
    assert found["evalsha"] == 10
    # Each script runs TYPE, STRLEN, GET and PTTL; what is counted besides is the test's own INFO.
    sent = set(found) - {"evalsha", "type", "strlen", "get", "pttl", "info", "config|resetstat"}
    assert sent == set()


@pytest.mark.parametrize("step", ["claim", "write", "release"])
def test_every_other_step_costs_one_round_trip_too(store: RedisStore, eye: Any, step: str) -> None:
    steps: dict[str, Callable[[], Any]] = {
        "claim": lambda: store.claim(KEY, "a", 5),
        "write": lambda: store.write(KEY, b"value", 60, "a"),
        "release": lambda: store.release(KEY, "a", 0),
    }
    use = steps[step]
    use()
    eye.config_resetstat()
    for _ in range(10):
        use()
    found = scripts_run(eye)
    assert found["evalsha"] == 10
    assert not set(found) & {"eval", "script|load", "ping", "client|setinfo", "hello"}


def test_scripts_that_the_server_has_forgotten_are_sent_again(store: RedisStore, eye: Any) -> None:
    store.write(KEY, b"value", 60, "a")
    for _ in range(3):
        eye.script_flush()
        assert store.claim(KEY, "a", 5)[0] is Lease.GRANTED
        eye.script_flush()
        store.release(KEY, "a", 0)
        eye.script_flush()
        assert store.read(KEY) is not None


# What is not ours


@pytest.mark.standards("S-185")
@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("kind", ["list", "hash", "set", "stream", "binary", "enormous"])
def test_a_value_of_another_kind_is_missing_and_replaced(
    server: RedisServer, eye: Any, kind: str, decode: bool
) -> None:
    put: dict[str, Callable[[], Any]] = {
        "list": lambda: eye.rpush(TOKEN, "a"),
        "hash": lambda: eye.hset(TOKEN, "a", "b"),
        "set": lambda: eye.sadd(TOKEN, "a"),
        "stream": lambda: eye.xadd(TOKEN, {"a": "b"}),
        "binary": lambda: eye.set(TOKEN, b"\xff\xfe\x80"),
        "enormous": lambda: eye.set(TOKEN, b"x" * 10_000_000),
    }
    put[kind]()
    eye.expire(TOKEN, 60)
    store = RedisStore(server.client(decode_responses=decode))
    assert store.read(KEY) is None
    assert store.claim(KEY, "a", 5) == (Lease.GRANTED, None)
    store.write(KEY, b"new", 60, "a")
    entry = store.read(KEY)
    assert entry is not None
    assert entry.value == b"new"


@pytest.mark.parametrize("kind", ["list", "without an end", "endless"])
def test_nobody_waits_for_a_lease_that_none_of_us_could_have(store: RedisStore, eye: Any, kind: str) -> None:
    if kind == "list":
        eye.rpush(LEASE, "a")
        eye.expire(LEASE, 60)
    else:
        eye.set(LEASE, "somebody", px=LONGEST_LEASE + 60_000 if kind == "endless" else None)
    store.write(KEY, b"value", 60, "a")
    store.release(KEY, "a", 1)
    assert store.claim(KEY, "a", 5)[0] is Lease.GRANTED
    assert store.claim(KEY, "b", 5)[0] is Lease.HELD
    assert 0 < eye.pttl(LEASE) <= 5000


@pytest.mark.standards("S-184")
def test_values_that_were_swapped_in_redis_are_both_missing(store: RedisStore, eye: Any) -> None:
    sealer, heard = Sealer([("a", secret_of(1))]), Heard()
    shelf = Shelf(store, lambda: sealer, Observers([heard]))
    for key in (KEY, OTHER):
        shelf.keep("m2m", key, "a", PLANTED.encode(), 60)
    first, second = eye.keys()
    assert PLANTED.encode() not in b"".join([first, second, eye.get(first), eye.get(second)])
    assert KEY.encode() not in first + second
    eye.rename(first, "aside")
    eye.rename(second, first)
    eye.rename("aside", second)
    assert shelf.recall("m2m", KEY).content is None
    assert shelf.recall("m2m", OTHER).content is None
    assert heard.names() == ["store_value_refused"] * 2


# Trouble, explained


@contextmanager
def running(place: Path, **settings: Any) -> Iterator[RedisServer]:
    with RedisServer(place, **settings) as server:
        yield server


@pytest.mark.standards("S-191")
def test_a_server_that_wants_a_password_says_so_and_takes_the_right_one(place: Path) -> None:
    with running(place, requirepass=PASSWORD) as server:
        store = RedisStore.from_url(server.url)
        assert "put one into the url" in trouble(lambda: store.read(KEY))
        store.close()
        wrong = RedisStore.from_url(f"unix://:{PASSWORD}x@{server.socket}")
        assert "refuses the user name or the password" in trouble(lambda: wrong.read(KEY))
        wrong.close()
        right = RedisStore.from_url(f"unix://:{PASSWORD}@{server.socket}")
        right.write(KEY, b"value", 60, "a")
        assert right.read(KEY) is not None
        assert PASSWORD not in repr(right)
        right.close()


@pytest.mark.standards("S-191")
@pytest.mark.parametrize(
    "rights",
    [
        "~* +@all -@scripting",
        "~other:* +@all",
        "~tokenvalet:* +evalsha +eval",
    ],
)
def test_a_user_without_the_rights_is_told_which_ones_it_takes(server: RedisServer, eye: Any, rights: str) -> None:
    eye.execute_command("ACL", "SETUSER", "web", "on", f">{PASSWORD}", *rights.split(" "))
    store = RedisStore.from_url(f"unix://web:{PASSWORD}@{server.socket}")
    assert "does not allow this user the scripts" in trouble(lambda: store.write(KEY, PLANTED.encode(), 60, "a"))
    store.close()


def test_a_user_with_these_rights_and_no_more_will_do(server: RedisServer, eye: Any) -> None:
    rights = ["~tokenvalet:*", "+evalsha", "+script|load", "+get", "+set", "+del", "+type", "+strlen", "+pttl"]
    eye.execute_command("ACL", "SETUSER", "web", "on", f">{PASSWORD}", *rights)
    store = RedisStore.from_url(f"unix://web:{PASSWORD}@{server.socket}")
    assert store.claim(KEY, "a", 5) == (Lease.GRANTED, None)
    store.claim(KEY, "a", 5)
    store.write(KEY, b"value", 60, "a")
    assert store.read(KEY) is not None
    store.claim(KEY, "a", 5)
    store.release(KEY, "a", 1)
    store.close()


def test_a_replica_that_is_read_only_says_so(server: RedisServer, place: Path) -> None:
    (place / "replica").mkdir()
    with RedisServer(place / "replica", replicaof="127.0.0.1 1", replica_serve_stale_data="yes") as replica:
        store = RedisStore.from_url(replica.url)
        assert store.read(KEY) is None
        assert "read-only replica" in trouble(lambda: store.claim(KEY, "a", 5))
        assert "read-only replica" in trouble(lambda: store.write(KEY, PLANTED.encode(), 60, "a"))
        store.close()


def test_a_server_that_is_full_says_so_and_reads_on(server: RedisServer, eye: Any, store: RedisStore) -> None:
    store.write(KEY, b"value", 60, "a")
    eye.config_set("maxmemory-policy", "noeviction")
    eye.config_set("maxmemory", 1)
    assert "it is full" in trouble(lambda: store.write(KEY, PLANTED.encode(), 60, "a"))
    entry = store.read(KEY)
    assert entry is not None
    assert entry.value == b"value"
    eye.config_set("maxmemory", 0)
    store.write(KEY, b"new", 60, "a")


def test_a_server_that_somebody_holds_up_with_a_script_says_so(place: Path) -> None:
    with running(place, busy_reply_threshold=50) as server:
        store = RedisStore.from_url(server.url)
        store.read(KEY)
        endless_script = threading.Thread(target=lambda: _ignored(lambda: server.client().eval("while true do end", 0)))
        endless_script.start()
        found: list[str] = []

        def busy() -> bool:
            try:
                store.read(KEY)
            except StoreError as error:
                found.append(str(error))
            return any("held up by a script" in text for text in found)

        until(busy)
        server.client().script_kill()
        endless_script.join()
        assert store.read(KEY) is None
        store.close()


def _ignored(use: Callable[[], Any]) -> None:
    with suppress(redis.RedisError):
        use()


def test_a_server_that_is_starting_says_so(place: Path) -> None:
    with running(place) as server, server.client() as client:
        with client.pipeline() as many:
            for number in range(2000):
                many.set(f"k{number}", "x" * 100)
            many.execute()
        client.save()
        client.config_set("save", "")
        server.kill()
        # A millisecond for each of the two thousand keys.
        slow = RedisServer(place, key_load_delay=3000, loading_process_events_interval_bytes=1024).start(wait=False)
        try:
            store = RedisStore.from_url(slow.url, timeout=5)
            found: list[str] = []

            def loading() -> bool:
                try:
                    store.read(KEY)
                except StoreError as error:
                    found.append(str(error))
                return any("it is starting" in text for text in found)

            until(loading)
            store.close()
        finally:
            slow.kill()


# Away


@pytest.mark.standards("S-188")
def test_a_server_that_hangs_is_given_up_after_the_time_out_and_not_asked_twice(server: RedisServer, eye: Any) -> None:
    store = RedisStore.from_url(server.url, timeout=0.3)
    store.read(KEY)
    connections = eye.info("stats")["total_connections_received"]
    server.pause()
    try:
        assert "TimeoutError" in trouble(lambda: store.read(KEY))
    finally:
        server.go_on()
    # Asking again would have taken another connection, and as long.
    assert eye.info("stats")["total_connections_received"] == connections
    until(lambda: _answers(store))
    store.close()


@pytest.mark.standards("S-188")
def test_a_server_that_hangs_up_is_asked_once_more_at_once(place: Path) -> None:
    connections = 0
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "r.sock"))
        listener.listen()

        def hang_up() -> None:
            nonlocal connections
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connections += 1
                    connection.recv(1)
                    connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        store = RedisStore.from_url(f"unix://{place}/r.sock")
        assert "ConnectionError" in trouble(lambda: store.read(KEY))
        store.close()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert 2 <= connections <= 4


def _answers(store: RedisStore) -> bool:
    try:
        store.read(KEY)
    except StoreError:
        return False
    return True


@pytest.mark.standards("S-188")
def test_a_server_that_is_killed_and_started_again_is_used_again(server: RedisServer) -> None:
    store = RedisStore.from_url(server.url)
    store.write(KEY, b"value", 60, "a")
    server.kill()
    assert "is it running" in trouble(lambda: store.read(KEY))
    server.start()
    assert store.read(KEY) is None
    store.write(KEY, b"value", 60, "a")
    assert store.read(KEY) is not None
    store.close()


def test_a_connection_that_was_closed_while_it_was_idle_is_no_trouble(store: RedisStore, eye: Any) -> None:
    store.write(KEY, b"value", 60, "a")
    for use in (lambda: store.read(KEY), lambda: store.claim(KEY, "a", 5), lambda: store.write(KEY, b"x", 60, "a")):
        eye.client_kill_filter(skipme=True, _type="normal")
        use()


@pytest.mark.standards("S-188")
def test_nothing_is_connected_before_it_is_used(place: Path) -> None:
    store = RedisStore.from_url(f"unix://{place}/none.sock")
    assert "is it running" in trouble(lambda: store.read(KEY))
    store.close()
    for scheme in ("redis", "redis+cluster", "redis+sentinel"):
        path = "/primary/0" if scheme == "redis+sentinel" else ""
        far = RedisStore.from_url(f"{scheme}://:{PASSWORD}@127.0.0.1:1{path}", timeout=0.2)
        trouble(lambda far=far: far.claim(KEY, "a", 5))  # type: ignore[misc]
        far.close()


@pytest.mark.standards("S-203")
def test_a_forked_child_has_connections_of_its_own(store: RedisStore, eye: Any) -> None:
    store.write(KEY, b"value", 60, "a")

    def child() -> list[str]:
        found = [store.read(KEY) for _ in range(50)]
        return sorted({entry.value.decode() for entry in found if entry is not None})

    children = [Forked(child) for _ in range(3)]
    for number in range(50):
        store.write(key_of(number), str(number).encode(), 60, "a")
        entry = store.read(key_of(number))
        assert entry is not None
        assert entry.value == str(number).encode()
    assert [one.result() for one in children] == [["value"]] * 3


def test_a_client_of_ones_own_is_not_closed(server: RedisServer, eye: Any) -> None:
    client = server.client()
    store = RedisStore(client)
    store.write(KEY, b"value", 60, "a")
    name = client.client_id()
    store.close()
    assert client.client_id() == name
    client.close()


def test_a_client_of_our_own_is_closed(server: RedisServer, eye: Any) -> None:
    store = RedisStore.from_url(server.url)
    store.read(KEY)
    assert len(eye.client_list()) == 2
    store.close()
    until(lambda: len(eye.client_list()) == 1)


def test_threads_share_a_store(store: RedisStore, eye: Any) -> None:
    granted: list[str] = []

    def work(number: int) -> None:
        for turn in range(30):
            owner = f"{number}-{turn}"
            if store.claim(KEY, owner, 60)[0] is Lease.GRANTED:
                granted.append(owner)
                store.write(KEY, owner.encode(), 60, owner)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert granted
    assert eye.keys() == [TOKEN.encode()]


# Addresses


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", {"host": "cache"}),
        ("valkey://cache:7000/3", {"host": "cache", "port": 7000, "db": 3}),
        ("redis://web:pass%40word@cache", {"username": "web", "password": "pass@word"}),
        ("unix:///run/redis.sock?db=2", {"path": "/run/redis.sock", "db": 2}),
        ("redis://cache?socket_timeout=3", {"socket_timeout": 3.0}),
    ],
)
def test_an_address_is_read_as_redis_py_reads_it(url: str, expected: dict[str, Any]) -> None:
    settings = client_maker(url, 1.5)().connection_pool.connection_kwargs
    assert {name: settings.get(name) for name in expected} == expected
    assert settings["socket_timeout"] == expected.get("socket_timeout", 1.5)


@pytest.mark.standards("S-191")
@pytest.mark.parametrize("url", ["rediss://cache:6380/0", "valkeys://cache:6380/0"])
def test_tls_is_verified_unless_the_address_says_otherwise(url: str) -> None:
    pool = client_maker(url, 1)().connection_pool
    connection = pool.connection_class(**pool.connection_kwargs)
    assert connection.cert_reqs.name == "CERT_REQUIRED"
    assert connection.check_hostname is True


def test_a_client_that_would_wait_for_ever_is_refused() -> None:
    with pytest.raises(StoreError, match="no socket_timeout"):
        RedisStore(redis.Redis(socket_timeout=None))
