"""A token is expired when the monotonic clock or the wall clock says so (promise 7)."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest

from life.makers import Bench, Clock, refusal, tokens
from tokenvalet import TokenRefusedError

HOUR = 3600.0


def both(clock: Clock, seconds: float) -> None:
    clock.advance(seconds)


def suspended(clock: Clock, seconds: float) -> None:
    """The monotonic clock of Linux stands still while the machine sleeps."""
    clock.jump(seconds)


@pytest.mark.standards("S-204")
@pytest.mark.parametrize("passing", [both, suspended])
def test_a_token_is_over_when_its_time_has_passed_awake_or_asleep(passing: Callable[[Clock, float], None]) -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        passing(bench.clock, HOUR - 400)
        assert bench.valet.token("m2m") is first
        passing(bench.clock, 400)
        assert first.expires_in == 0
        assert bench.valet.token("m2m") is not first
        assert bench.count == 2


@pytest.mark.standards("S-204")
def test_a_wall_clock_that_is_set_back_gives_no_token_a_longer_life() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        bench.clock.jump(-HOUR)
        assert bench.valet.token("m2m") is first
        assert first.expires_in == HOUR
        bench.clock.advance(HOUR - 300)
        assert bench.valet.token("m2m") is first  # due: renewed in the background
        bench.settle()
        assert bench.count == 2
        bench.clock.advance(300)
        assert first.expires_in == 0


@pytest.mark.standards("S-204")
def test_a_wall_clock_that_is_set_forward_costs_one_token_and_no_more() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        bench.clock.jump(HOUR)
        second = bench.valet.token("m2m")
        assert second is not first
        bench.clock.jump(-HOUR)
        for _ in range(32):
            assert bench.valet.token("m2m") is second
            bench.clock.advance(100)
        assert bench.count == 2


@pytest.mark.standards("S-204")
def test_a_token_becomes_due_by_the_clock_that_is_ahead() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        bench.clock.jump(3301)
        assert bench.valet.token("m2m") is first
        bench.settle()
        assert (bench.count, bench.seen.of("renewal_started")[-1].cause) == (2, "due")


@pytest.mark.standards("S-204")
@pytest.mark.parametrize("jump", [-10 * HOUR, -1.0, 0.0, 1.0, 10 * HOUR])
def test_no_lifetime_is_negative_or_longer_than_granted(jump: float) -> None:
    with Bench() as bench:
        token = bench.valet.token("m2m")
        bench.clock.jump(jump)
        assert 0 <= token.expires_in <= HOUR


@pytest.mark.standards("S-204")
def test_intervals_between_failures_do_not_depend_on_the_wall_clock() -> None:
    with Bench(refusal()) as bench:
        for jump in (0.0, HOUR, -2 * HOUR):
            bench.clock.jump(jump)
            with pytest.raises(TokenRefusedError):
                bench.valet.token("m2m")
        assert bench.count == 1
        bench.backchannel.answer = tokens()
        bench.clock.advance(1)
        assert bench.valet.token("m2m").value == "token-0"


def test_expires_at_is_utc_and_by_the_wall_clock() -> None:
    with Bench() as bench:
        token = bench.valet.token("m2m")
        assert token.expires_at == datetime.datetime.fromtimestamp(1_800_003_600, datetime.UTC)
        assert token.expires_at.utcoffset() == datetime.timedelta(0)
