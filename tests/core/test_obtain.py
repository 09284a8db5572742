"""The dance around one renewal: nonce and clock put right once each, passing faults tried again, everything anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.makers import (
    CLIENT_ID,
    ENDPOINT,
    ISSUER,
    NOW,
    PLANTED_SECRET,
    PLANTED_TOKEN,
    Renewal,
    Reply,
    everything_held_by,
    http_reply,
    locals_of,
    new_proof_key,
    order,
    proof_key,
    refusal,
    renew,
    signing_key,
    thorough,
    token_reply,
    verified,
)
from tokenvalet.core.authentication import ClientAssertion, ClientSecretPost, SignedAssertion
from tokenvalet.core.dpop import NonceStore
from tokenvalet.core.guard import parse_origin
from tokenvalet.core.messages import Failure, HttpReply
from tokenvalet.core.obtain import ClockCorrection
from tokenvalet.core.request import TokenOrder
from tokenvalet.core.signing import HmacSigner
from tokenvalet.core.token import Moment
from tokenvalet.errors import (
    ProofError,
    TokenRefusedError,
    TokenRequestError,
    TokenResponseError,
    TokenValetError,
)

GOOD = token_reply()
GOOD_DPOP = token_reply(token_type="DPoP")
BUSY = http_reply(503, body=b"")
TIMEOUT = Failure(code="timeout", detail="no answer within 10 s")
JKT = proof_key().jkt


def asserting(*, dpop: bool = False, method: str = "private_key_jwt") -> TokenOrder:
    """Return an order that is authenticated by an assertion of our own."""
    signer = signing_key("ES256") if method == "private_key_jwt" else HmacSigner(PLANTED_SECRET.encode())
    authentication = SignedAssertion(
        client_id=CLIENT_ID,
        signer=lambda: signer,
        audience=ISSUER,
        lifetime=60,
        claims={},
        typ="client-authentication+jwt",
        method=method,
    )
    return order(dpop=dpop, authentication=authentication)


def assertions(run: Renewal, key: Any = None, alg: str = "ES256") -> list[dict[str, Any]]:
    """Return the claims of the assertions, one per transmission, after the judges have verified them."""
    jwk = key if key is not None else signing_key("ES256").public_jwk
    return [verified(form["client_assertion"], jwk, alg).claims for form in run.forms()]


def server_date(seconds_off: float) -> str:
    """Return a Date field of a server whose clock is so many seconds ahead of ours when its first answer is here."""
    return formatdate(NOW.wall + 0.5 + seconds_off, usegmt=True)


def failed(run: Renewal) -> TokenValetError:
    assert run.obtained is None
    assert run.error is not None
    held = everything_held_by(run.error)
    assert PLANTED_SECRET not in held
    assert PLANTED_TOKEN not in held
    return run.error


# Plain sailing ---------------------------------------------------------------------------------------------------


def test_a_good_answer_ends_it_at_once() -> None:
    run = renew([GOOD])
    assert run.obtained is not None
    assert run.obtained.granted.access_token == PLANTED_TOKEN
    assert (run.obtained.transmissions, len(run.requests), run.pauses) == (1, 1, [])


@pytest.mark.standards("S-007", "S-022")
def test_a_configured_endpoint_needs_no_discovery_and_nothing_goes_elsewhere() -> None:
    run = renew(
        [BUSY, refusal("use_dpop_nonce", nonce="n"), GOOD_DPOP], dataclasses.replace(asserting(dpop=True), issuer=None)
    )
    assert run.obtained is not None
    assert {one.url for one in run.requests} == {ENDPOINT.url}


@pytest.mark.standards("S-047")
def test_the_lifetime_counts_from_before_the_request_was_sent() -> None:
    run = renew([GOOD], round_trip=9)
    assert run.obtained is not None
    assert run.obtained.asked_at == NOW


@pytest.mark.standards("S-047")
def test_after_retries_the_lifetime_counts_from_before_the_last_request() -> None:
    wanted = order(dpop=True)
    run = renew([BUSY, refusal("use_dpop_nonce", nonce="n"), GOOD_DPOP], wanted, round_trip=2)
    assert run.obtained is not None
    assert run.obtained.asked_at == run.sent_at[-1] == Moment(NOW.monotonic + 4.25, NOW.wall + 4.25)
    assert run.obtained.transmissions == 3


@pytest.mark.standards("S-160")
def test_what_was_obtained_does_not_show_the_token() -> None:
    assert PLANTED_TOKEN not in repr(renew([GOOD]).obtained)


# Nonces ----------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-064", "S-101", "S-104")
@pytest.mark.parametrize("status", [400, 401])
def test_a_nonce_asked_for_is_given_once_and_at_once(status: int) -> None:
    nonces = NonceStore()
    run = renew(
        [refusal("use_dpop_nonce", status, nonce="n-1"), GOOD_DPOP], order(dpop=True), nonces=nonces, attempts=1
    )
    assert run.obtained is not None
    assert run.pauses == []
    assert [claims.get("nonce") for claims in run.proofs()] == [None, "n-1"]
    assert nonces.get("as", ENDPOINT.origin, JKT) == "n-1"


@pytest.mark.standards("S-018", "S-097", "S-106")
def test_a_nonce_retry_has_a_new_assertion_and_a_new_proof() -> None:
    run = renew([refusal("use_dpop_nonce", nonce="n-1"), GOOD_DPOP], asserting(dpop=True))
    first, second = assertions(run)
    assert first["jti"] != second["jti"]
    one, two = run.proofs()
    assert one["jti"] != two["jti"]
    assert (one["htm"], one["htu"]) == (two["htm"], two["htu"]) == ("POST", ENDPOINT.url)


@pytest.mark.standards("S-104")
def test_a_nonce_is_put_right_once_and_no_more() -> None:
    run = renew([refusal("use_dpop_nonce", nonce="n-1"), refusal("use_dpop_nonce", nonce="n-2")], order(dpop=True))
    error = failed(run)
    assert isinstance(error, TokenRefusedError)
    assert error.error == "use_dpop_nonce"
    assert len(run.requests) == 2
    assert "asked for a nonce again" in str(error)


@pytest.mark.standards("S-104", "S-113")
@pytest.mark.parametrize("error", ["use_dpop_nonce", "invalid_dpop_proof"])
def test_a_nonce_that_is_missing_or_the_one_that_was_sent_is_worth_no_retry(error: str) -> None:
    nonces = NonceStore()
    nonces.put("as", ENDPOINT.origin, JKT, "n-1")
    run = renew([refusal(error, nonce="n-1")], order(dpop=True), nonces=nonces)
    assert [claims["nonce"] for claims in run.proofs()] == ["n-1"]
    assert isinstance(failed(run), TokenRefusedError)
    run = renew([refusal(error)], order(dpop=True))
    assert len(run.requests) == 1


@pytest.mark.standards("S-103", "S-104")
@pytest.mark.parametrize("fields", [['a"b'], ["a b"], ["n" * 513], [""], ["one", "two"]])
def test_a_nonce_that_cannot_be_used_is_worth_no_retry_and_is_not_kept(fields: list[str]) -> None:
    nonces = NonceStore()
    reply = http_reply(400, {"error": "use_dpop_nonce"}, headers=[("dpop-nonce", one) for one in fields])
    run = renew([reply], order(dpop=True), nonces=nonces)
    assert len(run.requests) == 1
    assert nonces.get("as", ENDPOINT.origin, JKT) is None


@pytest.mark.standards("S-104")
@pytest.mark.parametrize("status", [200, 403, 404, 409])
def test_a_nonce_asked_for_with_another_status_is_worth_no_retry(status: int) -> None:
    run = renew([refusal("use_dpop_nonce", status, nonce="n-1")], order(dpop=True))
    assert len(run.requests) == 1


@pytest.mark.standards("S-104")
@pytest.mark.parametrize("error", ["invalid_request", "invalid_grant", "Use_Dpop_Nonce", "nonce"])
def test_a_new_nonce_beside_another_error_is_worth_no_retry(error: str) -> None:
    run = renew([refusal(error, nonce="n-1")], order(dpop=True))
    assert len(run.requests) == 1


@pytest.mark.standards("S-113")
def test_a_refused_proof_with_a_new_nonce_is_tried_again_once() -> None:
    run = renew([refusal("invalid_dpop_proof", nonce="n-1"), GOOD_DPOP], order(dpop=True))
    assert run.obtained is not None
    assert run.proofs()[1]["nonce"] == "n-1"


@pytest.mark.standards("S-104")
def test_without_dpop_a_nonce_is_neither_taken_nor_given() -> None:
    nonces = NonceStore()
    run = renew([refusal("use_dpop_nonce", nonce="n-1")], order(), nonces=nonces)
    assert len(run.requests) == 1
    assert nonces.get("as", ENDPOINT.origin, JKT) is None


@pytest.mark.standards("S-101")
@pytest.mark.parametrize(
    "reply",
    [
        token_reply(token_type="DPoP", headers=[("dpop-nonce", "n-9")]),
        refusal("invalid_scope", nonce="n-9"),
        http_reply(500, body=b"", headers=[("dpop-nonce", "n-9")]),
        http_reply(302, body=b"", headers=[("dpop-nonce", "n-9")]),
        token_reply(token_type="Bearer", headers=[("dpop-nonce", "n-9")]),
    ],
    ids=["token", "refusal", "500", "redirect", "bearer"],
)
def test_the_nonce_of_any_answer_is_used_from_the_next_request_on(reply: HttpReply) -> None:
    nonces = NonceStore()
    nonces.put("as", ENDPOINT.origin, JKT, "old")
    renew([reply], order(dpop=True), nonces=nonces, attempts=1)
    assert renew([GOOD_DPOP], order(dpop=True), nonces=nonces).proofs()[0]["nonce"] == "n-9"


@pytest.mark.standards("S-100")
def test_nonces_of_the_api_of_other_servers_and_of_other_keys_are_not_sent() -> None:
    nonces = NonceStore()
    nonces.put("rs", ENDPOINT.origin, JKT, "of the api at the same origin")
    nonces.put("as", parse_origin("https://other.example"), JKT, "of another server")
    nonces.put("as", ENDPOINT.origin, new_proof_key().jkt, "of another key")
    assert "nonce" not in renew([GOOD_DPOP], order(dpop=True), nonces=nonces).proofs()[0]


@pytest.mark.standards("S-101")
def test_a_nonce_that_is_already_known_saves_the_round_trip() -> None:
    nonces = NonceStore()
    nonces.put("as", ENDPOINT.origin, JKT, "n-0")
    run = renew([GOOD_DPOP], order(dpop=True), nonces=nonces)
    assert [claims["nonce"] for claims in run.proofs()] == ["n-0"]


# The clock -------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-095")
@pytest.mark.parametrize("seconds_off", [-200, -30, 30, 200, 299])
def test_a_clock_that_is_off_is_put_right_from_the_date_of_the_server(seconds_off: int) -> None:
    correction = ClockCorrection()
    run = renew(
        [refusal("invalid_client", 401, date=server_date(seconds_off)), GOOD],
        asserting(),
        correction=correction,
        attempts=1,
    )
    assert run.obtained is not None
    assert run.pauses == []
    first, second = assertions(run)
    assert first["iat"] == int(NOW.wall)
    assert abs(second["iat"] - (NOW.wall + seconds_off)) <= 1
    assert second["exp"] - second["iat"] == 60
    assert abs(correction.seconds - seconds_off) <= 1
    assert first["jti"] != second["jti"]


@pytest.mark.standards("S-095")
@pytest.mark.parametrize(
    ("seconds_off", "corrected"), [(301, 300), (86_400, 300), (-86_400, -300), (10**9, 300), (-(10**9), -300)]
)
def test_a_correction_is_never_beyond_five_minutes(seconds_off: int, corrected: int) -> None:
    correction = ClockCorrection()
    run = renew(
        [refusal("invalid_client", 401, date=server_date(seconds_off)), GOOD], asserting(), correction=correction
    )
    assert correction.seconds == corrected
    assert assertions(run)[1]["iat"] == int(NOW.wall + 0.5) + corrected


@pytest.mark.standards("S-095", "S-014")
def test_the_clock_is_put_right_once_and_no_more() -> None:
    dates = iter(range(100, 10_000, 50))
    run = renew(lambda _: refusal("invalid_client", 401, date=server_date(next(dates))), asserting())
    assert isinstance(failed(run), TokenRefusedError)
    assert len(run.requests) == 2


@pytest.mark.standards("S-095")
@pytest.mark.parametrize("date", [None, server_date(0), server_date(1), server_date(-1), "yesterday", ""])
def test_a_date_that_is_missing_broken_or_right_is_worth_no_retry(date: str | None) -> None:
    correction = ClockCorrection()
    run = renew([refusal("invalid_client", 401, date=date)], asserting(), correction=correction)
    assert len(run.requests) == 1
    assert correction.seconds == 0


@pytest.mark.standards("S-095")
def test_a_date_that_was_learnt_already_is_worth_no_retry() -> None:
    correction = ClockCorrection()
    replies = [refusal("invalid_client", 401, date=server_date(100))]
    assert len(renew(replies, asserting(), correction=correction).requests) == 2
    run = renew(replies, asserting(), correction=correction)
    assert len(run.requests) == 1
    assert assertions(run)[0]["iat"] == int(NOW.wall + correction.seconds)


@pytest.mark.standards("S-095")
def test_a_correction_holds_for_later_renewals_and_for_assertion_and_proof_alike() -> None:
    run = renew([GOOD_DPOP], asserting(dpop=True), correction=ClockCorrection(seconds=-45.0))
    assert assertions(run)[0]["iat"] == run.proofs()[0]["iat"] == int(NOW.wall) - 45


@pytest.mark.standards("S-047", "S-095")
def test_a_correction_moves_no_lifetime() -> None:
    run = renew([refusal("invalid_client", 401, date=server_date(250)), GOOD], asserting())
    assert run.obtained is not None
    assert run.obtained.asked_at == run.sent_at[1] == Moment(NOW.monotonic + 0.5, NOW.wall + 0.5)


@pytest.mark.standards("S-095", "S-113")
def test_a_refused_proof_may_mean_the_clock_but_only_where_one_was_sent() -> None:
    reply = refusal("invalid_dpop_proof", 400, date=server_date(90))
    run = renew([reply, GOOD_DPOP], order(dpop=True))
    assert run.obtained is not None
    assert run.proofs()[1]["iat"] - run.proofs()[0]["iat"] in (90, 91)
    assert len(renew([reply], asserting()).requests) == 1


@pytest.mark.standards("S-095")
@pytest.mark.parametrize(
    "error", ["invalid_request", "invalid_grant", "invalid_scope", "unauthorized_client", "use_dpop_nonce"]
)
def test_no_other_error_moves_the_clock(error: str) -> None:
    correction = ClockCorrection()
    run = renew([refusal(error, 400, date=server_date(90))], asserting(dpop=True), correction=correction)
    assert (len(run.requests), correction.seconds) == (1, 0)


@pytest.mark.standards("S-095")
@pytest.mark.parametrize(
    "reply",
    [token_reply(headers=[("date", server_date(90))]), http_reply(503, body=b"", headers=[("date", server_date(90))])],
)
def test_the_date_of_an_answer_that_doubts_nothing_moves_no_clock(reply: HttpReply) -> None:
    correction = ClockCorrection()
    renew([reply], asserting(), correction=correction)
    assert correction.seconds == 0


@pytest.mark.standards("S-014", "S-095")
@pytest.mark.parametrize(
    "wanted",
    [
        order(),
        order(authentication=ClientSecretPost(client_id=CLIENT_ID, secret=lambda: PLANTED_SECRET)),
    ],
    ids=["basic", "post"],
)
def test_a_refused_secret_is_not_sent_again_in_any_form(wanted: TokenOrder) -> None:
    run = renew([refusal("invalid_client", 401, date=server_date(90))], wanted)
    assert len(run.requests) == 1
    assert isinstance(failed(run), TokenRefusedError)


@pytest.mark.standards("S-095")
def test_an_assertion_signed_with_the_secret_may_be_late_as_well() -> None:
    run = renew([refusal("invalid_client", 401, date=server_date(90)), GOOD], asserting(method="client_secret_jwt"))
    first, second = assertions(run, PLANTED_SECRET.encode(), "HS256")
    assert second["iat"] - first["iat"] in (90, 91)


def test_nonce_and_clock_are_put_right_once_each() -> None:
    replies = [
        refusal("use_dpop_nonce", nonce="n-1", date=server_date(90)),
        refusal("invalid_dpop_proof", nonce="n-1", date=server_date(90)),
        GOOD_DPOP,
    ]
    run = renew(replies, asserting(dpop=True), attempts=1)
    assert run.obtained is not None
    assert [claims.get("nonce") for claims in run.proofs()] == [None, "n-1", "n-1"]
    assert run.proofs()[2]["iat"] > run.proofs()[1]["iat"]
    assert len({claims["jti"] for claims in run.proofs()} | {claims["jti"] for claims in assertions(run)}) == 6


# Passing and lasting faults --------------------------------------------------------------------------------------

LASTING: dict[str, tuple[Reply, type[TokenValetError]]] = {
    error: (refusal(error), TokenRefusedError)
    for error in (
        "invalid_request",
        "invalid_client",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
        "invalid_grant",
    )
} | {
    "a bare 401": (http_reply(401, body=b""), TokenRefusedError),
    "a bare 403": (http_reply(403, body=b""), TokenRefusedError),
    "a redirect": (http_reply(307, body=b"", headers=[("location", "https://evil.example/")]), TokenResponseError),
    "html": (http_reply(200, body=b"<html>", content_type="text/html"), TokenResponseError),
    "no token": (http_reply(200, {}), TokenResponseError),
    "an unbound token": (GOOD, ProofError),
    "too long an answer": (Failure(code="answer_refused", detail="longer than 1 MiB"), TokenResponseError),
}


@pytest.mark.standards("S-036", "S-061", "S-107", "S-145")
@pytest.mark.parametrize(("reply", "error"), LASTING.values(), ids=LASTING.keys())
def test_a_lasting_fault_is_not_tried_again(reply: Reply, error: type[TokenValetError]) -> None:
    run = renew([reply], order(dpop=True))
    assert type(failed(run)) is error
    assert (len(run.requests), run.pauses) == (1, [])


PASSING: dict[str, Reply] = {
    **{str(status): http_reply(status, body=b"") for status in (408, 425, 429, 500, 502, 503, 504)},
    **{code: Failure(code=code, detail="why") for code in ("unreachable", "timeout", "tls", "broken_answer")},
    "temporarily_unavailable": refusal("temporarily_unavailable"),
}


@pytest.mark.standards("S-061", "S-214")
@pytest.mark.parametrize("reply", PASSING.values(), ids=PASSING.keys())
def test_a_passing_fault_is_tried_again_twice_at_most(reply: Reply) -> None:
    run = renew([reply])
    assert isinstance(failed(run), TokenRequestError)
    assert len(run.requests) == 3
    assert run.pauses == [0.25, 0.5]
    assert renew([reply, GOOD]).obtained is not None
    assert renew([reply, reply, GOOD]).obtained is not None


@pytest.mark.standards("S-061")
def test_with_a_token_to_fall_back_on_there_is_one_attempt() -> None:
    run = renew([BUSY, GOOD], attempts=1)
    assert isinstance(failed(run), TokenRequestError)
    assert (len(run.requests), run.pauses) == (1, [])


@pytest.mark.standards("S-018", "S-097")
def test_every_attempt_has_a_new_assertion_and_a_new_proof_with_the_time_of_its_own() -> None:
    run = renew([BUSY, TIMEOUT, GOOD_DPOP], asserting(dpop=True), round_trip=2)
    for claims in (assertions(run), run.proofs()):
        assert len({one["jti"] for one in claims}) == 3
        assert [one["iat"] for one in claims] == [int(moment.wall) for moment in run.sent_at]
        assert len({one["iat"] for one in claims}) == 3


@pytest.mark.standards("S-018", "S-131")
def test_the_assertion_of_somebody_else_is_read_anew_for_every_attempt() -> None:
    texts = iter(["a.a.a", "b.b.b", "c.c.c"])
    wanted = order(authentication=ClientAssertion(client_id=CLIENT_ID, assertion=lambda: next(texts)))
    run = renew([BUSY, BUSY, GOOD], wanted)
    assert [form["client_assertion"] for form in run.forms()] == ["a.a.a", "b.b.b", "c.c.c"]


@pytest.mark.standards("S-214")
def test_retry_after_is_honoured() -> None:
    busy = http_reply(429, body=b"", headers=[("retry-after", "3")])
    run = renew([busy, GOOD])
    assert run.pauses == [3]
    assert run.obtained is not None


@pytest.mark.standards("S-210", "S-214")
@pytest.mark.parametrize("seconds", ["9", "10", "60", "86400"])
def test_a_pause_that_goes_beyond_the_deadline_is_not_made(seconds: str) -> None:
    busy = http_reply(503, body=b"", headers=[("retry-after", seconds)])
    run = renew([busy, GOOD], deadline=NOW.monotonic + 9.5, round_trip=0.5)
    error = failed(run)
    assert isinstance(error, TokenRequestError)
    assert error.retry_after == min(float(seconds), 60)
    assert (len(run.requests), run.pauses) == (1, [])


@pytest.mark.standards("S-210")
def test_slow_answers_leave_no_time_for_further_attempts() -> None:
    run = renew([TIMEOUT], deadline=NOW.monotonic + 10, round_trip=4.9)
    assert len(run.requests) == 2
    run = renew([TIMEOUT], deadline=NOW.monotonic + 10, round_trip=10)
    assert len(run.requests) == 1


@pytest.mark.standards("S-214")
def test_pauses_are_jittered() -> None:
    assert renew([BUSY], jitter=1.0).pauses == [0.5, 1.0]
    assert renew([BUSY], jitter=0.5).pauses == [0.375, 0.75]


@pytest.mark.standards("S-064")
def test_a_nonce_asked_for_costs_no_attempt() -> None:
    run = renew([BUSY, refusal("use_dpop_nonce", nonce="n-1"), BUSY, GOOD_DPOP], order(dpop=True))
    assert run.obtained is not None
    assert run.obtained.transmissions == 4
    assert len(run.pauses) == 2


def test_the_last_error_is_the_one_that_is_raised() -> None:
    error = failed(renew([BUSY, TIMEOUT, refusal("invalid_client", 401)]))
    assert isinstance(error, TokenRefusedError)
    assert error.error == "invalid_client"


# Whatever the server does ----------------------------------------------------------------------------------------

ANSWERS: list[Callable[[int], Reply]] = [
    lambda at: refusal("use_dpop_nonce", 400, nonce=f"n-{at}", date=server_date(at * 40)),
    lambda at: refusal("use_dpop_nonce", 401, nonce=f"m-{at}"),
    lambda at: refusal("use_dpop_nonce", 400, nonce="always the same"),
    lambda at: refusal("use_dpop_nonce", 400),
    lambda at: refusal("invalid_dpop_proof", 400, nonce=f"p-{at}", date=server_date(-at * 70)),
    lambda at: refusal("invalid_dpop_proof", 400, date=server_date((-1) ** at * 250)),
    lambda at: refusal("invalid_client", 401, date=server_date(at * 33), nonce=f"c-{at}"),
    lambda at: refusal("invalid_scope", 400),
    lambda at: http_reply(503, body=b"", headers=[("retry-after", "0")]),
    lambda at: http_reply(429, body=b"", headers=[("retry-after", "1"), ("dpop-nonce", f"b-{at}")]),
    lambda at: http_reply(500, body=b"<html>"),
    lambda at: http_reply(302, body=b"", headers=[("location", "https://evil.example/")]),
    lambda at: http_reply(200, body=b"\xff"),
    lambda at: Failure(code="timeout", detail="no answer"),
    lambda at: Failure(code="answer_refused", detail="too long"),
    lambda at: GOOD,
    lambda at: GOOD_DPOP,
]


@pytest.mark.standards("S-061", "S-097", "S-104", "S-113", "S-214")
@thorough
@given(
    script=st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=8),
    dpop=st.booleans(),
    attempts=st.integers(1, 3),
    jitter=st.floats(0, 1),
)
def test_whatever_the_server_does_it_ends_within_six_transmissions(
    script: list[Callable[[int], Reply]], dpop: bool, attempts: int, jitter: float
) -> None:
    run = renew(lambda at: script[at % len(script)](at), asserting(dpop=dpop), attempts=attempts, jitter=jitter)
    assert len(run.requests) <= attempts + 2 <= 6
    assert len(run.pauses) <= attempts - 1
    assert (run.obtained is None) != (run.error is None)
    assert {one.url for one in run.requests} == {ENDPOINT.url}
    jtis = [claims["jti"] for claims in [*assertions(run), *run.proofs()]]
    assert len(set(jtis)) == len(jtis) == len(run.requests) * (2 if dpop else 1)
    sent = [claims.get("nonce") for claims in run.proofs()]
    if run.obtained is not None:
        assert run.obtained.asked_at == run.sent_at[-1]
        assert run.obtained.granted.token_type == ("DPoP" if dpop else "Bearer")
        assert run.obtained.transmissions == len(run.requests)
    for at, moment in enumerate(run.sent_at):
        assert abs(assertions(run)[at]["iat"] - moment.wall) <= 301
    assert len(sent) == (len(run.requests) if dpop else 0)


@pytest.mark.standards("S-162")
@pytest.mark.parametrize("reply", [refusal("invalid_client"), BUSY, token_reply(expires_in="x")])
def test_no_frame_in_the_traceback_of_a_renewal_holds_a_token_or_a_secret(reply: HttpReply) -> None:
    run = renew([reply], attempts=1)
    assert run.error is not None
    seen = locals_of(run.error)
    assert PLANTED_SECRET not in seen
    assert PLANTED_TOKEN not in seen
