"""tokenvalet against servers that we did not write: oidc-provider hands the tokens out, oauth4webapi looks at them.

Our own test servers share our reading of the RFCs; these do not. Every client authentication method gets a Bearer and a
DPoP token here, with discovery, resource indicators, required nonces at both ends, mutual TLS at its own endpoint, and
a revocation in the middle of the traffic. That the servers are strict is shown in `test_provider_by_hand`.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx2
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey

from interop.harness import (
    AUDIT,
    AUDIT_EVENTS,
    BEARER,
    DPOP,
    HEALTH_RECORDS,
    METHODS,
    RECORDS,
    Provider,
    scenario,
)
from tokenvalet import TokenParameters, TokenRefusedError, TokenResponseError, TokenValet

pytestmark = pytest.mark.interop

EVERY_METHOD = (*METHODS, "client_secret_basic/awkward", "private_key_jwt/Ed25519")
TOKENS = (BEARER, DPOP)
CERTIFICATE_METHODS = ("tls_client_auth", "self_signed_tls_client_auth")
CALLERS = 200
CALLS_EACH = 5


class Valets:
    """Makes a TokenValet of one client named `m2m`, and closes them all at the end of the test."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._open: list[TokenValet] = []

    def __call__(self, method: str, token: str, **changes: Any) -> TokenValet:
        """Return a valet for the scenario's settings with `changes`, in which None leaves a setting out."""
        settings = self._provider.settings(scenario(method, token), **changes)
        valet = TokenValet.from_dict({"clients": {"m2m": settings}})
        self._open.append(valet)
        return valet

    def close(self) -> None:
        for valet in self._open:
            valet.close()


@pytest.fixture
def valets(provider: Provider) -> Iterator[Valets]:
    valets = Valets(provider)
    yield valets
    valets.close()


def token_seen(response: httpx2.Response) -> dict[str, Any]:
    """Return the claims of the token that the API let in with this call."""
    assert response.status_code == 200, response.text
    claims: dict[str, Any] = response.json()["token"]
    return claims


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def expect_the_token_of(provider: Provider, method: str, token: str, claims: dict[str, Any]) -> None:
    """Check that one token was asked for, with discovery and the nonce dances, and that it is bound as it should."""
    settings = provider.clients[scenario(method, token)]
    assert claims["client_id"] == settings["client_id"]
    assert claims["aud"] == RECORDS
    assert claims["scope"] == "records:read"
    counters = provider.counters()
    assert counters.metadata_requests == 1
    if token == DPOP:
        assert list(claims["cnf"]) == ["jkt"]
        assert counters.token_statuses == {"400": 1, "200": 1}
        assert counters.token_errors == {"use_dpop_nonce": 1}
        assert counters.api_statuses == {"401": 1, "200": 1}
        assert counters.api_errors == {"use_dpop_nonce": 1}
    else:
        assert list(claims.get("cnf", {})) == (["x5t#S256"] if method in CERTIFICATE_METHODS else [])
        assert counters.token_statuses == {"200": 1}
        assert counters.api_statuses == {"200": 1}


# Every method, both kinds of token, sync and async


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("method", EVERY_METHOD)
def test_a_sync_client_calls_the_api(provider: Provider, valets: Valets, method: str, token: str) -> None:
    with valets(method, token).client("m2m") as api:
        response = api.get(HEALTH_RECORDS)
    expect_the_token_of(provider, method, token, token_seen(response))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("method", EVERY_METHOD)
def test_an_async_client_calls_the_api(
    provider: Provider, valets: Valets, method: str, token: str, backend: str
) -> None:
    async def call() -> httpx2.Response:
        async with valets(method, token).async_client("m2m") as api:
            return await api.get(HEALTH_RECORDS)

    expect_the_token_of(provider, method, token, token_seen(anyio.run(call, backend=backend)))


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("method", EVERY_METHOD)
def test_many_calls_need_one_token_and_one_nonce_dance(
    provider: Provider, valets: Valets, method: str, token: str
) -> None:
    with valets(method, token).client("m2m") as api:
        seen = {token_seen(api.get(HEALTH_RECORDS))["jti"] for _ in range(5)}
    assert len(seen) == 1
    assert provider.counters().tokens_issued == 1
    assert provider.counters().api_statuses == {"200": 5} | ({"401": 1} if token == DPOP else {})


# Where tokens are asked for


def test_a_token_endpoint_can_be_given_instead_of_the_issuer(provider: Provider, valets: Valets) -> None:
    valet = valets("client_secret_post", BEARER, issuer=None, token_endpoint=provider.token_endpoint)
    with valet.client("m2m") as api:
        assert api.get(HEALTH_RECORDS).status_code == 200
    assert provider.counters().metadata_requests == 0


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("method", ["client_secret_basic", "private_key_jwt/ES256"])
def test_a_given_token_endpoint_over_tls_is_verified_with_the_given_ca(
    provider: Provider, valets: Valets, method: str, token: str
) -> None:
    valet = valets(method, token, token_endpoint=provider.mtls_token_endpoint, base_url=provider.api_mtls_url)
    with valet.client("m2m") as api:
        assert api.get(HEALTH_RECORDS).status_code == 200


def test_metadata_of_another_issuer_is_refused(provider: Provider, valets: Valets) -> None:
    valet = valets("client_secret_post", BEARER, issuer=provider.mtls_issuer)
    with pytest.raises(TokenResponseError, match="issuer"):
        valet.token("m2m")
    assert provider.counters().token_requests == 0


@pytest.mark.parametrize("method", CERTIFICATE_METHODS)
def test_the_certificate_is_shown_at_the_alias_and_at_the_api_and_the_token_is_bound_to_it(
    provider: Provider, valets: Valets, method: str
) -> None:
    with valets(method, BEARER).client("m2m") as api:
        claims = token_seen(api.get(HEALTH_RECORDS))
    pem = Path(provider.clients[scenario(method, BEARER)]["certificate_file"]).read_bytes()
    thumbprint = x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256())
    expected = base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode()
    assert claims["cnf"] == {"x5t#S256": expected}


# What is asked for


@pytest.mark.parametrize("token", TOKENS)
def test_two_resources_get_a_token_each(provider: Provider, valets: Valets, token: str) -> None:
    valet = valets("client_secret_basic", token)
    records = valet.token("m2m")
    audit = valet.token("m2m", resource=AUDIT, scope="audit:read")
    assert [claims_of(each.value)["aud"] for each in (records, audit)] == [RECORDS, AUDIT]
    assert (records.scope, audit.scope) == ("records:read", "audit:read")
    assert valet.token("m2m", resource=AUDIT, scope="audit:read").value == audit.value
    assert provider.counters().tokens_issued == 2


@pytest.mark.parametrize("token", TOKENS)
def test_one_request_can_ask_for_another_resource(provider: Provider, valets: Valets, token: str) -> None:
    audit = TokenParameters(resource=AUDIT, scope="audit:read")
    with valets("private_key_jwt/ES256", token).client("m2m") as api:
        assert token_seen(api.get(HEALTH_RECORDS))["aud"] == RECORDS
        assert token_seen(api.get(AUDIT_EVENTS, extensions={"tokenvalet": audit}))["aud"] == AUDIT
        assert token_seen(api.get(HEALTH_RECORDS))["aud"] == RECORDS
    assert provider.counters().tokens_issued == 2


def test_without_a_resource_the_server_chooses(valets: Valets) -> None:
    with valets("client_secret_basic", BEARER, resource=None).client("m2m") as api:
        assert token_seen(api.get(HEALTH_RECORDS))["aud"] == RECORDS


def test_several_resources_are_sent_as_a_repeated_parameter(valets: Valets) -> None:
    # oidc-provider grants one at a time for client credentials, and says so only where it read two.
    with pytest.raises(TokenRefusedError) as refused:
        valets("client_secret_basic", BEARER, resource=[RECORDS, AUDIT]).token("m2m")
    assert refused.value.error == "invalid_target"
    assert "only a single resource indicator value" in (refused.value.error_description or "")


def test_a_proof_key_from_a_file_is_the_one_that_the_token_is_bound_to(valets: Valets, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "dpop.pem"
    path.write_bytes(pem)
    path.chmod(0o600)
    with valets("client_secret_basic", DPOP, dpop_key_file=str(path)).client("m2m") as api:
        claims = token_seen(api.get(HEALTH_RECORDS))
    assert claims["cnf"] == {"jkt": ECKey.import_key(pem).thumbprint()}


def test_a_token_by_hand_makes_proofs_for_itself(provider: Provider, valets: Valets) -> None:
    provider.require_nonces(authorization_server=True, api=False)
    token = valets("client_secret_basic", DPOP).token("m2m")
    url = provider.api_url + HEALTH_RECORDS
    headers = {"authorization": f"DPoP {token.value}", "dpop": token.proof("GET", url)}
    assert token_seen(httpx2.get(url, headers=headers, trust_env=False))["cnf"]


# DPoP on the wire


def test_new_nonces_at_both_ends_are_learnt_in_one_more_request_each(provider: Provider, valets: Valets) -> None:
    with valets("private_key_jwt/ES256", DPOP).client("m2m") as api:
        first = token_seen(api.get(HEALTH_RECORDS))
        provider.rotate_nonces()
        assert token_seen(api.get(HEALTH_RECORDS))["jti"] == first["jti"]
        provider.reset()
        provider.rotate_nonces()
        provider.revoke_all()
        assert token_seen(api.get(HEALTH_RECORDS))["jti"] != first["jti"]
    counters = provider.counters()
    assert counters.token_statuses == {"400": 1, "200": 1}
    assert counters.api_errors == {"use_dpop_nonce": 1, "invalid_token": 1}
    assert counters.api_statuses == {"401": 2, "200": 1}


def test_a_nonce_that_comes_with_a_200_is_used_from_then_on(provider: Provider, valets: Valets) -> None:
    with valets("client_secret_basic", DPOP).client("m2m") as api:
        api.get(HEALTH_RECORDS)
        provider.reset()
        for _ in range(3):
            provider.rotate_nonces(grace=True)
            assert api.get(HEALTH_RECORDS).status_code == 200
    assert provider.counters().api_statuses == {"200": 3}


def test_where_no_nonces_are_asked_for_nothing_is_sent_twice(provider: Provider, valets: Valets) -> None:
    provider.require_nonces(authorization_server=False, api=False)
    with valets("client_secret_basic", DPOP).client("m2m") as api:
        assert api.get(HEALTH_RECORDS).status_code == 200
    assert provider.counters().token_statuses == {"200": 1}
    assert provider.counters().api_statuses == {"200": 1}


def test_a_body_is_sent_again_with_the_nonce(valets: Valets) -> None:
    with valets("client_secret_basic", DPOP).client("m2m") as api:
        response = api.post(HEALTH_RECORDS, content=b"x" * 70_000)
    assert token_seen(response)
    assert response.json()["received"] == 70_000


@pytest.mark.parametrize(
    "tail",
    [
        "?page=2&of=%2F",
        "/a%2Fb",
        "/caf%C3%A9/%7Euser/;v=1",
        "//double//slash",
        "/with%20space+plus",
        "/back%5Cslash?q=%22",
    ],
)
def test_the_proof_names_the_path_as_it_is_on_the_wire(valets: Valets, tail: str) -> None:
    with valets("client_secret_basic", DPOP).client("m2m") as api:
        response = api.get(HEALTH_RECORDS + tail)
    assert token_seen(response)
    assert response.json()["target"] == HEALTH_RECORDS + tail


@pytest.mark.parametrize("token", TOKENS)
def test_a_redirect_within_the_api_is_followed_with_a_proof_of_its_own(valets: Valets, token: str) -> None:
    with valets("client_secret_basic", token).client("m2m", follow_redirects=True) as api:
        response = api.get(f"{HEALTH_RECORDS}/moved")
    assert token_seen(response)
    assert [hop.status_code for hop in response.history] == [307]
    assert response.json()["target"] == HEALTH_RECORDS


# Revocation


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("method", ["private_key_jwt/ES256", "tls_client_auth"])
def test_a_revoked_token_is_replaced_within_the_call(
    provider: Provider, valets: Valets, method: str, token: str
) -> None:
    with valets(method, token).client("m2m") as api:
        first = token_seen(api.get(HEALTH_RECORDS))
        provider.reset()
        provider.revoke_all()
        assert token_seen(api.get(HEALTH_RECORDS))["jti"] != first["jti"]
    assert provider.counters().tokens_issued == 1
    assert provider.counters().api_statuses == {"401": 1, "200": 1}


@pytest.mark.parametrize("token", TOKENS)
def test_revocation_under_load_costs_one_token_and_no_async_caller_sees_a_401(
    provider: Provider, valets: Valets, token: str
) -> None:
    async def traffic() -> list[int]:
        statuses: list[int] = []

        async def caller() -> None:
            for _ in range(CALLS_EACH):
                statuses.append((await api.get(HEALTH_RECORDS)).status_code)

        async with valets("private_key_jwt/ES256", token).async_client("m2m", timeout=60) as api:
            await api.get(HEALTH_RECORDS)
            provider.reset()
            tasks = [asyncio.create_task(caller()) for _ in range(CALLERS)]
            while len(statuses) < CALLERS:
                await asyncio.sleep(0)
            provider.revoke_all()
            await asyncio.gather(*tasks)
        return statuses

    assert asyncio.run(traffic()) == [200] * CALLERS * CALLS_EACH
    counters = provider.counters()
    assert counters.token_statuses == {"200": 1}
    assert counters.api_errors["invalid_token"] >= 1
    assert counters.api_errors.keys() == {"invalid_token"}


@pytest.mark.parametrize("token", TOKENS)
def test_revocation_under_load_costs_one_token_and_no_thread_sees_a_401(
    provider: Provider, valets: Valets, token: str
) -> None:
    valet = valets("client_secret_basic", token)

    def caller(number: int) -> list[int]:
        with valet.client("m2m", timeout=60) as api:
            statuses = [api.get(HEALTH_RECORDS).status_code]
            if number == 0:
                provider.revoke_all()
            return statuses + [api.get(HEALTH_RECORDS).status_code for _ in range(CALLS_EACH)]

    with valet.client("m2m") as api:
        assert api.get(HEALTH_RECORDS).status_code == 200
    provider.reset()
    with ThreadPoolExecutor(16) as pool:
        assert {status for statuses in pool.map(caller, range(16)) for status in statuses} == {200}
    counters = provider.counters()
    assert counters.token_statuses == {"200": 1}
    assert counters.api_errors["invalid_token"] >= 1


# Refusals


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "client_secret_jwt"])
def test_a_wrong_secret_is_an_error_that_says_so(provider: Provider, valets: Valets, method: str, token: str) -> None:
    valet = valets(method, token, client_secret="not-the-secret-but-as-long-as-any-of-them")
    with valet.client("m2m") as api, pytest.raises(TokenRefusedError) as refused:
        api.get(HEALTH_RECORDS)
    assert refused.value.error == "invalid_client"
    assert refused.value.status == 401
    assert "m2m" in str(refused.value)
    assert provider.counters().api_requests == 0
    assert provider.counters().token_requests == 1


def test_a_certificate_that_was_not_registered_is_an_error_that_says_so(provider: Provider, valets: Valets) -> None:
    certificate, key = provider.certificates["of-another-name"]
    valet = valets("tls_client_auth", BEARER, certificate_file=certificate, certificate_key_file=key)
    with pytest.raises(TokenRefusedError) as refused:
        valet.token("m2m")
    assert refused.value.error == "invalid_client"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"scope": ["records:write"]}, "invalid_scope"),
        ({"resource": "https://api.example.org/unknown"}, "invalid_target"),
    ],
)
def test_what_is_not_granted_is_an_error_that_says_so(valets: Valets, changes: dict[str, Any], error: str) -> None:
    with pytest.raises(TokenRefusedError) as refused:
        valets("client_secret_basic", BEARER, **changes).token("m2m")
    assert refused.value.error == error


def test_a_client_that_must_use_dpop_and_does_not_is_refused(valets: Valets) -> None:
    with pytest.raises(TokenRefusedError) as refused:
        valets("client_secret_basic", DPOP, dpop=False).token("m2m")
    assert refused.value.error == "invalid_grant"


def test_a_403_is_handed_to_the_caller_and_renews_nothing(provider: Provider, valets: Valets) -> None:
    with valets("client_secret_basic", BEARER, scope=None).client("m2m") as api:
        assert api.get(HEALTH_RECORDS).status_code == 403
        assert api.get(HEALTH_RECORDS).status_code == 403
    assert provider.counters().tokens_issued == 1
