"""The token key: requests share a token when, and only when, the authorization server would see the same request."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.makers import modest, thorough
from tokenvalet.core.token import token_key

FACTS: dict[str, Any] = {
    "issuer": "https://login.example.org",
    "token_endpoint": None,
    "client_id": "records-web",
    "credential": ["client_secret_basic", "digest-of-the-secret"],
    "grant": "client_credentials",
    "scope": ["a", "b"],
    "required_scopes": [],
    "resource": ["https://api.example.org"],
    "audience": [],
    "parameters": [["tenant", "one"]],
    "jkt": "thumbprint",
    "x5t#S256": None,
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


def changed(**facts: Any) -> dict[str, Any]:
    return copy.deepcopy(FACTS) | facts


@pytest.mark.standards("S-180")
def test_a_token_key_is_a_sha_256_in_hex_and_shows_nothing() -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", token_key(FACTS))


@pytest.mark.standards("S-180")
def test_the_same_facts_have_the_same_key_in_whatever_order_they_come() -> None:
    assert token_key(FACTS) == token_key(dict(reversed(FACTS.items()))) == token_key(changed())
    assert token_key(changed(scope=("a", "b"))) == token_key(FACTS), "a tuple is as good as a list"


@pytest.mark.standards("S-181")
@pytest.mark.parametrize("name", FACTS)
def test_another_value_of_any_fact_is_another_key(name: str) -> None:
    keys = [token_key(FACTS)]
    keys += [token_key(changed(**{name: value})) for value in ("other", ["other"], ["other", "another"], "", "null", 0)]
    keys += [token_key({fact: value for fact, value in FACTS.items() if fact != name})]
    assert len(set(keys)) == len(keys)


@pytest.mark.standards("S-180")
def test_separators_inside_names_and_scopes_forge_no_key() -> None:
    assert token_key({"client_id": "a::b", "scope": ["c"]}) != token_key({"client_id": "a", "scope": ["b::c"]})
    assert token_key(changed(scope=["a b"])) != token_key(changed(scope=["a", "b"]))
    assert token_key(changed(scope=["a,b"])) != token_key(changed(scope=["a", "b"]))
    assert token_key(changed(scope=['a","b'])) != token_key(changed(scope=["a", "b"]))
    assert token_key(changed(client_id='x","scope":["admin"],"y":"')) != token_key(changed(client_id="x"))
    assert token_key(changed(resource=["x"], audience=[])) != token_key(changed(resource=[], audience=["x"]))
    assert token_key(changed(parameters=[["a", "b=c"]])) != token_key(changed(parameters=[["a=b", "c"]]))
    assert token_key(changed(parameters=[["a", "1"], ["b", "2"]])) != token_key(changed(parameters=[["a", "1b2"]]))


@pytest.mark.standards("S-181", "S-183")
def test_one_client_id_with_other_secrets_issuers_or_keys_shares_nothing() -> None:
    keys = {
        token_key(facts)
        for facts in (
            changed(),
            changed(credential=["client_secret_basic", "digest of another secret"]),
            changed(credential=["client_secret_post", "digest-of-the-secret"]),
            changed(issuer="https://login.example.org/"),
            changed(issuer=None, token_endpoint="https://login.example.org"),
            changed(jkt="another thumbprint"),
            changed(jkt=None),
            changed(**{"x5t#S256": "thumbprint", "jkt": None}),
        )
    }
    assert len(keys) == 8


@pytest.mark.standards("S-181")
def test_no_text_at_all_breaks_a_key() -> None:
    keys = {
        token_key(changed(client_id=text))
        for text in ("é", "e\u0301", "\ud800", "\x00", "\u2028", '"', "\\", "\\u00e9")
    }
    assert len(keys) == 8


@pytest.mark.standards("S-181")
@thorough
@given(name=st.sampled_from(sorted(FACTS)), value=VALUES)
def test_any_changed_fact_is_another_key(name: str, value: Any) -> None:
    assume(json.dumps(value) != json.dumps(FACTS[name]))
    assert token_key(changed(**{name: value})) != token_key(FACTS)


@pytest.mark.standards("S-180", "S-181")
@thorough
@given(
    one=st.dictionaries(st.text(max_size=5), VALUES, max_size=4),
    other=st.dictionaries(st.text(max_size=5), VALUES, max_size=4),
)
def test_keys_are_equal_exactly_where_the_facts_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (token_key(one) == token_key(other)) is same


@pytest.mark.standards("S-181")
@modest
@given(st.permutations(["a", "b", "c", "d"]))
def test_scopes_in_another_order_are_the_same_key_once_the_caller_has_sorted_them(scope: list[str]) -> None:
    assert token_key(changed(scope=sorted(scope))) == token_key(changed(scope=["a", "b", "c", "d"]))
