"""What every store has to do: one suite for the folder, for Redis, and for whatever else keeps tokens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from stores.makers import KEY, OTHER, key_of
from stores.redis_server import RedisServer
from tokenvalet.stores import Entry, FileStore, Lease, RedisStore, Store

MakeStore = Callable[[], Store]


@pytest.fixture(params=["folder", "redis", "redis, decoding"])
def another(request: pytest.FixtureRequest) -> Iterator[MakeStore]:
    """Makes stores on the same place, as other processes would."""
    made: list[Store] = []

    def make() -> Store:
        store: Store
        if request.param == "folder":
            store = FileStore(request.getfixturevalue("folder"))
        else:
            server: RedisServer = request.getfixturevalue("server")
            if request.param == "redis":
                store = RedisStore.from_url(server.url)
            else:
                store = RedisStore(server.client(decode_responses=True))
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(another: MakeStore) -> Store:
    return another()


def value_of(entry: Entry | None) -> bytes | None:
    return entry.value if entry is not None else None


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def test_there_is_nothing_at_first(store: Store) -> None:
    assert store.read(KEY) is None
    assert store.claim(KEY, "a", 5) == (Lease.GRANTED, None)


def test_what_one_writes_another_reads_with_the_life_that_it_has_left(store: Store, another: MakeStore) -> None:
    store.write(KEY, b"value", 60, "a")
    for one in (store, another()):
        entry = one.read(KEY)
        assert entry is not None
        assert entry.value == b"value"
        assert 50 < entry.left <= 60
        assert one.read(OTHER) is None


def test_a_value_is_replaced_by_the_next(store: Store) -> None:
    store.write(KEY, b"a long value", 60, "a")
    store.write(KEY, b"short", 30, "a")
    entry = store.read(KEY)
    assert entry is not None
    assert entry.value == b"short"
    assert entry.left <= 30


def test_a_value_that_is_over_is_missing(store: Store) -> None:
    store.write(KEY, b"value", 0.05, "a")
    until(lambda: store.read(KEY) is None)
    assert store.claim(KEY, "a", 5) == (Lease.GRANTED, None)


@pytest.mark.parametrize("size", [0, 1, 4096, 100_000, 128 * 1024])
def test_values_may_be_empty_or_large(store: Store, size: int) -> None:
    store.write(KEY, b"x" * size, 60, "a")
    assert value_of(store.read(KEY)) == b"x" * size


def test_one_has_the_lease_and_others_are_told_so(store: Store, another: MakeStore) -> None:
    store.write(KEY, b"value", 60, "")
    assert store.claim(KEY, "a", 5)[0] is Lease.GRANTED
    for one in (store, another()):
        lease, entry = one.claim(KEY, "b", 5)
        assert lease is Lease.HELD
        assert value_of(entry) == b"value"
    assert another().claim(OTHER, "b", 5)[0] is Lease.GRANTED


def test_the_owner_may_ask_for_it_again(store: Store, another: MakeStore) -> None:
    for _ in range(3):
        assert store.claim(KEY, "a", 5)[0] is Lease.GRANTED
    assert another().claim(KEY, "b", 5)[0] is Lease.HELD


def test_writing_gives_the_lease_back(store: Store, another: MakeStore) -> None:
    store.claim(KEY, "a", 5)
    store.write(KEY, b"value", 60, "a")
    lease, entry = another().claim(KEY, "b", 5)
    assert (lease, value_of(entry)) == (Lease.GRANTED, b"value")


def test_releasing_gives_the_lease_back(store: Store, another: MakeStore) -> None:
    store.claim(KEY, "a", 5)
    store.release(KEY, "a", 0)
    assert another().claim(KEY, "b", 5)[0] is Lease.GRANTED


def test_nobody_gives_back_the_lease_of_another(store: Store, another: MakeStore) -> None:
    assert store.claim(KEY, "a", 5)[0] is Lease.GRANTED
    other = another()
    other.release(KEY, "b", 0)
    other.release(KEY, "b", 1)
    other.write(KEY, b"value", 60, "b")
    other.write(KEY, b"value", 60, "")
    assert other.claim(KEY, "c", 5)[0] is Lease.HELD
    assert store.claim(KEY, "a", 5)[0] is Lease.GRANTED


def test_after_a_failure_nobody_has_the_lease_for_a_while(store: Store, another: MakeStore) -> None:
    store.write(KEY, b"value", 60, "")
    store.claim(KEY, "a", 5)
    store.release(KEY, "a", 0.4)
    for owner in ("a", "b"):
        lease, entry = another().claim(KEY, owner, 5)
        assert (lease, value_of(entry)) == (Lease.PAUSED, b"value")
    until(lambda: another().claim(KEY, "b", 5)[0] is Lease.GRANTED)


def test_a_lease_that_is_not_given_back_ends_by_itself(store: Store, another: MakeStore) -> None:
    other = another()
    assert store.claim(KEY, "a", 0.3)[0] is Lease.GRANTED
    assert other.claim(KEY, "b", 5)[0] is Lease.HELD
    until(lambda: other.claim(KEY, "b", 5)[0] is Lease.GRANTED)
    # The first one comes too late, and changes nothing for the second.
    store.release(KEY, "a", 0)
    assert store.claim(KEY, "a", 5)[0] is Lease.HELD


def test_a_lease_that_is_prolonged_lasts_longer(store: Store, another: MakeStore) -> None:
    other = another()
    store.claim(KEY, "a", 0.3)
    store.claim(KEY, "a", 30)
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        assert other.claim(KEY, "b", 5)[0] is Lease.HELD
        time.sleep(0.05)


def test_of_many_who_claim_at_once_one_is_given_the_lease(another: MakeStore) -> None:
    stores = [another() for _ in range(8)]
    for number in range(20):
        key = key_of(number)
        together = threading.Barrier(len(stores))
        found: list[Lease] = []

        def claim(store: Store, key: str, together: threading.Barrier, found: list[Lease]) -> None:
            together.wait(10)
            found.append(store.claim(key, str(id(store)), 5)[0])

        threads = [threading.Thread(target=claim, args=(store, key, together, found)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(lease.value for lease in found) == ["granted"] + ["held"] * 7


def test_a_store_shows_no_value(store: Store) -> None:
    store.write(KEY, b"planted", 60, "a")
    assert "planted" not in repr(store)


def test_closing_twice_is_no_fault(store: Store) -> None:
    store.read(KEY)
    store.close()
    store.close()
