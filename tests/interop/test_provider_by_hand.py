"""The harness itself is strict and right: shown with httpx2 and PyJWT alone, without a line of tokenvalet.

Whatever `test_interop` proves, it proves against these two servers. So here every client authentication method gets
both kinds of token and calls the API, and everything that a client could get wrong is refused.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from interop.harness import (
    AUDIT,
    AUDIT_EVENTS,
    BEARER,
    DPOP,
    HEALTH_RECORDS,
    METHODS,
    RECORDS,
    Material,
    Provider,
    scenario,
    start,
)

pytestmark = pytest.mark.interop

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(kw_only=True)
class Hand:
    """A client written out by hand: it does what it is told, also where that is wrong."""

    provider: Provider
    settings: Mapping[str, Any]
    http: httpx2.Client
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    nonces: dict[str, str] = field(default_factory=dict)

    @property
    def token_endpoint(self) -> str:
        by_certificate = "certificate_file" in self.settings
        return self.provider.mtls_token_endpoint if by_certificate else self.provider.token_endpoint

    @property
    def records(self) -> str:
        base: str = self.settings["base_url"]
        return base + HEALTH_RECORDS

    def assertion(self, **changes: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": self.settings["client_id"],
            "sub": self.settings["client_id"],
            "aud": self.provider.issuer,
            "iat": now,
            "exp": now + 60,
            "jti": uuid.uuid4().hex,
            **changes,
        }
        alg = self.settings.get("signing_alg", "HS256")
        key = self.settings.get("private_key") or self.settings["client_secret"]
        headers = {"kid": self.settings["key_id"]} if "key_id" in self.settings else {}
        # PyJWT knows EdDSA only; Ed25519 is the same signature under RFC 9864's name.
        return jwt.encode(claims, key, algorithm=alg, headers=headers)

    def proof(self, method: str, url: str, **changes: Any) -> str:
        claims: dict[str, Any] = {
            "jti": uuid.uuid4().hex,
            "htm": method,
            "htu": url,
            "iat": int(time.time()),
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        jwk = ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return jwt.encode(claims, self.key, algorithm="ES256", headers={"typ": "dpop+jwt", "jwk": jwk})

    def credentials(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the header fields and the form fields that authenticate the client."""
        client_id = self.settings["client_id"]
        match self.settings["auth_method"]:
            case "client_secret_basic":
                pair = f"{quote_plus(client_id)}:{quote_plus(self.settings['client_secret'])}"
                return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}, {}
            case "client_secret_post":
                return {}, {"client_id": client_id, "client_secret": self.settings["client_secret"]}
            case "client_secret_jwt" | "private_key_jwt":
                return {}, {"client_assertion_type": JWT_BEARER, "client_assertion": self.assertion()}
            case _:
                return {}, {"client_id": client_id}

    def ask(self, **changes: Any) -> httpx2.Response:
        """Send one token request; a change to None leaves the form field out."""
        headers, form = self.credentials()
        fields: dict[str, Any] = {
            "grant_type": "client_credentials",
            "scope": " ".join(self.settings["scope"]),
            "resource": self.settings["resource"],
            **form,
            **changes,
        }
        if self.settings["dpop"]:
            headers["dpop"] = self.proof("POST", self.token_endpoint, nonce=self.nonces.get("server"))
        fields = {name: value for name, value in fields.items() if value is not None}
        response = self.http.post(self.token_endpoint, data=fields, headers=headers)
        if "dpop-nonce" in response.headers:
            self.nonces["server"] = response.headers["dpop-nonce"]
        return response

    def token(self, **changes: Any) -> str:
        """Get an access token, with the nonce dance where the server asks for it."""
        response = self.ask(**changes)
        if response.status_code == 400 and response.json()["error"] == "use_dpop_nonce":
            response = self.ask(**changes)
        assert response.status_code == 200, response.text
        value: str = response.json()["access_token"]
        return value

    def call(self, token: str, url: str | None = None, *, scheme: str | None = None, **changes: Any) -> httpx2.Response:
        """Call the API once; `changes` are to the claims of the proof, or the proof itself."""
        url = url or self.records
        headers = {"authorization": f"{scheme or ('DPoP' if self.settings['dpop'] else 'Bearer')} {token}"}
        if "proof" in changes:
            if changes["proof"] is not None:
                headers["dpop"] = changes["proof"]
        elif self.settings["dpop"]:
            claims = {"ath": ath(token), "nonce": self.nonces.get("api"), **changes}
            headers["dpop"] = self.proof("GET", url.partition("?")[0], **claims)
        response = self.http.get(url, headers=headers)
        if "dpop-nonce" in response.headers:
            self.nonces["api"] = response.headers["dpop-nonce"]
        return response

    def ready(self) -> str:
        """Return a token with which the next call is let in: the API's nonce is known."""
        token = self.token()
        assert problem(self.call(token)) == "use_dpop_nonce"
        return token


class Hands:
    """Makes clients by hand, and closes their connections at the end of the test."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._open: list[httpx2.Client] = []

    def __call__(self, name: str, *, certificate: str | None = None) -> Hand:
        settings = self._provider.clients[name]
        context = ssl.create_default_context(cafile=self._provider.ca_file)
        if certificate is not None:
            context.load_cert_chain(*self._provider.certificates[certificate])
        elif "certificate_file" in settings:
            context.load_cert_chain(settings["certificate_file"], settings["certificate_key_file"])
        http = httpx2.Client(verify=context, trust_env=False)
        self._open.append(http)
        return Hand(provider=self._provider, settings=settings, http=http)

    def close(self) -> None:
        for http in self._open:
            http.close()


@pytest.fixture
def hands(provider: Provider) -> Iterator[Hands]:
    hands = Hands(provider)
    yield hands
    hands.close()


@pytest.fixture
def dpop(hands: Hands) -> Hand:
    return hands(scenario("client_secret_basic", DPOP))


@pytest.fixture
def bearer(hands: Hands) -> Hand:
    return hands(scenario("client_secret_basic", BEARER))


def ath(token: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def problem(response: httpx2.Response) -> str:
    """Return the error of an answer, after checking that status and header fields go with it."""
    error: str = response.json()["error"]
    if str(response.request.url).endswith("/token"):
        assert response.status_code == (401 if error == "invalid_client" else 400)
    else:
        assert response.status_code == 401
        assert f'error="{error}"' in response.headers["www-authenticate"]
    if error == "use_dpop_nonce":
        assert response.headers["dpop-nonce"]
    return error


# Getting in


@pytest.mark.parametrize("method", [*METHODS, "client_secret_basic/awkward"])
def test_each_method_gets_a_bearer_token_and_calls_the_api(provider: Provider, hands: Hands, method: str) -> None:
    hand = hands(scenario(method, BEARER))
    response = hand.ask()
    assert response.status_code == 200, response.text
    assert response.json()["token_type"] == "Bearer"
    assert response.json()["scope"] == "records:read"
    assert response.json()["expires_in"] == 3600

    answer = hand.call(response.json()["access_token"])
    assert answer.status_code == 200, answer.text
    assert answer.json()["token"]["client_id"] == hand.settings["client_id"]
    assert answer.json()["token"]["aud"] == RECORDS
    assert provider.counters().token_requests == 1
    assert provider.counters().api_requests == 1


@pytest.mark.parametrize("method", [*METHODS, "client_secret_basic/awkward"])
def test_each_method_gets_a_dpop_token_and_calls_the_api_with_nonces(
    provider: Provider, hands: Hands, method: str
) -> None:
    hand = hands(scenario(method, DPOP))
    assert problem(hand.ask()) == "use_dpop_nonce"
    response = hand.ask()
    assert response.status_code == 200, response.text
    assert response.json()["token_type"] == "DPoP"

    token = response.json()["access_token"]
    assert problem(hand.call(token)) == "use_dpop_nonce"
    answer = hand.call(token)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()["token"]["cnf"]) == ["jkt"]
    counters = provider.counters()
    assert counters.token_statuses == {"400": 1, "200": 1}
    assert counters.token_errors == {"use_dpop_nonce": 1}
    assert counters.api_statuses == {"401": 1, "200": 1}
    assert counters.api_errors == {"use_dpop_nonce": 1}


@pytest.mark.parametrize("path", ["openid-configuration", "oauth-authorization-server"])
def test_the_metadata_names_what_is_there(provider: Provider, path: str) -> None:
    metadata = httpx2.get(f"{provider.issuer}/.well-known/{path}", trust_env=False).json()
    assert metadata["issuer"] == provider.issuer
    assert metadata["token_endpoint"] == provider.token_endpoint
    assert metadata["mtls_endpoint_aliases"]["token_endpoint"] == provider.mtls_token_endpoint
    assert metadata["revocation_endpoint"] == provider.revocation_endpoint
    assert metadata["tls_client_certificate_bound_access_tokens"] is True
    assert set(metadata["token_endpoint_auth_methods_supported"]) == {method.partition("/")[0] for method in METHODS}
    assert {"ES256", "EdDSA", "Ed25519"} <= set(metadata["dpop_signing_alg_values_supported"])
    assert provider.counters().metadata_requests == 1


def test_without_a_resource_the_token_is_for_the_records(bearer: Hand) -> None:
    assert claims_of(bearer.token(resource=None))["aud"] == RECORDS


def test_two_resources_give_two_audiences(bearer: Hand) -> None:
    records = bearer.token()
    audit = bearer.token(resource=AUDIT, scope="audit:read")
    assert [claims_of(token)["aud"] for token in (records, audit)] == [RECORDS, AUDIT]
    assert bearer.call(audit, bearer.settings["base_url"] + AUDIT_EVENTS).status_code == 200


def test_with_a_new_nonce_on_its_way_the_old_one_is_still_taken(provider: Provider, dpop: Hand) -> None:
    token = dpop.ready()
    old = dpop.nonces["api"]
    provider.rotate_nonces(grace=True)
    assert dpop.call(token).status_code == 200
    assert dpop.nonces["api"] != old
    provider.rotate_nonces(grace=True)
    assert dpop.call(token).status_code == 200
    assert problem(dpop.call(token, nonce=old)) == "use_dpop_nonce"


def test_nonces_can_be_switched_off(provider: Provider, dpop: Hand) -> None:
    provider.require_nonces(authorization_server=False, api=False)
    response = dpop.ask()
    assert response.status_code == 200
    assert dpop.call(response.json()["access_token"]).status_code == 200


# Kept out by the authorization server


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "client_secret_jwt"])
def test_a_wrong_secret_is_refused(hands: Hands, method: str) -> None:
    hand = hands(scenario(method, BEARER))
    hand.settings = {**hand.settings, "client_secret": "not-the-secret-but-as-long-as-any-of-them"}
    assert problem(hand.ask()) == "invalid_client"


@pytest.mark.parametrize("alg", ["ES256", "PS256", "EdDSA"])
def test_an_assertion_by_the_key_of_another_client_is_refused(hands: Hands, alg: str) -> None:
    hand, other = (hands(scenario(f"private_key_jwt/{alg}", token)) for token in (BEARER, DPOP))
    hand.settings = {**hand.settings, "private_key": other.settings["private_key"]}
    assert problem(hand.ask()) == "invalid_client"


@pytest.mark.parametrize("method", ["client_secret_jwt", "private_key_jwt/ES256"])
@pytest.mark.parametrize(
    ("claim", "value"),
    [
        pytest.param("aud", "{issuer}/token", id="the token endpoint as audience"),
        pytest.param("aud", ["{issuer}"], id="the issuer in a list"),
        pytest.param("aud", "{issuer}/", id="the issuer with a slash"),
        pytest.param("exp", 1, id="expired long ago"),
        pytest.param("exp", 9_999_999_999, id="good for ever"),
        pytest.param("iss", "somebody-else", id="another issuer than the client"),
        pytest.param("jti", "", id="no jti"),
    ],
)
def test_an_assertion_with_a_wrong_claim_is_refused(hands: Hands, method: str, claim: str, value: Any) -> None:
    hand = hands(scenario(method, BEARER))
    issuer = hand.provider.issuer
    if isinstance(value, str):
        value = value.format(issuer=issuer)
    elif isinstance(value, list):
        value = [item.format(issuer=issuer) for item in value]
    assert problem(hand.ask(client_assertion=hand.assertion(**{claim: value}))) == "invalid_client"


def test_an_assertion_is_good_for_one_request(hands: Hands) -> None:
    hand = hands(scenario("private_key_jwt/ES256", BEARER))
    assertion = hand.assertion()
    assert hand.ask(client_assertion=assertion).status_code == 200
    assert problem(hand.ask(client_assertion=assertion)) == "invalid_client"


@pytest.mark.parametrize(
    ("method", "certificate"),
    [
        ("tls_client_auth", "of-another-name"),
        ("tls_client_auth", "of-another-ca"),
        ("tls_client_auth", "self-signed"),
        ("self_signed_tls_client_auth", "self-signed-by-another"),
        ("self_signed_tls_client_auth", "registered"),
    ],
)
def test_a_certificate_that_was_not_registered_is_refused(hands: Hands, method: str, certificate: str) -> None:
    hand = hands(scenario(method, BEARER), certificate=certificate)
    assert problem(hand.ask()) == "invalid_client"


@pytest.mark.parametrize("method", ["tls_client_auth", "self_signed_tls_client_auth"])
def test_a_certificate_must_be_shown(hands: Hands, method: str) -> None:
    hand, bare = hands(scenario(method, BEARER)), hands(scenario("client_secret_post", BEARER))
    form = {"grant_type": "client_credentials", "client_id": hand.settings["client_id"]}
    for endpoint in (hand.provider.mtls_token_endpoint, hand.provider.token_endpoint):
        assert problem(bare.http.post(endpoint, data=form)) == "invalid_client"


def test_two_ways_to_authenticate_are_refused(bearer: Hand) -> None:
    assert problem(bearer.ask(client_secret=bearer.settings["client_secret"])) == "invalid_request"


def test_a_client_that_is_registered_for_dpop_gets_no_bearer_token(dpop: Hand) -> None:
    dpop.settings = {**dpop.settings, "dpop": False}
    assert problem(dpop.ask()) == "invalid_grant"


def test_an_unknown_resource_is_refused(bearer: Hand) -> None:
    assert problem(bearer.ask(resource="https://api.example.org/unknown")) == "invalid_target"


def test_one_resource_at_a_time_is_all_that_it_grants_for_client_credentials(bearer: Hand) -> None:
    response = bearer.ask(resource=[RECORDS, AUDIT])
    assert problem(response) == "invalid_target"
    assert response.json()["error_description"].startswith("only a single resource indicator value")


def test_a_scope_that_was_not_registered_is_refused(bearer: Hand) -> None:
    assert problem(bearer.ask(scope="records:write")) == "invalid_scope"


def test_old_nonces_are_refused_by_the_authorization_server(provider: Provider, dpop: Hand) -> None:
    dpop.token()
    assert dpop.ask().status_code == 200
    provider.rotate_nonces()
    assert problem(dpop.ask()) == "use_dpop_nonce"
    assert dpop.ask().status_code == 200


def test_its_tokens_are_jwts_and_its_revocation_endpoint_takes_none_of_these(bearer: Hand) -> None:
    headers, form = bearer.credentials()
    response = bearer.http.post(
        bearer.provider.revocation_endpoint, data={**form, "token": bearer.token()}, headers=headers
    )
    assert response.status_code == 400
    assert response.json()["error"] == "unsupported_token_type"


# Kept out by the API


def test_no_token_no_records(bearer: Hand) -> None:
    response = bearer.http.get(bearer.records)
    assert response.status_code == 401
    assert "error=" not in response.headers["www-authenticate"]  # RFC 6750 §3.1
    assert "Bearer" in response.headers["www-authenticate"]
    assert "DPoP" in response.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("ath", "of-another-token"),
        ("ath", None),
        ("htm", "POST"),
        ("htu", "http://127.0.0.1/elsewhere"),
        ("iat", 1),
        ("jti", None),
    ],
)
def test_a_proof_with_a_wrong_claim_is_refused(dpop: Hand, claim: str, value: Any) -> None:
    token = dpop.ready()
    assert problem(dpop.call(token, **{claim: value})) in ("invalid_dpop_proof", "invalid_token")
    assert dpop.call(token).status_code == 200


def test_a_proof_by_another_key_is_refused(dpop: Hand) -> None:
    token = dpop.ready()
    dpop.key = ec.generate_private_key(ec.SECP256R1())
    assert problem(dpop.call(token)) == "invalid_token"


def test_a_proof_with_a_broken_signature_is_refused(dpop: Hand) -> None:
    token = dpop.ready()
    url = dpop.records
    proof, other = (dpop.proof("GET", url, ath=ath(token), nonce=dpop.nonces["api"]) for _ in range(2))
    forged = f"{proof.rpartition('.')[0]}.{other.rpartition('.')[2]}"
    assert dpop.call(token, proof=forged).status_code == 401


def test_a_missing_nonce_is_refused(dpop: Hand) -> None:
    token = dpop.ready()
    assert problem(dpop.call(token, nonce=None)) == "use_dpop_nonce"


def test_old_nonces_are_refused_by_the_api(provider: Provider, dpop: Hand) -> None:
    token = dpop.ready()
    provider.rotate_nonces()
    assert problem(dpop.call(token)) == "use_dpop_nonce"
    assert dpop.call(token).status_code == 200


def test_the_nonce_of_one_server_is_not_taken_by_the_other(dpop: Hand) -> None:
    token = dpop.ready()
    assert problem(dpop.call(token, nonce=dpop.nonces["server"])) == "use_dpop_nonce"
    dpop.nonces["server"] = dpop.nonces["api"]
    assert problem(dpop.ask()) == "use_dpop_nonce"


def test_a_proof_is_good_for_one_request(dpop: Hand) -> None:
    token = dpop.ready()
    proof = dpop.proof("GET", dpop.records, ath=ath(token), nonce=dpop.nonces["api"])
    assert dpop.call(token, proof=proof).status_code == 200
    assert problem(dpop.call(token, proof=proof)) == "invalid_dpop_proof"


def test_a_dpop_token_is_refused_as_a_bearer_token(dpop: Hand) -> None:
    token = dpop.ready()
    assert problem(dpop.call(token, scheme="Bearer", proof=None)) == "invalid_token"
    assert dpop.call(token, scheme="Bearer").status_code == 401
    assert dpop.call(token, proof=None).status_code == 401


def test_a_bearer_token_is_refused_with_a_proof(bearer: Hand) -> None:
    token = bearer.token()
    proof = bearer.proof("GET", bearer.records, ath=ath(token))
    assert problem(bearer.call(token, scheme="DPoP", proof=proof)) == "invalid_token"
    assert problem(bearer.call(token, proof=proof)) == "invalid_token"


@pytest.mark.parametrize("method", ["tls_client_auth", "self_signed_tls_client_auth"])
def test_a_certificate_bound_token_is_refused_on_a_connection_without_its_certificate(
    hands: Hands, method: str
) -> None:
    hand = hands(scenario(method, BEARER))
    token = hand.token()
    assert list(claims_of(token)["cnf"]) == ["x5t#S256"]
    assert hand.call(token).status_code == 200
    other = hands(scenario(method, BEARER), certificate="of-another-name")
    bare = hands(scenario("client_secret_post", BEARER))
    assert problem(other.call(token)) == "invalid_token"
    assert problem(bare.call(token, hand.records)) == "invalid_token"
    assert problem(hand.call(token, hand.provider.api_url + HEALTH_RECORDS)) == "invalid_token"


def test_a_token_for_another_resource_is_refused(bearer: Hand) -> None:
    token = bearer.token(resource=AUDIT, scope="audit:read")
    assert problem(bearer.call(token)) == "invalid_token"


def test_a_token_without_the_scope_is_refused_with_403(bearer: Hand) -> None:
    response = bearer.call(bearer.token(scope=None))
    assert response.status_code == 403
    assert 'error="insufficient_scope"' in response.headers["www-authenticate"]


@pytest.mark.parametrize("token", [BEARER, DPOP])
def test_a_revoked_token_is_refused_and_a_newer_one_is_not(provider: Provider, hands: Hands, token: str) -> None:
    hand = hands(scenario("client_secret_basic", token))
    value = hand.ready() if token == DPOP else hand.token()
    assert hand.call(value).status_code == 200
    assert provider.revoke_all() > 0
    assert problem(hand.call(value)) == "invalid_token"
    assert hand.call(hand.token()).status_code == 200
    assert provider.counters().tokens_issued == 2


def test_a_tampered_token_is_refused(bearer: Hand) -> None:
    head, body, signature = bearer.token().split(".")
    claims = {**claims_of(f"{head}.{body}.{signature}"), "scope": "records:read records:write"}
    forged = jwt.encode(claims, "x" * 32, algorithm="HS256").split(".")[1]
    assert problem(bearer.call(f"{head}.{forged}.{signature}")) == "invalid_token"


# The process


def test_the_process_ends_when_its_stdin_closes(node: str, tmp_path: Path) -> None:
    with start(node, tmp_path) as provider:
        process = provider.process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0


def test_the_process_is_told_public_keys_only(tmp_path: Path) -> None:
    registrations = Material(tmp_path).servers_part()["clients"]
    keys = [key for registration in registrations for key in registration.get("jwks", {"keys": []})["keys"]]
    assert {key["kty"] for key in keys} == {"EC", "RSA", "OKP"}
    assert not [key for key in keys if {"d", "p", "q", "k"} & key.keys()]
