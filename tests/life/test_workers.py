"""The valet's own threads: few, in lanes, daemons, gone when there is nothing to do."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from life.makers import PATIENCE, Bench, until
from tokenvalet import workers
from tokenvalet.workers import Workers


@pytest.fixture
def pool() -> Iterator[Workers]:
    made = Workers()
    yield made
    made.close()


class Jobs:
    """Jobs that hold their thread until they are let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.go = threading.Event()

    def job(self, name: str) -> Callable[[], None]:
        def run() -> None:
            self.begun.append(name)
            assert self.go.wait(PATIENCE)
            self.ended.append(name)

        return run


@pytest.mark.standards("S-212")
def test_a_lane_holds_only_a_few_threads_and_leaves_the_others_their_own(pool: Workers) -> None:
    jobs = Jobs()
    for number in range(10):
        pool.submit(("one", "slow"), jobs.job(f"slow-{number}"))
    until(lambda: len(jobs.begun) == 4)
    for lane in ("a", "b", "c"):
        pool.submit(("one", lane), jobs.job(lane))
    until(lambda: {"a", "b", "c"} <= set(jobs.begun))
    assert sum(name.startswith("slow") for name in jobs.begun) == 4
    jobs.go.set()
    until(lambda: len(jobs.ended) == 13)
    # In the order in which they came.
    assert sorted(jobs.begun[:4]) == [f"slow-{number}" for number in range(4)]


def test_there_are_never_more_threads_than_allowed(pool: Workers) -> None:
    jobs = Jobs()
    for number in range(80):
        pool.submit((f"server-{number}", "lane"), jobs.job(str(number)))
    until(lambda: len(jobs.begun) == 64)
    assert pool._threads == 64
    jobs.go.set()
    until(lambda: len(jobs.ended) == 80)


@pytest.mark.standards("S-212")
def test_a_server_with_many_lanes_that_hang_leaves_the_other_servers_their_threads(pool: Workers) -> None:
    jobs = Jobs()
    for number in range(40):
        pool.submit(("slow", number), jobs.job(f"slow-{number}"))
    until(lambda: len(jobs.begun) == 16)
    pool.submit(("other", "lane"), jobs.job("other"))
    until(lambda: "other" in jobs.begun)
    assert len(jobs.begun) == 17
    jobs.go.set()
    until(lambda: len(jobs.ended) == 41)
    until(lambda: not pool._servers)


LANES = st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"))


@given(st.lists(LANES, max_size=60), st.integers(1, 6), st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=60, deadline=None, database=None, derandomize=True)
def test_every_job_runs_once_and_no_lane_or_server_is_ever_wider_than_it_may(
    lanes: list[tuple[str, str]], most: int, most_for_a_server: int, width: int
) -> None:
    pool = Workers(most=most, most_for_a_server=most_for_a_server, most_in_a_lane=width)
    lock = threading.Lock()
    ran: list[int] = []
    running: Counter[object] = Counter()
    widest: Counter[str] = Counter()

    def job(number: int, lane: tuple[str, str]) -> Callable[[], None]:
        def run() -> None:
            with lock:
                running.update([lane, lane[0]])
                widest["lane"] = max(widest["lane"], running[lane])
                widest["server"] = max(widest["server"], running[lane[0]])
                ran.append(number)
            with lock:
                running.subtract([lane, lane[0]])

        return run

    for number, lane in enumerate(lanes):
        assert pool.submit(lane, job(number, lane))
    until(lambda: len(ran) == len(lanes))
    pool.close()
    assert sorted(ran) == list(range(len(lanes)))
    assert widest["lane"] <= width
    assert widest["server"] <= most_for_a_server


def test_jobs_of_one_thread_go_from_one_to_the_next_without_a_new_thread(pool: Workers) -> None:
    for number in range(20):
        done = threading.Event()
        pool.submit(("one", number), done.set)
        assert done.wait(PATIENCE)
        until(lambda: pool._idle == 1)
    assert pool._threads == 1


def test_threads_end_when_there_is_nothing_to_do_and_come_back(pool: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.01)
    before = set(threading.enumerate())
    for _ in range(3):
        done = threading.Event()
        pool.submit(("one", "lane"), done.set)
        assert done.wait(PATIENCE)
        until(lambda: set(threading.enumerate()) <= before)
        assert (pool._threads, pool._idle, pool._called) == (0, 0, 0)


def test_a_thread_that_is_called_when_its_wait_ends_is_still_counted_right(pool: Workers) -> None:
    """The wait of a condition may report a timeout although the thread was notified in that moment."""
    wait = pool._condition.wait

    def late(timeout: float | None = None) -> bool:
        wait(timeout)
        return False

    pool._condition.wait = late  # type: ignore[method-assign]
    for _ in range(5):
        done = threading.Event()
        pool.submit(("one", "lane"), done.set)
        assert done.wait(PATIENCE)
        until(lambda: pool._idle == 1)
    assert pool._called == 0


def test_a_closed_pool_takes_nothing_and_drops_what_has_not_begun(pool: Workers) -> None:
    jobs = Jobs()
    for number in range(6):
        pool.submit(("one", "lane"), jobs.job(str(number)))
    until(lambda: len(jobs.begun) == 4)
    pool.close()
    jobs.go.set()
    until(lambda: pool._threads == 0)
    assert len(jobs.ended) == 4
    assert pool.submit(("one", "lane"), jobs.job("late")) is False


def test_a_job_waits_for_the_threads_that_there_are_when_no_more_can_be_started(
    pool: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = Jobs()
    pool.submit(("one", "a"), jobs.job("a"))
    until(lambda: jobs.begun == ["a"])

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert pool.submit(("one", "b"), jobs.job("b"))
    jobs.go.set()
    until(lambda: jobs.ended == ["a", "b"])
    assert pool._threads == 1


@pytest.mark.standards("S-208")
def test_renewals_run_on_daemon_threads_that_are_named_after_us() -> None:
    found: list[threading.Thread] = []

    def answer(_: Any) -> Any:
        found.append(threading.current_thread())
        raise RuntimeError

    with Bench(answer) as bench, pytest.raises(Exception, match="RuntimeError"):
        bench.valet.token("m2m")
    assert [thread.daemon for thread in found] == [True]
    assert found[0].name.startswith("tokenvalet-")


def test_nothing_is_started_before_the_first_renewal() -> None:
    before = set(threading.enumerate())
    with Bench() as bench:
        bench.valet.transport("m2m")
        assert set(threading.enumerate()) <= before
        bench.valet.token("m2m")
        assert len(set(threading.enumerate()) - before) == 1


@pytest.mark.standards("S-208")
def test_threads_end_with_the_valet() -> None:
    before = set(threading.enumerate())
    with Bench() as bench:
        for number in range(5):
            bench.valet.token("m2m", scope=str(number))
    until(lambda: set(threading.enumerate()) <= before)
