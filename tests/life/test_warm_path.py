"""A warm call costs nothing: no lock, no await, no I/O, no hashing, no header built anew (promise 1)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from life.makers import Bench, in_threads
from tokenvalet import TokenParameters


class Forbidden:
    """A lock that nobody may take."""

    def __enter__(self) -> None:
        raise AssertionError("the warm path took a lock")

    def __exit__(self, *_: object) -> None: ...

    acquire = release = __enter__


def calls_of(function: Callable[[], object]) -> set[str]:
    """Return the names of everything that is called, in Python and in C, while `function` runs."""
    called: set[str] = set()

    def profile(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            called.add(frame.f_code.co_name)
        elif event == "c_call":
            called.add(argument.__name__)

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return called


@pytest.fixture(params=[False, True], ids=["alone", "observed"])
def warm(request: pytest.FixtureRequest) -> Any:
    with Bench(observe=request.param) as bench:
        bench.valet.token("m2m")
        bench.valet.token("m2m", scope="a b")
        yield bench


def test_a_fresh_token_is_had_while_another_thread_holds_the_lock_of_the_renewer(warm: Bench) -> None:
    with warm.renewer._lock, in_threads() as threads:
        threads.start(lambda: warm.valet.token("m2m"))
        threads.start(lambda: warm.valet.token("m2m", scope="a b"))
        threads.join()
    assert (len(threads.values), threads.errors, warm.count) == (2, [], 2)


def test_no_lock_at_all_is_taken_for_a_fresh_token(warm: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    owners = (warm.valet._pools, warm.renewer, warm.valet._around.directory, warm.valet._around.tls)
    for owner in owners:
        monkeypatch.setattr(owner, "_lock", Forbidden())
    monkeypatch.setattr(warm.renewer._workers, "_condition", Forbidden())
    warm.valet.token("m2m")
    warm.valet.token("m2m", scope=["b", "a"])
    with pytest.raises(AssertionError, match="took a lock"):  # else this test could not fail
        warm.valet.token("m2m", scope="c")


def test_nothing_is_awaited_for_a_fresh_token(warm: Bench) -> None:
    with pytest.raises(StopIteration) as stop:
        warm.valet.async_token("m2m").send(None)
    assert stop.value.value is warm.valet.token("m2m")


def test_nothing_is_hashed_built_or_sent_for_a_fresh_token() -> None:
    with Bench(observe=False) as bench:
        first = bench.valet.token("m2m")
        client, renewer = bench.valet._clients["m2m"], bench.renewer
        called = calls_of(lambda: renewer.get(client.ticket()))
        assert called <= {"<lambda>", "ticket", "get", "fresh", "__call__", "setprofile"}
        assert first.authorization is bench.valet.token("m2m").authorization
        assert bench.count == 1


def test_parameters_that_were_seen_before_are_not_hashed_again() -> None:
    with Bench(observe=False) as bench:
        bench.valet.token("m2m", scope="a")
        client, parameters = bench.valet._clients["m2m"], TokenParameters(scope="a")
        assert "openssl_sha256" in calls_of(lambda: client.ticket(TokenParameters(scope="b")))
        assert not {"openssl_sha256", "token_key", "dumps"} & calls_of(lambda: client.ticket(parameters))


def test_the_warm_path_survives_that_its_key_is_thrown_out_meanwhile() -> None:
    with Bench() as bench:
        ticket = bench.ticket()
        token = bench.valet.token("m2m")
        entry = bench.renewer._entries[ticket.key]

        class Vanishing(dict[str, Any]):
            def move_to_end(self, key: str) -> None:
                raise KeyError(key)

        bench.renewer.must_be_asked = True
        bench.renewer._entries = Vanishing({ticket.key: entry})  # type: ignore[assignment]
        assert bench.renewer.fresh(ticket) is token
