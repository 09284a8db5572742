"""A secret that never shows."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle

import pytest

from core.makers import everything_held_by
from tokenvalet.core import secret as room
from tokenvalet.core.secret import Secret

PLANTED = "planted-secret"


@pytest.mark.standards("S-160", "S-167")
def test_a_secret_is_asterisks_wherever_it_is_shown() -> None:
    secret = Secret(PLANTED)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r}", f"{secret!s}", repr([secret])]
    assert not [text for text in shown if PLANTED in text]
    assert all("**********" in text for text in shown)


@pytest.mark.standards("S-160")
def test_a_secret_says_nothing_of_its_length() -> None:
    assert repr(Secret("a")) == repr(Secret("a" * 100))


@pytest.mark.standards("S-160")
def test_a_secret_inside_a_dataclass_stays_hidden() -> None:
    @dataclasses.dataclass
    class Holder:
        secret: Secret

    holder = Holder(Secret(PLANTED))
    assert PLANTED not in repr(holder) + repr(dataclasses.asdict(holder)) + repr(vars(holder))
    assert not hasattr(holder.secret, "__dict__")


@pytest.mark.standards("S-160")
def test_a_secret_is_not_pickled() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled") as caught:
            pickle.dumps(Secret(PLANTED), protocol)
        assert PLANTED not in everything_held_by(caught.value)


@pytest.mark.standards("S-160")
def test_a_copy_of_a_secret_is_the_secret() -> None:
    secret = Secret(PLANTED)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret]) == [secret]


@pytest.mark.standards("S-160")
def test_secrets_are_compared_by_value_and_with_secrets_only() -> None:
    assert Secret(PLANTED) == Secret(PLANTED.encode())
    assert Secret(PLANTED) != Secret("planted-secreT")
    assert Secret("Grüße") == Secret("Grüße")
    assert (Secret(PLANTED) == PLANTED) is False
    assert hash(Secret("a")) == hash(Secret("b")), "a hash would be a way to guess"


@pytest.mark.standards("S-160")
def test_secrets_are_compared_in_a_time_that_does_not_depend_on_them() -> None:
    assert "hmac.compare_digest(" in inspect.getsource(room.Secret.__eq__)


@pytest.mark.standards("S-167")
def test_a_secret_reveals_itself_when_asked_and_is_true_when_there_is_one() -> None:
    assert Secret(PLANTED).reveal() == Secret(PLANTED.encode()).reveal() == PLANTED
    assert Secret("é".encode()).reveal() == "é"
    assert Secret(PLANTED)
    assert not Secret("")


@pytest.mark.standards("S-160", "S-162")
def test_bytes_that_are_no_utf_8_make_a_secret_all_the_same_and_no_error_that_quotes_it() -> None:
    secret = Secret(PLANTED.encode() + b"\xff")
    assert PLANTED not in repr(secret)
    assert secret == Secret(PLANTED.encode() + b"\xff")
    assert secret != Secret(PLANTED.encode() + b"\xfe")
