"""Reading WWW-Authenticate: the vectors, whatever is spelled oddly, and whatever is meant to be a nuisance."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.makers import modest, thorough
from core.vectors import CHALLENGES, ChallengeVector
from tokenvalet.core.challenge import Challenge, parse_challenges

TCHAR = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"


def pairs(challenges: tuple[Challenge, ...]) -> list[tuple[str, dict[str, str]]]:
    return [(one.scheme, dict(one.parameters)) for one in challenges]


@pytest.mark.standards("S-080", "S-081", "S-082")
@pytest.mark.parametrize("vector", CHALLENGES.values(), ids=CHALLENGES.keys())
def test_the_vectors_are_read(vector: ChallengeVector) -> None:
    assert pairs(parse_challenges(vector.fields)) == vector.challenges


@pytest.mark.standards("S-080", "S-316")
def test_schemes_and_parameter_names_are_read_in_any_case() -> None:
    for text in ('DPoP Error="a"', 'dpop ERROR="a"', 'DPOP error="a"'):
        (challenge,) = parse_challenges([text])
        assert (challenge.scheme, challenge.error) == ("dpop", "a")


@pytest.mark.standards("S-081")
def test_an_error_belongs_to_the_scheme_that_it_stands_behind() -> None:
    bearer, dpop = parse_challenges(['Bearer error="invalid_token", DPoP algs="ES256"'])
    assert (bearer.error, dpop.error) == ("invalid_token", None)
    bearer, dpop = parse_challenges(['Bearer realm="a", DPoP error="use_dpop_nonce"'])
    assert (bearer.error, dpop.error) == (None, "use_dpop_nonce")


@pytest.mark.standards("S-082")
def test_unknown_parameters_do_no_harm() -> None:
    (challenge,) = parse_challenges(
        ['DPoP x-new=1, error="use_dpop_nonce", resource_metadata="https://evil.example/x"']
    )
    assert challenge.error == "use_dpop_nonce"


@pytest.mark.standards("S-082")
def test_a_parameter_may_stand_in_two_challenges_once_each() -> None:
    assert pairs(parse_challenges(["Bearer error=a, DPoP error=b"])) == [
        ("bearer", {"error": "a"}),
        ("dpop", {"error": "b"}),
    ]


@pytest.mark.standards("S-083")
def test_no_more_than_thirty_two_challenges_are_read() -> None:
    assert len(parse_challenges([", ".join(["Bearer realm=x"] * 32)])) == 32
    assert len(parse_challenges([", ".join(["Bearer realm=x"] * 500)])) == 32
    assert len(parse_challenges(["Bearer realm=x"] * 500)) == 32


@pytest.mark.standards("S-083")
def test_no_more_than_sixteen_kib_are_read() -> None:
    long = f'Bearer realm="{"x" * (16 * 1024 - 15)}"'
    assert len(long) == 16 * 1024
    assert len(parse_challenges([long])) == 1
    assert parse_challenges([long + " "]) == ()
    assert len(parse_challenges([long, "DPoP"])) == 1
    assert len(parse_challenges(["DPoP", long])) == 1


NUISANCES = {
    "quotes that never close": lambda n: 'a b="' + '\\"' * (n // 2 - 3),
    "many unclosed quotes": lambda n: 'a b="",' * (n // 7) + 'c="',
    "backslashes": lambda n: 'a b="' + "\\" * (n - 5),
    "blanks": lambda n: "a" + " " * (n - 2) + "b",
    "blanks between words": lambda n: ("a" + " " * 200) * (n // 201),
    "blanks before equals signs": lambda n: ("a" + " " * 100 + "=" + " " * 100) * (n // 202),
    "commas": lambda n: "," * n,
    "commas and blanks": lambda n: ", \t" * (n // 3),
    "equals signs": lambda n: "a b" + "=" * (n - 3),
    "equals signs that end wrongly": lambda n: "a b" + "=" * (n - 4) + '"',
    "one long word": lambda n: "a" * n,
    "a long token68": lambda n: "a " + "b" * (n - 3) + '"',
    "two long words": lambda n: "a" * (n // 2) + " " + "b" * (n // 2 - 1),
    "short words": lambda n: "a " * (n // 2),
    "short words and commas": lambda n: "a," * (n // 2),
    "repeated parameters": lambda n: "a b=1,b=1," * (n // 10),
    "many parameters": lambda n: "a " + ",".join(f"p{i}=1" for i in range(n // 10)),
    "slashes": lambda n: "a " + "/" * (n - 2),
}


@pytest.mark.standards("S-083", "S-327")
@pytest.mark.parametrize("make", NUISANCES.values(), ids=NUISANCES.keys())
def test_the_longest_nuisance_is_read_in_no_time(make: object) -> None:
    # A parser that looks back over what it has read needs a second or more for these.
    assert callable(make)
    text = make(16 * 1024)
    assert len(text) <= 16 * 1024
    began = time.process_time()
    parse_challenges([text])
    assert time.process_time() - began < 0.2


GRAMMATICAL = st.text(TCHAR + '",= \t\\/ab', max_size=60)


@pytest.mark.standards("S-083", "S-327")
@thorough
@given(st.lists(st.text(max_size=60) | GRAMMATICAL, max_size=5))
def test_whatever_a_server_sends_nothing_is_raised(fields: list[str]) -> None:
    challenges = parse_challenges(fields)
    assert len(challenges) <= 32
    for one in challenges:
        assert one.scheme == one.scheme.lower()
        assert set(one.scheme) <= set(TCHAR.lower())
        assert all(name == name.lower() and set(name) <= set(TCHAR) for name in one.parameters)
        assert sum(len(name) + len(value) for name, value in one.parameters.items()) <= sum(map(len, fields))


Written = tuple[str, list[tuple[str, dict[str, str]]]]
WORD = st.text(string.ascii_lowercase + "-", min_size=1, max_size=6)
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E) | st.just("\t"), max_size=8)
MEANT = st.lists(st.tuples(WORD, st.dictionaries(WORD, VALUE, min_size=1, max_size=3)), min_size=1, max_size=3)


@st.composite
def written_challenges(draw: st.DrawFn) -> Written:
    """Return challenges, and one of the many ways to write them down (RFC 9110 §11.2, §11.6.1)."""
    meant, taste = draw(MEANT), draw(st.randoms(use_true_random=False))

    def blank() -> str:
        return taste.choice(["", " ", "\t", "  "])

    written = []
    for scheme, parameters in meant:
        pieces = []
        for name, text in parameters.items():
            bare = text and set(text) <= set(TCHAR) and taste.random() < 0.5
            escaped = "".join(f"\\{ch}" if ch in '"\\' or taste.random() < 0.2 else ch for ch in text)
            spelled = taste.choice([name, name.upper(), name.title()])
            pieces.append(f"{spelled}{blank()}={blank()}" + (text if bare else f'"{escaped}"'))
        written.append(f"{taste.choice([scheme, scheme.upper()])} {f'{blank()},{blank()}'.join(pieces)}")
    return f"{blank()},{blank()}".join(written), meant


@pytest.mark.standards("S-080")
@thorough
@given(written_challenges())
def test_challenges_come_back_however_they_are_written(case: Written) -> None:
    text, meant = case
    assert pairs(parse_challenges([text])) == meant


@pytest.mark.standards("S-080")
@modest
@given(written_challenges(), written_challenges())
def test_two_fields_are_read_like_one_with_a_comma(one: Written, other: Written) -> None:
    assert pairs(parse_challenges([one[0], other[0]])) == one[1] + other[1]
    assert parse_challenges([one[0], other[0]]) == parse_challenges([f"{one[0]}, {other[0]}"])
