"""A token as it is kept outside this process: read back with the same distrust as a server's answer (S-192)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.makers import PLANTED_SECRET, order, proof_key, thorough
from stores.makers import KEY, OTHER, PLANTED, granted
from tokenvalet.core.response import LONGEST_LIFETIME
from tokenvalet.core.stored import StoredToken, read_stored, written


def stored(**members: Any) -> bytes:
    """Return a stored token with some members replaced; Ellipsis removes one."""
    document = {**json.loads(written(granted(), KEY, forced=False)), **members}
    return json.dumps({name: value for name, value in document.items() if value is not ...}).encode()


def test_what_was_written_is_read_back() -> None:
    token = granted(scope="records:read", lifetime=3600.0)
    found = read_stored(written(token, KEY, forced=True), KEY, 3000.0, order())
    assert found is not None
    assert (found.granted, found.left, found.forced, found.age) == (token, 3000.0, True, 600.0)


@pytest.mark.standards("S-186")
def test_neither_a_private_key_nor_a_secret_is_written() -> None:
    found = json.loads(written(granted(token_type="DPoP"), KEY, forced=False))
    assert found.keys() == {"schema", "key", "access_token", "token_type", "scope", "lifetime", "forced"}
    assert PLANTED_SECRET not in str(found)


def test_a_stored_token_shows_its_kind_and_its_life_and_not_itself() -> None:
    found = read_stored(stored(), KEY, 40.0, order())
    assert repr(found) == "<StoredToken Bearer, 40 s left>"


@pytest.mark.standards("S-184", "S-192")
def test_a_token_that_lies_under_the_name_of_another_is_missing() -> None:
    assert read_stored(stored(), KEY, 40.0, order()) is not None
    assert read_stored(stored(), OTHER, 40.0, order()) is None


@pytest.mark.standards("S-185", "S-192", "S-320")
@pytest.mark.parametrize(
    "members",
    [
        {"schema": 2},
        {"schema": None},
        {"schema": ...},
        {"key": ...},
        {"key": None},
        {"further": 1},
        {"forced": ...},
        {"forced": 1},
        {"forced": "yes"},
        {"access_token": ...},
        {"access_token": None},
        {"access_token": 7},
        {"access_token": ""},
        {"access_token": ["a"]},
        {"access_token": "a b"},
        {"access_token": "a,b"},
        {"access_token": "a\r\nX-Evil: 1"},
        {"access_token": "ä"},
        {"access_token": "\ud800"},
        {"access_token": "a" * 32769},
        {"token_type": "DPoP"},
        {"token_type": "bearer"},
        {"token_type": None},
        {"token_type": []},
        {"scope": 7},
        {"scope": ["records:read"]},
        {"scope": [7]},
        {"scope": {"records:read": 1}},
        {"scope": 'a"b'},
        {"scope": "a\x00b"},
        {"lifetime": 0},
        {"lifetime": -1},
        {"lifetime": True},
        {"lifetime": "100"},
        {"lifetime": None},
        {"lifetime": float("nan")},
        {"lifetime": float("inf")},
        {"lifetime": LONGEST_LIFETIME + 1},
        {"lifetime": 10**400},
    ],
    ids=str,
)
def test_what_a_server_could_not_have_answered_is_missing(members: dict[str, Any]) -> None:
    assert read_stored(stored(**members), KEY, 40.0, order()) is None


@pytest.mark.standards("S-192")
def test_a_token_has_to_fit_what_is_asked_for() -> None:
    dpop = order(dpop=proof_key())
    assert read_stored(stored(token_type="DPoP", access_token="abc"), KEY, 40.0, dpop) is not None
    assert read_stored(stored(), KEY, 40.0, dpop) is None  # never as Bearer where DPoP was asked for
    assert read_stored(stored(token_type="DPoP", access_token="a(c"), KEY, 40.0, dpop) is None
    demanding = order(required_scopes=frozenset({"records:write"}))
    assert read_stored(stored(scope="records:read"), KEY, 40.0, demanding) is None
    assert read_stored(stored(scope=None), KEY, 40.0, demanding) is None
    assert read_stored(stored(scope="records:write records:read"), KEY, 40.0, demanding) is not None


@pytest.mark.standards("S-192", "S-204")
@pytest.mark.parametrize("left", [0.0, -1.0, float("nan"), float("inf"), float("-inf")])
def test_a_life_that_is_none_makes_no_token(left: float) -> None:
    assert read_stored(stored(), KEY, left, order()) is None


@pytest.mark.standards("S-192", "S-204")
def test_no_store_makes_a_token_live_longer_than_its_server_said() -> None:
    found = read_stored(stored(lifetime=100), KEY, 86_400.0, order())
    assert found is not None
    assert (found.left, found.age) == (100.0, 0.0)


@pytest.mark.standards("S-185")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"{}",
        b"{",
        b"\x80\x04\x95",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"schema":' + b"1" * 10_000 + b"}",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        stored().replace(PLANTED.encode(), b"\xff\xfe"),
    ],
    ids=range(14),
)
def test_what_is_no_stored_token_is_missing(content: bytes) -> None:
    assert read_stored(content, KEY, 40.0, order()) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.dictionaries(
    st.sampled_from(["schema", "key", "access_token", "token_type", "scope", "lifetime", "forced"]), JSON
)


def check(found: StoredToken | None, left: float) -> None:
    """Whatever is read back has to be something that a server could have answered."""
    if found is not None:
        assert isinstance(found.granted.access_token, str)
        assert isinstance(found.granted.scope, str | None)
        assert 0 < found.granted.lifetime <= LONGEST_LIFETIME
        assert 0 < found.left <= min(left, found.granted.lifetime)


@pytest.mark.standards("S-192")
@thorough
@given(st.binary(max_size=400), st.floats())
def test_no_bytes_break_the_reader(content: bytes, left: float) -> None:
    check(read_stored(content, KEY, left, order()), left)


@pytest.mark.standards("S-192")
@thorough
@given(MEMBERS, st.floats())
def test_no_members_break_the_reader(members: dict[str, Any], left: float) -> None:
    check(read_stored(stored(**members), KEY, left, order()), left)
