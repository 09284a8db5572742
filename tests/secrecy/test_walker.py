"""A test of the tests: the walker sees what an error tracker, a log or a debugger would see."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from secrecy.walker import LogRecords, Plant, found, seen_in, shown_by_error, shown_by_value

SECRET = "planted-secret-to-be-found"
PLANT = Plant.of("it", SECRET)
# Frames of the tests are left out, so what is to be seen is made by code that has no file among them.
ELSEWHERE: dict[str, Any] = {}
exec(
    compile(
        """
def in_a_variable(secret):
    raise ValueError("no")

def in_a_nested_variable(secret):
    held = {"a": [("b", {secret})]}
    del secret
    raise ValueError("no")

def in_bytes(secret):
    body = bytearray(b"x" + secret.encode())
    del secret
    raise ValueError("no")

def in_the_text(secret):
    text = f"no {secret}"
    del secret
    raise ValueError(text) from None

def in_the_cause(secret):
    try:
        in_a_variable(secret)
    except ValueError as error:
        del secret
        raise KeyError("other") from error

def in_a_context_that_is_suppressed(secret):
    try:
        in_a_variable(secret)
    except ValueError:
        del secret
        raise KeyError("other") from None

def in_a_note(secret):
    error = ValueError("no")
    error.add_note(f"it was {secret}")
    del secret
    raise error

def in_an_attribute(secret):
    error = ValueError("no")
    error.hidden = [secret]
    del secret
    raise error

def in_a_group(secret):
    group = ExceptionGroup("all", [ValueError(secret)])
    del secret
    raise group

def in_what_could_not_be_decoded(secret):
    data = secret.encode() + b"\\xff"
    del secret
    try:
        data.decode()
    finally:
        del data

def in_an_object(secret):
    class Shows:
        def __repr__(self):
            return "<Shows planted-secret-to-be-found>"
    del secret
    one = Shows()
    raise ValueError("no")
""",
        "elsewhere.py",
        "exec",
    ),
    ELSEWHERE,
)
MAKERS: list[Callable[[str], None]] = [one for name, one in ELSEWHERE.items() if name.startswith("in_")]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_a_secret_in_an_error_is_found_wherever_it_is(make: Callable[[str], None]) -> None:
    with pytest.raises(Exception) as caught:
        make(SECRET)
    assert seen_in([PLANT], shown_by_error(caught.value)) == {"it"}
    assert found([Plant.of("another", "planted-elsewhere")], shown_by_error(caught.value)) == []


def test_a_secret_in_the_log_is_found_wherever_it_is() -> None:
    logger = logging.getLogger("secrecy.test_walker")

    def with_an_error() -> None:
        try:
            ELSEWHERE["in_a_variable"](SECRET)
        except ValueError:
            logger.exception("it broke")

    writers: list[Callable[[], None]] = [
        lambda: logger.debug("it is %s", SECRET),
        lambda: logger.debug("it is %(name)s", {"name": SECRET}),
        lambda: logger.debug("it", extra={"more": {"a": SECRET}}),
        with_an_error,
    ]
    for write in writers:
        with LogRecords() as log:
            write()
        assert seen_in([PLANT], log.texts()) == {"it"}
        assert log.names() == {"secrecy"}


@pytest.mark.parametrize("form", PLANT.forms)
def test_every_form_of_a_secret_is_found(form: str) -> None:
    assert seen_in([PLANT], [("a text", f"<{form}>")]) == {"it"}


def test_a_secret_has_the_forms_in_which_it_is_sent_written_and_guessed_at() -> None:
    plant = Plant.of("it", "a secret: with %/é", "more-of-it")
    assert {"a+secret%3A+with+%25%2F%C3%A9", "a%20secret%3A%20with%20%25%2F%C3%A9", "more-of-it"} <= set(plant.forms)
    assert "YSBzZWNyZXQ6IHdpdGggJS_DqQ" in plant.forms
    assert any(len(form) == 64 and set(form) <= set("0123456789abcdef") for form in plant.forms)


def test_nothing_to_look_for_is_a_mistake_of_the_test() -> None:
    with pytest.raises(AssertionError):
        found([], [("a text", SECRET)])


def test_an_object_that_cannot_be_shown_stops_nobody() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert seen_in([PLANT], shown_by_value("it", [Broken(), SECRET])) == {"it"}
