"""Sealing: what leaves the process is encrypted, bound to its token key, and opened by none but its keys."""

from __future__ import annotations

import base64
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.makers import modest
from stores.makers import KEY, OTHER, PLANTED, line_of, secret_of
from tokenvalet.stores.sealing import Sealer, SealingFault, new_key, parse_keys

OLD, NEW = ("old", secret_of(1)), ("new", secret_of(2))
CONTENT = PLANTED.encode()


def refused(sealer: Sealer, value: bytes, key: str = KEY) -> str:
    """Return why a value was refused; nothing of keys or contents may be in it, nor anywhere in the error."""
    with pytest.raises(SealingFault) as caught:
        sealer.open(value, key)
    text = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert PLANTED not in text
    for number in (1, 2):
        assert base64.urlsafe_b64encode(secret_of(number)).decode().rstrip("=") not in text
        assert secret_of(number).decode("latin-1") not in text
    return str(caught.value)


@pytest.mark.standards("S-184")
@modest
@given(st.binary(max_size=3000))
def test_what_was_sealed_is_opened_again_and_is_nowhere_in_what_is_stored(content: bytes) -> None:
    sealed = Sealer([OLD]).seal(content, KEY)
    assert Sealer([OLD]).open(sealed, KEY) == content
    assert sealed.isascii()
    assert len(content) < 8 or content not in base64.urlsafe_b64decode(sealed.split(b".")[2])


@pytest.mark.standards("S-184")
def test_a_value_in_which_any_bit_was_turned_is_refused() -> None:
    sealer = Sealer([OLD])
    # Lengths that leave no, one and two bytes over, since base64 then has bits that mean nothing.
    for content in (b"0123", b"01234", b"012345"):
        sealed = sealer.seal(content, KEY)
        for place in range(len(sealed) * 8):
            changed = bytearray(sealed)
            changed[place // 8] ^= 1 << place % 8
            refused(sealer, bytes(changed))


@pytest.mark.standards("S-184")
def test_a_value_that_was_cut_or_padded_is_refused() -> None:
    sealer = Sealer([OLD])
    sealed = sealer.seal(CONTENT, KEY)
    for length in range(len(sealed)):
        refused(sealer, sealed[:length])
    for changed in (sealed + b"=", sealed + b"\n", b" " + sealed, sealed + b"AAAA", sealed + b".", sealed.upper()):
        refused(sealer, changed)


@pytest.mark.standards("S-184")
def test_a_value_that_was_filed_under_another_token_key_is_refused() -> None:
    sealer = Sealer([OLD])
    assert "another token key" in refused(sealer, sealer.seal(CONTENT, KEY), OTHER)


@pytest.mark.standards("S-184")
def test_a_value_cannot_be_passed_off_as_sealed_with_another_key_of_ours() -> None:
    value = Sealer([OLD]).seal(CONTENT, KEY)
    refused(Sealer([("new", OLD[1]), OLD]), value.replace(b".old.", b".new."))


@pytest.mark.standards("S-184")
def test_two_sealings_of_one_content_have_nothing_in_common() -> None:
    first, second = (Sealer([OLD]).seal(CONTENT, KEY).rpartition(b".")[2] for _ in range(2))
    assert first[:16] != second[:16]
    assert first[16:] != second[16:]


@pytest.mark.parametrize(
    "value",
    [b"", CONTENT, b"tv1", b"tv1.", b"tv1..", b"tv1.old", b"tv2.old.AAAA", b'{"schema":1}', b"\xff\x00"],
)
def test_what_was_never_sealed_is_refused_where_sealing_is_on(value: bytes) -> None:
    refused(Sealer([OLD]), value)


@pytest.mark.standards("S-184")
def test_hosts_with_the_new_key_in_front_open_what_hosts_without_it_have_sealed() -> None:
    behind, ahead = Sealer([OLD]), Sealer([NEW, OLD])
    assert ahead.open(behind.seal(CONTENT, KEY), KEY) == CONTENT
    assert ahead.seal(CONTENT, KEY).startswith(b"tv1.new.")
    # The others cannot, say which key it is that they lack, and find it under the same name.
    assert "the key new," in refused(behind, ahead.seal(CONTENT, KEY))
    assert ahead.name(KEY) == behind.name(KEY)


def test_a_key_id_that_is_none_is_not_repeated() -> None:
    assert "evil" not in refused(Sealer([OLD]), b"tv1.\x1b[31mevil\n.AAAA")


@pytest.mark.standards("S-180")
def test_the_name_in_the_store_cannot_be_guessed_without_a_key() -> None:
    names = {Sealer([OLD]).name(KEY), Sealer([NEW]).name(KEY), Sealer([OLD]).name(OTHER), KEY}
    assert len(names) == 4
    assert all(len(name) == 64 and set(name) <= set("0123456789abcdef") for name in names)


def test_a_sealer_shows_no_key_and_needs_one() -> None:
    assert repr(Sealer([NEW, OLD])) == "<Sealer with 2 keys>"
    with pytest.raises(SealingFault, match="no key"):
        Sealer([])


# The file of keys


def test_a_file_of_keys_may_have_comments_blank_lines_and_padding() -> None:
    text = f"# of May\n\n{line_of('new', 2)}\r\n  {line_of('old', 1)}=  \n# the end"
    assert parse_keys(text.encode()) == (NEW, OLD)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "there is no key in it"),
        ("# only a comment\n", "there is no key in it"),
        (line_of("a", 1).partition(":")[2], "line 1 is not id:key"),
        (f"\n# one\n{line_of('', 1)}", "line 3 is not id:key"),
        (line_of("has.dot", 1), "line 1 is not id:key"),
        (line_of("ä", 1), "line 1 is not id:key"),
        (line_of("a" * 65, 1), "line 1 is not id:key"),
        ("a:", "line 1: its key is not base64url of 32 bytes"),
        ("a:c2hvcnQ", "line 1: its key is not base64url of 32 bytes"),
        (line_of("a", 1) + "AAAA", "line 1: its key is not base64url of 32 bytes"),
        (line_of("a", 1)[:-1] + "!", "line 1: its key is not base64url of 32 bytes"),
        (f"{line_of('a', 1)}\n{line_of('a', 2)}", "line 2 has the id of a line before it"),
        (f"{line_of('a', 1)}\n{'b' * 40}:" + "x" * 99, "line 2: its key is not base64url of 32 bytes"),
        ("\x00\x01\x02", "line 1 is not id:key"),
    ],
    ids=range(14),
)
def test_a_fault_in_a_file_of_keys_is_told_by_its_line_and_without_the_line(text: str, fault: str) -> None:
    with pytest.raises(SealingFault) as caught:
        parse_keys(text.encode())
    assert str(caught.value).startswith(fault)
    for number in (1, 2):
        assert line_of("", number)[1:40] not in str(caught.value)


@modest
@given(st.binary(max_size=300))
def test_no_file_of_keys_breaks_the_reader(content: bytes) -> None:
    try:
        keys = parse_keys(content)
    except SealingFault:
        return
    assert all(len(secret) == 32 for _, secret in keys)


def test_a_new_key_is_a_line_of_such_a_file_and_never_the_same() -> None:
    lines = [new_key() for _ in range(50)] + [new_key("may-2026")]
    keys = parse_keys("\n".join(lines).encode())
    assert len({secret for _, secret in keys}) == 51
    assert keys[-1][0] == "may-2026"


@pytest.mark.parametrize("key_id", ["", "a b", "a:b", "ä", "a" * 65, "a\n"])
def test_a_new_key_is_given_no_id_that_could_not_be_read_back(key_id: str) -> None:
    with pytest.raises(SealingFault, match="letters, digits"):
        new_key(key_id)
