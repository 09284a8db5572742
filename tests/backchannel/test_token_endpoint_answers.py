"""What may stand in an answer of the token endpoint, and what each oddity comes to: an error of ours, and no token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from backchannel.endpoints import TOKEN, always, body, granted, told, valet_for
from backchannel.issuers import CLIENT_ID, SECRET
from support.raw_server import RawServer, answer, gzip_bomb
from tokenvalet import (
    ProofError,
    TokenRefusedError,
    TokenRequestError,
    TokenResponseError,
    TokenValet,
    TokenValetError,
)
from tokenvalet.testing import AuthorizationServer, Fault, ProtectedApi, RegisteredClient, serve


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries that do not take their time."""
    monkeypatch.setattr("tokenvalet.core.policy.FIRST_PAUSE", 0.001)


@pytest.fixture(scope="module")
def auth() -> Iterator[AuthorizationServer]:
    server = AuthorizationServer([RegisteredClient(client_id=CLIENT_ID, client_secret=SECRET, scopes=("a", "b"))])
    with serve(server):
        yield server


@pytest.fixture
def valet(auth: AuthorizationServer) -> Iterator[TokenValet]:
    auth.reset()
    with valet_for(auth.token_endpoint) as made:
        yield made


def refused(valet: TokenValet, auth: AuthorizationServer, fault: Fault, *fragments: str) -> TokenValetError:
    """Return the error that this answer comes to, once it was held to say what it must and to give nothing away."""
    with always(auth, fault), pytest.raises(TokenValetError) as raised:
        valet.token("m2m")
    told(raised.value, auth.token_endpoint, *fragments)
    return raised.value


# What is no token response ---------------------------------------------------------------------------------------

NO_TOKEN_RESPONSE = {
    "HTML": (Fault.html(), "its Content-Type is text/html, not application/json"),
    "JSON of no type": (Fault(headers=(), body=json.dumps(granted()).encode()), "its Content-Type is missing"),
    "a form": (
        body(f"access_token={TOKEN}&token_type=bearer".encode(), "application/x-www-form-urlencoded"),
        "its Content-Type is application/x-www-form-urlencoded",
    ),
    "a type of its own": (body(b"{}", f"application/{TOKEN}"), "its Content-Type is another"),
    "an array": (Fault.json([granted()]), "its JSON is not an object"),
    "null": (body(b"null"), "its JSON is not an object"),
    "nothing": (body(b""), "its body is not JSON"),
    "half of it": (body(json.dumps(granted()).encode()[:-20]), "its body is not JSON"),
    "more than it": (body(json.dumps(granted()).encode() + b"{}"), "its body is not JSON"),
    "a byte order mark": (body(b"\xef\xbb\xbf" + json.dumps(granted()).encode()), "its body is not JSON"),
    "UTF-16": (body(json.dumps(granted()).encode("utf-16")), "its body is not UTF-8"),
    "a lone surrogate": (Fault.json(granted(access_token="\ud800")), "may not go into a header"),
    "NaN": (body(b'{"access_token":"%s","token_type":"Bearer","expires_in":NaN}' % TOKEN.encode()), "not JSON"),
    "deep nesting": (body(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "nested too deeply"),
    "two tokens": (
        body(b'{"access_token":"a","access_token":"b","token_type":"Bearer"}'),
        "access_token more than once",
    ),
    "two types": (body(b'{"access_token":"a","token_type":"Bearer","token_type":"x"}'), "token_type more than once"),
}


@pytest.mark.standards("S-040", "S-054", "S-055", "S-056", "S-310")
@pytest.mark.parametrize("what", NO_TOKEN_RESPONSE)
def test_what_is_no_token_response_is_an_error_that_says_why(
    valet: TokenValet, auth: AuthorizationServer, what: str
) -> None:
    fault, fragment = NO_TOKEN_RESPONSE[what]
    error = refused(valet, auth, fault, fragment)
    assert (type(error), error.code) == (TokenResponseError, "invalid_response")
    assert len(auth.token_requests) == 1, "what cannot be read is not asked for again and again"


@pytest.mark.standards("S-040")
@pytest.mark.parametrize("status", [201, 202, 203, 204, 206])
def test_no_other_status_of_success_brings_a_token(valet: TokenValet, auth: AuthorizationServer, status: int) -> None:
    fault = Fault.json(granted(), status=status) if status != 204 else Fault.status_only(204)
    assert type(refused(valet, auth, fault, f"answered {status}")) is TokenResponseError


@pytest.mark.standards("S-040", "S-052")
@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"]
)
def test_json_by_any_of_its_names_is_read(valet: TokenValet, auth: AuthorizationServer, content_type: str) -> None:
    with always(auth, Fault.json(granted(), content_type=content_type)):
        assert valet.token("m2m").value == TOKEN


@pytest.mark.standards("S-145")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_nobody_else_is_sent_the_secret(
    valet: TokenValet, auth: AuthorizationServer, status: int
) -> None:
    with RawServer(answer(json.dumps(granted()).encode())) as elsewhere:
        error = refused(valet, auth, Fault.redirect(f"{elsewhere.url}/token", status), "never followed", str(status))
        assert (type(error), error.code) == (TokenResponseError, "redirect_refused")
        assert elsewhere.connections == 0


# What stands in it -----------------------------------------------------------------------------------------------

ODD_MEMBERS: dict[str, tuple[dict[str, Any], str]] = {
    "no token": ({"access_token": None}, "an access_token that is missing"),
    "an empty token": ({"access_token": ""}, "an access_token that is missing, or no string"),
    "a number for a token": ({"access_token": 17}, "an access_token that is missing, or no string"),
    "a token with a line in it": ({"access_token": f"{TOKEN}\r\nX-Evil: 1"}, "may not go into a header"),
    "a token with a blank": ({"access_token": f"{TOKEN} x"}, "may not go into a header"),
    "a token with a comma": ({"access_token": f"{TOKEN},x"}, "may not go into a header"),
    "a token of letters abroad": ({"access_token": f"{TOKEN}é"}, "may not go into a header"),
    "a token beyond measure": ({"access_token": "a" * (32 * 1024 + 1)}, "more than 32768 characters"),
    "no type": ({"token_type": None}, "without token_type"),
    "an empty type": ({"token_type": ""}, "without token_type"),
    "a list of types": ({"token_type": ["Bearer"]}, "without token_type"),
    "mac": ({"token_type": "mac"}, "an unknown type (mac)"),
    "N_A": ({"token_type": "N_A"}, "an unknown type (n_a)"),
    "the token as its type": ({"token_type": TOKEN}, "an unknown type,"),
    "true seconds": ({"expires_in": True}, "no number of seconds"),
    "seconds in words": ({"expires_in": "an hour"}, "no number of seconds"),
    "signed seconds": ({"expires_in": "-1"}, "no number of seconds"),
    "a list of seconds": ({"expires_in": [3600]}, "no number of seconds"),
    "seconds beyond numbers": ({"expires_in": "1e400"}, "no number of seconds"),
    "a list of scopes": ({"scope": ["a"]}, "a scope that is no string"),
    "a scope with a quote": ({"scope": 'a "b'}, "a scope that breaks RFC 6749"),
}


@pytest.mark.standards("S-041", "S-042", "S-046", "S-053")
@pytest.mark.parametrize("what", ODD_MEMBERS)
def test_a_member_that_cannot_be_used_is_an_error_that_names_it(
    valet: TokenValet, auth: AuthorizationServer, what: str
) -> None:
    members, fragment = ODD_MEMBERS[what]
    error = refused(valet, auth, Fault.json({**granted(), **members}), fragment)
    assert (type(error), error.code) == (TokenResponseError, "invalid_response")


@pytest.mark.standards("S-042", "S-043", "S-044", "S-050", "S-051", "S-053")
@pytest.mark.parametrize(
    ("members", "sent"),
    [
        ({"token_type": "bearer"}, f"Bearer {TOKEN}"),
        ({"token_type": "BEARER"}, f"Bearer {TOKEN}"),
        ({"access_token": "a" * 16 * 1024}, "Bearer " + "a" * 16 * 1024),
        ({"refresh_token": "never-kept", "unknown": {"a": [1, None]}}, f"Bearer {TOKEN}"),
        ({"access_token": "eyJhbGciOiJub25lIn0.eyJleHAiOjF9."}, "Bearer eyJhbGciOiJub25lIn0.eyJleHAiOjF9."),
    ],
)
def test_what_is_odd_and_allowed_is_taken(
    valet: TokenValet, auth: AuthorizationServer, members: dict[str, Any], sent: str
) -> None:
    with always(auth, Fault.json({**granted(), **members})):
        token = valet.token("m2m")
    assert token.authorization == sent.encode()
    assert 3590 < token.expires_in <= 3600
    assert "never-kept" not in repr({name: getattr(token, name) for name in token.__slots__})


@pytest.mark.standards("S-045", "S-046")
@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        (None, 300),
        (3600, 3600),
        ("3600", 3600),
        (3600.9, 3600),
        (30, 30),
        (10**12, 86400),
        (int("9" * 4000), 86400),
        (0, 0),
        (-5, 0),
    ],
)
def test_a_lifetime_is_read_as_seconds_and_bounded(
    valet: TokenValet, auth: AuthorizationServer, expires_in: Any, lifetime: float
) -> None:
    with always(auth, Fault.json(granted(expires_in=expires_in))):
        assert valet.token("m2m").lifetime == lifetime
        valet.token("m2m")
    assert len(auth.token_requests) == (2 if lifetime == 0 else 1)


@pytest.mark.standards("S-046")
def test_a_lifetime_of_more_digits_than_python_reads_raises_nothing_foreign(
    valet: TokenValet, auth: AuthorizationServer
) -> None:
    text = b'{"access_token":"a","token_type":"Bearer","expires_in":%s}' % (b"9" * 10_000)
    with always(auth, body(text)):
        assert valet.token("m2m").lifetime == 86400


@pytest.mark.standards("S-042")
def test_a_token_of_another_kind_than_was_asked_for_is_thrown_away(auth: AuthorizationServer) -> None:
    with valet_for(auth.token_endpoint, dpop=True) as valet:
        assert type(refused(valet, auth, Fault.json(granted()), "issued a Bearer token")) is ProofError
    with valet_for(auth.token_endpoint) as valet:
        error = refused(valet, auth, Fault.json(granted(token_type="DPoP")), "set dpop = true")
        assert type(error) is ProofError


# What it refuses -------------------------------------------------------------------------------------------------

LASTING = ("invalid_request", "invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope")


@pytest.mark.standards("S-036", "S-060", "S-061")
@pytest.mark.parametrize("code", [*LASTING, "invalid_target", "invalid_grant", "something of its own"])
@pytest.mark.parametrize("status", [200, 400, 401])
def test_a_refusal_has_the_servers_code_and_is_not_tried_again(
    valet: TokenValet, auth: AuthorizationServer, code: str, status: int
) -> None:
    error = refused(
        valet, auth, Fault.oauth_error(code, description="because", status=status), f"{status} {code} (because)"
    )
    assert isinstance(error, TokenRefusedError)
    assert (error.error, error.error_description, error.status) == (code, "because", status)
    assert len(auth.token_requests) == 1
    with pytest.raises(TokenRefusedError, match=code):
        valet.token("m2m")
    assert len(auth.token_requests) == 1, "the refusal is remembered for a while"


@pytest.mark.standards("S-060")
@pytest.mark.parametrize("code", ["", 'a "quote"', "a\\b", "a\nb", "é", "x" * 200, 7, None, ["invalid_client"]])
def test_a_code_that_breaks_the_grammar_is_no_oauth_error(
    valet: TokenValet, auth: AuthorizationServer, code: Any
) -> None:
    error = refused(valet, auth, Fault.json({"error": code}, status=400), "answered 400")
    assert (type(error), error.code) == (TokenResponseError, "invalid_response")


@pytest.mark.standards("S-063")
def test_a_description_is_escaped_and_cut_and_quotes_no_secret(valet: TokenValet, auth: AuthorizationServer) -> None:
    description = f"%s \x1b[31m\u2028\u202e\n{SECRET} {'long ' * 200}"
    fault = Fault.oauth_error("invalid_client", description=description, status=401)
    error = refused(valet, auth, fault, "[redacted]", "%s \\x1b")
    assert isinstance(error, TokenRefusedError)
    assert error.error_description is not None
    assert error.error_description.isprintable()
    assert len(error.error_description) < 320


@pytest.mark.standards("S-060")
@pytest.mark.parametrize("status", [401, 403])
def test_a_bare_no_is_a_refusal(valet: TokenValet, auth: AuthorizationServer, status: int) -> None:
    error = refused(valet, auth, Fault.html(status), f"refused: {status}, with no OAuth error in it")
    assert isinstance(error, TokenRefusedError)
    assert error.error is None


@pytest.mark.standards("S-060")
@pytest.mark.parametrize("status", [400, 404, 405, 410, 415, 418, 431])
def test_any_other_no_is_told_with_its_status(valet: TokenValet, auth: AuthorizationServer, status: int) -> None:
    error = refused(valet, auth, Fault.html(status), f"answered {status}, with neither a token nor an OAuth error")
    assert isinstance(error, TokenResponseError)
    assert error.status == status


# What passes -----------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-061", "S-214")
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_passes_is_tried_twice_more_with_everything_new(
    valet: TokenValet, auth: AuthorizationServer, status: int
) -> None:
    error = refused(valet, auth, Fault.status_only(status), f"answered {status}: it cannot serve at the moment")
    assert isinstance(error, TokenRequestError)
    assert error.code == f"token_request_{'rate_limited' if status == 429 else 'server_error'}"
    assert len(auth.token_requests) == 3


@pytest.mark.standards("S-061")
def test_what_passes_within_the_attempts_is_not_told(valet: TokenValet, auth: AuthorizationServer) -> None:
    auth.misbehave(Fault.status_only(503), times=2)
    assert valet.token("m2m").value == auth.issued_tokens[-1]
    assert len(auth.token_requests) == 3


@pytest.mark.standards("S-214")
@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        ("7", 7.0),
        ("100000", 60.0),
        ("9" * 500, 60.0),
        ("0", 0.0),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        ("٣", None),
        ("", None),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 60.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_heeded_within_bounds(auth: AuthorizationServer, field: str, seconds: float | None) -> None:
    head = f"Retry-After: {field}\r\nDate: Tue, 24 Nov 2026 10:00:00 GMT\r\n".encode()
    with RawServer(answer(b"", status="429 Too Many Requests", headers=head)) as server:
        with valet_for(f"{server.url}/token", timeout=0.5) as valet, pytest.raises(TokenRequestError) as raised:
            valet.token("m2m")
        assert raised.value.retry_after == seconds
        assert len(server.requests) == (3 if not seconds else 1)


# Whom it reaches -------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-211", "S-309", "S-318")
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity, gzip"])
def test_a_coding_that_nobody_asked_for_is_refused_before_it_is_opened(coding: str) -> None:
    with RawServer(answer(b"\x1f\x8b", headers=f"Content-Encoding: {coding}\r\n".encode())) as server:
        with valet_for(f"{server.url}/token") as valet, pytest.raises(TokenResponseError, match="it came compressed"):
            valet.token("m2m")
        assert b"accept-encoding: identity\r\n" in server.requests[0].lower()


@pytest.mark.standards("S-211", "S-309", "S-318")
def test_a_bomb_is_never_opened() -> None:
    with (
        RawServer(gzip_bomb()) as server,
        valet_for(f"{server.url}/token") as valet,
        pytest.raises(TokenResponseError, match="it came compressed"),
    ):
        valet.token("m2m")


@pytest.mark.standards("S-030", "S-052")
def test_a_token_request_is_a_form_that_nobody_keeps(auth: AuthorizationServer) -> None:
    with RawServer(answer(json.dumps(granted()).encode())) as server, valet_for(f"{server.url}/token") as valet:
        valet.token("m2m", scope="a b", parameters={"tenant": "sør & vest"})
    head, _, form = server.requests[0].partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"post /token http/1.1"
    assert b"content-type: application/x-www-form-urlencoded" in lines
    assert b"cache-control: no-store" in lines
    assert b"tenant=s%C3%B8r+%26+vest" in form
    assert b"scope=a+b" in form


@pytest.mark.standards("S-040", "S-145")
def test_callers_of_an_http_client_get_the_same_error_and_their_request_is_not_sent(auth: AuthorizationServer) -> None:
    api = ProtectedApi(auth)
    with serve(api), valet_for(auth.token_endpoint, base_url=api.origin) as valet, always(auth, Fault.html()):
        with valet.client("m2m") as client, pytest.raises(TokenResponseError, match="text/html"):
            client.get("/api/v1/integration/health-records")

        async def call() -> None:
            async with valet.async_client("m2m") as http:
                await http.get("/api/v1/integration/health-records")

        with pytest.raises(TokenResponseError, match="text/html"):
            asyncio.run(call())
    assert api.calls == []
