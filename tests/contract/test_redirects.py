"""Redirects: a new proof for every hop, and no token, no proof and no body where they do not belong."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from contract.conftest import Opener
from contract.drivers import Body, Driver
from contract.servers import Recorder, Reply, claims_of, fields
from tokenvalet import OriginError, TokenParameters
from tokenvalet.testing import AuthorizationServer, ProtectedApi, serve

REDIRECTS = (301, 302, 303, 307, 308)
BODY = Body(kind="bytes")


def redirect(origin: str, to: str, status: int = 307) -> str:
    """Return the address at the API that redirects to `to`."""
    return f"{origin}/redirect?to={quote(to, safe='')}&status={status}"


def located(to: str, status: int = 307) -> Reply:
    return Reply(status=status, headers=(("location", to),))


def targets(api: ProtectedApi) -> list[tuple[str, str]]:
    """Return method and address in the proof of every call."""
    proofs = [claims_of(fields(call.headers, "dpop")[0]) for call in api.calls]
    return [(claims["htm"], claims["htu"]) for claims in proofs]


# Within the origin


@pytest.mark.standards("S-093", "S-097", "S-140")
@pytest.mark.parametrize("status", REDIRECTS)
def test_a_redirect_within_the_origin_gets_a_proof_of_its_own(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, status: int
) -> None:
    answer = open_session(dpop=True).get(redirect(api.origin, "/echo/b%2Fc?q=1", status))
    assert (answer.status, answer.history) == (200, [status])
    assert targets(api) == [("GET", f"{api.origin}/redirect"), ("GET", f"{api.origin}/echo/b%2Fc")]
    assert len(auth.token_requests) == 1


@pytest.mark.standards("S-140")
def test_a_redirect_within_the_origin_keeps_the_bearer_token(open_session: Opener, api: ProtectedApi) -> None:
    answer = open_session().get(redirect(api.origin, api.origin.replace("http:", "HTTP:") + "/echo"))
    assert answer.status == 200
    assert len({str(fields(call.headers, "authorization")) for call in api.calls}) == 1


@pytest.mark.standards("S-092", "S-146")
@pytest.mark.parametrize("status", REDIRECTS)
def test_a_redirect_that_changes_the_method_changes_the_htm(
    open_session: Opener, api: ProtectedApi, status: int
) -> None:
    answer = open_session(dpop=True).request("POST", redirect(api.origin, "/echo", status), body=BODY)
    expected = "POST" if status in (307, 308) else "GET"
    assert answer.status == 200
    assert [method for method, _ in targets(api)] == ["POST", expected] == [call.method for call in api.calls]
    assert api.calls[1].body_length == (len(BODY.content) if expected == "POST" else 0)


@pytest.mark.standards("S-101")
def test_a_redirect_that_is_asked_for_a_nonce_is_put_right_where_it_was_asked(
    open_session: Opener, api: ProtectedApi
) -> None:
    api.require_dpop_nonce = True
    answer = open_session(dpop=True).get(redirect(api.origin, "/echo"))
    assert answer.status == 200
    assert [call.status for call in api.calls] == [401, 307, 200]


def test_a_redirect_that_is_rejected_is_renewed_and_sent_once_more(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, dpop: bool
) -> None:
    session = open_session(dpop=dpop)
    session.get(api.origin + "/echo")
    auth.revoke_all()
    answer = session.get(redirect(api.origin, "/echo"))
    assert answer.status == 200
    assert [call.status for call in api.calls] == [200, 401, 307, 200]
    assert len(auth.token_requests) == 2


def test_what_the_token_was_asked_for_with_holds_for_the_redirect_too(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    session = open_session(settings={"scope": "records:read"})
    answer = session.get(redirect(api.origin, "/echo"), token_parameters=TokenParameters(scope="records:write"))
    assert answer.status == 200
    assert [asked.form["scope"] for asked in auth.token_requests] == [["records:write"]]


def test_a_redirect_that_is_not_followed_is_handed_over(
    open_session: Opener, api: ProtectedApi, foreign: Recorder
) -> None:
    answer = open_session().get(redirect(api.origin, foreign.origin), follow_redirects=False)
    assert (answer.status, len(foreign.requests)) == (307, 0)


# To another origin that is allowed


@pytest.mark.standards("S-093", "S-140")
def test_a_redirect_to_a_second_allowed_origin_takes_the_token_along(
    open_session: Opener, api: ProtectedApi, second_api: ProtectedApi, auth: AuthorizationServer
) -> None:
    session = open_session(api.origin, second_api.origin, dpop=True)
    answer = session.request("POST", redirect(api.origin, second_api.origin + "/echo"), body=BODY)
    assert (answer.status, answer.json()["body_length"]) == (200, len(BODY.content))
    assert targets(second_api) == [("POST", f"{second_api.origin}/echo")]
    assert len(auth.token_requests) == 1


@pytest.mark.standards("S-100")
def test_a_nonce_does_not_go_along_to_a_second_allowed_origin(
    open_session: Opener, api: ProtectedApi, second_api: ProtectedApi
) -> None:
    api.require_dpop_nonce = second_api.require_dpop_nonce = True
    session = open_session(api.origin, second_api.origin, dpop=True)
    assert session.get(redirect(api.origin, second_api.origin + "/echo")).status == 200
    nonces = [claims_of(fields(call.headers, "dpop")[0]).get("nonce") for call in (*api.calls, *second_api.calls)]
    assert nonces[0] is nonces[2] is None
    assert None is not nonces[1] != nonces[3] is not None


# Abroad


@pytest.mark.standards("S-140", "S-315")
@pytest.mark.parametrize("status", REDIRECTS)
def test_a_redirect_abroad_is_followed_bare(
    open_session: Opener, api: ProtectedApi, foreign: Recorder, dpop: bool, status: int
) -> None:
    answer = open_session(dpop=dpop).get(redirect(api.origin, foreign.origin + "/download?sig=1", status))
    assert (answer.status, answer.history) == (200, [status])
    [request] = foreign.requests
    assert (request.method, request.target) == ("GET", "/download?sig=1")
    assert request.is_bare


@pytest.mark.standards("S-140")
@pytest.mark.parametrize("kind", ["bytes", "json", "form", "multipart", "generator"])
@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_abroad_is_refused_where_a_body_would_go_along(
    driver: Driver, open_session: Opener, api: ProtectedApi, foreign: Recorder, status: int, kind: Any
) -> None:
    # A library may refuse by itself to send a body on of which nothing is left.
    refusals: tuple[type[BaseException], ...] = (
        (OriginError, *driver.failures) if kind == "generator" else (OriginError,)
    )
    with pytest.raises(refusals) as raised:
        open_session(dpop=True).request("POST", redirect(api.origin, foreign.origin, status), body=Body(kind=kind))
    if isinstance(raised.value, OriginError):
        assert raised.value.code == "redirect_abroad_refused"
        assert foreign.origin in str(raised.value)
    assert (len(api.calls), foreign.requests) == (1, [])


@pytest.mark.standards("S-140")
def test_no_body_ever_goes_abroad(open_session: Opener, api: ProtectedApi, foreign: Recorder) -> None:
    session = open_session()
    for status in REDIRECTS:
        for method in ("POST", "PUT", "PATCH", "DELETE", "GET"):
            # Libraries differ in when they turn a request into a GET.
            with contextlib.suppress(OriginError):
                session.request(method, redirect(api.origin, foreign.origin, status), body=BODY)
    assert len(api.calls) == 25
    assert foreign.requests
    assert {(request.body, request.is_bare) for request in foreign.requests} == {(b"", True)}


@pytest.mark.standards("S-140", "S-317")
def test_a_chain_abroad_stays_bare(open_session: Opener, api: ProtectedApi, foreign: Recorder, dpop: bool) -> None:
    foreign.answer(located("/2"))
    answer = open_session(dpop=dpop).get(redirect(api.origin, foreign.origin + "/1"))
    assert (answer.status, answer.history) == (200, [307, 307])
    assert [(request.target, request.is_bare) for request in foreign.requests] == [("/1", True), ("/2", True)]


@pytest.mark.standards("S-093", "S-140", "S-317")
def test_a_chain_that_comes_back_has_the_token_at_home_only(
    open_session: Opener, api: ProtectedApi, foreign: Recorder, auth: AuthorizationServer
) -> None:
    foreign.answer(located(api.origin + "/echo/home"))
    answer = open_session(dpop=True).get(redirect(api.origin, foreign.origin + "/1"))
    assert answer.status == 200
    assert [request.is_bare for request in foreign.requests] == [True]
    assert targets(api) == [("GET", f"{api.origin}/redirect"), ("GET", f"{api.origin}/echo/home")]
    assert len(auth.token_requests) == 1


@pytest.mark.standards("S-102", "S-144")
@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer error="invalid_token"',
        'DPoP error="invalid_token"',
        'DPoP error="use_dpop_nonce"',
        'DPoP algs="RS256"',
        'DPoP error="insufficient_user_authentication"',
    ],
)
def test_what_a_foreign_server_says_with_a_401_changes_nothing(
    open_session: Opener, api: ProtectedApi, foreign: Recorder, auth: AuthorizationServer, challenge: str
) -> None:
    foreign.usual = Reply(status=401, headers=(("www-authenticate", challenge), ("dpop-nonce", "evil")))
    session = open_session(dpop=True)
    assert session.get(redirect(api.origin, foreign.origin)).status == 401
    assert session.get(api.origin + "/echo").status == 200
    assert len(foreign.requests) == len(auth.token_requests) == 1
    assert ["nonce" in claims_of(fields(call.headers, "dpop")[0]) for call in api.calls] == [False, False]


@pytest.mark.standards("S-142", "S-143")
def test_the_same_host_over_https_is_another_origin(
    open_session: Opener, auth: AuthorizationServer, privileged_host: str, tls: Callable[..., ssl.SSLContext]
) -> None:
    api, upgraded = ProtectedApi(auth), Recorder()
    with (
        serve(api, host=privileged_host, port=80),
        serve(upgraded, host=privileged_host, port=443, ssl_context=tls(privileged_host)),
    ):
        session = open_session(f"http://{privileged_host}", dpop=True, settings={"ca_file": open_session.ca_file})
        answer = session.get(redirect(f"http://{privileged_host}", f"https://{privileged_host}/"))
        assert answer.status == 200
        assert [request.is_bare for request in upgraded.requests] == [True]


@pytest.mark.standards("S-072", "S-142")
def test_a_redirect_to_http_is_followed_bare(
    open_session: Opener, auth: AuthorizationServer, foreign: Recorder, tls: Callable[..., ssl.SSLContext]
) -> None:
    api = ProtectedApi(auth)
    with serve(api, ssl_context=tls("127.0.0.1")):
        assert open_session(api.origin).get(redirect(api.origin, foreign.origin)).status == 200
    assert [request.is_bare for request in foreign.requests] == [True]


@pytest.mark.standards("S-142", "S-147")
def test_a_redirect_with_user_information_sends_no_token(
    open_session: Opener, api: ProtectedApi, foreign: Recorder
) -> None:
    session = open_session(dpop=True)
    home, abroad = api.origin.removeprefix("http://"), foreign.origin.removeprefix("http://")
    with pytest.raises(OriginError):
        session.get(redirect(api.origin, f"http://user:password@{home}/echo"))
    session.get(redirect(api.origin, f"http://{home}@{abroad}/"))
    assert len(api.calls) == 2
    assert [fields(request.headers, "dpop") for request in foreign.requests] == [[]]
    assert not any("DPoP" in value for request in foreign.requests for _, value in request.headers)


@pytest.mark.standards("S-141", "S-142", "S-324")
def test_a_redirect_to_an_odd_host_carries_nothing_abroad(
    driver: Driver, open_session: Opener, api: ProtectedApi, foreign: Recorder
) -> None:
    session = open_session(dpop=True)
    home, abroad = api.origin.removeprefix("http://"), foreign.origin.removeprefix("http://")
    odd = [
        f"//{abroad}/a",
        f"HTTP://{abroad}/a",
        f"http://localhost:{foreign.port}/a",
        f"http://{abroad}\\@{home}/a",
        f"http://{home}\\@{abroad}/a",
        f"http:\\\\{abroad}\\a",
        f"\\\\{abroad}\\a",
        f"///{abroad}/a",
        f"http:///{abroad}/a",
        f"http:{abroad}/a",
        f"http://127.1:{foreign.port}/a",
        f"http://2130706433:{foreign.port}/a",
        f"http://[::ffff:127.0.0.1]:{foreign.port}/a",
        f"http://127.0.0.1.:{foreign.port}/a",
        f"http://{home}.{abroad}/a",
        f"http://{home}%2f@{abroad}/a",
        f"http://localhost:{home.rpartition(':')[2]}/echo",
        f"http://127.1:{home.rpartition(':')[2]}/echo",
        "file:///etc/passwd",
        "data:text/plain,a",
        "http://",
        "http://[",
    ]
    for location in odd:
        api.calls.clear()
        with contextlib.suppress(OriginError, *driver.failures, *driver.unreadable):
            session.get(redirect(api.origin, location))
        # Whatever reached the API over another name of its host came without a token.
        tokens = [(call.path, fields(call.headers, "host")) for call in api.calls if call.token_sha256]
        assert {str(host) for _, host in tokens} == {str([home])}, location
    assert {request.is_bare for request in foreign.requests} == {True}
    assert len(foreign.requests) >= 3
