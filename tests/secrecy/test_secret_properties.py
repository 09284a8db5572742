"""A `Secret` of any text or bytes: shown by nothing, equal to its like, and given back as it was."""

from __future__ import annotations

import copy
import json
import pickle
import pprint
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretBytes, SecretStr

from secrecy.walker import shown_by_error
from tokenvalet import ClientConfig, ConfigurationError, Secret
from tokenvalet.configuration_values import wrapped_secret

ANY_TEXT = st.text(st.characters(exclude_categories=[]), min_size=1, max_size=60)
# What is not in the asterisks and in the text of errors anyway.
DISTINCT = st.text(st.characters(min_codepoint=0x100), min_size=3, max_size=60)


@pytest.mark.standards("S-160")
@given(DISTINCT)
def test_nothing_that_shows_a_secret_shows_any_of_it(text: str) -> None:
    secret = Secret(text)
    ways: list[Callable[[Any], Any]] = [repr, str, format, ascii, pprint.pformat, dir]
    ways += [lambda one: f"{one} {one!r}", lambda one: repr([one])]
    for way in ways:
        assert str(way(secret)) == str(way(Secret("another")))


@pytest.mark.standards("S-160", "S-162")
@given(DISTINCT)
def test_no_error_about_a_secret_shows_any_of_it(text: str) -> None:
    secret: Any = Secret(text)
    misuses: list[Callable[[], object]] = [
        lambda: pickle.dumps(secret),
        lambda: json.dumps(secret),
        lambda: f"{secret:>10}",
        lambda: secret + "a",
        lambda: len(secret),
        lambda: secret[0],
        lambda: bytes(secret),
        lambda: secret < secret,
        lambda: secret.__getstate__(),
        lambda: vars(secret),
        lambda: "".join([secret]),
    ]
    for misuse in misuses:
        with pytest.raises((TypeError, AttributeError)) as caught:
            misuse()
        assert not [place for place, shown in shown_by_error(caught.value) if text in shown]


@pytest.mark.standards("S-160", "S-167")
@given(ANY_TEXT, ANY_TEXT)
@example("a", "a")
def test_secrets_are_equal_when_their_texts_are_and_copies_are_the_same(one: str, other: str) -> None:
    assert (Secret(one) == Secret(other)) is (one == other)
    assert hash(Secret(one)) == hash(Secret(other))
    assert Secret(one) != one
    assert Secret(one).reveal() == one
    assert copy.deepcopy({"a": Secret(one)}) == {"a": Secret(one)}


@pytest.mark.standards("S-167")
@given(st.binary(min_size=1, max_size=60))
def test_bytes_are_given_back_as_they_were(data: bytes) -> None:
    assert Secret(data).reveal().encode("utf-8", "surrogateescape") == data
    assert wrapped_secret(data, binary=True) == Secret(data)


@pytest.mark.standards("S-167")
@given(ANY_TEXT)
def test_a_secret_of_a_configuration_is_the_same_in_whatever_it_comes(text: str) -> None:
    values = {"issuer": "https://login.example.org", "client_id": "web"}
    sendable = not any("\ud800" <= ch <= "\udfff" for ch in text)
    forms: list[Any] = [text, SecretStr(text), Secret(text)]
    if sendable:
        forms += [text.encode(), SecretBytes(text.encode()), bytearray(text.encode())]
    for form in forms:
        if sendable:
            assert ClientConfig(**values, client_secret=form).client_secret == Secret(text)
        else:
            with pytest.raises(ConfigurationError, match="client_secret: is not UTF-8"):
                ClientConfig(**values, client_secret=form)
