"""The token request as it looks on the wire (RFC 6749 §3.2, §4.4.2; RFC 8707 §2; RFC 9449 §5)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.makers import (
    CLIENT_ID,
    ENDPOINT,
    NOW,
    PLANTED_SECRET,
    basic,
    form_of,
    modest,
    new_proof_key,
    order,
    proof_of,
)
from tokenvalet.core.authentication import ClientSecretPost, TlsClientAuth
from tokenvalet.core.messages import HttpRequest
from tokenvalet.core.request import (
    RESERVED_PARAMETERS,
    Endpoint,
    TokenOrder,
    check_parameters,
    check_resource,
    checked,
    token_request,
)
from tokenvalet.errors import ConfigurationError


def written(wanted: TokenOrder, endpoint: Endpoint = ENDPOINT, nonce: str | None = None) -> HttpRequest:
    return token_request(wanted, endpoint, now=NOW.wall + 0.9, nonce=nonce)


def proof_in(request: HttpRequest) -> str:
    (proof,) = [value for name, value in request.headers if name.lower() == "dpop"]
    return proof


# On the wire -----------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-030", "S-052")
def test_a_token_request_is_a_form_posted_to_the_endpoint_and_to_be_stored_by_nobody() -> None:
    request = written(order())
    headers = dict(request.headers)
    assert (request.method, request.url) == ("POST", ENDPOINT.url)
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert headers["Accept"] == "application/json"
    assert headers["Accept-Encoding"] == "identity"
    assert headers["Cache-Control"] == "no-store"
    assert len(headers) == len(request.headers)


@pytest.mark.standards("S-030", "S-037")
def test_a_token_request_asks_for_what_was_ordered_and_nothing_else() -> None:
    assert form_of(written(order())) == [("grant_type", "client_credentials"), ("scope", "records:read")]
    full = order(
        scope=("b", "a"),
        resource=("https://one.example/", "https://two.example/"),
        audience=("x", "y"),
        parameters=(("tenant", "ü&=+ %"),),
    )
    assert form_of(written(full)) == [
        ("grant_type", "client_credentials"),
        ("scope", "b a"),
        ("resource", "https://one.example/"),
        ("resource", "https://two.example/"),
        ("audience", "x"),
        ("audience", "y"),
        ("tenant", "ü&=+ %"),
    ]


@pytest.mark.standards("S-030")
def test_the_body_is_form_encoded_utf_8() -> None:
    assert (
        written(order(scope=(), parameters=(("a b", "c d%é"),))).body
        == b"grant_type=client_credentials&a+b=c+d%25%C3%A9"
    )


@pytest.mark.standards("S-031")
def test_no_parameter_stands_twice_but_resource_and_audience() -> None:
    for authentication in (
        ClientSecretPost(client_id=CLIENT_ID, secret=lambda: "s"),
        TlsClientAuth(client_id=CLIENT_ID, method="tls_client_auth"),
    ):
        wanted = order(
            authentication=authentication, resource=("r:1", "r:2"), audience=("a", "b"), parameters=(("c", "d"),)
        )
        names = [name for name, _ in form_of(written(wanted)) if name not in ("resource", "audience")]
        assert len(names) == len(set(names))


@pytest.mark.standards("S-032")
def test_parameters_without_value_are_left_out() -> None:
    wanted = order(scope=(), resource=(), audience=(), parameters=(("empty", ""), ("full", "1")))
    assert form_of(written(wanted)) == [("grant_type", "client_credentials"), ("full", "1")]


@pytest.mark.standards("S-012")
def test_the_url_is_the_configured_one_whatever_is_sent() -> None:
    endpoint = Endpoint.parse("https://login.example.org/oauth/token?tenant=1")
    request = written(
        order(authentication=ClientSecretPost(client_id=CLIENT_ID, secret=lambda: PLANTED_SECRET)), endpoint
    )
    assert request.url == "https://login.example.org/oauth/token?tenant=1"


@pytest.mark.standards("S-115")
def test_a_client_credentials_request_has_no_dpop_jkt() -> None:
    assert "dpop_jkt" not in dict(form_of(written(order(dpop=True))))


@pytest.mark.standards("S-160", "S-162")
def test_what_must_never_be_shown_of_a_request_is_named_and_not_shown() -> None:
    request = written(order(dpop=True))
    credentials = dict(request.headers)["Authorization"].removeprefix("Basic ")
    assert {PLANTED_SECRET, credentials, proof_in(request)} <= set(request.secrets)
    assert not [secret for secret in request.secrets if secret in repr(request)]


# The proof -------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-090", "S-092", "S-093", "S-095", "S-096", "S-098")
def test_a_token_request_for_a_dpop_token_has_one_proof_without_ath() -> None:
    judged = proof_of(proof_in(written(order(dpop=True))))
    assert judged.claims.pop("jti")
    assert judged.claims == {"htm": "POST", "htu": ENDPOINT.url, "iat": int(NOW.wall)}


@pytest.mark.standards("S-100")
def test_the_nonce_of_the_authorization_server_goes_into_the_proof() -> None:
    assert proof_of(proof_in(written(order(dpop=True), nonce="n-1"))).claims["nonce"] == "n-1"


@pytest.mark.standards("S-093")
@pytest.mark.parametrize(
    ("url", "htu"),
    [
        ("https://LOGIN.example.org:443", "https://login.example.org/"),
        ("https://login.example.org/t?tenant=1", "https://login.example.org/t"),
        ("https://login.example.org//t;v=1/%7e", "https://login.example.org//t;v=1/%7e"),
        ("https://login.example.org:8443/t", "https://login.example.org:8443/t"),
        ("http://localhost:8080/t", "http://localhost:8080/t"),
    ],
)
def test_the_proof_is_for_the_address_of_the_endpoint(url: str, htu: str) -> None:
    assert proof_of(proof_in(written(order(dpop=True), Endpoint.parse(url)))).claims["htu"] == htu


@pytest.mark.standards("S-110")
def test_the_proof_is_signed_with_the_proof_key_of_the_order() -> None:
    key = new_proof_key()
    assert proof_of(proof_in(written(order(dpop=key))), jkt=key.jkt).claims["htm"] == "POST"


@pytest.mark.standards("S-107")
def test_without_dpop_there_is_no_proof() -> None:
    assert "dpop" not in {name.lower() for name, _ in written(order()).headers}


@pytest.mark.standards("S-018", "S-097", "S-106")
def test_every_transmission_has_a_proof_of_its_own() -> None:
    assert len({proof_of(proof_in(written(order(dpop=True)))).claims["jti"] for _ in range(20)}) == 20


# What may be asked for -------------------------------------------------------------------------------------------


@pytest.mark.standards("S-034")
@pytest.mark.parametrize(
    "name",
    [
        "grant_type",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "resource",
        "scope",
        "audience",
    ],
)
def test_a_further_parameter_never_shadows_a_field_of_the_protocol(name: str) -> None:
    assert name in RESERVED_PARAMETERS
    with pytest.raises(ValueError, match=name):
        check_parameters([("fine", "1"), (name, "planted")])
    with pytest.raises(ConfigurationError, match=f"'m2m': {name}") as caught:
        checked(order(parameters=((name, "planted"),)))
    assert caught.value.code == "invalid_token_parameters"
    assert "planted" not in str(caught.value)


@pytest.mark.standards("S-034")
def test_a_parameter_without_name_is_refused() -> None:
    with pytest.raises(ValueError, match="without a name"):
        check_parameters([("", "1")])


@pytest.mark.standards("S-034", "S-035")
def test_an_order_that_can_be_sent_is_given_back() -> None:
    wanted = order(resource=("https://api.example.org/records",), parameters=(("tenant", "one"),))
    assert checked(wanted) is wanted


@pytest.mark.standards("S-035")
@pytest.mark.parametrize(
    "resource", ["https://api.example.org", "https://api.example.org/a?b=c", "urn:example:api", "api://0000-1111"]
)
def test_a_resource_is_an_absolute_uri(resource: str) -> None:
    check_resource([resource])


@pytest.mark.standards("S-035")
@pytest.mark.parametrize(
    "resource",
    [
        "",
        "/records",
        "api.example.org",
        "//api.example.org",
        "https:",
        "https://api.example.org#",
        "https://api.example.org#part",
        "https://api.example.org/a b",
        "https://api.example.org/\r\n",
        "https://[::1",
    ],
)
def test_what_is_no_absolute_uri_without_fragment_is_no_resource(resource: str) -> None:
    with pytest.raises(ValueError):
        check_resource(["https://fine.example", resource])
    with pytest.raises(ConfigurationError):
        checked(order(resource=(resource,)))


@pytest.mark.standards("S-035", "S-034")
@pytest.mark.parametrize("changes", [{"parameters": (("a", "\udcff"),)}, {"audience": ("\udcff",)}])
def test_what_cannot_be_encoded_is_a_configuration_error(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        written(checked(order(**changes)))


@pytest.mark.standards("S-030", "S-031", "S-032", "S-034")
@modest
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10).filter(
            lambda name: name not in RESERVED_PARAMETERS
        ),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        max_size=4,
    )
)
def test_whatever_the_parameters_the_server_reads_what_was_given(parameters: dict[str, str]) -> None:
    wanted = checked(order(scope=(), parameters=tuple(parameters.items())))
    expected = [(name, value) for name, value in parameters.items() if value]
    assert form_of(written(wanted)) == [("grant_type", "client_credentials"), *expected]


@pytest.mark.standards("S-160")
def test_an_order_shows_no_value_of_its_parameters() -> None:
    shown = repr(order(parameters=(("password", "planted"),)))
    assert PLANTED_SECRET not in shown
    assert "planted" not in shown


# The endpoint ----------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-030", "S-008")
@pytest.mark.parametrize(
    "url",
    [
        "",
        "/oauth/token",
        "http://login.example.org/token",
        "http://127.0.0.1@evil.example/token",
        "http://localhost.evil.example/token",
        "ftp://login.example.org/token",
        "https://user:word@login.example.org/token",
        "https://login.example.org/token#part",
        "https://login.example.org/tökén",
        "https://login.example.org/a b",
        "https://login.example.org/token\r\nX: y",
        "https://login.example.org\\evil.example/",
    ],
)
def test_a_token_endpoint_is_a_plain_https_url(url: str) -> None:
    with pytest.raises(ValueError):
        Endpoint.parse(url)


@pytest.mark.standards("S-030")
def test_a_token_endpoint_has_not_even_an_empty_fragment() -> None:
    with pytest.raises(ValueError):
        Endpoint.parse("https://login.example.org/token#")


@pytest.mark.standards("S-030")
@pytest.mark.parametrize("url", ["http://localhost/t", "http://127.0.0.1:8080/t", "http://[::1]:1/t"])
def test_a_token_endpoint_on_this_machine_needs_no_tls(url: str) -> None:
    assert Endpoint.parse(url).url == url


@pytest.mark.standards("S-010", "S-172")
def test_no_client_id_or_secret_puts_a_line_break_into_a_header() -> None:
    request = written(order(authentication=basic("a\r\nX: y", raw=True)))
    assert all(value.isprintable() for _, value in request.headers)
