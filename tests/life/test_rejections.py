"""A 401 renews once: compare with the current token, then renew, and not more often than every ten seconds (promise 8)."""

from __future__ import annotations

import asyncio

import pytest

from life.makers import Bench, in_threads, refusal, token_of, tokens, unavailable, until
from tokenvalet import AccessToken, TokenRefusedError, TokenRequestError
from tokenvalet.pending import Waiting
from tokenvalet.waiting import wait, wait_async


def replaced(bench: Bench, rejected: AccessToken) -> AccessToken | None:
    """Say that an API rejected a token, and return what is there to replace it."""
    answer = bench.renewer.replace(bench.ticket(), rejected)
    return wait(answer) if answer is not None else None


@pytest.mark.standards("S-205")
def test_a_token_revoked_a_moment_after_its_issue_is_replaced_at_once() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        second = replaced(bench, first)
        assert second is not None
        assert (second.value, bench.count) == ("token-1", 2)
        assert bench.valet.token("m2m") is second
        assert bench.seen.of("renewal_started")[-1].cause == "rejected"


@pytest.mark.standards("S-205")
def test_ten_thousand_rejections_in_ten_seconds_cost_two_requests() -> None:
    with Bench(observe=False) as bench:
        outcomes = set()
        for _ in range(10_000):
            token = bench.valet.token("m2m")
            outcomes.add(replaced(bench, token) is None)
            bench.clock.advance(0.001)
        assert bench.count == 2
        assert outcomes == {True, False}


@pytest.mark.standards("S-205")
def test_forced_renewals_are_ten_seconds_apart() -> None:
    with Bench(observe=False) as bench:
        for _ in range(600):  # a minute of an API that rejects everything, ten times a second
            replaced(bench, bench.valet.token("m2m"))
            bench.clock.advance(0.1)
        assert bench.count == 7


@pytest.mark.standards("S-205")
def test_a_rejected_token_that_is_not_the_current_one_renews_nothing() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        second = replaced(bench, first)
        bench.clock.advance(60)
        assert [bench.renewer.replace(bench.ticket(), first) for _ in range(100)] == [second] * 100
        assert bench.count == 2


@pytest.mark.standards("S-205")
def test_one_renewal_serves_all_who_were_rejected() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        bench.backchannel.hold()

        async def rejected_task() -> AccessToken:
            answer = bench.renewer.replace(bench.ticket(), first)
            assert isinstance(answer, Waiting)
            return await wait_async(answer)

        async def many() -> list[AccessToken]:
            return await asyncio.gather(*(rejected_task() for _ in range(300)))

        with in_threads() as threads:
            threads.start(lambda: [replaced(bench, first)], times=32)
            threads.start(lambda: asyncio.run(many()), times=2)
            until(lambda: len(bench.seen.of("wait")) >= 632)
            bench.backchannel.release()
        assert {token.value for tokens_ in threads.values for token in tokens_} == {"token-1"}
        assert (sum(len(one) for one in threads.values), bench.count, threads.errors) == (632, 2, [])


@pytest.mark.standards("S-205")
def test_no_remembered_failure_delays_the_renewal_of_a_rejected_token() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        bench.clock.advance(3301)
        bench.backchannel.answer = refusal()
        bench.valet.token("m2m")
        bench.settle()
        bench.backchannel.answer = tokens()
        assert replaced(bench, first) is not None
        assert bench.count == 3


def test_a_renewal_that_is_under_way_serves_who_was_rejected_meanwhile() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        bench.clock.advance(3301)
        bench.backchannel.hold()
        bench.valet.token("m2m")
        bench.backchannel.wait_for(2)
        answer = bench.renewer.replace(bench.ticket(), first)
        bench.backchannel.release()
        assert token_of(answer).value == "token-1"
        assert bench.count == 2


def test_when_no_new_token_can_be_had_the_error_says_why_and_the_old_one_stays() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        bench.backchannel.answer = refusal()
        with pytest.raises(TokenRefusedError):
            replaced(bench, first)
        # One API's verdict is not that of all: what other APIs get for it, they may see for themselves.
        assert bench.valet.token("m2m") is first
        assert replaced(bench, first) is None
        bench.backchannel.answer = tokens()
        bench.clock.advance(10)
        second = replaced(bench, first)
        assert second is not None
        assert second is not first


def test_who_comes_while_a_rejected_token_is_being_replaced_gets_the_new_one() -> None:
    """So a caller whose body could not be sent again gets the 401, and his next call a new token."""
    with Bench() as bench:
        first = bench.valet.token("m2m")
        bench.backchannel.hold()
        assert isinstance(bench.renewer.replace(bench.ticket(), first), Waiting)
        with in_threads() as threads:
            threads.start(lambda: bench.valet.token("m2m"), times=4)
            until(lambda: len(bench.seen.of("wait")) == 6)
            bench.backchannel.release()
        assert ({token.value for token in threads.values}, bench.count) == ({"token-1"}, 2)


@pytest.mark.standards("S-213")
def test_who_comes_while_a_rejected_token_cannot_be_replaced_gets_that_one() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        bench.backchannel.hold()
        bench.backchannel.answer = unavailable()
        bench.renewer.replace(bench.ticket(), first)
        waiting = bench.renewer.get(bench.ticket())
        assert isinstance(waiting, Waiting)
        assert waiting.seconds <= 1
        bench.clock.advance(1)
        hanging = bench.renewer.get(bench.ticket())
        assert isinstance(hanging, Waiting)
        assert hanging.seconds == 0
        assert wait(hanging) is first
        bench.backchannel.release()
        assert wait(waiting) is first
        bench.settle()
        assert bench.renewer.get(bench.ticket()) is first
        assert bench.count == 2


def test_who_wants_a_new_token_does_not_get_the_rejected_one_for_it() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        bench.backchannel.hold()
        bench.backchannel.answer = unavailable()
        bench.renewer.replace(bench.ticket(), first)
        forced = bench.renewer.get(bench.ticket(force_renewal=True))
        bench.backchannel.release()
        with pytest.raises(TokenRequestError):
            token_of(forced)


def test_a_rejected_token_that_has_expired_meanwhile_is_replaced_however_short_ago_one_was_forced() -> None:
    with Bench(tokens(5)) as bench:
        second = replaced(bench, bench.valet.token("m2m"))
        assert second is not None
        bench.clock.advance(5)
        third = replaced(bench, second)
        assert third is not None
        assert (third.value, bench.count) == ("token-2", 3)
        assert bench.seen.of("renewal_started")[-1].cause == "expired"


@pytest.mark.standards("S-213")
def test_a_rejected_token_that_has_expired_meanwhile_does_not_lead_round_the_remembered_failure() -> None:
    with Bench(tokens(5)) as bench:
        first = bench.valet.token("m2m")
        bench.clock.advance(5)
        bench.backchannel.answer = refusal()
        for _ in range(20):
            with pytest.raises(TokenRefusedError):
                replaced(bench, first)
        assert bench.count == 2


@pytest.mark.standards("S-205")
def test_a_rejected_token_without_lifetime_does_not_double_what_the_server_is_asked() -> None:
    with Bench(tokens(0), observe=False) as bench:
        for _ in range(50):
            replaced(bench, bench.valet.token("m2m"))
            bench.clock.advance(0.1)
        assert bench.count == 51


def test_rejections_of_one_key_do_not_touch_another() -> None:
    with Bench() as bench:
        other = bench.valet.token("m2m", scope="b")
        replaced(bench, bench.valet.token("m2m"))
        assert bench.valet.token("m2m", scope="b") is other
        assert replaced(bench, bench.valet.token("m2m")) is None
        answer = bench.renewer.replace(bench.ticket(scope="b"), other)
        assert token_of(answer) is not other


def test_a_rejected_token_whose_key_was_thrown_out_meanwhile_is_replaced() -> None:
    with Bench(capacity=1) as bench:
        first = bench.valet.token("m2m")
        bench.valet.token("m2m", scope="b")
        second = replaced(bench, first)
        assert second is not None
        assert second is not first
