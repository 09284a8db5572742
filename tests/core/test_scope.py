"""Scopes (RFC 6749 §3.3)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.makers import modest
from core.vectors import BROKEN_SCOPES, SCOPES
from tokenvalet.core.scope import scope_tokens

WORD = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+\Z")


@pytest.mark.standards("S-033")
@pytest.mark.parametrize(("text", "words"), SCOPES)
def test_a_scope_is_split_into_words_each_once_and_in_order(text: str, words: tuple[str, ...]) -> None:
    assert scope_tokens(text) == words
    assert scope_tokens([text]) == words
    assert scope_tokens(words) == words


@pytest.mark.standards("S-033")
def test_a_list_may_hold_several_words_in_one_string() -> None:
    assert scope_tokens(["a b", "c", "a"]) == ("a", "b", "c")


@pytest.mark.standards("S-033")
@pytest.mark.parametrize("text", BROKEN_SCOPES)
def test_a_scope_with_a_character_that_is_not_allowed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no scope") as caught:
        scope_tokens(f"ok {text}")
    assert str(caught.value).isprintable(), "what is quoted is escaped"


@pytest.mark.standards("S-033", "S-063")
def test_a_long_word_is_cut_where_it_is_quoted() -> None:
    with pytest.raises(ValueError) as caught:
        scope_tokens("é" * 10_000)
    assert len(str(caught.value)) < 250


@pytest.mark.standards("S-033")
@modest
@given(st.text())
def test_whatever_is_given_the_words_fit_the_grammar_or_it_is_refused(text: str) -> None:
    try:
        words = scope_tokens(text)
    except ValueError:
        assert not all(WORD.match(word) for word in text.split(" ") if word)
    else:
        assert all(WORD.match(word) for word in words)
        assert len(set(words)) == len(words)
        assert set(words) == {word for word in text.split(" ") if word}
