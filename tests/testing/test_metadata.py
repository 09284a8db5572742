"""The metadata documents: where they are (RFC 8414 §3.1, OpenID Connect Discovery §4) and what they say."""

from __future__ import annotations

import httpx2
import pytest

from tokenvalet.testing import AuthorizationServer, Fault, serve

OAUTH = "/.well-known/oauth-authorization-server"
OIDC = "/.well-known/openid-configuration"


def test_the_metadata_names_the_server_as_it_is_served(http: httpx2.Client, auth: AuthorizationServer) -> None:
    document = http.get(auth.issuer + OAUTH).json()
    assert document == http.get(auth.issuer + OIDC).json()
    assert document["issuer"] == auth.issuer
    assert document["token_endpoint"] == auth.token_endpoint == auth.issuer + "/token"
    assert document["grant_types_supported"] == ["client_credentials"]
    assert "private_key_jwt" in document["token_endpoint_auth_methods_supported"]
    assert "ES256" in document["token_endpoint_auth_signing_alg_values_supported"]
    assert "ES256" in document["dpop_signing_alg_values_supported"]
    assert "HS256" not in document["dpop_signing_alg_values_supported"]
    assert "mtls_endpoint_aliases" not in document
    assert auth.metadata_requests == [OAUTH, OIDC]
    auth.reset()
    assert auth.metadata_requests == []


@pytest.mark.parametrize("issuer_path", ["/realms/a", "/realms/a/"])
@pytest.mark.standards("S-001", "S-002")
def test_the_path_of_the_issuer_goes_behind_the_one_and_before_the_other(http: httpx2.Client, issuer_path: str) -> None:
    auth = AuthorizationServer(issuer_path=issuer_path)
    with serve(auth) as server:
        assert auth.issuer == server.url + issuer_path
        paths = [OAUTH + "/realms/a", "/realms/a" + OIDC, OAUTH, OIDC, "/realms/a" + OAUTH, OIDC + "/realms/a"]
        answers = [http.get(server.url + path) for path in paths]
        assert [answer.status_code for answer in answers] == [200, 200, 404, 404, 404, 404]
        assert answers[0].json()["issuer"] == auth.issuer
        assert answers[0].json()["token_endpoint"] == f"{server.url}/realms/a/token"
        assert http.post(f"{server.url}/realms/a/token").status_code == 400
        assert http.get(answers[0].json()["jwks_uri"]).status_code == 200
        assert auth.metadata_requests == paths


def test_only_the_documents_of_discovery_exist(http: httpx2.Client, auth: AuthorizationServer) -> None:
    auth.discovery = ("oidc",)
    assert http.get(auth.issuer + OAUTH).status_code == 404
    assert http.get(auth.issuer + OIDC).status_code == 200
    auth.discovery = ()
    assert http.get(auth.issuer + OIDC).status_code == 404


def test_overrides_replace_and_remove_members(http: httpx2.Client, auth: AuthorizationServer) -> None:
    auth.metadata_overrides = {"issuer": "https://evil.example", "jwks_uri": None, "more": [1]}
    document = http.get(auth.issuer + OAUTH).json()
    assert (document["issuer"], document["more"]) == ("https://evil.example", [1])
    assert "jwks_uri" not in document


@pytest.mark.standards("S-120")
def test_a_token_endpoint_for_mutual_tls_is_an_alias(http: httpx2.Client, auth: AuthorizationServer) -> None:
    auth.mtls_token_endpoint = "https://127.0.0.1:1/token"
    document = http.get(auth.issuer + OAUTH).json()
    assert document["mtls_endpoint_aliases"] == {"token_endpoint": "https://127.0.0.1:1/token"}


def test_faults_can_be_aimed_at_the_metadata(http: httpx2.Client, auth: AuthorizationServer) -> None:
    auth.misbehave(Fault.status_only(503).at("metadata"))
    assert http.post(auth.token_endpoint).status_code == 400
    assert http.get(auth.issuer + OAUTH).status_code == 503
    assert http.get(auth.issuer + OAUTH).status_code == 200
