"""Client authentication: a class per method, each adding its own to a draft and nothing else."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.makers import CLIENT_ID, ISSUER, NOW, PLANTED_SECRET, everything_held_by, modest, signing_key, verified
from core.vectors import BASIC_ENCODINGS
from tokenvalet.core.authentication import (
    AUTH_METHODS,
    JWT_BEARER,
    ClientAssertion,
    ClientAuthentication,
    ClientSecretBasic,
    ClientSecretPost,
    Draft,
    SignedAssertion,
    TlsClientAuth,
)
from tokenvalet.core.signing import HmacSigner, Signer


def applied(authentication: ClientAuthentication, now: float = NOW.wall) -> Draft:
    draft = Draft()
    authentication.apply(draft, now)
    return draft


def basic_credentials(draft: Draft) -> str:
    ((name, value),) = draft.headers
    assert name == "Authorization"
    scheme, _, credentials = value.partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(credentials, validate=True).decode("utf-8")


def signed(signer: Signer | None = None, **changes: Any) -> SignedAssertion:
    claims: Mapping[str, Any] = {}
    settings: dict[str, Any] = {
        "client_id": CLIENT_ID,
        "signer": lambda: signer if signer is not None else signing_key("ES256"),
        "audience": ISSUER,
        "lifetime": 60,
        "claims": claims,
        "typ": "client-authentication+jwt",
    }
    return SignedAssertion(**(settings | changes))


def assertion_in(draft: Draft) -> str:
    assert draft.headers == []
    form = dict(draft.form)
    assert len(form) == len(draft.form) == 3
    assert form["client_id"] == CLIENT_ID
    assert form["client_assertion_type"] == JWT_BEARER
    return form["client_assertion"]


# Secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-010")
@pytest.mark.parametrize(("client_id", "secret", "pair"), BASIC_ENCODINGS)
def test_basic_form_encodes_both_halves_before_it_joins_them(client_id: str, secret: str, pair: str) -> None:
    draft = applied(ClientSecretBasic(client_id=client_id, secret=lambda: secret))
    assert basic_credentials(draft) == pair
    assert draft.form == []


@pytest.mark.standards("S-010")
@pytest.mark.parametrize(("client_id", "secret", "pair"), BASIC_ENCODINGS)
def test_raw_basic_joins_both_halves_as_they_are_in_utf_8(client_id: str, secret: str, pair: str) -> None:
    draft = applied(ClientSecretBasic(client_id=client_id, secret=lambda: secret, raw=True))
    assert basic_credentials(draft) == f"{client_id}:{secret}"


@pytest.mark.standards("S-010", "S-172")
@modest
@given(
    client_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    secret=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    raw=st.booleans(),
)
def test_whatever_the_secret_the_header_is_plain_ascii_and_decodes_to_it(
    client_id: str, secret: str, raw: bool
) -> None:
    draft = applied(ClientSecretBasic(client_id=client_id, secret=lambda: secret, raw=raw))
    assert re.fullmatch(r"Basic [A-Za-z0-9+/]+=*", draft.headers[0][1])
    if raw:
        assert basic_credentials(draft) == f"{client_id}:{secret}"
    else:
        one, two = basic_credentials(draft).split(":")
        assert (unquote_plus(one), unquote_plus(two)) == (client_id, secret)


@pytest.mark.standards("S-011")
def test_a_secret_in_the_body_is_in_no_header() -> None:
    draft = applied(ClientSecretPost(client_id=CLIENT_ID, secret=lambda: PLANTED_SECRET))
    assert draft.headers == []
    assert draft.form == [("client_id", CLIENT_ID), ("client_secret", PLANTED_SECRET)]


@pytest.mark.parametrize("kind", [ClientSecretBasic, ClientSecretPost])
def test_a_secret_is_asked_for_anew_every_time(kind: type[ClientSecretBasic] | type[ClientSecretPost]) -> None:
    secrets = iter(["first", "second"])
    authentication = kind(client_id=CLIENT_ID, secret=lambda: next(secrets))
    assert "first" in applied(authentication).secrets
    assert "second" in applied(authentication).secrets


@pytest.mark.standards("S-162")
@pytest.mark.parametrize("kind", [ClientSecretBasic, ClientSecretPost])
def test_what_must_never_be_shown_is_named(kind: type[ClientSecretBasic] | type[ClientSecretPost]) -> None:
    draft = applied(kind(client_id=CLIENT_ID, secret=lambda: PLANTED_SECRET))
    assert PLANTED_SECRET in draft.secrets
    for _, value in draft.headers:
        assert value.removeprefix("Basic ") in draft.secrets


@pytest.mark.standards("S-162")
def test_a_secret_that_cannot_be_encoded_is_not_quoted_by_the_error() -> None:
    with pytest.raises(Exception) as caught:
        applied(ClientSecretBasic(client_id=CLIENT_ID, secret=lambda: PLANTED_SECRET + "\udcff"))
    assert PLANTED_SECRET not in everything_held_by(caught.value)


# Assertions ------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-015", "S-016", "S-019", "S-021")
@pytest.mark.parametrize("alg", ["ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "EdDSA", "Ed25519"])
def test_an_assertion_holds_what_rfc_7523_asks_for_and_is_verified_by_both_judges(alg: str) -> None:
    signer = signing_key(alg, "key-1")
    judged = verified(assertion_in(applied(signed(signer), NOW.wall + 0.999)), signer.public_jwk, alg)
    assert judged.header == {"alg": alg, "typ": "client-authentication+jwt", "kid": "key-1"}
    jti = judged.claims.pop("jti")
    assert re.fullmatch(r"[0-9a-f]{32}", jti)
    assert judged.claims == {
        "iss": CLIENT_ID,
        "sub": CLIENT_ID,
        "aud": ISSUER,
        "iat": int(NOW.wall),
        "exp": int(NOW.wall) + 60,
    }


@pytest.mark.standards("S-015", "S-020")
@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_an_assertion_signed_with_the_secret_is_verified_by_both_judges(alg: str) -> None:
    secret = (PLANTED_SECRET * 2).encode()
    draft = applied(signed(HmacSigner(secret, alg=alg), method="client_secret_jwt"))
    assert verified(assertion_in(draft), secret, alg).claims["sub"] == CLIENT_ID
    assert PLANTED_SECRET not in str(draft.form)


@pytest.mark.standards("S-016")
def test_the_audience_is_a_string_and_no_list() -> None:
    claims = verified(assertion_in(applied(signed())), signing_key("ES256").public_jwk, "ES256").claims
    assert claims["aud"] == ISSUER
    assert isinstance(claims["aud"], str)


@pytest.mark.standards("S-019")
def test_an_assertion_has_no_nbf_and_its_times_are_integers() -> None:
    claims = verified(assertion_in(applied(signed(lifetime=30), 12.5)), signing_key("ES256").public_jwk, "ES256").claims
    assert "nbf" not in claims
    assert (claims["iat"], claims["exp"]) == (12, 42)
    assert type(claims["iat"]) is type(claims["exp"]) is int


@pytest.mark.standards("S-017")
@pytest.mark.parametrize(("typ", "header"), [("JWT", {"typ": "JWT"}), ("", {})])
def test_the_type_of_an_assertion_can_be_configured_or_left_out(typ: str, header: dict[str, str]) -> None:
    judged = verified(assertion_in(applied(signed(typ=typ))), signing_key("ES256").public_jwk, "ES256")
    assert judged.header == {"alg": "ES256"} | header


@pytest.mark.standards("S-020")
def test_a_key_without_id_leaves_kid_out() -> None:
    judged = verified(assertion_in(applied(signed())), signing_key("ES256").public_jwk, "ES256")
    assert "kid" not in judged.header


@pytest.mark.standards("S-015", "S-016")
def test_further_claims_are_added_and_replace_none_of_rfc_7523() -> None:
    claims = {"tenant": 'ö\\"', "iss": "evil", "sub": "evil", "aud": ["evil"], "exp": 0, "iat": 0, "jti": "same"}
    judged = verified(assertion_in(applied(signed(claims=claims))), signing_key("ES256").public_jwk, "ES256").claims
    assert judged["tenant"] == 'ö\\"'
    assert (judged["iss"], judged["sub"], judged["aud"]) == (CLIENT_ID, CLIENT_ID, ISSUER)
    assert judged["iat"] == NOW.wall
    assert judged["jti"] != "same"


@pytest.mark.standards("S-018")
def test_every_assertion_is_another_one() -> None:
    authentication = signed()
    jtis = {
        verified(assertion_in(applied(authentication)), signing_key("ES256").public_jwk, "ES256").claims["jti"]
        for _ in range(50)
    }
    assert len(jtis) == 50


def test_a_signing_key_that_was_rotated_is_seen_by_the_next_assertion() -> None:
    signers = iter([signing_key("ES256"), signing_key("ES384")])
    authentication = SignedAssertion(
        client_id=CLIENT_ID,
        signer=lambda: next(signers),
        audience=ISSUER,
        lifetime=60,
        claims={},
        typ="",
    )
    for alg in ("ES256", "ES384"):
        judged = verified(assertion_in(applied(authentication)), signing_key(alg).public_jwk, alg)
        assert judged.claims["sub"] == CLIENT_ID


@pytest.mark.standards("S-131")
def test_an_assertion_of_somebody_else_is_read_anew_every_time_and_sent_as_it_is() -> None:
    texts = iter(["a.b.c", "d.e.f"])
    authentication = ClientAssertion(client_id=CLIENT_ID, assertion=lambda: next(texts))
    assert assertion_in(applied(authentication)) == "a.b.c"
    assert assertion_in(applied(authentication)) == "d.e.f"


@pytest.mark.standards("S-134")
def test_an_assertion_may_be_of_another_type() -> None:
    spiffe = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
    draft = applied(ClientAssertion(client_id=CLIENT_ID, assertion=lambda: "a.b.c", assertion_type=spiffe))
    assert ("client_assertion_type", spiffe) in draft.form


@pytest.mark.standards("S-162")
def test_an_assertion_is_named_as_something_that_is_never_shown() -> None:
    for authentication in (signed(), ClientAssertion(client_id=CLIENT_ID, assertion=lambda: "a.b.c")):
        draft = applied(authentication)
        assert assertion_in(draft) in draft.secrets


# Certificates ----------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-121", "S-011")
@pytest.mark.parametrize("method", ["tls_client_auth", "self_signed_tls_client_auth"])
def test_with_a_certificate_the_body_names_the_client_and_holds_no_credential(method: str) -> None:
    authentication = TlsClientAuth(client_id=CLIENT_ID, method=method)
    draft = applied(authentication)
    assert draft.form == [("client_id", CLIENT_ID)]
    assert (draft.headers, draft.secrets) == ([], [])
    assert authentication.method == method


# All of them -----------------------------------------------------------------------------------------------------

ALL: list[ClientAuthentication] = [
    ClientSecretBasic(client_id=CLIENT_ID, secret=lambda: PLANTED_SECRET),
    ClientSecretPost(client_id=CLIENT_ID, secret=lambda: PLANTED_SECRET),
    signed(),
    signed(HmacSigner(PLANTED_SECRET.encode()), method="client_secret_jwt"),
    ClientAssertion(client_id=CLIENT_ID, assertion=lambda: "planted-client-secret"),
    TlsClientAuth(client_id=CLIENT_ID, method="tls_client_auth"),
]


@pytest.mark.standards("S-011")
@pytest.mark.parametrize("authentication", ALL, ids=lambda one: type(one).__name__)
def test_no_method_uses_the_means_of_another(authentication: ClientAuthentication) -> None:
    draft = applied(authentication)
    form = dict(draft.form)
    used = ["header"] if draft.headers else []
    used += [name for name in ("client_secret", "client_assertion") if name in form]
    assert len(used) == (0 if authentication.method == "tls_client_auth" else 1)
    assert ("client_assertion" in form) == ("client_assertion_type" in form)
    assert authentication.method in AUTH_METHODS


@pytest.mark.standards("S-160")
@pytest.mark.parametrize("authentication", ALL, ids=lambda one: type(one).__name__)
def test_neither_a_method_nor_a_draft_shows_its_secret(authentication: ClientAuthentication) -> None:
    assert "planted" not in repr(authentication) + str(authentication) + repr(applied(authentication))
