"""Base64url and compact JSON (RFC 7515 §2)."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.makers import modest
from tokenvalet.core.encoding import b64url, b64url_decode, compact_json


@modest
@given(st.binary(max_size=100))
def test_bytes_come_back_from_base64url_as_they_were(data: bytes) -> None:
    text = b64url(data).decode("ascii")
    assert b64url_decode(text) == data
    assert base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) == data
    assert not set(text) & set("+/=")


@pytest.mark.parametrize("text", ["a", "a=", "YQ==", "a+b/", "a b", "é", "YQ\n", "YWJjZ"])
def test_what_is_not_base64url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not base64url"):
        b64url_decode(text)


def test_json_is_compact_and_in_utf_8() -> None:
    assert compact_json({"a": [1, "é"], "b": None}) == '{"a":[1,"é"],"b":null}'.encode()


def test_json_has_no_numbers_that_json_does_not_know() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        compact_json({"a": float("nan")})


@modest
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers() | st.booleans()))
def test_json_comes_back_as_it_was(members: dict[str, int]) -> None:
    assert json.loads(compact_json(members)) == members
