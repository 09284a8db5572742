"""An outage of the authorization server is not an outage of ours, and the server is not hammered (promises 5 and 6)."""

from __future__ import annotations

import itertools
from email.utils import formatdate

import pytest

from life.makers import Answer, Bench, refusal, reply, tokens, unavailable, unreachable
from tokenvalet import ConfigurationError, ProofError, TokenRefusedError, TokenRequestError, TokenResponseError
from tokenvalet.core.messages import HttpReply, HttpRequest
from tokenvalet.errors import TokenValetError
from tokenvalet.pending import Waiting


def ask(bench: Bench) -> TokenValetError | None:
    """Ask for a token once, let the renewal that this may start end, and return the error if there was one."""
    try:
        bench.valet.token("m2m")
    except TokenValetError as error:
        return error
    finally:
        if bench.renewer._under_way:
            bench.settle()
    return None


def request_times(bench: Bench, seconds: float, step: float) -> list[float]:
    """Ask for a token every `step` seconds, and return when requests went out, in seconds from now."""
    times: list[float] = []
    begin = bench.clock.now.monotonic
    for _ in range(round(seconds / step)):
        before = bench.count
        ask(bench)
        times += [bench.clock.now.monotonic - begin] * (bench.count - before)
        bench.clock.advance(step)
    return times


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


@pytest.mark.standards("S-213")
@pytest.mark.parametrize("outage", [unreachable, unavailable(), refusal()])
def test_until_it_expires_the_token_is_used_and_nobody_waits(outage: Answer) -> None:
    with Bench() as bench:
        token = bench.valet.token("m2m")
        bench.clock.advance(3301)
        bench.backchannel.answer = outage
        for _ in range(298):
            assert bench.renewer.get(bench.ticket()) is token
            bench.settle()
            bench.clock.advance(1)
        assert 3 < bench.count < 35
        bench.clock.advance(2)
        assert ask(bench) is not None


@pytest.mark.standards("S-213")
@pytest.mark.parametrize("lifetime", [3600, 60, 5])
def test_towards_the_end_of_a_token_attempts_come_closer_so_that_a_server_that_is_back_is_met(lifetime: int) -> None:
    with Bench(tokens(expires_in=lifetime)) as bench:
        bench.valet.token("m2m")
        window = min(300.0, lifetime * 0.2)  # without its jitter
        bench.clock.advance(lifetime - window)
        bench.backchannel.answer = unreachable
        step = lifetime / 2000
        times = request_times(bench, window - step, step)
        # The last one fails a fiftieth of its life before the end, or a second, and no two are closer to each other.
        nearest = min(1.0, lifetime / 50)
        assert window - times[-1] <= 2 * nearest + 2 * step
        assert min(gaps(times)) >= 0.8 * nearest - 1e-6


@pytest.mark.standards("S-213")
@pytest.mark.parametrize(("outage", "longest"), [(unreachable, 15.0), (unavailable(), 15.0), (refusal(), 60.0)])
def test_retries_run_in_the_background_at_growing_jittered_intervals(outage: Answer, longest: float) -> None:
    with Bench() as bench:
        bench.valet.token("m2m")
        bench.clock.advance(3300.5)
        bench.backchannel.answer = outage
        step = 0.05
        found = gaps(request_times(bench, 265, step))
    nominal = [min(longest, 2.0**power) for power in range(len(found))]
    for gap, most in zip(found, nominal, strict=True):
        assert 0.8 * most - 1e-6 <= gap <= most + 2 * step
    assert found[: len([one for one in nominal if one < longest])] == sorted(found)[: nominal.index(longest)]
    shares = {round(gap / most, 2) for gap, most in zip(found, nominal, strict=True) if most >= 2}
    assert len(shares) > 2  # jittered


@pytest.mark.standards("S-214")
def test_intervals_differ_from_process_to_process() -> None:
    firsts = set()
    for _ in range(12):
        with Bench(refusal()) as bench:
            ask(bench)
            (entry,) = bench.renewer._entries.values()
            firsts.add(round(entry.retry_at - entry.failed_at, 4))
            assert 0.8 <= entry.retry_at - entry.failed_at <= 1.0
    assert len(firsts) > 6


@pytest.mark.standards("S-213")
def test_once_expired_callers_get_the_error_with_its_cause_at_once() -> None:
    with Bench() as bench:
        bench.valet.token("m2m")
        bench.clock.advance(3301)
        bench.backchannel.answer = unavailable()
        assert ask(bench) is None
        bench.clock.advance(300)
        first = ask(bench)
        count = bench.count
        errors = [ask(bench) for _ in range(100)]
        assert bench.count == count
        for error in (first, *errors):
            assert isinstance(error, TokenRequestError)
            assert (error.code, error.status) == ("token_request_server_error", 503)
            assert "http://127.0.0.1:1/token answered 503" in str(error)
        assert len({id(error) for error in errors}) == 100


@pytest.mark.standards("S-062")
@pytest.mark.parametrize(
    "outage", [refusal("invalid_client"), refusal("unauthorized_client", 400), refusal("invalid_scope", 400)]
)
def test_a_thousand_calls_in_a_minute_of_refusals_cost_seven_token_requests(outage: Answer) -> None:
    for _ in range(10):  # the intervals are jittered
        with Bench(outage, observe=False) as bench:
            times = request_times(bench, 60, 0.06)
            assert len(times) <= 7
            assert bench.count == len(times) >= 6


@pytest.mark.standards("S-061", "S-062")
@pytest.mark.parametrize(
    ("answer", "kind", "longest"),
    [
        (refusal("invalid_client"), TokenRefusedError, 60.0),
        (refusal("invalid_target", 400), TokenRefusedError, 60.0),
        (lambda _: HttpReply(status=403, headers=(), body=b""), TokenRefusedError, 60.0),
        (tokens(token_type="DPoP"), ProofError, 60.0),
        (unavailable(), TokenRequestError, 15.0),
        (unreachable, TokenRequestError, 15.0),
        (lambda _: reply({"error": "slow_down"}, 400), TokenRequestError, 15.0),
        (lambda _: HttpReply(status=200, headers=(), body=b"<html>"), TokenResponseError, 15.0),
    ],
)
def test_what_cannot_heal_by_itself_is_tried_once_a_minute_and_the_rest_every_fifteen_seconds(
    answer: Answer, kind: type[TokenValetError], longest: float
) -> None:
    with Bench() as bench:
        bench.valet.token("m2m")
        bench.clock.advance(3301)
        bench.backchannel.answer = answer
        assert ask(bench) is None
        for _ in range(8):
            bench.clock.advance(60)
            error = ask(bench)
        assert type(error) is kind
        (entry,) = bench.renewer._entries.values()
        assert 0.8 * longest <= entry.retry_at - entry.failed_at <= longest


def test_a_configuration_that_cannot_work_is_tried_once_a_minute_too() -> None:
    def secret() -> str:
        raise RuntimeError("the vault is sealed")

    with Bench(client_secret=secret) as bench:
        for _ in range(8):
            error = ask(bench)
            bench.clock.advance(60)
        assert type(error) is ConfigurationError
        (entry,) = bench.renewer._entries.values()
        assert entry.retry_at - entry.failed_at >= 48


def http_date(bench: Bench, seconds: float) -> str:
    return formatdate(bench.clock.now.wall + seconds, usegmt=True)


@pytest.mark.standards("S-061", "S-214")
@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("30", 30),
        ("60", 60),
        ("61", 60),
        ("3600", 60),
        ("9" * 5000, 60),
        ("0", 1),
        ("-5", 1),
        ("soon", 1),
        ("1e3", 1),
        ("12.5", 1),
        ("٣٠", 1),
        ("", 1),
        ("Wed, 99 Foo 2026 99:99:99 GMT", 1),
    ],
    ids=lambda value: str(value)[:12],
)
def test_retry_after_is_honoured_up_to_a_minute_and_garbage_ignored(text: str, interval: float) -> None:
    with Bench() as bench:
        bench.valet.token("m2m")
        bench.clock.advance(3301)
        bench.backchannel.answer = unavailable(retry_after=text)
        ask(bench)
        (entry,) = bench.renewer._entries.values()
        assert 0.8 * interval <= entry.retry_at - entry.failed_at <= interval
        if interval > 1:
            bench.clock.advance(interval - 0.01)
            ask(bench)
            assert bench.count == 2
            bench.clock.advance(0.02)
            ask(bench)
            assert bench.count == 3


@pytest.mark.standards("S-214")
@pytest.mark.parametrize(("ahead", "interval"), [(30, 30), (7200, 60), (-7200, 1)])
def test_retry_after_may_be_a_date_and_is_taken_by_the_clock_of_the_server(ahead: float, interval: float) -> None:
    with Bench() as bench:
        bench.valet.token("m2m")
        bench.clock.advance(3301)
        server_is_ahead = 86_400.0
        sent, until = http_date(bench, server_is_ahead), http_date(bench, server_is_ahead + ahead)
        bench.backchannel.answer = unavailable(retry_after=until, date=sent)
        ask(bench)
        (entry,) = bench.renewer._entries.values()
        assert 0.8 * interval <= entry.retry_at - entry.failed_at <= interval


@pytest.mark.standards("S-214")
def test_a_first_renewal_retries_twice_and_a_passing_fault_is_not_seen() -> None:
    with Bench() as bench:
        bad, good = unavailable(), tokens()

        def answer(request: HttpRequest) -> object:
            return bad(request) if bench.count < 3 else good(request)

        bench.backchannel.answer = answer  # type: ignore[assignment]
        assert bench.valet.token("m2m").value == "token-0"
        assert bench.count == 3


@pytest.mark.standards("S-214")
def test_a_first_renewal_retries_no_more_than_twice() -> None:
    with Bench(unreachable) as bench:
        error = ask(bench)
        assert isinstance(error, TokenRequestError)
        assert error.code == "token_request_unreachable"
        assert bench.count == 3


@pytest.mark.standards("S-061")
@pytest.mark.parametrize("answer", [refusal(), lambda _: HttpReply(status=302, headers=(), body=b"")])
def test_what_is_no_passing_fault_is_not_retried(answer: Answer) -> None:
    with Bench(answer) as bench:
        assert ask(bench) is not None
        assert bench.count == 1


@pytest.mark.standards("S-210", "S-214")
@pytest.mark.parametrize(("timeout", "retry_after", "requests"), [(0.2, None, 1), (10.0, "30", 1), (10.0, "0", 3)])
def test_retries_stay_within_the_time_limit(timeout: float, retry_after: str | None, requests: int) -> None:
    headers = {} if retry_after is None else {"retry_after": retry_after}
    with Bench(unavailable(**headers), timeout=timeout) as bench:
        assert ask(bench) is not None
        assert bench.count == requests


def test_a_renewal_that_follows_a_failed_one_is_not_retried_since_the_intervals_do_that() -> None:
    with Bench(unreachable) as bench:
        ask(bench)
        assert bench.count == 3
        for count in (4, 5, 6):
            bench.clock.advance(60)
            ask(bench)
            assert bench.count == count


def test_a_background_renewal_is_not_retried_since_there_is_a_token_to_use() -> None:
    with Bench() as bench:
        bench.valet.token("m2m")
        bench.clock.advance(3301)
        bench.backchannel.answer = unreachable
        ask(bench)
        assert bench.count == 2


@pytest.mark.standards("S-213")
@pytest.mark.parametrize("outage", [unreachable, unavailable(retry_after="60"), refusal()])
def test_the_first_call_after_recovery_and_the_interval_succeeds(outage: Answer) -> None:
    with Bench() as bench:
        bench.valet.token("m2m")
        bench.clock.advance(3700)
        bench.backchannel.answer = outage
        for _ in range(120):
            assert ask(bench) is not None
            bench.clock.advance(1)
        bench.backchannel.answer = tokens()
        bench.clock.advance(60)
        assert ask(bench) is None
        # And all is forgotten: the next failure begins with the shortest interval again.
        bench.clock.advance(3301)
        bench.backchannel.answer = refusal()
        ask(bench)
        (entry,) = bench.renewer._entries.values()
        assert 0.8 <= entry.retry_at - entry.failed_at <= 1.0


@pytest.mark.standards("S-213")
def test_a_server_that_hangs_while_it_is_tested_does_not_hang_those_who_ask() -> None:
    with Bench() as bench:
        bench.valet.token("m2m")
        bench.clock.advance(3599)
        bench.backchannel.answer = unavailable()
        ask(bench)
        bench.clock.advance(1)
        bench.backchannel.hold()
        waiting = bench.renewer.get(bench.ticket())
        assert isinstance(waiting, Waiting)
        assert waiting.seconds <= 1
        assert isinstance(waiting.otherwise, TokenRequestError)
        assert waiting.otherwise.status == 503
        bench.clock.advance(0.75)
        later = bench.renewer.get(bench.ticket())
        assert isinstance(later, Waiting)
        assert later.seconds <= 0.25  # the patience is that of the test, not of each caller
        bench.clock.advance(0.25)
        last = bench.renewer.get(bench.ticket())
        assert isinstance(last, Waiting)
        assert last.seconds == 0


def test_a_failure_of_long_ago_says_nothing_of_the_server_of_now() -> None:
    with Bench(refusal()) as bench:
        ask(bench)
        bench.clock.advance(600)
        bench.backchannel.hold()
        waiting = bench.renewer.get(bench.ticket())
        assert isinstance(waiting, Waiting)
        assert waiting.seconds == 11  # the timeout of the client, and a second of grace


@pytest.mark.standards("S-062")
def test_a_failure_is_remembered_for_its_token_key_only() -> None:
    with Bench() as bench:
        good, bad = tokens(), refusal("invalid_scope", 400)
        bench.backchannel.answer = lambda request: bad(request) if b"scope=forbidden" in request.body else good(request)
        for _ in range(5):
            with pytest.raises(TokenRefusedError):
                bench.valet.token("m2m", scope="forbidden")
        assert bench.valet.token("m2m", scope="allowed").value == "token-0"
        assert bench.count == 2


def test_every_failure_is_told_with_how_long_the_server_is_left_alone() -> None:
    with Bench(refusal()) as bench:
        ask(bench)
        ask(bench)
        (event,) = bench.seen.of("renewal_failed")
        assert event.code == "token_refused"
        assert event.seconds is not None
        assert 0.8 <= event.seconds <= 1.0
        assert "invalid_client" in event.detail
