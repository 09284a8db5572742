"""Discovery (RFC 8414, OpenID Connect Discovery): where metadata is looked for, and what of it is believed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.makers import CLIENT, ISSUER, answered, http_reply, modest
from core.vectors import METADATA_URLS
from tokenvalet.core.messages import Failure, HttpReply, HttpRequest
from tokenvalet.core.metadata import Metadata, check_issuer, discover, metadata_urls
from tokenvalet.errors import TokenRequestError, TokenResponseError, TokenValetError

FIRST = f"{ISSUER}/.well-known/oauth-authorization-server"
SECOND = f"{ISSUER}/.well-known/openid-configuration"
NOT_FOUND = http_reply(404, body=b"<html>", content_type="text/html")


def document(**changes: Any) -> dict[str, Any]:
    return {"issuer": ISSUER, "token_endpoint": f"{ISSUER}/oauth/token"} | changes


def discovered(*replies: HttpReply | Failure, issuer: str = ISSUER) -> tuple[list[HttpRequest], Metadata]:
    requests, metadata = answered(discover(CLIENT, issuer), replies)
    assert isinstance(metadata, Metadata)
    return requests, metadata


def refused(*replies: HttpReply | Failure, issuer: str = ISSUER) -> TokenValetError:
    with pytest.raises(TokenValetError) as caught:
        discovered(*replies, issuer=issuer)
    return caught.value


def disbelieved(changed: dict[str, Any]) -> str:
    """Return why a document is not believed, at both places."""
    reply = http_reply(document=changed)
    error = refused(reply, reply)
    assert isinstance(error, TokenResponseError)
    assert error.code == "metadata_unusable"
    return str(error)


# Where -----------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-001", "S-002")
@pytest.mark.parametrize(("issuer", "inserted", "appended"), METADATA_URLS)
def test_metadata_is_looked_for_where_the_standards_say(issuer: str, inserted: str, appended: str) -> None:
    assert metadata_urls(issuer) == (inserted, appended)


@pytest.mark.standards("S-001", "S-002")
def test_the_first_place_that_has_it_is_enough() -> None:
    requests, metadata = discovered(http_reply(document=document()))
    assert [one.url for one in requests] == [FIRST]
    assert metadata.token_endpoint.url == f"{ISSUER}/oauth/token"


@pytest.mark.standards("S-002")
@pytest.mark.parametrize(
    "first",
    [
        NOT_FOUND,
        http_reply(document={"issuer": "https://other.example"}),
        http_reply(document=[]),
        http_reply(302, body=b""),
        Failure(code="answer_refused", detail="too long"),
    ],
    ids=["404", "another issuer", "a list", "a redirect", "an answer that was not read"],
)
def test_the_second_place_is_asked_where_the_first_has_none(first: HttpReply | Failure) -> None:
    requests, metadata = discovered(first, http_reply(document=document()))
    assert [one.url for one in requests] == [FIRST, SECOND]
    assert metadata.issuer == ISSUER


@pytest.mark.standards("S-005")
def test_metadata_is_asked_for_without_credentials() -> None:
    requests, _ = discovered(NOT_FOUND, http_reply(document=document()))
    for request in requests:
        assert (request.method, request.body, request.secrets) == ("GET", b"", ())
        assert {name for name, _ in request.headers} == {"Accept", "Accept-Encoding"}


@pytest.mark.standards("S-005")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    away = http_reply(status, document=document(), headers=[("location", "https://evil.example/metadata")])
    with pytest.raises(TokenResponseError, match="a redirect, which is not followed"):
        discovered(away, away)


# Which issuer ----------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-004")
@pytest.mark.parametrize(
    "issuer", ["https://h", "https://h/", "https://h:8443/a/b", "http://localhost:8080", "http://127.0.0.1/a"]
)
def test_an_issuer_is_an_https_url_or_on_this_machine(issuer: str) -> None:
    check_issuer(issuer)


@pytest.mark.standards("S-004", "S-308")
@pytest.mark.parametrize(
    "issuer",
    [
        "",
        "login.example.org",
        "http://login.example.org",
        "http://127.0.0.1@evil.example",
        "https://login.example.org?",
        "https://login.example.org?a=b",
        "https://login.example.org#",
        "https://login.example.org#a",
        "https://user@login.example.org",
        "file:///etc/passwd",
        "data:application/json,{}",
    ],
)
def test_nothing_else_is_an_issuer(issuer: str) -> None:
    with pytest.raises(ValueError):
        check_issuer(issuer)


@pytest.mark.standards("S-003", "S-303", "S-311")
@pytest.mark.parametrize(
    "stated",
    [
        ISSUER + "/",
        ISSUER.upper(),
        ISSUER + ":443",
        ISSUER.replace("example", "EXAMPLE"),
        "https://evil.example",
        [ISSUER],
        {"issuer": ISSUER},
        None,
        "",
        1,
        True,
    ],
)
def test_metadata_of_any_other_issuer_is_not_believed(stated: object) -> None:
    said = disbelieved(document(issuer=stated))
    assert "names another issuer" in said
    assert "letter by letter" in said


@pytest.mark.standards("S-003")
def test_metadata_without_issuer_is_not_believed() -> None:
    assert "(none)" in disbelieved({"token_endpoint": f"{ISSUER}/oauth/token"})


@pytest.mark.standards("S-003")
def test_an_issuer_with_a_terminating_slash_has_to_say_so_itself() -> None:
    issuer = ISSUER + "/"
    _, metadata = discovered(http_reply(document=document(issuer=issuer)), issuer=issuer)
    assert metadata.issuer == issuer
    reply = http_reply(document=document())
    with pytest.raises(TokenResponseError):
        discovered(reply, reply, issuer=issuer)


@pytest.mark.standards("S-054")
@pytest.mark.parametrize("member", ["issuer", "token_endpoint"])
def test_metadata_that_says_a_thing_twice_is_not_believed(member: str) -> None:
    twice = f'{{"issuer": "{ISSUER}", "token_endpoint": "{ISSUER}/t", "{member}": "{ISSUER}"}}'
    reply = http_reply(body=twice.encode())
    with pytest.raises(TokenResponseError, match=f"the member {member} more than once"):
        discovered(reply, reply)


@pytest.mark.standards("S-054")
@pytest.mark.parametrize(
    "aliases",
    [
        f'"mtls_endpoint_aliases": {{}}, "mtls_endpoint_aliases": {{"token_endpoint": "{ISSUER}/b"}}',
        f'"mtls_endpoint_aliases": {{"token_endpoint": "{ISSUER}/a", "token_endpoint": "{ISSUER}/b"}}',
    ],
)
def test_metadata_that_names_a_mutual_tls_endpoint_twice_is_not_believed(aliases: str) -> None:
    reply = http_reply(body=f'{{"issuer": "{ISSUER}", "token_endpoint": "{ISSUER}/t", {aliases}}}'.encode())
    with pytest.raises(TokenResponseError):
        discovered(reply, reply)


# What it says ----------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-008", "S-004", "S-301")
@pytest.mark.parametrize(
    "endpoint",
    [
        "http://login.example.org/token",
        "https://evil.example/token",
        "https://login.example.org.evil.example/token",
        "https://login.example.org@evil.example/token",
        "https://login.example.org\\@evil.example/",
        "http://127.0.0.1/token",
        "http://169.254.169.254/token",
        "/token",
        "",
        "javascript:alert(1)",
        None,
        5,
        ["https://login.example.org/token"],
    ],
)
def test_a_token_endpoint_elsewhere_or_without_tls_is_not_believed(endpoint: object) -> None:
    disbelieved(document(token_endpoint=endpoint))
    if endpoint is not None:
        disbelieved(document(mtls_endpoint_aliases={"token_endpoint": endpoint}))


@pytest.mark.standards("S-008")
def test_a_token_endpoint_on_another_host_of_the_same_site_is_believed() -> None:
    _, metadata = discovered(http_reply(document=document(token_endpoint="https://token.example.org/t")))
    assert metadata.token_endpoint.url == "https://token.example.org/t"


@pytest.mark.standards("S-120")
def test_the_mutual_tls_endpoint_is_told_beside_the_plain_one() -> None:
    aliases = {"token_endpoint": "https://mtls.example.org/t", "revocation_endpoint": "https://mtls.example.org/r"}
    _, metadata = discovered(http_reply(document=document(mtls_endpoint_aliases=aliases)))
    assert metadata.mtls_token_endpoint is not None
    assert metadata.mtls_token_endpoint.url == "https://mtls.example.org/t"
    assert metadata.token_endpoint.url == f"{ISSUER}/oauth/token"
    assert metadata.issuer == ISSUER


@pytest.mark.standards("S-120")
@pytest.mark.parametrize("aliases", [{}, None, [], "x", {"revocation_endpoint": "https://mtls.example.org/r"}])
def test_without_an_alias_for_the_token_endpoint_there_is_none(aliases: object) -> None:
    _, metadata = discovered(http_reply(document=document(mtls_endpoint_aliases=aliases)))
    assert metadata.mtls_token_endpoint is None


@pytest.mark.standards("S-006", "S-112")
def test_what_the_server_can_do_is_told_and_what_it_does_not_say_is_unknown() -> None:
    lists = {
        "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_basic"],
        "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
        "dpop_signing_alg_values_supported": ["ES256", "PS256"],
        "grant_types_supported": [],
    }
    _, metadata = discovered(http_reply(document=document(**lists)))
    assert metadata.auth_methods == frozenset({"private_key_jwt", "client_secret_basic"})
    assert metadata.auth_signing_algs == frozenset({"ES256"})
    assert metadata.dpop_signing_algs == frozenset({"ES256", "PS256"})
    assert metadata.grant_types == frozenset()
    for odd in ({}, dict.fromkeys(lists, "ES256"), dict.fromkeys(lists, None)):
        _, metadata = discovered(http_reply(document=document(**odd)))
        assert metadata.auth_methods is metadata.dpop_signing_algs is metadata.grant_types is None
    _, metadata = discovered(http_reply(document=document(grant_types_supported=["a", 5, None, ["b"]])))
    assert metadata.grant_types == frozenset({"a"})


# Trouble ---------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-061")
@pytest.mark.parametrize("code", ["unreachable", "timeout", "tls", "broken_answer"])
def test_an_issuer_that_does_not_answer_is_asked_once(code: str) -> None:
    error = refused(Failure(code=code, detail="the detail"))
    assert isinstance(error, TokenRequestError)
    assert error.code == f"token_request_{code}"
    assert "the detail" in str(error)
    assert FIRST in str(error)


@pytest.mark.standards("S-061")
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_issuer_that_cannot_serve_at_the_moment_is_a_passing_error(status: int) -> None:
    busy = http_reply(status, body=b"")
    for replies in ((busy, busy), (busy, NOT_FOUND), (NOT_FOUND, busy)):
        error = refused(*replies)
        assert isinstance(error, TokenRequestError)
        assert error.status == status
    _, metadata = discovered(busy, http_reply(document=document()))
    assert metadata.issuer == ISSUER


@pytest.mark.standards("S-061", "S-214")
def test_retry_after_of_an_issuer_is_told() -> None:
    busy = http_reply(503, body=b"", headers=[("retry-after", "30")])
    error = refused(busy, busy)
    assert isinstance(error, TokenRequestError)
    assert error.retry_after == 30


def test_an_issuer_without_metadata_is_told_with_both_places_and_the_remedy() -> None:
    error = refused(NOT_FOUND, NOT_FOUND)
    assert isinstance(error, TokenResponseError)
    for text in (CLIENT, ISSUER, FIRST, SECOND, "404", "configure token_endpoint"):
        assert text in str(error)


@pytest.mark.standards("S-063")
def test_what_the_server_says_is_escaped_where_it_is_quoted() -> None:
    said = disbelieved(document(issuer="https://evil.example\r\nforged line\x1b[31m\u202e" + "x" * 9_999))
    assert said.isprintable()
    assert len(said) < 2_000


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20) | st.just(ISSUER) | st.just(f"{ISSUER}/t"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = [
    "issuer",
    "token_endpoint",
    "mtls_endpoint_aliases",
    "grant_types_supported",
    "dpop_signing_alg_values_supported",
]


@pytest.mark.standards("S-003", "S-008", "S-055", "S-056")
@modest
@given(
    st.binary(max_size=60).map(lambda body: http_reply(body=body))
    | st.dictionaries(st.sampled_from(MEMBERS), JSON).map(lambda one: http_reply(document=document(**one)))
)
def test_whatever_an_issuer_answers_it_is_believed_as_a_whole_or_an_error_of_ours(reply: HttpReply) -> None:
    try:
        _, metadata = discovered(reply, reply)
    except TokenValetError as caught:
        said = str(caught)
    else:
        said = metadata.issuer
        assert metadata.issuer == ISSUER
        assert metadata.token_endpoint.origin.is_safe
    assert said.isprintable()
