"""What events tell of a renewal: which events are its own, what it took, and how it ended (promise 17)."""

from __future__ import annotations

import pytest

from life.makers import Bench, in_threads, refusal, unreachable
from tokenvalet import Event, TokenValetError
from tokenvalet.core.messages import Failure
from tokenvalet.observe import EVENT_NAMES, Observers


def test_all_events_of_one_renewal_have_its_number_and_no_other() -> None:
    with Bench() as bench:
        bench.valet.token("m2m")
        bench.valet.token("m2m", scope="other")
        names = ("wait", "cache_miss", "renewal_started", "token_request", "token_cached")
        numbers = [[event.renewal for event in bench.seen.of(name)] for name in names]
        assert all(of_one == numbers[0] for of_one in numbers)
        first, second = numbers[0]
        assert None not in (first, second)
        assert first != second


def test_the_end_of_a_renewal_tells_what_it_took_and_the_life_of_the_token() -> None:
    with Bench() as bench:
        bench.valet.token("m2m")
        [cached], [request] = bench.seen.of("token_cached"), bench.seen.of("token_request")
        assert cached.seconds == 3600
        assert cached.duration is not None
        assert request.duration is not None
        assert cached.duration >= request.duration >= 0
        assert (request.server, request.method, request.status) == ("127.0.0.1:1", "POST", 200)


def test_a_failed_renewal_tells_what_it_took_and_how_long_the_server_is_left_alone() -> None:
    with Bench(refusal()) as bench:
        with pytest.raises(TokenValetError):
            bench.valet.token("m2m")
        [failed], [request] = bench.seen.of("renewal_failed"), bench.seen.of("token_request")
        assert failed.renewal == request.renewal
        assert failed.seconds
        assert failed.duration is not None
        assert f"after {failed.duration:.3f} s" in failed.detail
        assert (request.status, request.code) == (401, None)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (unreachable, "token_request_unreachable"),
        (lambda _: Failure(code="answer_refused", detail="too long"), "invalid_response"),
    ],
    ids=["unreachable", "refused"],
)
def test_a_request_without_an_answer_tells_the_code_of_the_error_that_it_makes(failure: object, code: str) -> None:
    with Bench(failure, timeout=1) as bench:  # type: ignore[arg-type]
        with pytest.raises(TokenValetError):
            bench.valet.token("m2m")
        assert {event.code for event in bench.seen.of("token_request")} == {code}
        assert {event.status for event in bench.seen.of("token_request")} == {None}


def test_whoever_waits_for_a_forced_renewal_is_told_as_waiting() -> None:
    with Bench() as bench:
        bench.valet.token("m2m")
        bench.valet.token("m2m", force_renewal=True)
        assert [event.cause for event in bench.seen.of("wait")] == ["missing", "forced"]


def test_a_hit_tells_the_life_left_also_while_it_is_being_renewed() -> None:
    with Bench() as bench:
        bench.valet.token("m2m")
        bench.clock.advance(3590)
        bench.backchannel.hold()
        bench.valet.token("m2m")
        [hit] = bench.seen.of("cache_hit")
        assert (hit.cause, hit.seconds) == ("due", 10)


def test_a_renewal_that_ends_after_the_valet_is_told_as_left() -> None:
    with Bench() as bench:
        bench.backchannel.hold()
        with in_threads() as threads:
            threads.start(lambda: bench.valet.token("m2m"))
            bench.backchannel.wait_for(1)
            bench.valet.close()
            bench.backchannel.release()
            threads.join()
        bench.seen.wait_for("renewal_left")
        [left] = bench.seen.of("renewal_left")
        assert left.renewal == bench.seen.of("renewal_started")[0].renewal
        assert left.duration is not None
        assert bench.seen.of("token_cached") == []


def test_a_renewal_that_another_process_is_about_is_told_as_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with Bench() as bench:
        bench.valet.token("m2m")
        # What a client says when the lease is another's, and nobody waits.
        monkeypatch.setattr(bench.valet._clients["m2m"], "renew", lambda ticket, wish: None)
        bench.clock.advance(3590)
        bench.valet.token("m2m")
        bench.seen.wait_for("renewal_left")
        [left] = bench.seen.of("renewal_left")
        assert (left.cause, left.code) == ("due", None)
        assert left.renewal == bench.seen.of("renewal_started")[-1].renewal


def test_every_renewal_that_starts_has_one_end() -> None:
    ends = ("token_cached", "store_hit", "renewal_failed", "renewal_left")
    with Bench() as bench:
        for round_ in range(4):
            bench.valet.token("m2m", scope=f"a{round_}")
        bench.backchannel.answer = refusal()
        with pytest.raises(TokenValetError):
            bench.valet.token("m2m", force_renewal=True)
        started = [event.renewal for event in bench.seen.of("renewal_started")]
        ended = [event.renewal for name in ends for event in bench.seen.of(name)]
        assert sorted(map(str, started)) == sorted(map(str, ended))
        assert len(started) == 5


# Who is told -------------------------------------------------------------------------------------------------------


class Choosy:
    ignores = frozenset({"cache_hit", "call_sent"})

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, event: Event) -> None:
        self.names.append(event.name)


def test_a_listener_is_not_told_what_it_ignores() -> None:
    choosy, heard = Choosy(), list[str]()
    observers = Observers([choosy, lambda event: heard.append(event.name)])
    for name in EVENT_NAMES:
        observers.tell(Event(name=name, client="m2m"))
    assert heard == list(EVENT_NAMES)
    assert choosy.names == [name for name in EVENT_NAMES if name not in Choosy.ignores]


def test_requests_are_told_only_where_somebody_listens_to_them() -> None:
    choosy = Choosy()
    observers = Observers([choosy])
    assert (observers.every_call, observers.every_request) == (True, False)
    observers.add(print)
    assert observers.every_request
    observers.remove(print)
    observers.remove(choosy)
    assert (observers.every_call, observers.every_request) == (False, False)
