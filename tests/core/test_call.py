"""The dance around one API call: sent, put right once, sent once more, and never a token where it does not help."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.makers import (
    API,
    CLIENT,
    PLANTED_TOKEN,
    Call,
    HandClock,
    HandHop,
    access_token,
    answer,
    call,
    everything_held_by,
    locals_of,
    new_proof_key,
    proof_key,
    proof_of,
    signing_key,
    thorough,
)
from tokenvalet.core.call import Answer, NeedToken, api_call
from tokenvalet.core.dpop import NonceStore, ProofKey, access_token_hash
from tokenvalet.core.guard import parse_origin
from tokenvalet.core.token import AccessToken
from tokenvalet.errors import ProofError, StepUpRequiredError

BEARER = access_token("planted-bearer-one")
BEARER_TWO = access_token("planted-bearer-two")
BOUND = access_token("planted-dpop-one", dpop=True)
BOUND_TWO = access_token("planted-dpop-two", dpop=True)
JKT = proof_key().jkt
OK = answer(200)


def values(run: Call) -> list[str]:
    """Return the Authorization values, one per request sent."""
    return [one.authorization.decode("ascii") for one in run.sent]


def nonces_sent(run: Call) -> list[str | None]:
    return [claims.get("nonce") for claims in run.proofs()]


def asks_for_nonce(nonce: str | None = "n-1", error: str = "use_dpop_nonce") -> Answer:
    return answer(401, f'DPoP error="{error}", algs="ES256"', nonce=nonce)


# Sending ---------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-070", "S-043")
def test_a_bearer_token_goes_into_the_authorization_header_and_there_is_no_proof() -> None:
    run = call(BEARER, [OK])
    assert values(run) == ["Bearer planted-bearer-one"]
    assert run.sent[0].proof is None
    assert run.reasons == [""]


@pytest.mark.standards("S-090", "S-092", "S-093", "S-096", "S-099")
def test_a_dpop_token_goes_with_a_proof_for_this_very_request() -> None:
    run = call(BOUND, [OK], hop=HandHop(method="Purge", path="//a/%2F;v=1/b\\c"))
    assert values(run) == ["DPoP planted-dpop-one"]
    (claims,) = run.proofs()
    assert (claims["htm"], claims["htu"]) == ("Purge", "https://api.example.org//a/%2F;v=1/b\\c")
    assert claims["ath"] == access_token_hash("planted-dpop-one")


@pytest.mark.standards("S-097", "S-091")
def test_every_request_has_a_proof_of_its_own() -> None:
    runs = [call(BOUND, [asks_for_nonce(), answer(401), OK], replacement=BOUND_TWO) for _ in range(10)]
    jtis = [claims["jti"] for run in runs for claims in run.proofs()]
    assert len(jtis) == len(set(jtis)) == 30


@pytest.mark.standards("S-110")
def test_a_proof_is_signed_with_the_key_that_its_token_is_bound_to() -> None:
    one, two = new_proof_key(), new_proof_key()
    run = call(access_token(dpop=one), [answer(401), OK], replacement=access_token("planted-two", dpop=two))
    first, second = (sent.proof for sent in run.sent)
    assert first is not None
    assert second is not None
    assert proof_of(first, jkt=one.jkt).claims["ath"] == access_token_hash(PLANTED_TOKEN)
    assert proof_of(second, jkt=two.jkt).claims["ath"] == access_token_hash("planted-two")


@pytest.mark.standards("S-075")
@pytest.mark.parametrize("token", [BEARER, BOUND], ids=["bearer", "dpop"])
@pytest.mark.parametrize("status", [200, 204, 304, 307, 400, 403, 404, 407, 429, 500, 503])
def test_nothing_but_a_401_is_acted_on(token: AccessToken, status: int) -> None:
    challenges = ['Bearer error="invalid_token"', 'DPoP error="invalid_token"']
    run = call(token, [answer(status, *challenges)], replacement=BEARER_TWO)
    assert (len(run.sent), run.rejected, run.given_up, run.error) == (1, [], [], None)


@pytest.mark.standards("S-075")
@pytest.mark.parametrize("scheme", ["Bearer", "DPoP"])
def test_a_403_never_renews(scheme: str) -> None:
    token = BOUND if scheme == "DPoP" else BEARER
    for error in ("insufficient_scope", "invalid_token", "use_dpop_nonce", "insufficient_user_authentication"):
        run = call(token, [answer(403, f'{scheme} error="{error}"', nonce="n-1")], replacement=token)
        assert (len(run.sent), run.rejected, run.error) == (1, [], None)


# Renewing --------------------------------------------------------------------------------------------------------

REJECTIONS = {
    "a bare 401": [],
    "its own scheme": ["{own}"],
    "invalid_token": ['{own} error="invalid_token"'],
    "an unknown error": ['{own} error="what_is_this"'],
    "another scheme": ['Basic realm="a"'],
    "a token68": ["Negotiate abc=="],
    "something unreadable": ['"""'],
    "several": ['Basic realm="a", {own} realm="b", error="invalid_token"'],
    "a repeated parameter": ['{own} error="insufficient_scope", error="invalid_token"'],
    "insufficient_scope of another scheme": ['{other} error="insufficient_scope"'],
    "a nonce asked for in another scheme": ['{other} error="use_dpop_nonce"'],
    "a step-up in another scheme": ['{other} error="insufficient_user_authentication"'],
    "an error inside a quoted text": ['{own} error="invalid_token", error_description="DPoP error=use_dpop_nonce"'],
}


@pytest.mark.standards("S-075", "S-081", "S-082", "S-109", "S-116")
@pytest.mark.parametrize("challenges", REJECTIONS.values(), ids=REJECTIONS.keys())
@pytest.mark.parametrize("scheme", ["Bearer", "DPoP"])
def test_a_401_renews_once_and_the_request_is_sent_once_more(challenges: list[str], scheme: str) -> None:
    token, replacement = (BOUND, BOUND_TWO) if scheme == "DPoP" else (BEARER, BEARER_TWO)
    other = "Bearer" if scheme == "DPoP" else "DPoP"
    said = [text.replace("{own}", scheme).replace("{other}", other) for text in challenges]
    run = call(token, [answer(401, *said), OK], replacement=replacement)
    assert run.rejected == [token]
    assert values(run) == [f"{scheme} {token.value}", f"{scheme} {replacement.value}"]
    assert run.reasons == ["", "renewed"]


@pytest.mark.standards("S-075", "S-205")
@pytest.mark.parametrize(("token", "replacement"), [(BEARER, BEARER_TWO), (BOUND, BOUND_TWO)], ids=["bearer", "dpop"])
def test_an_api_that_rejects_everything_gets_two_requests_and_one_renewal(
    token: AccessToken, replacement: AccessToken
) -> None:
    run = call(token, [answer(401)], replacement=replacement)
    assert len(run.sent) == 2
    assert run.rejected == [token]
    assert (run.given_up, run.error) == ([], None)


@pytest.mark.standards("S-205")
def test_without_a_replacement_the_caller_gets_the_401() -> None:
    run = call(BEARER, [answer(401)], replacement=None)
    assert (len(run.sent), run.rejected) == (1, [BEARER])


@pytest.mark.standards("S-206")
@pytest.mark.parametrize("token", [BEARER, BOUND], ids=["bearer", "dpop"])
def test_a_body_that_cannot_be_sent_again_leaves_the_401_to_the_caller_and_the_token_is_reported(
    token: AccessToken,
) -> None:
    run = call(token, [answer(401)], replacement=BEARER_TWO, replayable=False)
    assert (len(run.sent), run.rejected, run.given_up) == (1, [], [token])


@pytest.mark.standards("S-206")
def test_whether_a_body_can_be_sent_again_is_asked_only_when_it_matters() -> None:
    hop = HandHop()
    call(BEARER, [OK], hop=hop)
    call(BEARER, [answer(401, 'Bearer error="insufficient_scope"')], hop=hop)
    assert hop.asked == 0
    call(BEARER, [answer(401)], hop=hop)
    assert hop.asked == 1


@pytest.mark.standards("S-075")
@pytest.mark.parametrize("error", ["insufficient_scope", "invalid_request"])
@pytest.mark.parametrize("scheme", ["Bearer", "DPoP"])
def test_an_error_that_no_new_token_cures_is_left_to_the_caller(error: str, scheme: str) -> None:
    run = call(
        BOUND if scheme == "DPoP" else BEARER, [answer(401, f'{scheme} error="{error}"')], replacement=BEARER_TWO
    )
    assert (len(run.sent), run.rejected, run.given_up, run.error) == (1, [], [], None)


@pytest.mark.standards("S-109")
def test_a_dpop_token_is_never_sent_again_as_bearer() -> None:
    for said in (["Bearer"], ['Bearer error="invalid_token"'], ["Bearer, Basic realm=a"]):
        run = call(BOUND, [answer(401, *said)], replacement=BOUND_TWO)
        assert len(run.sent) == 2
        assert all(one.authorization.startswith(b"DPoP ") and one.proof is not None for one in run.sent)


@pytest.mark.standards("S-085", "S-086", "S-301", "S-302")
@pytest.mark.parametrize("token", [BEARER, BOUND], ids=["bearer", "dpop"])
def test_resource_metadata_changes_nothing(token: AccessToken) -> None:
    said = f'{token.token_type} error="invalid_token", resource_metadata="https://evil.example/metadata"'
    with_it, without = (
        call(token, [answer(401, text), OK], replacement=token)
        for text in (said, f'{token.token_type} error="invalid_token"')
    )
    assert with_it.reasons == without.reasons == ["", "renewed"]
    assert "evil" not in str(with_it.proofs())


# Step-up ---------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-084")
@pytest.mark.parametrize("scheme", ["Bearer", "DPoP"])
def test_a_stronger_authentication_asked_for_is_told_and_neither_renewed_nor_retried(scheme: str) -> None:
    said = f'{scheme} error="insufficient_user_authentication", acr_values="gold silver", max_age="5", scope="a b"'
    run = call(BOUND if scheme == "DPoP" else BEARER, [answer(401, said, nonce="n-1")], replacement=BEARER_TWO)
    assert (len(run.sent), run.rejected) == (1, [])
    assert isinstance(run.error, StepUpRequiredError)
    assert run.error.code == "insufficient_user_authentication"
    assert (run.error.acr_values, run.error.max_age, run.error.scope) == ("gold silver", "5", "a b")
    assert CLIENT in str(run.error)


@pytest.mark.standards("S-084", "S-063")
def test_what_a_step_up_says_is_escaped_and_may_be_missing() -> None:
    run = call(BEARER, [answer(401, 'Bearer error="insufficient_user_authentication", acr_values="a\x1b[31m\u202e"')])
    assert isinstance(run.error, StepUpRequiredError)
    assert run.error.acr_values is not None
    assert run.error.acr_values.isprintable()
    assert (run.error.max_age, run.error.scope) == (None, None)


# Nonces ----------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-101", "S-104")
@pytest.mark.parametrize("error", ["use_dpop_nonce", "invalid_dpop_proof"])
def test_a_nonce_asked_for_is_given_once_and_costs_no_token(error: str) -> None:
    nonces = NonceStore()
    run = call(BOUND, [asks_for_nonce("n-1", error), OK], nonces=nonces, replacement=BOUND_TWO)
    assert nonces_sent(run) == [None, "n-1"]
    assert values(run) == ["DPoP planted-dpop-one"] * 2
    assert run.reasons == ["", "nonce"]
    assert run.rejected == []
    assert nonces.get("rs", API, JKT) == "n-1"


@pytest.mark.standards("S-104")
def test_the_words_of_a_nonce_challenge_are_read_in_any_spelling() -> None:
    for said in (
        "dpop ERROR=use_dpop_nonce",
        'Bearer, DPOP Error="use_dpop_nonce"',
        'Negotiate abc==, DPoP error="use_dpop_nonce"',
    ):
        assert call(BOUND, [answer(401, said, nonce="n-1"), OK]).reasons == ["", "nonce"]
    assert call(BOUND, [answer(401, "Bearer", 'DPoP error="use_dpop_nonce"', nonce="n-1"), OK]).reasons == ["", "nonce"]


@pytest.mark.standards("S-104")
def test_a_nonce_is_put_right_once_and_no_more() -> None:
    run = call(BOUND, [asks_for_nonce("n-1"), asks_for_nonce("n-2"), OK], replacement=BOUND_TWO)
    assert nonces_sent(run) == [None, "n-1"]
    assert run.rejected == []


@pytest.mark.standards("S-104", "S-113")
@pytest.mark.parametrize("error", ["use_dpop_nonce", "invalid_dpop_proof"])
def test_a_nonce_that_is_missing_or_the_one_that_was_sent_is_worth_no_retry_and_no_token(error: str) -> None:
    nonces = NonceStore()
    nonces.put("rs", API, JKT, "n-1")
    for reply in (asks_for_nonce("n-1", error), asks_for_nonce(None, error)):
        run = call(BOUND, [reply], nonces=nonces, replacement=BOUND_TWO)
        assert nonces_sent(run) == ["n-1"]
        assert (run.rejected, run.given_up, run.error) == ([], [], None)


@pytest.mark.standards("S-103", "S-104")
@pytest.mark.parametrize("fields", [["one", "two"], ['a"b'], ["a b"], ["n" * 513], [""]])
def test_a_nonce_that_cannot_be_used_is_worth_no_retry_and_is_not_kept(fields: list[str]) -> None:
    nonces = NonceStore()
    run = call(BOUND, [answer(401, 'DPoP error="use_dpop_nonce"', nonce=fields)], nonces=nonces)
    assert len(run.sent) == 1
    assert nonces.get("rs", API, JKT) is None


@pytest.mark.standards("S-206")
def test_a_body_that_cannot_be_sent_again_gets_its_nonce_with_the_next_request() -> None:
    nonces = NonceStore()
    run = call(BOUND, [asks_for_nonce("n-1")], nonces=nonces, replayable=False)
    assert (len(run.sent), run.given_up) == (1, [])
    assert nonces_sent(call(BOUND, [OK], nonces=nonces)) == ["n-1"]


@pytest.mark.standards("S-101")
@pytest.mark.parametrize("status", [200, 204, 302, 400, 401, 403, 404, 500])
def test_the_nonce_of_any_answer_is_used_from_the_next_request_on(status: int) -> None:
    nonces = NonceStore()
    nonces.put("rs", API, JKT, "old")
    call(BOUND, [answer(status, nonce="new")], nonces=nonces)
    assert nonces_sent(call(BOUND, [OK], nonces=nonces)) == ["new"]


@pytest.mark.standards("S-100", "S-102")
def test_nonces_of_other_origins_roles_and_keys_are_not_sent() -> None:
    nonces = NonceStore()
    nonces.put("as", API, JKT, "of the token endpoint at the same origin")
    nonces.put("rs", parse_origin("https://other.example"), JKT, "of another api")
    nonces.put("rs", API, new_proof_key().jkt, "of another key")
    assert nonces_sent(call(BOUND, [OK], nonces=nonces)) == [None]


@pytest.mark.standards("S-102")
def test_a_nonce_belongs_to_the_origin_of_the_hop_that_gave_it() -> None:
    nonces = NonceStore()
    other = parse_origin("https://other.example")
    call(BOUND, [answer(200, nonce="n-1")], nonces=nonces, hop=HandHop(origin=other))
    assert nonces.get("rs", other, JKT) == "n-1"
    assert nonces.get("rs", API, JKT) is None


@pytest.mark.standards("S-081", "S-144")
def test_with_a_bearer_token_dpop_is_neither_heard_nor_spoken() -> None:
    nonces = NonceStore()
    run = call(BEARER, [asks_for_nonce("n-1"), OK], nonces=nonces, replacement=BEARER_TWO)
    assert run.reasons == ["", "renewed"]
    assert [one.proof for one in run.sent] == [None, None]
    assert nonces.get("rs", API, JKT) is None


@pytest.mark.standards("S-081")
def test_a_nonce_error_inside_a_bearer_challenge_is_no_nonce_error() -> None:
    run = call(BOUND, [answer(401, 'Bearer error="use_dpop_nonce"', nonce="n-1"), OK], replacement=BOUND_TWO)
    assert run.reasons == ["", "renewed"]


@pytest.mark.standards("S-081")
def test_of_several_challenges_only_the_one_of_the_tokens_scheme_counts() -> None:
    both = answer(401, 'Bearer error="invalid_token", DPoP error="use_dpop_nonce"', nonce="n-1")
    assert call(BOUND, [both, OK], replacement=BOUND_TWO).reasons == ["", "nonce"]
    assert call(BEARER, [both, OK], replacement=BEARER_TWO).reasons == ["", "renewed"]
    mixed = answer(401, 'Bearer error="insufficient_scope", DPoP error="invalid_token"')
    assert call(BOUND, [mixed, OK], replacement=BOUND_TWO).reasons == ["", "renewed"]
    assert call(BEARER, [mixed, OK], replacement=BEARER_TWO).reasons == [""]


@pytest.mark.standards("S-104", "S-116")
def test_one_nonce_and_one_renewal_in_either_order() -> None:
    run = call(BOUND, [asks_for_nonce("n-1"), answer(401, 'DPoP error="invalid_token"'), OK], replacement=BOUND_TWO)
    assert run.reasons == ["", "nonce", "renewed"]
    assert nonces_sent(run) == [None, "n-1", "n-1"]
    run = call(BOUND, [answer(401, 'DPoP error="invalid_token"'), asks_for_nonce("n-2"), OK], replacement=BOUND_TWO)
    assert run.reasons == ["", "renewed", "nonce"]
    assert nonces_sent(run) == [None, None, "n-2"]
    assert values(run) == ["DPoP planted-dpop-one", "DPoP planted-dpop-two", "DPoP planted-dpop-two"]


@pytest.mark.standards("S-104")
def test_a_nonce_asked_for_with_a_400_is_given_too() -> None:
    run = call(BOUND, [answer(400, 'DPoP error="use_dpop_nonce"', nonce="n-1"), OK])
    assert run.reasons == ["", "nonce"]


# Algorithms ------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-112")
@pytest.mark.parametrize(
    "said",
    [
        'DPoP algs="PS256 RS256"',
        'DPoP error="invalid_dpop_proof", algs="PS256"',
        'DPoP error="use_dpop_nonce", algs="EdDSA"',
        'DPoP error="invalid_token", algs="es256"',
        "dpop ALGS=PS256",
    ],
)
def test_an_api_that_does_not_take_our_algorithm_is_an_error_and_nothing_is_tried_again(said: str) -> None:
    run = call(BOUND, [answer(401, said, nonce="n-1")], replacement=BOUND_TWO)
    assert (len(run.sent), run.rejected) == (1, [])
    assert isinstance(run.error, ProofError)
    assert run.error.code == "dpop_algorithm_not_accepted"
    for text in (CLIENT, "ES256", "dpop_key_file"):
        assert text in str(run.error)


@pytest.mark.standards("S-112")
@pytest.mark.parametrize("algs", ["ES256", "PS256 ES256", " RS256  ES256 ", ""])
def test_an_api_that_takes_our_algorithm_or_says_nothing_is_served(algs: str) -> None:
    assert call(BOUND, [answer(401, f'DPoP algs="{algs}"'), OK], replacement=BOUND_TWO).reasons == ["", "renewed"]


@pytest.mark.standards("S-112")
def test_it_is_the_algorithm_of_the_proof_key_that_counts() -> None:
    token = access_token(dpop=ProofKey(signing_key("EdDSA")))
    assert isinstance(call(token, [answer(401, 'DPoP algs="ES256"')]).error, ProofError)
    assert call(token, [answer(401, 'DPoP algs="ES256 EdDSA"')]).error is None


@pytest.mark.standards("S-081", "S-112")
def test_the_algorithms_of_another_scheme_or_for_a_bearer_token_do_not_matter() -> None:
    assert call(BOUND, [answer(401, 'Bearer algs="PS256", DPoP'), OK], replacement=BOUND_TWO).reasons == ["", "renewed"]
    assert call(BEARER, [answer(401, 'DPoP algs="PS256"'), OK], replacement=BEARER_TWO).reasons == ["", "renewed"]


@pytest.mark.standards("S-063", "S-112")
def test_what_the_api_says_about_algorithms_is_escaped_and_cut() -> None:
    run = call(BOUND, [answer(401, f'DPoP algs="\x1b[31m\u202e{"x" * 5_000}"')])
    assert isinstance(run.error, ProofError)
    assert str(run.error).isprintable()
    assert len(str(run.error)) < 500


# Whatever the API does -------------------------------------------------------------------------------------------

ANSWERS: list[Callable[[int], Answer]] = [
    lambda at: answer(200, nonce=f"a-{at}"),
    lambda at: answer(401),
    lambda at: answer(401, 'Bearer error="invalid_token"', nonce=f"b-{at}"),
    lambda at: answer(401, 'DPoP error="invalid_token"', nonce=f"c-{at}"),
    lambda at: answer(401, 'DPoP error="use_dpop_nonce"', nonce=f"d-{at}"),
    lambda at: answer(401, 'DPoP error="use_dpop_nonce"', nonce="the same"),
    lambda at: answer(401, 'DPoP error="invalid_dpop_proof"', nonce=f"e-{at}"),
    lambda at: answer(401, 'Bearer error="use_dpop_nonce"', nonce=f"f-{at}"),
    lambda at: answer(401, 'Bearer error="insufficient_scope", DPoP error="insufficient_scope"'),
    lambda at: answer(401, 'DPoP algs="PS256"'),
    lambda at: answer(401, 'Bearer error="insufficient_user_authentication"'),
    lambda at: answer(401, "\x00,,=\"'", nonce=["x", "y"]),
    lambda at: answer(403, 'DPoP error="use_dpop_nonce"', nonce=f"g-{at}"),
    lambda at: answer(500),
]


@pytest.mark.standards("S-097", "S-104", "S-113", "S-205")
@thorough
@given(
    script=st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=5),
    dpop=st.booleans(),
    replaceable=st.booleans(),
    replayable=st.booleans(),
)
def test_whatever_the_api_does_it_ends_within_three_requests_and_one_renewal(
    script: list[Callable[[int], Answer]], dpop: bool, replaceable: bool, replayable: bool
) -> None:
    token, other = (BOUND, BOUND_TWO) if dpop else (BEARER, BEARER_TWO)
    run = call(
        token,
        lambda at: script[at % len(script)](at),
        replacement=other if replaceable else None,
        replayable=replayable,
    )
    assert 1 <= len(run.sent) <= (3 if dpop else 2)
    assert len(run.rejected) <= 1
    assert len(run.rejected) + len(run.given_up) <= 1
    assert run.reasons[0] == ""
    assert sorted(run.reasons[1:]) == sorted(set(run.reasons[1:])), "each at most once"
    assert replayable or len(run.sent) == 1
    assert ("renewed" in run.reasons) == bool(run.rejected and replaceable)
    assert all((one.proof is not None) == dpop for one in run.sent)
    assert len({claims["jti"] for claims in run.proofs()}) == len(run.proofs())
    scheme = b"DPoP " if dpop else b"Bearer "
    assert all(one.authorization.startswith(scheme) for one in run.sent)


@pytest.mark.standards("S-083")
@thorough
@given(challenges=st.lists(st.text(max_size=40), max_size=3), nonce=st.text(max_size=20), dpop=st.booleans())
def test_whatever_an_api_writes_into_its_headers_nothing_of_it_breaks_the_call(
    challenges: list[str], nonce: str, dpop: bool
) -> None:
    token, other = (BOUND, BOUND_TWO) if dpop else (BEARER, BEARER_TWO)
    run = call(token, [answer(401, *challenges, nonce=nonce)], replacement=other)
    assert 1 <= len(run.sent) <= 3
    run.proofs()


@pytest.mark.standards("S-160", "S-162")
@pytest.mark.parametrize("said", ['DPoP algs="PS256"', 'DPoP error="insufficient_user_authentication"'])
def test_an_error_of_a_call_holds_neither_token_nor_proof_nor_do_its_frames(said: str) -> None:
    token = access_token(dpop=True)
    run = call(token, [answer(401, said)])
    assert run.error is not None
    proof = run.sent[0].proof
    assert proof is not None
    for seen in (everything_held_by(run.error), locals_of(run.error)):
        assert PLANTED_TOKEN not in seen
        assert proof.decode() not in seen
        assert proof.decode().split(".")[1] not in seen


@pytest.mark.standards("S-160")
def test_what_is_asked_to_be_sent_does_not_show_the_token() -> None:
    run = call(access_token(dpop=True), [answer(401)])
    assert PLANTED_TOKEN not in repr(run.sent) + repr(run.rejected)


@pytest.mark.standards("S-075", "S-205")
def test_a_replacement_that_was_there_before_the_api_said_no_may_have_been_revoked_too_and_is_replaced_in_turn() -> (
    None
):
    clock = HandClock()
    first, older = access_token("one", clock=clock), access_token("two", clock=clock)
    clock.move(monotonic=60.0, wall=60.0)
    newer = access_token("three", clock=clock, obtained=clock())
    flow = api_call(first, HandHop(), NonceStore())
    steps: list[object] = [next(flow)]
    steps += [flow.send(reply) for reply in (answer(401), older, answer(401), newer)]
    with pytest.raises(StopIteration):
        flow.send(answer(401))
    assert [type(step).__name__ for step in steps] == ["Send", "NeedToken", "Send", "NeedToken", "Send"]
    assert [step.rejected for step in steps if isinstance(step, NeedToken)] == [first, older]


@pytest.mark.standards("S-162", "S-166")
def test_a_token_that_an_api_quotes_is_in_no_error() -> None:
    quoted = 'Bearer error="insufficient_user_authentication", acr_values="planted-bearer-one or better"'
    run = call(BEARER, [answer(401, quoted)])
    assert isinstance(run.error, StepUpRequiredError)
    assert run.error.acr_values == "[redacted] or better"
    run = call(BOUND, [answer(401, 'DPoP algs="planted-dpop-one"')])
    assert "[redacted]" in str(run.error)
    assert "planted" not in str(run.error)
