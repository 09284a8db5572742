"""The numbers of a token's life: when it is due, how long a server is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.makers import modest
from tokenvalet.core.policy import (
    FIRST_RENEWAL_ATTEMPTS,
    FORCED_RENEWAL_SPACING,
    LONGEST_RETRY_AFTER,
    back_off,
    pause_between_attempts,
    renewal_window,
)
from tokenvalet.errors import (
    ConfigurationError,
    ProofError,
    TokenRefusedError,
    TokenRequestError,
    TokenResponseError,
    TokenValetError,
)

JITTER = st.floats(0, 1)
REFUSED = TokenRefusedError("no", error="invalid_client", status=401)
PASSING = TokenRequestError("not now", status=503)


def asked_to_wait(seconds: float) -> TokenRequestError:
    return TokenRequestError("not now", status=503, retry_after=seconds)


@pytest.mark.standards("S-048")
@pytest.mark.parametrize(
    ("lifetime", "earliest", "latest"),
    [
        (3600, 53.5 * 60, 55 * 60),  # an hour: asked for every 54 or 55 minutes
        (600, 7.5 * 60, 8 * 60),  # ten minutes: about every eight
        (60, 45, 48),  # sixty seconds: used for at least forty-five
        (5, 3.75, 4),  # five seconds: still serves many calls
        (86_400, 86_400 - 375, 86_400 - 300),
    ],
)
def test_a_token_is_due_when_the_design_says(lifetime: float, earliest: float, latest: float) -> None:
    assert lifetime - renewal_window(lifetime, 300, 0) == latest
    assert lifetime - renewal_window(lifetime, 300, 1) >= earliest


@pytest.mark.standards("S-048")
def test_a_configured_window_is_kept_where_the_lifetime_allows_it() -> None:
    assert renewal_window(3600, 60, 0) == 60
    assert renewal_window(3600, 60, 1) == 75
    assert renewal_window(30, 60, 0) == 6
    assert renewal_window(3600, 0, 1) == 0


@pytest.mark.standards("S-048")
@modest
@given(lifetime=st.floats(0, 86_400), before=st.floats(0, 86_400), jitter=JITTER)
def test_a_window_never_eats_more_than_a_quarter_of_the_lifetime(lifetime: float, before: float, jitter: float) -> None:
    window = renewal_window(lifetime, before, jitter)
    assert 0 <= window <= lifetime * 0.25 + 1e-9
    assert window <= before * 1.25 + 1e-9
    assert window >= renewal_window(lifetime, before, 0)


@pytest.mark.standards("S-048")
@modest
@given(lifetime=st.floats(1, 86_400), before=st.floats(1, 86_400), one=JITTER, other=JITTER)
def test_more_jitter_means_an_earlier_renewal(lifetime: float, before: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert renewal_window(lifetime, before, low) <= renewal_window(lifetime, before, high)


@pytest.mark.standards("S-062", "S-213")
def test_intervals_grow_to_fifteen_seconds_for_what_heals_by_itself() -> None:
    assert [back_off(PASSING, failures, 1) for failures in range(1, 8)] == [1, 2, 4, 8, 15, 15, 15]


@pytest.mark.standards("S-062")
@pytest.mark.parametrize("error", [REFUSED, ProofError("no"), ConfigurationError("no")])
def test_intervals_grow_to_sixty_seconds_for_what_somebody_has_to_mend(error: TokenValetError) -> None:
    assert [back_off(error, failures, 1) for failures in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_what_another_process_has_met_is_looked_at_again_within_four_seconds() -> None:
    error = TokenRequestError("elsewhere", code="token_request_failed_elsewhere")
    assert [back_off(error, failures, 1) for failures in range(1, 6)] == [1, 2, 4, 4, 4]


@pytest.mark.standards("S-064")
def test_a_server_that_has_replaced_its_nonce_once_more_meanwhile_heals_by_itself() -> None:
    error = TokenRefusedError("again", error="use_dpop_nonce", status=400)
    assert back_off(error, 10, 1.0) == back_off(PASSING, 10, 1.0)


def test_an_answer_that_cannot_be_read_may_heal_by_itself() -> None:
    assert back_off(TokenResponseError("what?"), 100, 1) == 15


@pytest.mark.standards("S-062")
@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_a_refused_client_asks_at_most_seven_times_in_the_first_minute(jitter: float) -> None:
    at, asked = 0.0, 0
    while at <= 60:
        asked += 1
        at += back_off(REFUSED, asked, jitter)
    assert asked <= 7


@pytest.mark.standards("S-214")
@pytest.mark.parametrize(("asked", "waits"), [(30, 30), (60, 60), (61, 60), (10_000, 60), (0, 1), (0.5, 1)])
def test_retry_after_is_honoured_up_to_sixty_seconds_and_never_shortens_an_interval(asked: float, waits: float) -> None:
    assert back_off(asked_to_wait(asked), 1, 1) == waits


@pytest.mark.standards("S-062", "S-214")
@modest
@given(failures=st.integers(1, 10_000), jitter=JITTER, asked=st.none() | st.floats(0, 1e9))
def test_an_interval_is_never_beyond_a_minute_nor_next_to_nothing(
    failures: int, jitter: float, asked: float | None
) -> None:
    for error in (REFUSED, PASSING if asked is None else asked_to_wait(asked)):
        assert 0.8 <= back_off(error, failures, jitter) <= 60
        assert back_off(error, failures + 1, jitter) >= back_off(error, failures, jitter)


@pytest.mark.standards("S-214")
def test_jitter_shortens_an_interval_by_a_fifth_at_most() -> None:
    assert back_off(PASSING, 4, 0) == pytest.approx(6.4)
    assert back_off(PASSING, 4, 0.5) == pytest.approx(7.2)


@pytest.mark.standards("S-214")
def test_the_pauses_between_the_attempts_of_a_first_renewal_grow_and_honour_retry_after() -> None:
    assert pause_between_attempts(PASSING, 1, 0) == 0.25
    assert pause_between_attempts(PASSING, 1, 1) == 0.5
    assert pause_between_attempts(PASSING, 2, 0) == 0.5
    assert pause_between_attempts(asked_to_wait(3), 1, 1) == 3
    assert pause_between_attempts(asked_to_wait(0), 1, 1) == 0.5


@pytest.mark.standards("S-205", "S-214")
def test_the_limits_are_those_of_the_design() -> None:
    assert FORCED_RENEWAL_SPACING == 10
    assert FIRST_RENEWAL_ATTEMPTS == 3
    assert LONGEST_RETRY_AFTER == 60
