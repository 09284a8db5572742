"""The token arrives, and with DPoP a proof for exactly the request that is on the wire."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable

import pytest

from contract.conftest import CLIENT_SECRET, Opener
from contract.drivers import ONE_SHOT, REPLAYABLE, Body, Driver
from contract.servers import claims_of, fields
from tokenvalet.testing import AuthorizationServer, ProtectedApi, serve

RECORDS = "/api/v1/integration/health-records"


@pytest.mark.standards("S-070", "S-071")
def test_a_bearer_token_arrives_in_the_authorization_header_and_nowhere_else(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    answer = open_session().get(api.origin + RECORDS)
    assert answer.status == 200
    assert [record["id"] for record in answer.json()] == ["hr-1", "hr-2", "hr-3"]
    [call], [token] = api.calls, auth.issued_tokens
    assert fields(call.headers, "authorization") == [f"Bearer {token}"]
    assert fields(call.headers, "dpop") == []
    assert token not in f"{call.path}?{call.query}"


@pytest.mark.standards("S-096", "S-098", "S-099")
def test_a_dpop_token_arrives_with_one_proof_that_the_api_accepts(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    assert open_session(dpop=True).get(api.origin + RECORDS).status == 200
    [call], [token], [asked] = api.calls, auth.issued_tokens, auth.token_requests
    assert fields(call.headers, "authorization") == [f"DPoP {token}"]
    [proof] = fields(call.headers, "dpop")
    assert claims_of(proof)["ath"]
    assert asked.dpop_jkt is not None
    assert "ath" not in claims_of(fields(asked.headers, "dpop")[0])


def test_one_token_serves_many_calls(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, dpop: bool
) -> None:
    session = open_session(dpop=dpop)
    assert {session.get(api.origin + RECORDS).status for _ in range(5)} == {200}
    assert (len(api.calls), len(auth.token_requests)) == (5, 1)


@pytest.mark.standards("S-200")
def test_many_first_calls_at_once_ask_for_one_token(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, dpop: bool
) -> None:
    auth.token_delay = 0.05
    session = open_session(dpop=dpop)
    calls = [session.start("GET", api.origin + RECORDS) for _ in range(20)]
    assert {call.result().status for call in calls} == {200}
    assert (len(api.calls), len(auth.token_requests)) == (20, 1)


@pytest.mark.standards("S-091", "S-097")
def test_every_request_has_a_proof_of_its_own(open_session: Opener, api: ProtectedApi) -> None:
    session = open_session(dpop=True)
    for _ in range(5):
        session.get(api.origin + RECORDS)
    assert len({call.proof_claims["jti"] for call in api.calls if call.proof_claims}) == 5


@pytest.mark.standards("S-092")
def test_the_htm_of_a_proof_is_the_method_on_the_wire(open_session: Opener, api: ProtectedApi) -> None:
    session = open_session(dpop=True)
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE", "purge"]
    assert [session.request(method, api.origin + "/echo").status for method in methods] == [200] * len(methods)
    assert [call.method.upper() for call in api.calls] == [method.upper() for method in methods]
    assert [claims_of(fields(call.headers, "dpop")[0])["htm"] for call in api.calls] == [c.method for c in api.calls]


ODD_PATHS = [
    "",
    "/",
    "//",
    "//echo//a",
    "/echo//a//",
    "/echo;v=1/a;b=2",
    "/echo/a%2Fb",
    "/echo/a%2fb",
    "/echo/%7etilde~",
    "/echo/%41%zz",
    "/echo/back\\slash",
    '/echo/"quote"%22',
    "/echo/ünï/日本",
    "/echo/%C3%BC",
    "/echo/a b",
    "/echo/!$&'()*+,=:@",
    "/echo/[a]|{b}^`",
    "/echo/./a/../b",
    "/echo?",
    "/echo?q=a%20b&r=/x?y",
    "/echo/a?q=http://127.0.0.1/%7e",
    "/echo#fragment",
    "/echo/a?q=1#fragment",
    "?q=1",
    "#fragment",
]


@pytest.mark.standards("S-093", "S-094")
def test_the_htu_of_a_proof_is_the_address_on_the_wire(open_session: Opener, api: ProtectedApi) -> None:
    session = open_session(dpop=True)
    for path in ODD_PATHS:
        answer = session.get(api.origin + path)
        call = api.calls.pop()
        assert call.proof_claims is not None, path
        assert call.proof_claims["htu"] == api.origin + call.path, path
        assert answer.status in (200, 404), path  # which the API answers only once it has verified the proof
    assert api.calls == []


@pytest.mark.standards("S-093")
def test_the_htu_of_a_proof_has_scheme_and_host_in_lower_case(open_session: Opener, auth: AuthorizationServer) -> None:
    api = ProtectedApi(auth)
    with serve(api) as server:
        origin = f"http://localhost:{server.port}"
        answer = open_session(origin, dpop=True).get(f"HTTP://LocalHost:{server.port}/echo/A")
        [call] = api.calls
        assert answer.status == 200
        assert call.proof_claims is not None
        assert call.proof_claims["htu"] == f"{origin}/echo/A"


@pytest.mark.standards("S-093")
@pytest.mark.parametrize("host", ["[::1]", "[0::1]"])
def test_an_origin_may_be_an_ipv6_address(open_session: Opener, auth: AuthorizationServer, host: str) -> None:
    api = ProtectedApi(auth)
    with serve(api, host="::1") as server:
        answer = open_session(f"http://{host}:{server.port}", dpop=True).get(f"http://{host}:{server.port}/echo")
        [call] = api.calls
        assert answer.status == 200
        assert call.proof_claims is not None
        # Some libraries write the address as short as it can be.
        assert call.proof_claims["htu"] == f"http://{fields(call.headers, 'host')[0]}/echo"


@pytest.mark.standards("S-093", "S-142")
def test_a_default_port_may_be_written_or_left_out(
    open_session: Opener, auth: AuthorizationServer, privileged_host: str
) -> None:
    api = ProtectedApi(auth)
    with serve(api, host=privileged_host, port=80):
        session = open_session(f"http://{privileged_host}", dpop=True)
        for written in ("http://{}:80/echo", "HTTP://{}:80/echo", "http://{}/echo", "http://{}:080/echo"):
            assert session.get(written.format(privileged_host)).status == 200, written
        assert {str(call.proof_claims and call.proof_claims["htu"]) for call in api.calls} == {
            f"http://{privileged_host}/echo"
        }


@pytest.mark.standards("S-072", "S-073", "S-093", "S-142")
def test_a_default_port_may_be_written_or_left_out_over_tls_too(
    open_session: Opener, auth: AuthorizationServer, privileged_host: str, tls: Callable[..., ssl.SSLContext]
) -> None:
    api = ProtectedApi(auth)
    with serve(api, host=privileged_host, port=443, ssl_context=tls(privileged_host)):
        session = open_session(f"https://{privileged_host}", dpop=True)
        for written in ("https://{}:443/echo", "HTTPS://{}:443/echo", "https://{}/echo"):
            assert session.get(written.format(privileged_host)).status == 200, written
        assert {str(call.proof_claims and call.proof_claims["htu"]) for call in api.calls} == {
            f"https://{privileged_host}/echo"
        }


@pytest.mark.standards("S-073")
def test_a_server_with_a_certificate_for_another_name_is_sent_nothing(
    driver: Driver, open_session: Opener, auth: AuthorizationServer, tls: Callable[..., ssl.SSLContext]
) -> None:
    api = ProtectedApi(auth)
    with serve(api, ssl_context=tls("api.example.org")) as server:
        with pytest.raises(driver.failures):
            open_session(server.url).get(server.url + RECORDS)
        assert api.calls == []


def test_a_body_arrives_whole_beside_the_token(open_session: Opener, api: ProtectedApi, dpop: bool) -> None:
    session = open_session(dpop=dpop)
    for kind in (*REPLAYABLE, *ONE_SHOT):
        body = Body(kind=kind)
        answer = session.request("POST", api.origin + "/echo", body=body, headers={"X-Own": "kept"})
        call = api.calls.pop()
        assert answer.status == 200, kind
        assert call.body_length >= len(body.content), kind
        assert fields(call.headers, "x-own") == ["kept"], kind
        if kind in ("bytes", "generator", "iterator", "file"):
            assert call.body_sha256 == hashlib.sha256(body.content).hexdigest(), kind


def test_the_secret_of_the_client_goes_to_the_token_endpoint_alone(open_session: Opener, api: ProtectedApi) -> None:
    open_session().get(api.origin + RECORDS)
    assert CLIENT_SECRET not in str(api.calls)
