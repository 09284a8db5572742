"""The access token: its three ages on two clocks, its proofs by hand, and what it never shows."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import vectors
from core.makers import (
    API,
    CLIENT,
    NOW,
    PLANTED_TOKEN,
    HandClock,
    access_token,
    everything_held_by,
    modest,
    new_proof_key,
    proof_key,
    proof_of,
)
from tokenvalet.core.dpop import NonceStore, access_token_hash
from tokenvalet.core.guard import parse_origin
from tokenvalet.core.token import Moment, TokenParameters
from tokenvalet.errors import ConfigurationError, ProofError

URL = "https://api.example.org/records"
NONCE_OF_A_SERVER = 'a","htu":"https://evil.example/","htm":"DELETE'


def at(monotonic: float, wall: float | None = None) -> Moment:
    """Return so many seconds after NOW, on both clocks or on each its own."""
    return Moment(NOW.monotonic + monotonic, NOW.wall + (monotonic if wall is None else wall))


def age(now: Moment) -> str:
    token = access_token()
    if token.is_expired(now):
        assert not token.is_fresh(now)
        return "expired"
    return "fresh" if token.is_fresh(now) else "due"


# Ages ------------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-047", "S-204")
@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (at(0), "fresh"),
        (at(3299.9), "fresh"),
        (at(3300), "due"),
        (at(3599.9), "due"),
        (at(3600), "expired"),
        (at(100_000), "expired"),
        # The wall clock was set forward, or the machine slept and the monotonic clock with it.
        (at(0, 3300), "due"),
        (at(0, 3600), "expired"),
        (at(10, 3600 + 10), "expired"),
        # The wall clock was set back: the monotonic one counts.
        (at(3300, 3300 - 3600), "due"),
        (at(3600, 0), "expired"),
        (at(3600, -86_400), "expired"),
        (at(0, -3600), "fresh"),
    ],
)
def test_a_token_is_fresh_then_due_then_expired_by_the_clock_that_says_later(now: Moment, expected: str) -> None:
    assert age(now) == expected


@pytest.mark.standards("S-204")
@modest
@given(monotonic=st.floats(0, 1e6), wall=st.floats(-1e6, 1e6))
def test_whatever_the_clocks_say_a_token_has_one_age_and_no_endless_life(monotonic: float, wall: float) -> None:
    token = access_token()
    now = at(monotonic, wall)
    assert 0 <= token.seconds_left(now) <= max(0, 3600 - monotonic)
    assert token.is_expired(now) == (token.seconds_left(now) == 0)
    assert age(now) in ("fresh", "due", "expired")


@pytest.mark.standards("S-046")
def test_a_token_without_lifetime_is_expired_at_once() -> None:
    assert access_token(lifetime=0, window=0).is_expired(NOW)


@pytest.mark.standards("S-204")
def test_the_life_that_is_left_is_told_by_hand() -> None:
    clock = HandClock()
    token = access_token(clock=clock)
    assert token.expires_in == 3600
    clock.move(monotonic=600, wall=600)
    assert token.expires_in == 3000
    clock.move(wall=1000)
    assert token.expires_in == 2000
    clock.move(monotonic=5000)
    assert token.expires_in == 0
    assert token.expires_at == datetime.fromtimestamp(NOW.wall + 3600, UTC)
    assert token.expires_at.tzinfo is UTC


# On the wire -----------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-043", "S-070")
def test_the_scheme_is_spelled_as_the_rfcs_spell_it() -> None:
    assert access_token().authorization == f"Bearer {PLANTED_TOKEN}".encode()
    assert access_token(dpop=True).authorization == f"DPoP {PLANTED_TOKEN}".encode()


def test_a_token_gives_its_value_and_what_it_is() -> None:
    for dpop, token_type in ((False, "Bearer"), (True, "DPoP")):
        token = access_token(dpop=dpop)
        assert (token.value, token.token_type) == (PLANTED_TOKEN, token_type)
        assert (token.client, token.scope, token.lifetime) == (CLIENT, "records:read", 3600)


@pytest.mark.standards("S-051")
def test_a_token_that_is_a_jwt_is_not_looked_into() -> None:
    # Its exp says 1970.
    value = "eyJhbGciOiJub25lIn0.eyJleHAiOjB9."
    assert access_token(value).seconds_left(NOW) == 3600


# Proofs by hand --------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-096", "S-099")
def test_a_proof_by_hand_is_for_that_request_and_that_token() -> None:
    token = access_token(dpop=True)
    claims = proof_of(token.proof("PUT", URL + "?a=b#c")).claims
    assert claims.pop("jti")
    assert claims == {"htm": "PUT", "htu": URL, "iat": int(NOW.wall), "ath": access_token_hash(PLANTED_TOKEN)}


@pytest.mark.standards("S-096")
def test_a_proof_by_hand_has_the_token_hash_of_rfc_9449() -> None:
    token = access_token(vectors.RFC9449_TOKEN, dpop=True)
    assert proof_of(token.proof("GET", URL)).claims["ath"] == vectors.RFC9449_ATH


@pytest.mark.standards("S-093")
@pytest.mark.parametrize(
    ("url", "htu"),
    [
        ("https://api.example.org", "https://api.example.org/"),
        ("HTTPS://API.example.org:443", "https://api.example.org/"),
        ("https://api.example.org?next=/a", "https://api.example.org/"),
        ("https://api.example.org#/a", "https://api.example.org/"),
        ("https://api.example.org/a?b=/c", "https://api.example.org/a"),
        ("https://api.example.org/a#b?c", "https://api.example.org/a"),
        ("https://api.example.org//a/%2F;v=1/%7e?x", "https://api.example.org//a/%2F;v=1/%7e"),
        ('https://api.example.org/"a"', 'https://api.example.org/"a"'),
        ("https://api.example.org:8443/a", "https://api.example.org:8443/a"),
        ("http://[::1]:8080/a", "http://[::1]:8080/a"),
        ("https://bücher.example/a", "https://xn--bcher-kva.example/a"),
        ("https://api.example.org/é%7e/日?é", "https://api.example.org/%C3%A9%7e/%E6%97%A5"),
    ],
)
def test_a_proof_by_hand_leaves_query_and_fragment_out_and_the_path_alone(url: str, htu: str) -> None:
    assert proof_of(access_token(dpop=True).proof("GET", url)).claims["htu"] == htu


@pytest.mark.standards("S-092")
def test_a_proof_by_hand_keeps_the_method_as_it_is_given() -> None:
    assert proof_of(access_token(dpop=True).proof("get", URL)).claims["htm"] == "get"


@pytest.mark.standards("S-091")
def test_every_proof_by_hand_is_another_one() -> None:
    token = access_token(dpop=True)
    assert len({proof_of(token.proof("GET", URL)).claims["jti"] for _ in range(10)}) == 10


@pytest.mark.standards("S-095")
def test_the_time_of_a_proof_is_rounded_down_and_corrected_as_the_server_said() -> None:
    clock = HandClock(Moment(NOW.monotonic, NOW.wall + 0.99))
    assert proof_of(access_token(dpop=True, clock=clock).proof("GET", URL)).claims["iat"] == int(NOW.wall)
    token = access_token(dpop=True, clock=clock, clock_correction=-120)
    assert proof_of(token.proof("GET", URL)).claims["iat"] == int(NOW.wall) - 120


@pytest.mark.standards("S-100", "S-101")
def test_a_proof_by_hand_takes_the_nonce_of_that_api_and_of_no_other() -> None:
    nonces = NonceStore()
    jkt = proof_key().jkt
    nonces.put("rs", API, jkt, "right")
    nonces.put("as", API, jkt, "of the other role")
    nonces.put("rs", API, new_proof_key().jkt, "of another key")
    nonces.put("rs", parse_origin("https://other.example"), jkt, "of another api")
    token = access_token(dpop=True, nonces=nonces)
    assert proof_of(token.proof("GET", URL)).claims["nonce"] == "right"
    assert proof_of(token.proof("GET", "https://other.example/")).claims["nonce"] == "of another api"
    assert "nonce" not in proof_of(token.proof("GET", "https://third.example/")).claims
    assert proof_of(token.proof("GET", URL, nonce="mine")).claims["nonce"] == "mine"


@pytest.mark.standards("S-172", "S-094")
def test_a_nonce_given_by_hand_cannot_write_other_claims_into_the_proof() -> None:
    try:
        claims = proof_of(access_token(dpop=True).proof("GET", URL, nonce=NONCE_OF_A_SERVER)).claims
    except ProofError:
        return
    assert (claims["htm"], claims["htu"]) == ("GET", URL)


@pytest.mark.standards("S-109")
def test_a_bearer_token_makes_no_proof() -> None:
    with pytest.raises(ProofError, match="dpop = true"):
        access_token().proof("GET", URL)


@pytest.mark.standards("S-141")
@pytest.mark.parametrize(
    "url", ["/records", "api.example.org", "ftp://h/", "https://u:planted@h/", "https://h\\@g/", ""]
)
def test_no_proof_is_made_for_what_is_no_absolute_url(url: str) -> None:
    with pytest.raises(ProofError) as caught:
        access_token(dpop=True).proof("GET", url)
    assert "planted" not in str(caught.value)


@pytest.mark.standards("S-110")
def test_a_dpop_token_is_used_with_the_key_that_it_came_with() -> None:
    key = new_proof_key()
    token = access_token(dpop=key)
    assert token.proof_key is key
    assert proof_of(token.proof("GET", URL), jkt=key.jkt).claims["htu"] == URL


# Keeping it ------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-160")
@pytest.mark.parametrize("dpop", [False, True])
def test_a_token_shows_its_kind_its_client_and_seconds_left_and_never_itself(dpop: bool) -> None:
    token = access_token(dpop=dpop)
    shown = repr(token) + str(token) + f"{token}" + repr([token])
    assert f"<AccessToken {token.token_type} of client 'm2m', 3600 s left>" in shown
    assert PLANTED_TOKEN not in shown
    assert not hasattr(token, "__dict__")
    assert not dataclasses.is_dataclass(token)


@pytest.mark.standards("S-160")
def test_a_token_is_not_pickled_and_a_copy_of_it_is_the_token() -> None:
    token = access_token()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled") as caught:
            pickle.dumps(token, protocol)
        assert PLANTED_TOKEN not in everything_held_by(caught.value)
    assert copy.copy(token) is token
    assert copy.deepcopy({"token": token})["token"] is token


# What it is asked for with ---------------------------------------------------------------------------------------


def test_parameters_are_strings_or_lists() -> None:
    one = TokenParameters(scope="a b", resource="https://r.example/", audience="x", parameters={"b": "2", "a": "1"})
    two = TokenParameters(
        scope=["a", "b"], resource=["https://r.example/"], audience=("x",), parameters={"a": "1", "b": "2"}
    )
    assert one == two
    assert hash(one) == hash(two)
    assert one.scope == ("a", "b")
    assert one.parameters == (("a", "1"), ("b", "2"))


def test_parameters_that_ask_for_nothing_are_false_and_others_true() -> None:
    assert not TokenParameters()
    assert not TokenParameters(parameters={})
    for some in (
        {"scope": ""},
        {"resource": ()},
        {"audience": "x"},
        {"parameters": {"a": "1"}},
        {"force_renewal": True},
    ):
        assert TokenParameters(**some)


def test_an_empty_scope_asks_for_none_and_no_scope_for_the_configured_one() -> None:
    assert TokenParameters(scope="").scope == ()
    assert TokenParameters().scope is None


@pytest.mark.standards("S-033")
@pytest.mark.parametrize("scope", vectors.BROKEN_SCOPES)
def test_a_scope_that_cannot_be_is_a_configuration_error(scope: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TokenParameters(scope=scope)
    assert caught.value.code == "invalid_scope_parameter"
    assert str(caught.value).isprintable()


@pytest.mark.standards("S-160")
def test_of_further_parameters_only_the_names_are_shown() -> None:
    shown = repr(TokenParameters(parameters={"password": "planted"}))
    assert "planted" not in shown
    assert "password" in shown


def test_parameters_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TokenParameters().scope = ("a",)  # type: ignore[misc]
