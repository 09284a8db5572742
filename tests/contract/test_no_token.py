"""Where no token can be had, nothing is sent, and the error says why (promise 6)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contract.conftest import CLIENT_SECRET, Opener, Servers
from contract.drivers import Body
from contract.servers import nobody, until
from tokenvalet import (
    ProofError,
    TokenRefusedError,
    TokenRequestError,
    TokenResponseError,
    TokenValetError,
    ValetClosedError,
)
from tokenvalet.testing import AuthorizationServer, Fault, ProtectedApi

BEARER = {"access_token": "a-bearer-token", "token_type": "Bearer", "expires_in": 300}
FAULTS: list[tuple[Fault, type[TokenValetError]]] = [
    (Fault.oauth_error("invalid_client", status=401), TokenRefusedError),
    (Fault.oauth_error("invalid_scope"), TokenRefusedError),
    (Fault.status_only(403), TokenRefusedError),
    (Fault.html(), TokenResponseError),
    (Fault.redirect("https://login.example.org/"), TokenResponseError),
    (Fault.json({**BEARER, "access_token": "a token\r\nX-Injected: yes"}), TokenResponseError),
    (Fault.json({**BEARER, "access_token": "a,b"}), TokenResponseError),
    (Fault.json({**BEARER, "token_type": "DPoP"}), TokenValetError),
]


@pytest.mark.standards("S-170", "S-171")
@pytest.mark.parametrize(("fault", "error"), FAULTS)
def test_without_a_token_nothing_reaches_the_api(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, fault: Fault, error: type[TokenValetError]
) -> None:
    auth.misbehave(fault, times=None)
    session = open_session()
    for _ in range(2):
        with pytest.raises(error) as raised:
            session.request("POST", api.origin + "/echo", body=Body(kind="bytes"))
        assert "m2m" in str(raised.value)
        assert CLIENT_SECRET not in repr(raised.value)
    assert api.calls == []


@pytest.mark.standards("S-107", "S-109")
def test_a_bearer_token_where_dpop_was_asked_for_is_not_used(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    auth.misbehave(Fault.json(BEARER), times=None)
    with pytest.raises(ProofError):
        open_session(dpop=True).get(api.origin + "/echo")
    assert api.calls == []


def test_an_authorization_server_that_is_not_there_is_an_error(open_session: Opener, api: ProtectedApi) -> None:
    with nobody() as nowhere:
        session = open_session(settings={"token_endpoint": f"{nowhere}/token"})
        for _ in range(2):
            with pytest.raises(TokenRequestError, match=r"127\.0\.0\.1"):
                session.get(api.origin + "/echo")
    assert api.calls == []


def test_many_waiting_calls_all_get_the_error(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, dpop: bool
) -> None:
    auth.misbehave(replace(Fault.oauth_error("invalid_scope"), delay=0.2), times=None)
    session = open_session(dpop=dpop)
    calls = [session.start("GET", api.origin + "/echo") for _ in range(10)]
    errors = [call.exception() for call in calls]
    assert {type(error) for error in errors} == {TokenRefusedError}
    assert len({id(error) for error in errors}) == 10
    assert (len(auth.token_requests), api.calls) == (1, [])


@pytest.mark.standards("S-209")
def test_a_session_of_a_closed_valet_sends_nothing(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    valet = open_session.valet()
    session = open_session.on(valet)
    open_session.driver.close_valet(valet)
    with pytest.raises(ValetClosedError):
        session.get(api.origin + "/echo")
    assert (auth.token_requests, api.calls) == ([], [])


@pytest.mark.standards("S-209")
def test_a_call_that_waits_when_the_valet_is_closed_gets_an_error(
    open_session: Opener, servers: Servers, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    servers.watched_auth.hold()
    valet = open_session.valet()
    call = open_session.on(valet).start("GET", api.origin + "/echo")
    until(lambda: auth.token_requests)
    open_session.driver.close_valet(valet)
    assert isinstance(call.exception(), ValetClosedError)
    assert api.calls == []
