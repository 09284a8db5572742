"""Reading what the token endpoint said (RFC 6749 §5): nothing believed unchecked, nothing of it in an error."""

from __future__ import annotations

import json
import os
import time
from base64 import b64encode
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.makers import (
    CLIENT,
    CLIENT_ID,
    ENDPOINT,
    PLANTED_SECRET,
    PLANTED_TOKEN,
    everything_held_by,
    http_reply,
    locals_of,
    order,
    refusal,
    thorough,
    token_reply,
)
from core.vectors import RFC9449_TOKEN
from tokenvalet.core.messages import Failure, HttpReply
from tokenvalet.core.request import TokenOrder
from tokenvalet.core.response import Granted, date_of, failure_error, json_object, read_token_response
from tokenvalet.errors import (
    ProofError,
    TokenRefusedError,
    TokenRequestError,
    TokenResponseError,
    TokenValetError,
)

CREDENTIALS = b64encode(f"{CLIENT_ID}:{PLANTED_SECRET}".encode()).decode()
SECRETS = (PLANTED_SECRET, CREDENTIALS)


def read(reply: HttpReply, wanted: TokenOrder | None = None) -> Granted:
    return read_token_response(reply, wanted if wanted is not None else order(), ENDPOINT, SECRETS)


def refused(reply: HttpReply, wanted: TokenOrder | None = None) -> TokenValetError:
    """Return the error for a reply; whatever it is, it gives nothing away."""
    with pytest.raises(TokenValetError) as caught:
        read(reply, wanted)
    held = everything_held_by(caught.value)
    for planted in (PLANTED_TOKEN, *SECRETS):
        assert planted not in held
    assert str(caught.value).isprintable()
    assert CLIENT in str(caught.value)
    assert ENDPOINT.url in str(caught.value)
    return caught.value


def body_with(members: str) -> HttpReply:
    """Return a good response with further members that Python's own JSON writer could not write."""
    return http_reply(body=f'{{"access_token":"{PLANTED_TOKEN}","token_type":"Bearer",{members}}}'.encode())


# Success ---------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-040", "S-041")
def test_a_good_response_is_read() -> None:
    granted = read(token_reply(scope="records:read"))
    assert (granted.access_token, granted.token_type) == (PLANTED_TOKEN, "Bearer")
    assert (granted.lifetime, granted.scope) == (3600, "records:read")


@pytest.mark.standards("S-040")
@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json;charset=utf-8",
        "Application/JSON ; charset=UTF-8",
        "application/vnd.example+json",
    ],
)
def test_json_is_told_by_its_media_type(content_type: str) -> None:
    assert read(http_reply(body=token_reply().body, content_type=content_type)).access_token == PLANTED_TOKEN


@pytest.mark.standards("S-040")
@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/html",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "text/json",
        "application/jwt",
        "json",
        "text/html; x=application/json",
    ],
)
def test_a_token_in_any_other_media_type_is_not_taken(content_type: str | None) -> None:
    error = refused(http_reply(body=token_reply().body, content_type=content_type))
    assert isinstance(error, TokenResponseError)
    assert "Content-Type" in str(error)
    assert (error.code, error.status) == ("invalid_response", 200)


@pytest.mark.standards("S-040")
@pytest.mark.parametrize("document", [None, [], [{"access_token": PLANTED_TOKEN}], "text", 5, True, {}])
def test_json_that_is_no_object_with_a_token_is_not_taken(document: object) -> None:
    assert isinstance(refused(http_reply(document=document)), TokenResponseError)


@pytest.mark.standards("S-040")
@pytest.mark.parametrize("status", [201, 202, 204, 206, 226])
def test_a_token_with_another_status_than_200_is_not_taken(status: int) -> None:
    assert isinstance(
        refused(HttpReply(status=status, headers=token_reply().headers, body=token_reply().body)), TokenResponseError
    )


@pytest.mark.standards("S-040")
def test_an_error_with_status_200_is_an_error_even_beside_a_token() -> None:
    error = refused(token_reply(error="invalid_scope"))
    assert isinstance(error, TokenRefusedError)
    assert (error.error, error.status) == ("invalid_scope", 200)
    odd: object
    for odd in (None, 5, [], {}, "", 'quote"'):
        assert isinstance(refused(token_reply(error=odd)), TokenResponseError)


@pytest.mark.standards("S-041")
@pytest.mark.parametrize("token", [..., None, "", 5, True, [], {}, ["a"]])
def test_a_response_without_an_access_token_is_refused(token: object) -> None:
    assert isinstance(refused(token_reply(token=token)), TokenResponseError)


@pytest.mark.standards("S-041", "S-042")
@pytest.mark.parametrize("token_type", [..., None, "", 5, True, [], ["Bearer"], {}])
def test_a_response_without_a_token_type_is_refused(token_type: object) -> None:
    assert "without token_type" in str(refused(token_reply(token_type=token_type)))


@pytest.mark.standards("S-042")
@pytest.mark.parametrize("token_type", ["mac", "N_A", "PoP", "Bearer ", "Bearer,DPoP", "Bеarer", "example"])
def test_a_token_of_a_type_that_is_not_understood_is_not_used(token_type: str) -> None:
    error = refused(token_reply(token_type=token_type))
    assert isinstance(error, TokenResponseError)
    assert "unknown" in str(error)


@pytest.mark.standards("S-042", "S-043")
@pytest.mark.parametrize("token_type", ["bearer", "BEARER", "Bearer", "bEaReR"])
def test_bearer_is_understood_in_any_case_and_spelled_our_way(token_type: str) -> None:
    assert read(token_reply(token_type=token_type)).token_type == "Bearer"


@pytest.mark.standards("S-042", "S-043")
@pytest.mark.parametrize("token_type", ["dpop", "DPOP", "DPoP", "dPoP"])
def test_dpop_is_understood_in_any_case_and_spelled_our_way(token_type: str) -> None:
    assert read(token_reply(token_type=token_type), order(dpop=True)).token_type == "DPoP"


@pytest.mark.standards("S-107")
def test_a_bearer_token_is_thrown_away_where_dpop_was_asked_for() -> None:
    error = refused(token_reply(token_type="bearer"), order(dpop=True))
    assert isinstance(error, ProofError)
    assert "thrown away" in str(error)


@pytest.mark.standards("S-108")
def test_a_dpop_token_is_refused_where_no_proof_was_sent() -> None:
    assert isinstance(refused(token_reply(token_type="DPoP")), ProofError)


@pytest.mark.standards("S-044", "S-050")
def test_unknown_members_and_a_refresh_token_are_ignored() -> None:
    granted = read(
        token_reply(refresh_token="planted-refresh-token", id_token="planted", x={"y": [1]}, issued_token_type=5)
    )
    assert "planted-refresh-token" not in str([getattr(granted, name) for name in granted.__slots__])
    assert {*granted.__slots__} == {"access_token", "token_type", "lifetime", "scope"}


@pytest.mark.standards("S-051")
def test_the_lifetime_is_not_taken_from_inside_the_token() -> None:
    value = "eyJhbGciOiJub25lIn0.eyJleHAiOjB9."
    assert read(token_reply(token=value, expires_in=...)).lifetime == 300


@pytest.mark.standards("S-052")
def test_a_response_that_does_not_forbid_storing_is_no_error() -> None:
    assert read(token_reply(headers=[("cache-control", "public, max-age=600")])).access_token == PLANTED_TOKEN


# Lifetime --------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-045")
@pytest.mark.parametrize("value", [..., None])
def test_without_expires_in_a_token_lives_as_long_as_configured(value: object) -> None:
    assert read(token_reply(expires_in=value)).lifetime == 300
    assert read(token_reply(expires_in=value), order(default_lifetime=77.0)).lifetime == 77


@pytest.mark.standards("S-046")
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1, 1),
        (3600, 3600),
        ("3600", 3600),
        ("0", 0),
        ("0060", 60),
        (59.9, 59),
        (0, 0),
        (-0.0, 0),
        (-1, 0),
        (-1.5, 0),
        (-(10**30), 0),
        (86_400, 86_400),
        (86_401, 86_400),
        (10**17, 86_400),
        (10**30, 86_400),
        ("9" * 400, 86_400),
        (1e308, 86_400),
    ],
)
def test_expires_in_is_a_number_of_seconds_or_digits_and_at_most_a_day(value: object, seconds: float) -> None:
    assert read(token_reply(expires_in=value)).lifetime == seconds


@pytest.mark.standards("S-046")
@pytest.mark.parametrize("digits", ["9" * 5_000, "1" + "0" * 100_000, "-" + "9" * 5_000])
def test_a_number_of_thousands_of_digits_is_no_trouble(digits: str) -> None:
    assert read(body_with(f'"expires_in":{digits}')).lifetime == (0 if digits.startswith("-") else 86_400)
    assert read(body_with(f'"other":{digits}')).lifetime == 300


@pytest.mark.standards("S-046")
@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        "",
        "1h",
        "-1",
        "+1",
        "1.5",
        " 60",
        "60 ",
        "６０",
        "٣",
        "0x10",
        "1e3",
        "NaN",
        "never",
        [],
        [60],
        {},
        {"s": 60},
    ],
)
def test_any_other_expires_in_is_refused(value: object) -> None:
    error = refused(token_reply(expires_in=value))
    assert isinstance(error, TokenResponseError)
    assert "expires_in" in str(error)


@pytest.mark.standards("S-046", "S-055")
@pytest.mark.parametrize("value", ["1e400", "-1e400", "NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_are_refused(value: str) -> None:
    assert isinstance(refused(body_with(f'"expires_in":{value}')), TokenResponseError)


@pytest.mark.standards("S-055")
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_json_that_python_alone_would_take_is_refused_wherever_it_stands(value: str) -> None:
    assert "not JSON" in str(refused(body_with(f'"other":[{value}]')))


# Scope -----------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-049")
@pytest.mark.parametrize("scope", [..., None])
def test_without_scope_what_was_asked_for_was_granted(scope: object) -> None:
    assert read(token_reply(scope=scope), order(scope=("b", "a"))).scope == "b a"
    assert read(token_reply(scope=scope), order(scope=())).scope is None
    wanted = order(scope=("a",), required_scopes=frozenset({"a"}))
    assert read(token_reply(scope=scope), wanted).scope == "a"


@pytest.mark.standards("S-049")
def test_another_scope_than_the_one_asked_for_is_recorded() -> None:
    assert read(token_reply(scope="a c"), order(scope=("a", "b"))).scope == "a c"
    assert read(token_reply(scope="a  c a"), order(scope=("a", "b"))).scope == "a c"


@pytest.mark.standards("S-049", "S-325")
@pytest.mark.parametrize("scope", ["", " ", "a", "B", "ab"])
def test_a_token_without_a_required_scope_is_refused_and_an_empty_scope_is_none(scope: str) -> None:
    error = refused(token_reply(scope=scope), order(scope=("a", "b"), required_scopes=frozenset({"b"})))
    assert isinstance(error, TokenRefusedError)
    assert error.code == "scope_not_granted"
    assert "did not grant b," in str(error)


@pytest.mark.standards("S-049")
def test_a_scope_that_is_required_and_was_never_asked_for_is_missing() -> None:
    error = refused(token_reply(), order(scope=("a",), required_scopes=frozenset({"a", "z"})))
    assert error.code == "scope_not_granted"


@pytest.mark.standards("S-033", "S-049")
@pytest.mark.parametrize("scope", [5, True, [], ["a"], {}, 'a"b', "a\nb", "é"])
def test_a_scope_that_is_none_is_refused(scope: object) -> None:
    assert isinstance(refused(token_reply(scope=scope)), TokenResponseError)


# What goes into a header -----------------------------------------------------------------------------------------


@pytest.mark.standards("S-053")
def test_a_token_of_sixteen_kib_is_taken_and_one_beyond_thirty_two_is_not() -> None:
    for size in (16 * 1024, 32 * 1024):
        assert len(read(token_reply(token="t" * size)).access_token) == size
    assert "more than 32768" in str(refused(token_reply(token="t" * (32 * 1024 + 1))))


@pytest.mark.standards("S-170", "S-171", "S-192")
@pytest.mark.parametrize(
    "character",
    [" ", "\t", "\r", "\n", "\r\nX-Injected: 1", "\x00", "\x1b", "\x7f", "\x80", "é", "\u2028", "\ud800", ","],
)
@pytest.mark.parametrize("where", ["{}planted-part", "planted-part{}", "planted{}part"])
@pytest.mark.parametrize("dpop", [False, True])
def test_a_token_that_may_not_go_into_a_header_is_refused_unseen(character: str, where: str, dpop: bool) -> None:
    token = where.format(character)
    error = refused(token_reply(token=token, token_type="DPoP" if dpop else "Bearer"), order(dpop=dpop))
    assert isinstance(error, TokenResponseError)
    assert "may not go into a header" in str(error)
    assert "planted" not in str(error)


@pytest.mark.standards("S-099", "S-170")
@pytest.mark.parametrize("token", ["a:b", "a=b", "=", "a%20", "{a}", 'a"b', "a;b", "a@b", "a\\b"])
def test_a_dpop_token_is_a_token68_and_a_bearer_token_may_be_more(token: str) -> None:
    assert read(token_reply(token=token)).access_token == token
    assert "token68" in str(refused(token_reply(token=token, token_type="DPoP"), order(dpop=True)))


@pytest.mark.standards("S-099")
@pytest.mark.parametrize("token", ["a", "AZaz09-._~+/", "abc==", RFC9449_TOKEN])
def test_every_token68_is_taken_for_dpop(token: str) -> None:
    assert read(token_reply(token=token, token_type="DPoP"), order(dpop=True)).access_token == token


# Broken JSON -----------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-054")
@pytest.mark.parametrize("member", ["access_token", "token_type", "expires_in", "scope"])
@pytest.mark.parametrize("again", ['"Bearer"', "3600", "null"])
def test_a_member_that_stands_twice_is_refused(member: str, again: str) -> None:
    document = (
        f'{{"access_token":"{PLANTED_TOKEN}","token_type":"Bearer","expires_in":1,"scope":"a","{member}":{again}}}'
    )
    error = refused(http_reply(body=document.encode()))
    assert f"the member {member} more than once" in str(error)


@pytest.mark.standards("S-054")
def test_a_member_that_is_not_read_may_stand_twice_and_one_inside_another_object_too() -> None:
    assert read(body_with('"x":1,"x":2,"y":{"access_token":"a","access_token":"b"}')).access_token == PLANTED_TOKEN


@pytest.mark.standards("S-054")
def test_an_escaped_member_name_is_the_same_member() -> None:
    assert "more than once" in str(refused(body_with('"\\u0061ccess_token":"other"')))


@pytest.mark.standards("S-054")
def test_an_error_description_that_stands_twice_is_not_believed() -> None:
    error = refused(http_reply(400, body=b'{"error":"a","error_description":"one","error_description":"two"}'))
    assert getattr(error, "error_description", None) is None


@pytest.mark.standards("S-056")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe" + token_reply().body,
        b"\xef\xbb\xbf" + token_reply().body,
        token_reply().body.decode().encode("utf-16"),
        token_reply().body + b"x",
        token_reply().body + token_reply().body,
        token_reply().body[:-1],
        token_reply().body.replace(b":", b"="),
        b'{"access_token":"' + PLANTED_TOKEN.encode() + b'\xed\xa0\x80","token_type":"Bearer"}',
        b"<html>" + PLANTED_TOKEN.encode() + PLANTED_SECRET.encode(),
        b"access_token=" + PLANTED_TOKEN.encode() + b"&token_type=Bearer",
    ],
    ids=[
        "empty",
        "utf-16 mark",
        "utf-8 mark",
        "utf-16",
        "garbage behind",
        "twice",
        "cut",
        "no json",
        "surrogate",
        "html",
        "form",
    ],
)
def test_a_body_that_is_no_json_in_utf_8_is_an_error_of_ours(body: bytes) -> None:
    assert isinstance(refused(http_reply(body=body)), TokenResponseError)


@pytest.mark.standards("S-056")
def test_it_is_told_why_a_body_cannot_be_read() -> None:
    assert "its body is not UTF-8" in str(refused(http_reply(body=b"\xff")))
    assert "its body is not JSON" in str(refused(http_reply(body=b"<html>")))


@pytest.mark.standards("S-056")
def test_an_escaped_lone_surrogate_is_an_error_of_ours_where_it_matters() -> None:
    assert isinstance(refused(body_with('"scope":"\\ud800"')), TokenResponseError)
    assert read(body_with('"other":"\\ud800"')).access_token == PLANTED_TOKEN


@pytest.mark.standards("S-055")
@pytest.mark.parametrize("bomb", ["[" * 200_000, '{"a":' * 200_000, "[" * 200_000 + "]" * 200_000])
def test_json_nested_without_end_is_an_error_of_ours(bomb: str) -> None:
    assert isinstance(refused(body_with(f'"a":{bomb}')), TokenResponseError)


# Errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-060", "S-061", "S-036")
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
@pytest.mark.parametrize(
    "error",
    [
        "invalid_request",
        "invalid_client",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
        "invalid_grant",
        "invalid_dpop_proof",
        "a_code_of_their_own",
    ],
)
def test_an_oauth_error_is_a_refusal(error: str, status: int) -> None:
    found = refused(refusal(error, status, error_description="Because of this."))
    assert isinstance(found, TokenRefusedError)
    assert (found.error, found.error_description, found.status) == (error, "Because of this.", status)
    assert found.code == "token_refused"
    assert f"{status} {error} (Because of this.)" in str(found)


@pytest.mark.standards("S-036", "S-060")
@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("invalid_client", "check client_id, the credential and auth_method"),
        ("unauthorized_client", "allow the client credentials grant"),
        ("invalid_scope", "check scope"),
        ("invalid_target", "check resource and audience"),
        ("invalid_dpop_proof", "check the clock"),
    ],
)
def test_a_refusal_says_what_to_do_next(error: str, remedy: str) -> None:
    assert remedy in str(refused(refusal(error)))


@pytest.mark.standards("S-060")
@pytest.mark.parametrize("error", ["", 'a"b', "a\\b", "a\r\nb", "é", "\x7f", "x" * 129, 5, None, [], {}, True])
def test_an_error_code_outside_the_grammar_is_none(error: object) -> None:
    answered_400 = refused(http_reply(400, {"error": error}))
    assert isinstance(answered_400, TokenResponseError)
    assert answered_400.code == "invalid_response"
    answered_401 = refused(http_reply(401, {"error": error}))
    assert isinstance(answered_401, TokenRefusedError)
    assert answered_401.error is None


@pytest.mark.standards("S-060")
@pytest.mark.parametrize("status", [401, 403])
def test_a_bare_401_or_403_is_a_refusal(status: int) -> None:
    error = refused(http_reply(status, body=b"<html>no</html>", content_type="text/html"))
    assert isinstance(error, TokenRefusedError)
    assert (error.error, error.error_description, error.status) == (None, None, status)


@pytest.mark.standards("S-060")
@pytest.mark.parametrize("status", [400, 404, 405, 410, 413, 418])
def test_any_other_answer_without_an_oauth_error_is_no_token_response(status: int) -> None:
    error = refused(http_reply(status, body=b"<html>", content_type="text/html"))
    assert isinstance(error, TokenResponseError)
    assert error.status == status


@pytest.mark.standards("S-061")
@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 520, 599])
def test_a_passing_status_is_a_passing_error_whatever_the_body_says(status: int) -> None:
    for reply in (http_reply(status, body=b""), refusal("invalid_client", status), refusal("server_error", status)):
        error = refused(reply)
        assert isinstance(error, TokenRequestError)
        assert error.status == status
        assert error.code == ("token_request_rate_limited" if status == 429 else "token_request_server_error")


@pytest.mark.standards("S-061")
@pytest.mark.parametrize("error", ["temporarily_unavailable", "server_error", "slow_down"])
@pytest.mark.parametrize("status", [200, 400, 401])
def test_a_passing_oauth_error_is_a_passing_error_whatever_the_status(error: str, status: int) -> None:
    assert isinstance(refused(refusal(error, status)), TokenRequestError)


@pytest.mark.standards("S-145")
@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_a_redirect_is_refused_and_its_target_is_not_told(status: int) -> None:
    error = refused(HttpReply(status=status, headers=(("location", "https://evil.example/"),), body=b""))
    assert isinstance(error, TokenResponseError)
    assert error.code == "redirect_refused"
    assert "evil" not in str(error)


@pytest.mark.standards("S-064")
@pytest.mark.parametrize("status", [400, 401])
def test_a_nonce_asked_for_can_be_told_from_other_refusals(status: int) -> None:
    error = refused(refusal("use_dpop_nonce", status, nonce="n-1"), order(dpop=True))
    assert isinstance(error, TokenRefusedError)
    assert error.error == "use_dpop_nonce"


@pytest.mark.standards("S-214")
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        ([("retry-after", "0")], 0),
        ([("retry-after", "7")], 7),
        ([("retry-after", " 7 ")], 7),
        ([("retry-after", "60")], 60),
        ([("retry-after", "3600")], 60),
        ([("retry-after", "9" * 10_000)], 60),
        ([("retry-after", "-5")], None),
        ([("retry-after", "1.5")], None),
        ([("retry-after", "soon")], None),
        ([("retry-after", "７")], None),
        ([("retry-after", "")], None),
        ([("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT"), ("date", "Wed, 21 Oct 2015 07:28:00 GMT")], 30),
        ([("retry-after", "Wed, 21 Oct 2015 07:20:00 GMT"), ("date", "Wed, 21 Oct 2015 07:28:00 GMT")], 0),
        ([("retry-after", "Wed, 21 Oct 2099 07:20:00 GMT"), ("date", "Wed, 21 Oct 2015 07:28:00 GMT")], 60),
        ([("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT")], None),
        ([("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT"), ("date", "never")], None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date_and_capped(
    headers: list[tuple[str, str]], seconds: float | None
) -> None:
    error = refused(http_reply(503, body=b"", headers=headers))
    assert isinstance(error, TokenRequestError)
    assert error.retry_after == seconds


@pytest.mark.standards("S-063", "S-166")
@pytest.mark.parametrize(
    "text",
    ["a\r\nforged: line", "\x1b[31mred", "\x00", "\x9b", "\u2028\u2029", "\u202egnp.exe", "\ud800", "\ufeff", "\u200b"],
)
def test_what_the_server_says_is_escaped(text: str) -> None:
    error = refused(refusal("invalid_client", error_description=text, error_uri=text))
    assert isinstance(error, TokenRefusedError)
    assert error.error_description is not None
    assert error.error_description.isprintable()
    assert error.error_description.isascii()


@pytest.mark.standards("S-063", "S-166")
def test_what_the_server_says_is_cut_and_is_no_format_string() -> None:
    error = refused(refusal("invalid_client", error_description="%s {0} {client} %(secret)s " + "x" * 100_000))
    assert "%s {0} {client} %(secret)s " in str(error)
    assert len(str(error)) < 600


@pytest.mark.standards("S-063")
def test_an_error_uri_is_neither_told_nor_fetched() -> None:
    assert "evil" not in everything_held_by(refused(refusal("invalid_client", error_uri="https://evil.example/")))


@pytest.mark.standards("S-063")
@pytest.mark.parametrize("description", [5, None, [], {"a": "b"}, ""])
def test_a_description_that_is_no_text_is_left_out(description: object) -> None:
    error = refused(refusal("invalid_client", error_description=description))
    assert "()" not in str(error)


# Nothing given away ----------------------------------------------------------------------------------------------


@pytest.mark.standards("S-162")
@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("status", [200, 400, 401, 503])
def test_a_secret_that_the_server_quotes_in_its_description_is_struck_out(secret: str, status: int) -> None:
    error = refused(
        refusal("invalid_client", status, error_description=f"the secret {secret} of web is wrong: {secret}")
    )
    assert "the secret [redacted] of web is wrong: [redacted]" in str(error)


@pytest.mark.standards("S-162")
def test_a_secret_that_the_server_sends_as_its_error_code_is_struck_out() -> None:
    refused(refusal(PLANTED_SECRET))


@pytest.mark.standards("S-162")
@pytest.mark.parametrize("swapped", [False, True])
def test_a_token_or_secret_that_the_server_sends_as_token_type_is_not_quoted(swapped: bool) -> None:
    short = "planted-short-one"
    reply = token_reply(token="Bearer" if swapped else PLANTED_TOKEN, token_type=short)
    with pytest.raises(TokenResponseError) as caught:
        read_token_response(reply, order(), ENDPOINT, (short,))
    assert short not in everything_held_by(caught.value)


@pytest.mark.standards("S-162")
def test_a_secret_that_the_server_quotes_as_it_was_sent_is_struck_out() -> None:
    secret = "planted secret/é"
    reply = refusal("invalid_request", error_description="cannot read client_secret=planted+secret%2F%C3%A9")
    with pytest.raises(TokenRefusedError) as caught:
        read_token_response(reply, order(), ENDPOINT, (secret,))
    assert "planted" not in str(caught.value)


@pytest.mark.standards("S-162")
@pytest.mark.parametrize(
    "reply",
    [refusal("invalid_client"), token_reply(expires_in="x"), token_reply(scope="other")],
    ids=["no", "odd", "less"],
)
def test_no_frame_in_the_traceback_holds_a_token_or_a_secret(reply: HttpReply) -> None:
    with pytest.raises(TokenValetError) as caught:
        read(reply, order(required_scopes=frozenset({"records:read"})))
    seen = locals_of(caught.value)
    assert not [planted for planted in (PLANTED_TOKEN, *SECRETS) if planted in seen]


@pytest.mark.standards("S-160")
def test_what_was_granted_does_not_show_the_token() -> None:
    granted = read(token_reply())
    assert PLANTED_TOKEN not in repr(granted) + str(granted) + f"{granted}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.just(PLANTED_TOKEN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
QUOTES = st.sampled_from([PLANTED_SECRET, CREDENTIALS, f"no {PLANTED_SECRET}\r\n{CREDENTIALS}", "fine", "\ud800"])
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "access_token": st.just(PLANTED_TOKEN) | st.text(max_size=8).map(lambda one: PLANTED_TOKEN + one) | JSON,
        "token_type": st.sampled_from(["Bearer", "dpop", "mac"])
        | JSON.filter(lambda one: PLANTED_TOKEN not in repr(one)),
        "expires_in": JSON,
        "scope": st.sampled_from(["records:read", "", PLANTED_TOKEN]) | JSON,
        "error": st.sampled_from(["invalid_client", "server_error", "use_dpop_nonce"]) | st.integers(),
        "error_description": QUOTES,
        "anything": JSON | QUOTES,
    },
)
BODIES = (
    DOCUMENTS.map(lambda one: json.dumps(one).encode())
    | JSON.map(lambda one: json.dumps(one).encode())
    | st.binary(max_size=80)
    | st.binary(max_size=20).map(lambda one: one + token_reply().body)
    | st.binary(max_size=20).map(lambda one: token_reply().body + PLANTED_SECRET.encode() + one)
)


@pytest.mark.standards("S-040", "S-055", "S-056", "S-162", "S-170")
@thorough
@given(
    body=BODIES,
    status=st.sampled_from([200, 200, 200, 201, 302, 400, 401, 403, 418, 429, 500]),
    content_type=st.sampled_from(["application/json", "application/problem+json", "text/html", "é", None]),
    header=st.sampled_from(["retry-after", "date", "dpop-nonce"]),
    value=st.text(max_size=20),
    dpop=st.booleans(),
)
def test_whatever_comes_it_is_a_token_or_an_error_of_ours_that_gives_nothing_away(
    body: bytes, status: int, content_type: str | None, header: str, value: str, dpop: bool
) -> None:
    reply = http_reply(status, body=body, content_type=content_type, headers=[(header, value)])
    try:
        granted = read(reply, order(dpop=dpop))
    except TokenValetError as caught:
        error: TokenValetError | None = caught
    else:
        error = None
        assert status == 200
        assert granted.token_type == ("DPoP" if dpop else "Bearer")
        assert 0 <= granted.lifetime <= 86_400
        granted.access_token.encode("ascii")
    if error is not None:
        held = everything_held_by(error)
        for planted in (PLANTED_TOKEN, *SECRETS):
            assert planted not in held
        assert str(error).isprintable()


# Neighbours ------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-061", "S-210")
@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("unreachable", "is the address right"),
        ("timeout", "raise timeout"),
        ("tls", "ca_file"),
        ("broken_answer", "try again later"),
    ],
)
def test_no_answer_is_a_passing_error_with_a_remedy(code: str, remedy: str) -> None:
    error = failure_error(Failure(code=code, detail="it happened"), CLIENT, ENDPOINT.url)
    assert isinstance(error, TokenRequestError)
    assert error.code == f"token_request_{code}"
    assert (error.status, error.retry_after) == (None, None)
    for text in (CLIENT, ENDPOINT.url, "it happened", remedy):
        assert text in str(error)


@pytest.mark.standards("S-211")
def test_an_answer_that_may_not_be_read_is_no_passing_error() -> None:
    error = failure_error(Failure(code="answer_refused", detail="longer than 1 MiB"), CLIENT, ENDPOINT.url)
    assert isinstance(error, TokenResponseError)
    assert "longer than 1 MiB" in str(error)


def test_an_object_is_given_or_why_there_is_none() -> None:
    assert json_object(http_reply(document={"a": 1})) == ({"a": 1}, "")
    assert json_object(http_reply(document=[])) == (None, "its JSON is not an object")


def dated(text: str) -> float | None:
    return date_of(HttpReply(status=200, headers=(("date", text),), body=b""))


@pytest.mark.standards("S-095")
def test_the_date_of_a_reply_is_read() -> None:
    assert dated("Sun, 06 Nov 1994 08:49:37 GMT") == 784_111_777
    assert date_of(HttpReply(status=200, headers=(), body=b"")) is None


@pytest.mark.standards("S-095")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "0",
        "-1",
        "Sun, 99 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 99999999999 08:49:37 GMT",
        "9" * 5_000,
        ", , ,",
        "é",
    ],
)
def test_a_date_that_is_none_is_none(text: str) -> None:
    assert dated(text) is None


@pytest.mark.standards("S-095")
@thorough
@given(st.text(max_size=40) | st.text("SunNov ,:+-0123456789GMTZ", max_size=40))
def test_whatever_stands_in_the_date_field_nothing_is_raised(text: str) -> None:
    assert dated(text) is None or isinstance(dated(text), float)


@pytest.fixture
def _far_from_greenwich() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "XXX+7"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.standards("S-095")
@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone cannot be set here")
@pytest.mark.usefixtures("_far_from_greenwich")
@pytest.mark.parametrize("text", ["Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 -0000"])
def test_a_date_without_zone_is_in_greenwich_wherever_we_are(text: str) -> None:
    assert dated(text) == 784_111_777
