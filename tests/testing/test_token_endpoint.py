"""The token endpoint: what it takes, what it refuses (RFC 6749 §3.2, §4.4, §5) and what it issues (RFC 9068)."""

from __future__ import annotations

from typing import Any

import httpx2
import jwt
import pytest

from testing.makers import Clock, eventually
from tokenvalet.testing import AuthorizationServer, RegisteredClient

BASIC = ("web", "s3cret")
GRANT = {"grant_type": "client_credentials"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


def token_request(http: httpx2.Client, auth: AuthorizationServer, **parameters: Any) -> httpx2.Response:
    return http.post(auth.token_endpoint, data=GRANT | parameters, auth=BASIC)


def claims_of(response: httpx2.Response) -> dict[str, Any]:
    return jwt.decode(response.json()["access_token"], options={"verify_signature": False})


def test_a_token_response_holds_what_the_rfc_asks_for(http: httpx2.Client, auth: AuthorizationServer) -> None:
    response = token_request(http, auth)
    body = response.json()
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-type"] == "application/json"
    assert body.pop("access_token") == auth.issued_tokens[0]
    assert body == {"token_type": "Bearer", "expires_in": 3600, "scope": "records:read records:write"}


def test_the_token_is_a_jwt_that_its_key_set_verifies(
    http: httpx2.Client, auth: AuthorizationServer, clock: Clock
) -> None:
    token = token_request(http, auth, scope="records:read").json()["access_token"]
    keys = jwt.PyJWKSet.from_dict(http.get(auth.issuer + "/jwks").json())
    header = jwt.get_unverified_header(token)
    assert header["typ"] == "at+jwt"
    options: Any = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(token, keys[header["kid"]], ["ES256"], audience="https://api.example.org", options=options)
    assert claims.pop("jti")
    assert claims == {
        "iss": auth.issuer,
        "sub": "web",
        "client_id": "web",
        "aud": "https://api.example.org",
        "scope": "records:read",
        "iat": int(clock.now),
        "exp": int(clock.now) + 3601,  # in whole seconds, rounded up; the server itself counts exactly
    }


def test_private_members_are_not_in_the_key_set(http: httpx2.Client, auth: AuthorizationServer) -> None:
    assert "d" not in http.get(auth.issuer + "/jwks").json()["keys"][0]


def test_every_request_is_recorded_as_it_came(http: httpx2.Client, auth: AuthorizationServer, clock: Clock) -> None:
    token_request(http, auth, resource=["https://a.example", "https://b.example"])
    http.post(auth.token_endpoint, data=GRANT, auth=("web", "wrong"))
    good, bad = auth.token_requests
    assert good.form == {
        "grant_type": ["client_credentials"],
        "resource": ["https://a.example", "https://b.example"],
    }
    assert (good.authenticated, good.outcome, good.client_id) == (True, "issued", "web")
    assert (good.auth_method, good.dpop_jkt, good.received_at) == ("client_secret_basic", None, clock.now)
    assert ("content-type", "application/x-www-form-urlencoded") in good.headers
    assert (bad.authenticated, bad.outcome, bad.client_id) == (False, "invalid_client", None)
    assert auth.issued == 1
    auth.reset()
    assert (auth.token_requests, auth.issued) == ([], 0)


def test_a_lifetime_of_none_leaves_expires_in_out(http: httpx2.Client, auth: AuthorizationServer) -> None:
    auth.access_token_lifetime = None
    assert "expires_in" not in token_request(http, auth).json()


def test_the_lifetime_can_be_changed_while_it_runs(http: httpx2.Client, auth: AuthorizationServer) -> None:
    auth.access_token_lifetime = 5
    assert token_request(http, auth).json()["expires_in"] == 5


@pytest.mark.standards("S-030")
def test_only_post_is_taken(http: httpx2.Client, auth: AuthorizationServer) -> None:
    response = http.get(auth.token_endpoint, params=GRANT, auth=BASIC)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "multipart/form-data", ""])
@pytest.mark.standards("S-030")
def test_only_forms_are_taken(http: httpx2.Client, auth: AuthorizationServer, content_type: str) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = http.post(auth.token_endpoint, content="grant_type=client_credentials", headers=headers, auth=BASIC)
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")


def test_a_charset_beside_the_content_type_is_no_matter(http: httpx2.Client, auth: AuthorizationServer) -> None:
    headers = {"content-type": "Application/X-WWW-Form-Urlencoded; charset=UTF-8"}
    response = http.post(auth.token_endpoint, content="grant_type=client_credentials", headers=headers, auth=BASIC)
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
        ("grant_type=client_credentials&scope=a&scope=b", "invalid_request"),
        ("grant_type=client_credentials&scope=&scope=records:read", "invalid_request"),
        ("grant_type=client_credentials&scope", "invalid_request"),
        ("grant_type=client_credentials&scope=%FF", "invalid_request"),
        ("grant_type=client_credentials&client_secret=s3cret", "invalid_request"),
        ("scope=records:read", "invalid_request"),
        ("grant_type=", "invalid_request"),
        ("", "invalid_request"),
        ("grant_type=password", "unsupported_grant_type"),
        ("grant_type=client_credentials&scope=admin", "invalid_scope"),
        ("grant_type=client_credentials&scope=records:read++records:write", "invalid_scope"),
        ("grant_type=client_credentials&scope=records:read%0Ax", "invalid_scope"),
        ("grant_type=client_credentials&scope=%22", "invalid_scope"),
        ("grant_type=client_credentials&resource=records", "invalid_target"),
        ("grant_type=client_credentials&resource=https://a.example/%23x", "invalid_target"),
    ],
)
@pytest.mark.standards("S-031", "S-033", "S-035")
def test_a_request_that_is_not_right_is_refused(
    http: httpx2.Client, auth: AuthorizationServer, body: str, error: str
) -> None:
    response = http.post(auth.token_endpoint, content=body, headers=FORM, auth=BASIC)
    assert (response.status_code, response.json()["error"]) == (400, error)
    assert auth.token_requests[0].outcome == error


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("grant_type=client_credentials&scope", "not a form"),
        ("grant_type=client_credentials&scope=%FF", "not a form"),
        ("grant_type=client_credentials&scope=a++b", "malformed"),
        ("grant_type=client_credentials&scope=%22", "malformed"),
    ],
)
def test_the_refusal_of_a_malformed_request_says_so(
    http: httpx2.Client, auth: AuthorizationServer, body: str, said: str
) -> None:
    response = http.post(auth.token_endpoint, content=body, headers=FORM, auth=BASIC)
    assert said in response.json()["error_description"]


@pytest.mark.parametrize("query", ["client_id=web&client_secret=s3cret", "client_secret=", "client_assertion=a.b.c"])
@pytest.mark.standards("S-012")
def test_credentials_in_the_url_are_refused(http: httpx2.Client, auth: AuthorizationServer, query: str) -> None:
    response = http.post(f"{auth.token_endpoint}?{query}", data=GRANT, auth=BASIC)
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")


@pytest.mark.standards("S-032")
def test_a_parameter_without_a_value_counts_as_left_out(http: httpx2.Client, auth: AuthorizationServer) -> None:
    assert token_request(http, auth, scope="").json()["scope"] == "records:read records:write"


def test_the_audience_is_what_was_named(http: httpx2.Client, auth: AuthorizationServer) -> None:
    assert claims_of(token_request(http, auth, resource="https://a.example"))["aud"] == "https://a.example"
    both = token_request(http, auth, resource=["https://a.example", "urn:b"], audience="c")
    assert claims_of(both)["aud"] == ["https://a.example", "urn:b", "c"]


@pytest.mark.standards("S-036")
def test_a_resource_that_the_client_may_not_name_is_an_invalid_target(
    http: httpx2.Client, auth: AuthorizationServer
) -> None:
    auth.register(RegisteredClient(client_id="web", client_secret="s3cret", resources=("https://a.example",)))
    assert token_request(http, auth, resource="https://a.example").status_code == 200
    for parameter in ("resource", "audience"):
        refused = token_request(http, auth, **{parameter: "https://b.example"})
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_target")


def test_a_client_without_the_grant_type_is_unauthorized(http: httpx2.Client, auth: AuthorizationServer) -> None:
    auth.register(RegisteredClient(client_id="web", client_secret="s3cret", grant_types=()))
    refused = token_request(http, auth)
    assert (refused.status_code, refused.json()["error"]) == (400, "unauthorized_client")


def test_the_delay_is_waited_before_the_answer(http: httpx2.Client, auth: AuthorizationServer) -> None:
    auth.token_delay = 0.2
    with pytest.raises(httpx2.ReadTimeout):
        http.post(auth.token_endpoint, data=GRANT, auth=BASIC, timeout=httpx2.Timeout(5, read=0.05))
    eventually(lambda: auth.issued == 1)


@pytest.mark.standards("S-129", "S-023")
def test_a_revoked_token_is_known_no_more(http: httpx2.Client, auth: AuthorizationServer) -> None:
    token = token_request(http, auth).json()["access_token"]
    revocation = auth.issuer + "/revoke"
    assert http.post(revocation, data={"token": token}).status_code == 401
    assert http.post(revocation, data={"token_type_hint": "access_token"}, auth=BASIC).status_code == 400
    assert auth.access_tokens.verify(token, issuer=auth.issuer, now=auth.clock())
    assert http.post(revocation, data={"token": token}, auth=BASIC).status_code == 200
    assert http.post(revocation, data={"token": "unheard of"}, auth=BASIC).status_code == 200
    with pytest.raises(Exception, match="it was revoked"):
        auth.access_tokens.verify(token, issuer=auth.issuer, now=auth.clock())


def test_other_paths_do_not_exist(http: httpx2.Client, auth: AuthorizationServer) -> None:
    assert http.post(auth.issuer + "/oauth/token", data=GRANT, auth=BASIC).status_code == 404
    assert auth.token_requests == []
