"""Fresh, due, expired: nobody waits for a renewal that could have been made earlier (promise 3)."""

from __future__ import annotations

from typing import Any

import pytest

from life.makers import Bench, in_threads, reply, tokens, until
from tokenvalet import AccessToken
from tokenvalet.core.messages import HttpReply, HttpRequest


def due_after(token: AccessToken) -> float:
    """Return the age at which a token becomes due, in seconds."""
    return token.lifetime - (token.end.monotonic - token.due.monotonic)


@pytest.mark.standards("S-048")
@pytest.mark.parametrize(
    ("lifetime", "settings", "earliest", "latest"),
    [
        (3600, {}, 3225, 3300),
        (600, {}, 450, 480),
        (60, {}, 45, 48),
        (30, {}, 22.5, 24),
        (5, {}, 3.75, 4),
        (1, {}, 0.75, 0.8),
        (86_400, {}, 86_025, 86_100),
        (3600, {"renew_before": 60}, 3525, 3540),
        (3600, {"renew_before": 0}, 3600, 3600),
        (60, {"renew_before": 60}, 45, 48),
        (30, {"renew_before": 60}, 22.5, 24),
        (None, {"default_lifetime": 600}, 450, 480),
        (None, {}, 225, 240),
    ],
)
def test_the_window_follows_the_lifetime(
    lifetime: float | None, settings: dict[str, Any], earliest: float, latest: float
) -> None:
    with Bench(tokens(lifetime), **settings) as bench:
        ages = [due_after(bench.valet.token("m2m", scope=f"s{number}")) for number in range(40)]
    assert earliest <= min(ages) <= max(ages) <= latest
    # Jittered over most of a quarter of the window, so that processes do not renew in step.
    assert max(ages) - min(ages) >= (latest - earliest) / 2


@pytest.mark.standards("S-048")
@pytest.mark.parametrize(("lifetime", "fresh_until", "due_from"), [(3600, 3224, 3301), (600, 449, 481), (60, 44, 49)])
def test_a_fresh_token_is_used_and_a_due_one_renewed(lifetime: float, fresh_until: float, due_from: float) -> None:
    with Bench(tokens(lifetime)) as bench:
        first = bench.valet.token("m2m")
        bench.clock.advance(fresh_until)
        assert bench.valet.token("m2m") is first
        assert bench.count == 1
        bench.clock.advance(due_from - fresh_until)
        assert bench.valet.token("m2m") is first
        bench.settle()
        assert bench.count == 2
        assert bench.valet.token("m2m") is not first
        assert bench.count == 2


@pytest.mark.standards("S-048")
def test_a_token_of_five_seconds_serves_many_calls() -> None:
    with Bench(tokens(5)) as bench:
        for _ in range(300):  # a call every 100 ms, for half a minute
            assert bench.valet.token("m2m").expires_in > 0
            bench.settle()
            bench.clock.advance(0.1)
        assert 6 <= bench.count <= 8


@pytest.mark.parametrize(("lifetime", "fewest", "most"), [(3600, 26, 27), (600, 181, 193)])
def test_a_day_of_steady_use_costs_as_few_tokens_as_promised(lifetime: float, fewest: int, most: int) -> None:
    """A token of an hour is asked for every 54 or 55 minutes, one of ten minutes about every eight."""
    with Bench(tokens(lifetime)) as bench:
        for _ in range(86_400 // 10):
            bench.valet.token("m2m")
            if bench.renewer._under_way:
                bench.settle()
            bench.clock.advance(10)
        assert fewest <= bench.count <= most
        assert {event.cause for event in bench.seen.of("renewal_started")} == {"missing", "due"}


@pytest.mark.standards("S-046")
@pytest.mark.parametrize("expires_in", [0, -1, 0.5])
def test_a_token_without_any_lifetime_serves_those_who_waited_and_is_not_kept(expires_in: float) -> None:
    with Bench(tokens(expires_in)) as bench:
        bench.backchannel.hold()
        with in_threads() as threads:
            threads.start(lambda: bench.valet.token("m2m"), times=20)
            until(lambda: len(bench.seen.of("wait")) == 20)
            bench.backchannel.release()
        assert {token.value for token in threads.values} == {"token-0"}
        assert (len(threads.values), bench.count) == (20, 1)
        assert bench.valet.token("m2m").value == "token-1"
        assert bench.count == 2


def test_a_due_token_is_used_while_the_server_takes_its_time() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        bench.clock.advance(3301)
        bench.backchannel.hold()
        assert [bench.valet.token("m2m") for _ in range(100)] == [first] * 100
        bench.backchannel.wait_for(2)
        assert bench.valet.token("m2m") is first
        assert (bench.count, len(bench.seen.of("renewal_started")), bench.seen.of("wait")[1:]) == (2, 2, [])
        bench.backchannel.release()
        bench.settle()
        assert bench.valet.token("m2m").value == "token-1"
        assert bench.count == 2


def test_only_a_request_makes_a_due_token_new() -> None:
    with Bench() as bench:
        bench.valet.token("m2m")
        bench.clock.advance(3301)
        assert not bench.renewer._under_way
        assert bench.count == 1


def test_an_expired_token_is_waited_for_and_not_used() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        bench.clock.advance(3600)
        assert first.expires_in == 0
        assert bench.valet.token("m2m") is not first
        assert [event.cause for event in bench.seen.of("cache_miss")] == ["missing", "expired"]


@pytest.mark.standards("S-047")
def test_a_lifetime_counts_from_before_the_request_was_sent() -> None:
    with Bench() as bench:

        def slow(_: HttpRequest) -> HttpReply:
            bench.clock.advance(100)
            return reply({"access_token": "a", "token_type": "Bearer", "expires_in": 3600})

        bench.backchannel.answer = slow
        before = bench.clock.now
        token = bench.valet.token("m2m")
        assert (token.end.monotonic, token.end.wall) == (before.monotonic + 3600, before.wall + 3600)
        assert token.expires_in == 3500


@pytest.mark.standards("S-047")
def test_with_a_second_attempt_a_lifetime_counts_from_before_that_one() -> None:
    with Bench() as bench:
        good = tokens(3600)

        def slow(request: HttpRequest) -> HttpReply:
            bench.clock.advance(2)
            if bench.count == 1:
                return HttpReply(status=503, headers=(), body=b"")
            answer = good(request)
            assert isinstance(answer, HttpReply)
            return answer

        bench.backchannel.answer = slow
        token = bench.valet.token("m2m")
        assert (bench.count, token.expires_in) == (2, 3598)


def test_a_token_that_outlived_its_life_on_the_way_serves_once() -> None:
    with Bench() as bench:
        good = tokens(1)

        def slow(request: HttpRequest) -> Any:
            bench.clock.advance(2)
            return good(request)

        bench.backchannel.answer = slow
        assert bench.valet.token("m2m").value == "token-0"
        assert bench.valet.token("m2m").value == "token-1"


@pytest.mark.standards("S-045", "S-046")
def test_no_lifetime_is_endless() -> None:
    with Bench(tokens(10**9)) as bench:
        assert bench.valet.token("m2m").lifetime == 86_400
    with Bench(tokens(None)) as bench:
        assert bench.valet.token("m2m").lifetime == 300
