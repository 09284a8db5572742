"""The protected API: who is let in (RFC 6750), what is said to the others, and what is kept of every call."""

from __future__ import annotations

import hashlib
import threading
import time

import httpx2
import jwt
import pytest
from joserfc import jwt as jose_jwt

from testing.makers import Clock, ec_key, make_jwt
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve

RECORDS = "/api/v1/integration/health-records"


@pytest.fixture
def token(http: httpx2.Client, auth: AuthorizationServer) -> str:
    return new_token(http, auth)


def new_token(http: httpx2.Client, auth: AuthorizationServer, **parameters: str) -> str:
    form = {"grant_type": "client_credentials", **parameters}
    answer = http.post(auth.token_endpoint, data=form, auth=("web", "s3cret")).json()
    return str(answer["access_token"])


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def error_of(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.headers["www-authenticate"].partition(",")[0]


def test_a_good_token_is_let_in(http: httpx2.Client, api: ProtectedApi, token: str) -> None:
    response = http.get(api.origin + RECORDS, headers=bearer(token))
    assert response.status_code == 200
    assert [record["id"] for record in response.json()] == ["hr-1", "hr-2", "hr-3"]
    assert http.post(api.origin + RECORDS, headers=bearer(token)).status_code == 405


def test_who_shows_no_token_is_told_the_schemes_and_no_error(http: httpx2.Client, api: ProtectedApi) -> None:
    for headers in ({}, {"authorization": "Basic d2ViOnMzY3JldA=="}):
        response = http.get(api.origin + RECORDS, headers=headers)
        challenge = response.headers["www-authenticate"]
        assert response.status_code == 401
        assert challenge.startswith('Bearer realm="records", DPoP realm="records", algs="ES256 ')
        assert "error" not in challenge
    api.accept = ("DPoP",)
    assert http.get(api.origin + RECORDS).headers["www-authenticate"].startswith("DPoP ")


def test_a_scheme_that_is_not_accepted_is_refused(http: httpx2.Client, api: ProtectedApi, token: str) -> None:
    api.accept = ("DPoP",)
    assert http.get(api.origin + RECORDS, headers=bearer(token)).status_code == 401


def test_the_name_of_the_scheme_may_be_spelled_in_any_case(http: httpx2.Client, api: ProtectedApi, token: str) -> None:
    response = http.get(api.origin + RECORDS, headers={"authorization": f"bEaReR {token}"})
    assert (response.status_code, api.calls[0].scheme) == (200, "bEaReR")


@pytest.mark.parametrize("value", ["Bearer", "Bearer a b", "Bearer a,b", "Bearer  a", "Bearer \x7f"])
def test_a_malformed_token_is_an_invalid_request(http: httpx2.Client, api: ProtectedApi, value: str) -> None:
    response = http.get(api.origin + RECORDS, headers={"authorization": value})
    assert error_of(response) == (400, 'Bearer error="invalid_request"')


@pytest.mark.standards("S-070", "S-071")
def test_two_tokens_or_one_in_the_url_are_an_invalid_request(
    http: httpx2.Client, api: ProtectedApi, token: str
) -> None:
    twice = [*bearer(token).items()] * 2
    assert http.get(api.origin + RECORDS, headers=twice).status_code == 400
    assert http.get(f"{api.origin}{RECORDS}?access_token={token}").status_code == 400


def test_a_token_that_nobody_issued_is_refused(
    http: httpx2.Client, auth: AuthorizationServer, api: ProtectedApi, token: str
) -> None:
    claims = jwt.decode(token, options={"verify_signature": False})
    header = jwt.get_unverified_header(token)
    head, payload, signature = token.split(".")
    for forged in (
        make_jwt(ec_key(), claims, {"typ": "at+jwt", "kid": header["kid"]}),
        jwt.encode(claims, "", "none", {"typ": "at+jwt"}),
        f"{head}.{payload}.",
        f"{head}.{payload}.{signature[:-4]}AAAA",
        "opaque",
        "a.b.c",
    ):
        assert error_of(http.get(api.origin + RECORDS, headers=bearer(forged))) == (401, 'Bearer error="invalid_token"')


def test_another_kind_of_jwt_by_the_same_key_is_no_access_token(
    http: httpx2.Client, auth: AuthorizationServer, api: ProtectedApi, token: str
) -> None:
    claims = jwt.decode(token, options={"verify_signature": False})
    key = auth.access_tokens._key
    id_token = jose_jwt.encode({"alg": "ES256", "typ": "JWT"}, claims, key)
    assert http.get(api.origin + RECORDS, headers=bearer(id_token)).status_code == 401


def test_a_token_of_another_issuer_is_refused(
    http: httpx2.Client, auth: AuthorizationServer, api: ProtectedApi, token: str
) -> None:
    auth.issuer = "https://login.example.org"
    assert error_of(http.get(api.origin + RECORDS, headers=bearer(token)))[0] == 401


def test_an_expired_token_is_refused_to_the_second(
    http: httpx2.Client, auth: AuthorizationServer, api: ProtectedApi, clock: Clock
) -> None:
    auth.access_token_lifetime = 2
    token = new_token(http, auth)
    clock.now += 1.99
    assert http.get(api.origin + RECORDS, headers=bearer(token)).status_code == 200
    clock.now += 0.01
    refused = http.get(api.origin + RECORDS, headers=bearer(token))
    assert refused.headers["www-authenticate"] == 'Bearer error="invalid_token", error_description="it has expired"'


def test_revoked_tokens_are_refused(http: httpx2.Client, auth: AuthorizationServer, api: ProtectedApi) -> None:
    first, second, third = (new_token(http, auth) for _ in range(3))

    def statuses() -> list[int]:
        return [http.get(api.origin + RECORDS, headers=bearer(each)).status_code for each in (first, second, third)]

    auth.revoke(first)
    auth.revoke("unheard of")
    assert statuses() == [401, 200, 200]
    auth.revoke_all()
    assert statuses() == [401, 401, 401]
    assert http.get(api.origin + RECORDS, headers=bearer(new_token(http, auth))).status_code == 200


def test_the_audience_is_checked_if_there_is_one(
    http: httpx2.Client, auth: AuthorizationServer, api: ProtectedApi
) -> None:
    api.audience = "https://records.example"
    good = new_token(http, auth, resource="https://records.example", audience="other")
    bad = new_token(http, auth, resource="https://records.example.evil")
    assert http.get(api.origin + RECORDS, headers=bearer(good)).status_code == 200
    assert http.get(api.origin + RECORDS, headers=bearer(bad)).status_code == 401


@pytest.mark.standards("S-075")
def test_too_little_scope_is_a_403(http: httpx2.Client, auth: AuthorizationServer, api: ProtectedApi) -> None:
    api.required_scope = "records:write"
    little = http.get(api.origin + RECORDS, headers=bearer(new_token(http, auth, scope="records:read")))
    assert little.status_code == 403
    assert 'error="insufficient_scope"' in little.headers["www-authenticate"]
    assert 'scope="records:write"' in little.headers["www-authenticate"]
    enough = new_token(http, auth, scope="records:write")
    assert http.get(api.origin + RECORDS, headers=bearer(enough)).status_code == 200


def test_rejections_can_be_ordered(http: httpx2.Client, api: ProtectedApi, token: str) -> None:
    def status() -> int:
        return http.get(api.origin + RECORDS, headers=bearer(token)).status_code

    api.reject_next(2)
    assert [status() for _ in range(3)] == [401, 401, 200]
    api.reject_next(status=503, challenge="DPoP")
    assert [status() for _ in range(2)] == [503, 200]
    api.reject_all = 'Bearer error="invalid_token"'
    assert [status() for _ in range(3)] == [401, 401, 401]
    api.reset()
    assert status() == 200
    assert len(api.calls) == 1


def test_every_call_is_kept_as_it_came(http: httpx2.Client, api: ProtectedApi, token: str, clock: Clock) -> None:
    headers = bearer(token) | {"x-twice": "1", "DPoP": "no proof"}
    http.put(api.origin + "/echo/%7Ea?b=%20&c", content=b"\x00body", headers=[*headers.items(), ("x-twice", "2")])
    seen = api.calls[0]
    assert (seen.method, seen.path, seen.query, seen.status) == ("PUT", "/echo/%7Ea", "b=%20&c", 200)
    assert [value for name, value in seen.headers if name == "x-twice"] == ["1", "2"]
    assert (seen.body_length, seen.body_sha256) == (5, hashlib.sha256(b"\x00body").hexdigest())
    assert (seen.scheme, seen.token_sha256) == ("Bearer", hashlib.sha256(token.encode()).hexdigest())
    assert (seen.proof_claims, seen.client_cert_thumbprint, seen.received_at) == (None, None, clock.now)


def test_a_call_without_a_token_is_kept_too(http: httpx2.Client, api: ProtectedApi) -> None:
    http.get(api.origin)
    seen = api.calls[0]
    assert (seen.path, seen.status, seen.scheme, seen.token_sha256) == ("/", 401, None, None)


def test_the_echo_tells_what_came(http: httpx2.Client, api: ProtectedApi, token: str) -> None:
    said = http.request("PATCH", api.origin + "/echo?a=1", content=b"xyz", headers=bearer(token)).json()
    assert (said["method"], said["path"], said["query"], said["body_length"]) == ("PATCH", "/echo", "a=1", 3)
    assert said["body_sha256"] == hashlib.sha256(b"xyz").hexdigest()
    assert "authorization" in said["headers"]


def test_the_open_part_wants_no_token(http: httpx2.Client, api: ProtectedApi) -> None:
    assert http.get(api.origin + "/open/download").status_code == 200
    assert api.calls[0].token_sha256 is None


def test_redirects_statuses_and_streams_are_made_to_order(http: httpx2.Client, api: ProtectedApi, token: str) -> None:
    def get(path: str) -> httpx2.Response:
        return http.get(api.origin + path, headers=bearer(token))

    moved = get("/redirect?to=https://elsewhere.example/%257E&status=308")
    assert (moved.status_code, moved.headers["location"]) == (308, "https://elsewhere.example/%7E")
    assert get("/redirect?to=/echo").status_code == 307
    assert [get(f"/status/{status}").status_code for status in (204, 418, 500)] == [204, 418, 500]
    stream = get("/stream?chunks=3&size=2")
    assert (stream.content, stream.headers["transfer-encoding"]) == (b"\x00\x00\x01\x01\x02\x02", "chunked")
    assert get("/nothing").status_code == 404


def test_answers_can_be_delayed(http: httpx2.Client, api: ProtectedApi, token: str) -> None:
    api.delay = 0.1
    began = time.monotonic()
    assert http.get(api.origin + RECORDS, headers=bearer(token)).status_code == 200
    assert time.monotonic() - began > 0.09


def test_a_hundred_connections_at_once_are_all_answered(http: httpx2.Client, api: ProtectedApi, token: str) -> None:
    api.delay = 0.05
    statuses: list[int] = []

    def get() -> None:
        statuses.append(http.get(api.origin + RECORDS, headers=bearer(token)).status_code)

    threads = [threading.Thread(target=get) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 100
    assert len(api.calls) == 100


def test_a_token_of_a_server_that_claims_to_be_the_issuer_is_refused(http: httpx2.Client, api: ProtectedApi) -> None:
    web = RegisteredClient(client_id="web", client_secret="s3cret")
    with serve(impostor := AuthorizationServer(clients=[web], clock=api.auth.clock)):
        endpoint, impostor.issuer = impostor.token_endpoint, api.auth.issuer
        form = {"grant_type": "client_credentials"}
        token = http.post(endpoint, data=form, auth=("web", "s3cret")).json()["access_token"]
    assert http.get(api.origin + RECORDS, headers=bearer(token)).status_code == 401
