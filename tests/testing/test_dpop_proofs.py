"""The judges of DPoP proofs: every check of RFC 9449 §4.3, at the token endpoint (§5) and at the API (§7), and nonces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from testing.makers import Prover, ec_key, public_jwk
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient

RECORDS = "/api/v1/integration/health-records"
RSA_KEY = rsa.generate_private_key(65537, 2048)
ED_KEY = ed25519.Ed25519PrivateKey.generate()

Send = Callable[..., httpx2.Response]


@pytest.fixture
def ask(http: httpx2.Client, auth: AuthorizationServer) -> Send:
    """Ask for a token with these DPoP header fields."""

    def send(*proofs: str) -> httpx2.Response:
        headers = [("dpop", proof) for proof in proofs]
        form = {"grant_type": "client_credentials"}
        return http.post(auth.token_endpoint, data=form, auth=("web", "s3cret"), headers=headers)

    return send


@pytest.fixture
def token(ask: Send, auth: AuthorizationServer, prover: Prover) -> str:
    """A token that is bound to the prover's key."""
    answer = ask(prover.proof("POST", auth.token_endpoint)).json()
    assert answer["token_type"] == "DPoP"
    return str(answer["access_token"])


@pytest.fixture
def call(http: httpx2.Client, api: ProtectedApi, token: str) -> Send:
    """Call the API with the bound token and these DPoP header fields."""

    def send(*proofs: str, path: str = RECORDS, method: str = "GET", scheme: str = "DPoP") -> httpx2.Response:
        headers = [("authorization", f"{scheme} {token}"), *(("dpop", proof) for proof in proofs)]
        return http.request(method, api.origin + path, headers=headers)

    return send


def says(response: httpx2.Response, error: str) -> bool:
    return response.status_code == 401 and f'DPoP error="{error}"' in response.headers["www-authenticate"]


# At the token endpoint


def test_the_token_is_bound_to_the_key_of_the_proof(auth: AuthorizationServer, prover: Prover, token: str) -> None:
    assert jwt.decode(token, options={"verify_signature": False})["cnf"] == {"jkt": prover.jkt}
    assert auth.token_requests[0].dpop_jkt == prover.jkt


BAD_HEADERS: list[dict[str, Any]] = [
    {"typ": "JWT"},
    {"typ": None},
    {"typ": "DPOP+JWT"},
    {"jwk": None},
    {"jwk": "a key"},
    {"jwk": {}},
    {"jwk": {"kty": "oct", "k": "c2VjcmV0"}},
    {"jwk": ECAlgorithm.to_jwk(ec_key(), as_dict=True)},
    {"jwk": ECAlgorithm.to_jwk(ec_key().public_key(), as_dict=True)},
    {"jwk": {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}},
    {"crit": ["b64"], "b64": True},
    {"crit": ["kid"], "kid": "k1"},
]


@pytest.mark.parametrize("spoilt", BAD_HEADERS, ids=range(len(BAD_HEADERS)))  # keys differ from run to run
@pytest.mark.standards("S-090")
def test_a_proof_with_a_wrong_header_is_refused(
    ask: Send, auth: AuthorizationServer, prover: Prover, spoilt: dict[str, Any]
) -> None:
    response = ask(prover.proof("POST", auth.token_endpoint, header=spoilt))
    assert (response.status_code, response.json()["error"]) == (400, "invalid_dpop_proof")
    assert auth.issued == 0


@pytest.mark.standards("S-090")
def test_a_private_key_in_a_proof_is_refused_though_it_made_the_proof(
    ask: Send, auth: AuthorizationServer, prover: Prover
) -> None:
    private = ECAlgorithm.to_jwk(prover.key, as_dict=True)
    response = ask(prover.proof("POST", auth.token_endpoint, header={"jwk": private}))
    assert "private members" in response.json()["error_description"]


BAD_CLAIMS: list[dict[str, Any]] = [
    {"htm": "GET"},
    {"htm": "post"},
    {"htm": None},
    {"htu": None},
    {"htu": "https://elsewhere.example/token"},
    {"htu": 7},
    {"jti": None},
    {"jti": ""},
    {"jti": "a" * 257},
    {"jti": 7},
    {"iat": None},
    {"iat": "1800000000"},
    {"iat": 1_800_000_000.0},
    {"iat": True},
    {"iat": 1_800_000_000 - 61},
    {"iat": 1_800_000_000 + 62},
    {"ath": "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"},
    {"ath": ""},
]


@pytest.mark.parametrize("spoilt", BAD_CLAIMS, ids=repr)
@pytest.mark.standards("S-092", "S-095", "S-096")
def test_a_proof_with_a_wrong_claim_is_refused_at_the_token_endpoint(
    ask: Send, auth: AuthorizationServer, prover: Prover, spoilt: dict[str, Any]
) -> None:
    response = ask(prover.proof("POST", auth.token_endpoint, **spoilt))
    assert (response.status_code, response.json()["error"]) == (400, "invalid_dpop_proof")


@pytest.mark.parametrize("seconds", [-59, 60])
def test_a_clock_that_is_a_minute_off_is_forgiven(
    ask: Send, auth: AuthorizationServer, prover: Prover, seconds: int
) -> None:
    assert ask(prover.proof("POST", auth.token_endpoint, iat=int(prover.clock.now) + seconds)).status_code == 200


@pytest.mark.standards("S-093")
def test_only_the_uri_of_the_request_will_do_as_htu(ask: Send, auth: AuthorizationServer, prover: Prover) -> None:
    port = auth.token_endpoint.rpartition(":")[2].removesuffix("/token")
    good = [f"HTTP://127.0.0.1:{port}/token"]
    bad = [
        f"http://127.0.0.1:{port}/token?",
        f"http://127.0.0.1:{port}/token?a=b",
        f"http://127.0.0.1:{port}/token#",
        f"http://127.0.0.1:{port}/token/",
        f"http://127.0.0.1:{port}//token",
        f"http://127.0.0.1:{port}/%74oken",
        f"http://127.0.0.1:{port}/./token",
        f"http://web@127.0.0.1:{port}/token",
        f"http://localhost:{port}/token",
        f"https://127.0.0.1:{port}/token",
        "http://127.0.0.1/token",
        "http://127.0.0.1:port/token",
        f"ftp://127.0.0.1:{port}/token",
        "ftp://127.0.0.1/token",
        "http:///token",
        "/token",
        "http://[::1/token",
        f"http://127.0.0.1:{port}/tökén",
    ]
    assert [ask(prover.proof("POST", htu)).status_code for htu in good] == [200] * len(good)
    assert [ask(prover.proof("POST", htu)).status_code for htu in bad] == [400] * len(bad)


@pytest.mark.standards("S-097")
def test_a_proof_is_good_for_one_token_request(ask: Send, auth: AuthorizationServer, prover: Prover) -> None:
    proof = prover.proof("POST", auth.token_endpoint)
    assert ask(proof).status_code == 200
    again = ask(proof)
    assert again.json() == {
        "error": "invalid_dpop_proof",
        "error_description": "the proof is refused: its jti was seen before",
    }
    with_the_same_jti = ask(prover.proof("POST", auth.token_endpoint, jti="one"))
    assert with_the_same_jti.status_code == 200
    assert ask(prover.proof("POST", auth.token_endpoint, jti="one")).status_code == 400


@pytest.mark.standards("S-098")
def test_two_proofs_are_one_too_many_at_the_token_endpoint(
    ask: Send, auth: AuthorizationServer, prover: Prover
) -> None:
    two = [prover.proof("POST", auth.token_endpoint) for _ in range(2)]
    assert ask(*two).json()["error"] == "invalid_dpop_proof"
    assert ask(", ".join(two)).json()["error"] == "invalid_dpop_proof"
    assert ask("").json()["error"] == "invalid_dpop_proof"


@pytest.mark.standards("S-305")
def test_a_proof_that_is_not_signed_by_its_key_is_refused(ask: Send, auth: AuthorizationServer, prover: Prover) -> None:
    good = prover.proof("POST", auth.token_endpoint)
    head, claims, signature = good.split(".")
    octet = {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}
    secret = "secretsecretsecretsecretsecretsecret"
    none = jwt.encode({"htm": "POST"}, "", "none", {"typ": "dpop+jwt", "jwk": public_jwk(prover.key)})
    for proof in (
        f"{head}.{claims}.",
        f"{head}.{claims}",
        f"{head}.{claims}.{signature[:-4]}AAAA",
        f"{head}.{claims}.{signature}=",
        prover.proof("POST", auth.token_endpoint, key=secret, alg="HS256"),
        prover.proof("POST", auth.token_endpoint, key=secret, alg="HS256", header={"jwk": octet}),
        none,
        "a proof",
    ):
        assert ask(proof).json()["error"] == "invalid_dpop_proof", proof


@pytest.mark.parametrize(
    ("alg", "key", "jwk"),
    [
        ("PS256", RSA_KEY, RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True)),
        ("RS256", RSA_KEY, RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True)),
        ("EdDSA", ED_KEY, OKPAlgorithm.to_jwk(ED_KEY.public_key(), as_dict=True)),
    ],
    ids=["PS256", "RS256", "EdDSA"],
)
def test_proofs_of_other_algorithms_are_taken(
    ask: Send, auth: AuthorizationServer, prover: Prover, alg: str, key: Any, jwk: dict[str, Any]
) -> None:
    proof = prover.proof("POST", auth.token_endpoint, key=key, alg=alg, header={"jwk": jwk})
    assert ask(proof).status_code == 200


def test_curves_that_are_not_announced_are_refused(ask: Send, auth: AuthorizationServer, prover: Prover) -> None:
    koblitz = ec.generate_private_key(ec.SECP256K1())
    edwards = ed448.Ed448PrivateKey.generate()
    for key, alg, jwk in (
        (koblitz, "ES256K", ECAlgorithm.to_jwk(koblitz.public_key(), as_dict=True)),
        (edwards, "EdDSA", OKPAlgorithm.to_jwk(edwards.public_key(), as_dict=True)),
    ):
        proof = prover.proof("POST", auth.token_endpoint, key=key, alg=alg, header={"jwk": jwk})
        assert ask(proof).json()["error"] == "invalid_dpop_proof"


def test_a_client_that_must_bind_its_tokens_is_refused_without_a_proof(
    ask: Send, auth: AuthorizationServer, prover: Prover
) -> None:
    auth.register(RegisteredClient(client_id="web", client_secret="s3cret", dpop_bound_access_tokens=True))
    assert ask().json()["error"] == "invalid_dpop_proof"
    assert ask(prover.proof("POST", auth.token_endpoint)).status_code == 200


# Nonces at the token endpoint


@pytest.mark.standards("S-064", "S-104")
def test_a_proof_without_the_nonce_is_told_the_nonce(ask: Send, auth: AuthorizationServer, prover: Prover) -> None:
    auth.require_dpop_nonce = True
    for stale in (None, "an older one", 7):
        response = ask(prover.proof("POST", auth.token_endpoint, nonce=stale))
        assert (response.status_code, response.json()["error"]) == (400, "use_dpop_nonce")
    nonce = response.headers["dpop-nonce"]
    accepted = ask(prover.proof("POST", auth.token_endpoint, nonce=nonce))
    assert accepted.status_code == 200
    assert accepted.headers["dpop-nonce"] == nonce
    auth.rotate_nonce()
    assert ask(prover.proof("POST", auth.token_endpoint, nonce=nonce)).json()["error"] == "use_dpop_nonce"


def test_the_proof_that_lacked_the_nonce_cannot_be_sent_again(
    ask: Send, auth: AuthorizationServer, prover: Prover
) -> None:
    auth.require_dpop_nonce = True
    nonce = ask(prover.proof("POST", auth.token_endpoint, jti="one")).headers["dpop-nonce"]
    same_jti = prover.proof("POST", auth.token_endpoint, jti="one", nonce=nonce)
    assert ask(same_jti).json()["error"] == "invalid_dpop_proof"


def test_a_nonce_that_rotates_is_good_for_one_more_response(
    ask: Send, auth: AuthorizationServer, prover: Prover
) -> None:
    auth.rotate_dpop_nonce = True

    def status_and_next(nonce: str | None) -> tuple[int, str]:
        response = ask(prover.proof("POST", auth.token_endpoint, nonce=nonce))
        return response.status_code, response.headers["dpop-nonce"]

    assert (first := status_and_next(None))[0] == 400
    assert (second := status_and_next(first[1]))[0] == 200
    assert status_and_next(first[1])[0] == 200  # the one before the current one
    assert status_and_next(first[1])[0] == 400  # older
    assert status_and_next(second[1])[0] == 400
    assert auth.issued == 2


def test_no_nonce_is_handed_out_where_none_is_asked_for(ask: Send, auth: AuthorizationServer, prover: Prover) -> None:
    assert "dpop-nonce" not in ask(prover.proof("POST", auth.token_endpoint)).headers


# At the API


def test_a_bound_token_with_its_proof_is_let_in(call: Send, api: ProtectedApi, prover: Prover, token: str) -> None:
    assert call(prover.proof("GET", api.origin + RECORDS, token=token)).status_code == 200
    seen = api.calls[0]
    assert seen.scheme == "DPoP"
    assert seen.proof_claims is not None
    assert (seen.proof_claims["htm"], seen.proof_claims["htu"]) == ("GET", api.origin + RECORDS)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"ath": None},
        {"ath": "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"},
        {"ath": 7},
        {"ath": "é"},
        {"htm": "POST"},
        {"htu": "http://127.0.0.1/api"},
        {"iat": 1_700_000_000},
        {"jti": None},
    ],
    ids=repr,
)
@pytest.mark.standards("S-326")
def test_a_proof_with_a_wrong_claim_is_refused_at_the_api(
    call: Send, api: ProtectedApi, prover: Prover, token: str, spoilt: dict[str, Any]
) -> None:
    response = call(prover.proof("GET", api.origin + RECORDS, token=token, **spoilt))
    assert says(response, "invalid_dpop_proof")
    assert 'algs="ES256 ' in response.headers["www-authenticate"]


@pytest.mark.standards("S-326")
def test_a_proof_by_another_key_is_refused(call: Send, api: ProtectedApi, prover: Prover, token: str) -> None:
    thief = Prover(prover.clock)
    assert says(call(thief.proof("GET", api.origin + RECORDS, token=token)), "invalid_token")


@pytest.mark.standards("S-326")
def test_a_proof_is_good_for_one_call(call: Send, api: ProtectedApi, prover: Prover, token: str) -> None:
    proof = prover.proof("GET", api.origin + RECORDS, token=token)
    assert call(proof).status_code == 200
    assert says(call(proof), "invalid_dpop_proof")


@pytest.mark.standards("S-098")
def test_no_proof_and_two_proofs_are_refused(call: Send, api: ProtectedApi, prover: Prover, token: str) -> None:
    assert says(call(), "invalid_dpop_proof")
    two = [prover.proof("GET", api.origin + RECORDS, token=token) for _ in range(2)]
    assert says(call(*two), "invalid_dpop_proof")


@pytest.mark.standards("S-109", "S-326")
def test_a_bound_token_is_no_bearer_token(call: Send, api: ProtectedApi, prover: Prover, token: str) -> None:
    response = call(prover.proof("GET", api.origin + RECORDS, token=token), scheme="Bearer")
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith('Bearer error="invalid_token"')


def test_a_bearer_token_does_not_pass_for_a_bound_one(
    http: httpx2.Client, ask: Send, api: ProtectedApi, prover: Prover
) -> None:
    bearer = ask().json()["access_token"]
    proof = prover.proof("GET", api.origin + RECORDS, token=bearer)
    response = http.get(api.origin + RECORDS, headers={"authorization": f"DPoP {bearer}", "dpop": proof})
    assert says(response, "invalid_token")


@pytest.mark.standards("S-093")
def test_the_htu_has_the_path_as_it_was_on_the_wire(call: Send, api: ProtectedApi, prover: Prover, token: str) -> None:
    path = "/echo//a%2Fb;v=1/%7e"
    for htu, status in (
        (api.origin + path, 200),
        (api.origin + "/echo//a/b;v=1/~", 401),
        (api.origin + "/echo/a%2Fb;v=1/%7e", 401),
        (api.origin + "/echo//a%2fb;v=1/%7e", 401),
        (api.origin + path + "?q=1", 401),
    ):
        assert call(prover.proof("GET", htu, token=token), path=path + "?q=1").status_code == status, htu
    assert (api.calls[0].path, api.calls[0].query) == (path, "q=1")


@pytest.mark.standards("S-092")
def test_methods_of_any_name_are_known_by_their_exact_spelling(
    call: Send, api: ProtectedApi, prover: Prover, token: str
) -> None:
    uri = api.origin + "/echo"
    assert call(prover.proof("PROPFIND", uri, token=token), path="/echo", method="PROPFIND").status_code == 200
    assert call(prover.proof("propfind", uri, token=token), path="/echo", method="PROPFIND").status_code == 401


# Nonces at the API


@pytest.mark.standards("S-101", "S-104")
def test_the_api_asks_for_its_nonce_and_gives_it_with_every_response(
    call: Send, api: ProtectedApi, prover: Prover, token: str
) -> None:
    api.require_dpop_nonce = True
    uri = api.origin + RECORDS
    asked = call(prover.proof("GET", uri, token=token))
    assert says(asked, "use_dpop_nonce")
    nonce = asked.headers["dpop-nonce"]
    let_in = call(prover.proof("GET", uri, token=token, nonce=nonce))
    assert (let_in.status_code, let_in.headers["dpop-nonce"]) == (200, nonce)
    api.rotate_nonce()
    assert says(call(prover.proof("GET", uri, token=token, nonce=nonce)), "use_dpop_nonce")


@pytest.mark.standards("S-100")
def test_the_nonce_of_one_server_is_nothing_to_the_other(
    ask: Send, call: Send, auth: AuthorizationServer, api: ProtectedApi, prover: Prover, token: str
) -> None:
    auth.require_dpop_nonce = api.require_dpop_nonce = True
    nonce = ask(prover.proof("POST", auth.token_endpoint)).headers["dpop-nonce"]
    assert says(call(prover.proof("GET", api.origin + RECORDS, token=token, nonce=nonce)), "use_dpop_nonce")
