"""The store as the renewer sees it: never an error, asked by one when it may be back, told once (promise 14)."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from stores.makers import KEY, OTHER, PLANTED, Heard, secret_of
from tokenvalet.core.messages import Lease, StoreReply
from tokenvalet.observe import Observers
from tokenvalet.shelf import LONGEST_VALUE, Shelf
from tokenvalet.stores import Entry, StoreError
from tokenvalet.stores.sealing import Sealer

CONTENT = PLANTED.encode()


class Plain:
    """A store in a dictionary that does what `trouble` says, and counts how often it is asked."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.asked: list[str] = []
        self.trouble: Callable[[], Any] = lambda: None

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        self.trouble()

    def read(self, key: str) -> Any:
        self._ask("read")
        return self.values.get(key)

    def claim(self, key: str, owner: str, seconds: float) -> Any:
        self._ask("claim")
        return Lease.GRANTED, self.values.get(key)

    def write(self, key: str, value: bytes, seconds: float, owner: str) -> None:
        self._ask("write")
        self.values[key] = Entry(value, seconds)

    def release(self, key: str, owner: str, pause: float) -> None:
        self._ask("release")

    def close(self) -> None:
        self._ask("close")


class Bench:
    """A shelf, the store in it, a clock that stands still, and who is told."""

    def __init__(self, sealer: Sealer | None = None) -> None:
        self.store = Plain()
        self.now = 0.0
        self.heard = Heard()
        self.shelf = Shelf(
            self.store,
            (lambda: sealer) if sealer is not None else None,
            Observers([self.heard]),
            clock=lambda: self.now,
            jitter=lambda: 1.0,
        )

    def recall(self, key: str = KEY) -> StoreReply:
        return self.shelf.recall("m2m", key)

    def keep(self, content: bytes = CONTENT, key: str = KEY) -> None:
        self.shelf.keep("m2m", key, "owner", content, 60.0)

    def fails(self, error: BaseException | None) -> None:
        def trouble() -> None:
            if error is not None:
                raise error

        self.store.trouble = trouble


def test_what_is_kept_is_recalled_with_the_life_that_it_has_left() -> None:
    bench = Bench()
    assert bench.recall() == StoreReply()
    bench.keep()
    assert bench.recall() == StoreReply(content=CONTENT, left=60.0)
    claimed = bench.shelf.claim("m2m", KEY, "owner", 5.0)
    assert claimed == StoreReply(content=CONTENT, left=60.0, lease=Lease.GRANTED)
    assert bench.heard.names() == []


@pytest.mark.standards("S-184")
def test_with_keys_neither_the_token_nor_its_name_is_in_the_store() -> None:
    bench = Bench(Sealer([("a", secret_of(1))]))
    bench.keep()
    ((name, entry),) = bench.store.values.items()
    assert name != KEY
    assert CONTENT not in entry.value
    assert bench.recall().content == CONTENT
    assert bench.recall(OTHER).content is None


@pytest.mark.standards("S-184")
def test_two_values_that_were_swapped_are_both_missing_and_told_in_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(Sealer([("a", secret_of(1))]))
    bench.keep(b"one", KEY)
    bench.keep(b"another", OTHER)
    first, second = bench.store.values
    values = bench.store.values
    values[first], values[second] = values[second], values[first]
    with caplog.at_level(logging.WARNING, logger="tokenvalet"):
        for _ in range(5):
            assert bench.recall(KEY) == bench.recall(OTHER) == StoreReply()
    assert len(caplog.records) == 1
    assert bench.heard.names() == ["store_value_refused"] * 10
    # The store itself is in order.
    assert len(bench.store.asked) == 12


@pytest.mark.standards("S-184")
@pytest.mark.parametrize("value", [CONTENT, b"", b"tv1.b.AAAA", b"\xff" * 100])
def test_a_value_that_cannot_be_opened_counts_as_missing_and_the_lease_as_it_is(value: bytes) -> None:
    bench = Bench(Sealer([("a", secret_of(1))]))
    bench.store.values = dict.fromkeys([Sealer([("a", secret_of(1))]).name(KEY)], Entry(value, 60.0))
    assert bench.shelf.claim("m2m", KEY, "owner", 5.0) == StoreReply(lease=Lease.GRANTED)
    (event,) = bench.heard.of("store_value_refused")
    assert PLANTED not in event.detail


def test_a_value_of_enormous_size_is_neither_stored_nor_read() -> None:
    bench = Bench()
    bench.keep(b"x" * (LONGEST_VALUE + 1))
    assert bench.store.asked == ["release"]
    bench.store.values[KEY] = Entry(b"x" * (LONGEST_VALUE + 1), 60.0)
    assert bench.recall() == StoreReply()


# Trouble


@pytest.mark.standards("S-188")
@pytest.mark.parametrize(
    "error", [StoreError("it is full"), OSError("disk"), RuntimeError(PLANTED), KeyError("x"), TimeoutError()]
)
def test_whatever_a_store_raises_it_is_away_and_nothing_is_raised(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    for step in ("recall", "claim", "keep", "release", "close"):
        bench = Bench()
        bench.fails(error)
        with caplog.at_level(logging.DEBUG, logger="tokenvalet"):
            if step == "recall":
                assert bench.recall().away
            elif step == "claim":
                assert bench.shelf.claim("m2m", KEY, "owner", 5.0).away
            elif step == "keep":
                bench.keep()
            elif step == "release":
                bench.shelf.release("m2m", KEY, "owner", 0.0)
            else:
                bench.shelf.close()
        assert bench.heard.names() == ([] if step == "close" else ["store_away"])
    assert PLANTED not in caplog.text


@pytest.mark.standards("S-188")
@pytest.mark.parametrize(
    "answer",
    [
        "text",
        7,
        b"bytes",
        ("a", 1.0),
        (b"a", "1"),
        (b"a", None),
        (b"a", float("nan")),
        (b"a", float("inf")),
        (b"a",),
        (b"a", 1.0, 2),
        object(),
    ],
    ids=range(11),
)
def test_a_store_that_answers_nonsense_is_away(answer: object) -> None:
    bench = Bench()
    bench.store.values[KEY] = answer
    assert bench.recall().away
    bench = Bench()
    bench.store.values[KEY] = answer
    assert bench.shelf.claim("m2m", KEY, "owner", 5.0).away
    assert bench.heard.names() == ["store_away"]


@pytest.mark.parametrize("answer", [None, "granted", ("granted", None), (Lease.GRANTED,), (Lease.GRANTED, b"a")])
def test_a_lease_that_is_none_is_a_store_that_is_away(answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    monkeypatch.setattr(bench.store, "claim", lambda *_: answer)
    assert bench.shelf.claim("m2m", KEY, "owner", 5.0).away


@pytest.mark.parametrize("left", [0, 0.0, -1])
def test_a_value_that_is_over_is_missing(left: float) -> None:
    bench = Bench()
    bench.store.values[KEY] = (CONTENT, left)
    assert bench.recall() == StoreReply()


@pytest.mark.standards("S-188")
def test_an_outage_is_told_once_and_its_end_once_however_often_the_store_is_asked() -> None:
    bench = Bench()
    bench.fails(StoreError("it is starting"))
    for _ in range(600):
        assert bench.recall().away
        bench.keep()
        bench.now += 0.1
    (event,) = bench.heard.events
    assert (event.name, event.client, event.detail) == ("store_away", "m2m", "it is starting; going on without it")
    bench.fails(None)
    bench.now += 60
    for _ in range(5):
        assert not bench.recall().away
    assert bench.heard.names() == ["store_away", "store_back"]
    bench.fails(StoreError("again"))
    bench.recall()
    assert bench.heard.names() == ["store_away", "store_back", "store_away"]


@pytest.mark.standards("S-188")
def test_a_store_that_is_away_is_asked_at_growing_intervals_up_to_half_a_minute() -> None:
    bench = Bench()
    bench.fails(StoreError("gone"))
    asked: list[float] = []
    for _ in range(12000):
        before = len(bench.store.asked)
        bench.recall()
        if len(bench.store.asked) > before:
            asked.append(bench.now)
        bench.now += 0.01
    gaps = [round(later - earlier, 1) for earlier, later in itertools.pairwise(asked)]
    assert gaps == [1, 2, 4, 8, 16, 30, 30]


@pytest.mark.standards("S-188")
def test_when_it_may_be_back_one_asks_and_the_others_go_on_without_it() -> None:
    bench = Bench()
    bench.fails(StoreError("gone"))
    bench.recall()
    bench.now += 1.1
    asking, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        asking.set()
        assert go_on.wait(10)

    bench.store.trouble = slow
    replies: list[StoreReply] = []
    prober = threading.Thread(target=lambda: replies.append(bench.recall()))
    prober.start()
    assert asking.wait(10)
    assert all(bench.recall().away for _ in range(20))
    go_on.set()
    prober.join()
    assert replies == [StoreReply()]
    assert len(bench.store.asked) == 2
    assert not bench.recall().away


@pytest.mark.standards("S-188")
def test_sixteen_who_meet_the_same_trouble_side_by_side_count_as_one() -> None:
    bench = Bench()
    together = threading.Barrier(16)

    def trouble() -> None:
        together.wait(10)
        raise StoreError("gone")

    bench.store.trouble = trouble
    threads = [threading.Thread(target=bench.recall) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.heard.names() == ["store_away"]
    bench.fails(None)
    bench.now += 1.1  # the first interval, not the sixteenth
    assert not bench.recall().away


def test_an_answer_that_was_on_its_way_before_the_trouble_does_not_end_it() -> None:
    bench = Bench()
    asking, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        asking.set()
        assert go_on.wait(10)

    bench.store.trouble = slow
    early = threading.Thread(target=bench.recall)
    early.start()
    assert asking.wait(10)
    bench.fails(StoreError("gone"))
    assert bench.recall().away
    go_on.set()
    early.join()
    assert bench.heard.names() == ["store_away"]
    assert bench.recall().away


def test_an_answer_that_took_so_long_that_another_met_the_trouble_meanwhile_does_not_end_it() -> None:
    bench = Bench()
    bench.fails(StoreError("gone"))
    bench.recall()
    bench.now += 1.1
    asking, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        asking.set()
        assert go_on.wait(10)

    bench.store.trouble = slow
    early = threading.Thread(target=bench.recall)
    early.start()
    assert asking.wait(10)
    bench.now += 1.1
    bench.fails(StoreError("still gone"))
    assert bench.recall().away
    go_on.set()
    early.join()
    assert bench.heard.names() == ["store_away"]
    assert bench.recall().away


@pytest.mark.standards("S-209")
def test_a_store_is_not_closed_while_it_is_being_asked_but_as_soon_as_it_has_answered() -> None:
    bench = Bench()
    asking, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        if bench.store.asked[-1] == "read":
            asking.set()
            assert go_on.wait(10)

    bench.store.trouble = slow
    reader = threading.Thread(target=bench.recall)
    reader.start()
    assert asking.wait(10)
    bench.shelf.close()
    assert bench.store.asked == ["read"]
    go_on.set()
    reader.join()
    assert bench.store.asked == ["read", "close"]


@pytest.mark.standards("S-209")
def test_a_lease_can_be_given_back_after_the_end_and_leaves_nothing_open() -> None:
    bench = Bench()
    bench.shelf.close()
    bench.shelf.release("m2m", KEY, "owner", 0.0)
    assert bench.store.asked == ["close", "release", "close"]
    assert bench.heard.names() == []


@pytest.mark.standards("S-203")
def test_those_who_asked_at_a_fork_do_not_keep_a_child_from_closing_its_store() -> None:
    bench = Bench()
    asking, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        asking.set()
        assert go_on.wait(10)

    bench.store.trouble = slow
    reader = threading.Thread(target=bench.recall)
    reader.start()
    assert asking.wait(10)
    bench.store.trouble = lambda: None
    bench.shelf.after_fork()  # what a child would do, in which there is no such thread
    bench.shelf.close()
    assert bench.store.asked == ["read", "close"]
    go_on.set()
    reader.join()


@pytest.mark.standards("S-203")
def test_a_lock_that_was_held_at_a_fork_is_left_behind() -> None:
    bench = Bench()
    with bench.shelf._lock:
        bench.shelf.after_fork()
        assert bench.recall() == StoreReply()
