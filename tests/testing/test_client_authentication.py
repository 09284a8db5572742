"""The client authentication methods, each with what it must not let pass: RFC 6749 §2.3, RFC 7523 §3, rfc7523bis §4."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from testing.makers import JWT_BEARER, Clock, assertion_claims, assertion_form, b64, ec_key, make_jwt, public_jwk
from tokenvalet.testing import AuthorizationServer, RegisteredClient

GRANT = {"grant_type": "client_credentials"}
LONG_SECRET = "a secret of thirty-two bytes or more, for HMAC with SHA-256"
KEY = ec_key()


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


def refusal(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]


@pytest.fixture
def keyed(auth: AuthorizationServer) -> AuthorizationServer:
    """The server, with a client "keyed" by private_key_jwt and one "hashed" by client_secret_jwt."""
    auth.register(
        RegisteredClient(client_id="keyed", auth_method="private_key_jwt", jwks={"keys": [public_jwk(KEY, kid="k1")]})
    )
    auth.register(RegisteredClient(client_id="hashed", auth_method="client_secret_jwt", client_secret=LONG_SECRET))
    return auth


# Secrets


@pytest.mark.standards("S-010")
def test_basic_credentials_are_form_decoded(http: httpx2.Client, auth: AuthorizationServer) -> None:
    auth.register(RegisteredClient(client_id="a:b", client_secret="c d%é"))
    encoded = basic("a%3Ab", "c+d%25%C3%A9")
    assert http.post(auth.token_endpoint, data=GRANT, headers=encoded).status_code == 200
    as_it_is = basic("web", "c d%é")
    assert refusal(http.post(auth.token_endpoint, data=GRANT, headers=as_it_is)) == (401, "invalid_client")


def test_a_server_that_does_not_decode_can_be_played(http: httpx2.Client, auth: AuthorizationServer) -> None:
    auth.register(RegisteredClient(client_id="old", client_secret="a+b%20c", basic_encoding="raw"))
    assert http.post(auth.token_endpoint, data=GRANT, headers=basic("old", "a+b%20c")).status_code == 200
    encoded = basic("old", "a%2Bb%2520c")
    assert refusal(http.post(auth.token_endpoint, data=GRANT, headers=encoded)) == (401, "invalid_client")


@pytest.mark.parametrize(
    "headers",
    [
        basic("web", "wrong"),
        basic("web", ""),
        basic("nobody", "s3cret"),
        {"authorization": "Basic !!!"},
        {"authorization": "Basic " + base64.b64encode(b"web").decode()},
        {"authorization": "Basic " + base64.b64encode(b"web:\xff").decode()},
        {"authorization": "Bearer " + base64.b64encode(b"web:s3cret").decode()},
        {"authorization": "Basic"},
    ],
)
def test_wrong_basic_credentials_are_refused_with_a_challenge(
    http: httpx2.Client, auth: AuthorizationServer, headers: dict[str, str]
) -> None:
    response = http.post(auth.token_endpoint, data=GRANT, headers=headers)
    assert refusal(response) == (401, "invalid_client")
    assert response.headers["www-authenticate"].startswith("Basic ")


def test_basic_credentials_of_another_client_id_are_refused(http: httpx2.Client, auth: AuthorizationServer) -> None:
    body = GRANT | {"client_id": "other"}
    response = http.post(auth.token_endpoint, data=body, headers=basic("web", "s3cret"))
    assert refusal(response) == (401, "invalid_client")


def test_a_secret_in_the_form_is_taken_from_clients_registered_for_it(
    http: httpx2.Client, auth: AuthorizationServer
) -> None:
    auth.register(RegisteredClient(client_id="post", client_secret="s3cret", auth_method="client_secret_post"))
    good = GRANT | {"client_id": "post", "client_secret": "s3cret"}
    assert http.post(auth.token_endpoint, data=good).status_code == 200
    wrong = http.post(auth.token_endpoint, data=good | {"client_secret": "wrong"})
    assert refusal(wrong) == (401, "invalid_client")
    assert "www-authenticate" not in wrong.headers


def test_the_method_must_be_the_registered_one(http: httpx2.Client, auth: AuthorizationServer) -> None:
    in_the_form = GRANT | {"client_id": "web", "client_secret": "s3cret"}
    assert refusal(http.post(auth.token_endpoint, data=in_the_form)) == (401, "invalid_client")
    auth.register(RegisteredClient(client_id="post", client_secret="s3cret", auth_method="client_secret_post"))
    by_basic = http.post(auth.token_endpoint, data=GRANT, headers=basic("post", "s3cret"))
    assert refusal(by_basic) == (401, "invalid_client")


@pytest.mark.parametrize("body", [GRANT, GRANT | {"client_id": "web"}, GRANT | {"client_id": "nobody"}])
def test_no_authentication_is_no_client(http: httpx2.Client, auth: AuthorizationServer, body: dict[str, str]) -> None:
    assert refusal(http.post(auth.token_endpoint, data=body)) == (401, "invalid_client")


@pytest.mark.parametrize(
    "extra",
    [
        {"client_secret": "s3cret"},
        {"client_secret": ""},
        {"client_assertion": "a.b.c", "client_assertion_type": JWT_BEARER},
        {"client_assertion_type": JWT_BEARER},
    ],
)
@pytest.mark.standards("S-011")
def test_two_authentication_methods_are_one_too_many(
    http: httpx2.Client, auth: AuthorizationServer, extra: dict[str, str]
) -> None:
    response = http.post(auth.token_endpoint, data=GRANT | extra, headers=basic("web", "s3cret"))
    assert refusal(response) == (400, "invalid_request")


@pytest.mark.standards("S-011")
def test_two_authorization_headers_are_one_too_many(http: httpx2.Client, auth: AuthorizationServer) -> None:
    twice = [*basic("web", "s3cret").items()] * 2
    assert refusal(http.post(auth.token_endpoint, data=GRANT, headers=twice)) == (400, "invalid_request")


@pytest.mark.standards("S-011")
def test_a_secret_beside_an_assertion_is_one_too_many(
    http: httpx2.Client, keyed: AuthorizationServer, clock: Clock
) -> None:
    compact = make_jwt(KEY, assertion_claims(keyed, clock, "keyed"), {"kid": "k1"})
    form = assertion_form(compact, client_id="keyed", client_secret="s3cret")
    assert refusal(http.post(keyed.token_endpoint, data=form)) == (400, "invalid_request")


# Assertions

KEYS: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "ES256": lambda: _ec_pair(ec.SECP256R1()),
    "ES384": lambda: _ec_pair(ec.SECP384R1()),
    "ES512": lambda: _ec_pair(ec.SECP521R1()),
    "PS256": lambda: _rsa_pair(),
    "PS384": lambda: _rsa_pair(),
    "PS512": lambda: _rsa_pair(),
    "RS256": lambda: _rsa_pair(),
    "EdDSA": lambda: _ed25519_pair(),
}
RSA_KEY = rsa.generate_private_key(65537, 2048)


def _ec_pair(curve: ec.EllipticCurve) -> tuple[Any, dict[str, Any]]:
    key = ec.generate_private_key(curve)
    return key, ECAlgorithm.to_jwk(key.public_key(), as_dict=True)


def _rsa_pair() -> tuple[Any, dict[str, Any]]:
    return RSA_KEY, RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True)


def _ed25519_pair() -> tuple[Any, dict[str, Any]]:
    key = ed25519.Ed25519PrivateKey.generate()
    return key, OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)


@pytest.mark.parametrize("alg", KEYS)
@pytest.mark.standards("S-020")
def test_assertions_of_every_asymmetric_algorithm_are_taken(
    http: httpx2.Client, auth: AuthorizationServer, clock: Clock, alg: str
) -> None:
    key, jwk = KEYS[alg]()
    auth.register(RegisteredClient(client_id="any", auth_method="private_key_jwt", jwks={"keys": [jwk]}))
    header = {"typ": "client-authentication+jwt"}
    compact = make_jwt(key, assertion_claims(auth, clock, "any"), header, alg)
    assert http.post(auth.token_endpoint, data=assertion_form(compact)).status_code == 200
    seen = auth.token_requests[0]
    assert (seen.client_id, seen.auth_method) == ("any", "private_key_jwt")
    assert seen.assertion_header == header | {"alg": alg}
    assert seen.assertion_claims is not None
    assert seen.assertion_claims["aud"] == auth.issuer


def test_an_algorithm_named_ed25519_is_taken(http: httpx2.Client, auth: AuthorizationServer, clock: Clock) -> None:
    key, jwk = _ed25519_pair()
    auth.register(RegisteredClient(client_id="any", auth_method="private_key_jwt", jwks={"keys": [jwk]}))
    claims = assertion_claims(auth, clock, "any")
    unsigned = b64(b'{"alg":"Ed25519"}') + "." + b64(json.dumps(claims).encode())
    compact = f"{unsigned}.{b64(key.sign(unsigned.encode()))}"
    assert http.post(auth.token_endpoint, data=assertion_form(compact)).status_code == 200


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_assertions_by_the_secret_are_taken(
    http: httpx2.Client, keyed: AuthorizationServer, clock: Clock, alg: str
) -> None:
    secret = LONG_SECRET.ljust(64, "!")
    keyed.register(RegisteredClient(client_id="hashed", auth_method="client_secret_jwt", client_secret=secret))
    compact = make_jwt(secret, assertion_claims(keyed, clock, "hashed"), {}, alg)
    assert http.post(keyed.token_endpoint, data=assertion_form(compact)).status_code == 200
    assert keyed.token_requests[0].auth_method == "client_secret_jwt"


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ({"iss": "other"}, "iss"),
        ({"iss": ["keyed"]}, "iss"),
        ({"sub": "nobody"}, "no such client"),
        ({"sub": None}, "no such client"),
        ({"sub": ["keyed"]}, "no such client"),
        ({"aud": "https://other.example"}, "aud"),
        ({"aud": None}, "aud"),
        ({"exp": None}, "exp"),
        ({"exp": int(Clock().now) - 1}, "expired"),
        ({"exp": int(Clock().now)}, "expired"),
        ({"exp": int(Clock().now) + 62}, "60 seconds ahead"),
        ({"exp": str(int(Clock().now) + 30)}, "exp"),
        ({"exp": True}, "exp"),
        ({"iat": None}, "iat"),
        ({"iat": int(Clock().now) + 12}, "iat"),
        ({"nbf": int(Clock().now) + 12}, "nbf"),
        ({"jti": None}, "jti"),
        ({"jti": ""}, "jti"),
        ({"jti": 7}, "jti"),
    ],
)
@pytest.mark.standards("S-015", "S-016", "S-019", "S-311")
def test_an_assertion_with_a_wrong_claim_is_refused(
    http: httpx2.Client, keyed: AuthorizationServer, clock: Clock, spoilt: dict[str, Any], said: str
) -> None:
    claims = assertion_claims(keyed, clock, "keyed", **spoilt)
    unsigned = {name: value for name, value in claims.items() if value is not None}
    compact = sign_by_hand(unsigned, {"alg": "ES256", "kid": "k1"})
    response = http.post(keyed.token_endpoint, data=assertion_form(compact))
    assert refusal(response) == (401, "invalid_client")
    assert said in response.json()["error_description"]
    assert keyed.issued == 0


def sign_by_hand(claims: Any, header: Any) -> str:
    """PyJWT refuses to write some of the claims that a server must refuse to read."""
    unsigned = b64(json.dumps(header).encode()) + "." + b64(json.dumps(claims).encode())
    return f"{unsigned}.{b64(ECAlgorithm(ECAlgorithm.SHA256).sign(unsigned.encode(), KEY))}"


@pytest.mark.standards("S-016")
def test_an_audience_that_is_a_list_is_refused(http: httpx2.Client, keyed: AuthorizationServer, clock: Clock) -> None:
    for audience in ([keyed.issuer], [keyed.issuer, keyed.token_endpoint], keyed.token_endpoint, keyed.issuer + "/"):
        compact = make_jwt(KEY, assertion_claims(keyed, clock, "keyed", aud=audience), {"kid": "k1"})
        response = http.post(keyed.token_endpoint, data=assertion_form(compact))
        assert refusal(response) == (401, "invalid_client")


@pytest.mark.standards("S-018")
def test_an_assertion_is_good_for_one_request(http: httpx2.Client, keyed: AuthorizationServer, clock: Clock) -> None:
    form = assertion_form(make_jwt(KEY, assertion_claims(keyed, clock, "keyed"), {"kid": "k1"}))
    assert http.post(keyed.token_endpoint, data=form).status_code == 200
    again = http.post(keyed.token_endpoint, data=form)
    assert refusal(again) == (401, "invalid_client")
    assert "seen before" in again.json()["error_description"]


def test_the_clock_decides_when_an_assertion_expires(
    http: httpx2.Client, keyed: AuthorizationServer, clock: Clock
) -> None:
    form = assertion_form(make_jwt(KEY, assertion_claims(keyed, clock, "keyed"), {"kid": "k1"}))
    clock.now += 61
    assert refusal(http.post(keyed.token_endpoint, data=form)) == (401, "invalid_client")


@pytest.mark.standards("S-305", "S-306")
def test_an_assertion_by_another_key_or_algorithm_is_refused(
    http: httpx2.Client, keyed: AuthorizationServer, clock: Clock
) -> None:
    def claims() -> dict[str, Any]:
        return assertion_claims(keyed, clock, "keyed")

    other = ec_key()
    unsigned = b64(b'{"alg":"none"}') + "." + b64(json.dumps(claims()).encode()) + "."
    good = make_jwt(KEY, claims(), {"kid": "k1"})
    forged = [
        make_jwt(other, claims(), {"kid": "k1"}),
        make_jwt(other, claims(), {"jwk": public_jwk(other)}),  # a key of the sender's own choice
        make_jwt(KEY, claims(), {"kid": "unknown"}),
        make_jwt(KEY, claims(), {"kid": "k1", "typ": "dpop+jwt"}),
        make_jwt(LONG_SECRET, claims(), {}, "HS256"),  # registered for another method
        sign_by_hand(claims(), {"alg": "ES256", "crit": ["exp"], "exp": 1}),
        sign_by_hand(claims(), {"alg": "ES256", "crit": ["kid"], "kid": "k1"}),
        sign_by_hand(claims(), {"alg": "ES384"}),
        sign_by_hand(claims(), {"alg": ["ES256"]}),
        sign_by_hand([claims()], {"alg": "ES256"}),
        sign_by_hand(claims(), ["alg", "ES256"]),
        unsigned,
        good.rpartition(".")[0] + ".",
        good + "A",
        good + "." + good,
        "not a JWT",
        "é.é.é",
    ]
    for compact in forged:
        response = http.post(keyed.token_endpoint, data=assertion_form(compact))
        assert refusal(response) == (401, "invalid_client"), compact
    assert keyed.issued == 0


def test_repeated_claims_are_refused(http: httpx2.Client, keyed: AuthorizationServer, clock: Clock) -> None:
    claims = json.dumps(assertion_claims(keyed, clock, "keyed"))
    twice = claims[:-1] + ',"sub":"keyed"}'
    unsigned = b64(b'{"alg":"ES256"}') + "." + b64(twice.encode())
    compact = f"{unsigned}.{b64(ECAlgorithm(ECAlgorithm.SHA256).sign(unsigned.encode(), KEY))}"
    assert refusal(http.post(keyed.token_endpoint, data=assertion_form(compact))) == (401, "invalid_client")


@pytest.mark.standards("S-307")
def test_an_assertion_by_the_wrong_secret_is_refused(
    http: httpx2.Client, keyed: AuthorizationServer, clock: Clock
) -> None:
    compact = make_jwt("x" * 64, assertion_claims(keyed, clock, "hashed"), {}, "HS256")
    assert refusal(http.post(keyed.token_endpoint, data=assertion_form(compact))) == (401, "invalid_client")


@pytest.mark.standards("S-021")
def test_a_client_id_beside_an_assertion_must_be_its_subject(
    http: httpx2.Client, keyed: AuthorizationServer, clock: Clock
) -> None:
    for client_id, status in (("keyed", 200), ("web", 401)):
        compact = make_jwt(KEY, assertion_claims(keyed, clock, "keyed"), {"kid": "k1"})
        response = http.post(keyed.token_endpoint, data=assertion_form(compact, client_id=client_id))
        assert response.status_code == status


def test_assertion_and_type_belong_together(http: httpx2.Client, keyed: AuthorizationServer, clock: Clock) -> None:
    compact = make_jwt(KEY, assertion_claims(keyed, clock, "keyed"), {"kid": "k1"})
    for lacking in ("client_assertion", "client_assertion_type"):
        form = {name: value for name, value in assertion_form(compact).items() if name != lacking}
        assert refusal(http.post(keyed.token_endpoint, data=form)) == (400, "invalid_request")
    other_type = assertion_form(compact, client_assertion_type="urn:ietf:params:oauth:client-assertion-type:saml2")
    assert refusal(http.post(keyed.token_endpoint, data=other_type)) == (401, "invalid_client")


# The registry


@pytest.mark.parametrize(
    "wrong",
    [
        {"auth_method": "none"},
        {"auth_method": "client_secret_basic"},
        {"auth_method": "client_secret_basic", "client_secret": ""},
        {"auth_method": "client_secret_jwt", "client_secret": "short"},
        {"auth_method": "private_key_jwt"},
        {"auth_method": "tls_client_auth"},
        {"auth_method": "self_signed_tls_client_auth", "certificate_subject": "CN=anybody"},
    ],
)
def test_a_client_that_could_not_authenticate_is_not_registered(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        RegisteredClient(client_id="c", **wrong)


def test_a_private_or_weak_key_is_not_registered() -> None:
    private = ECAlgorithm.to_jwk(KEY, as_dict=True)
    weak = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)
    octet = {"kty": "oct", "k": "AAAA"}
    for jwk in (private, weak, octet, {"kty": "EC"}, {}):
        with pytest.raises(Exception, match="the jwk"):
            RegisteredClient(client_id="c", auth_method="private_key_jwt", jwks={"keys": [jwk]})


def test_a_registered_client_shows_no_secret() -> None:
    assert "s3cret" not in repr(RegisteredClient(client_id="c", client_secret="s3cret"))


def test_pyjwt_agrees_that_the_assertions_of_these_tests_are_good(auth: AuthorizationServer, clock: Clock) -> None:
    compact = make_jwt(KEY, assertion_claims(auth, clock, "keyed"), {"kid": "k1"})
    options: Any = {"verify_exp": False, "verify_iat": False}
    assert jwt.decode(compact, KEY.public_key(), ["ES256"], audience=auth.issuer, options=options)
