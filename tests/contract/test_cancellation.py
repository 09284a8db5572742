"""A caller that gives up changes nothing for the others, nor for the renewal, and leaves its connection in order."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError

import pytest

from contract.conftest import Opener, Servers
from contract.drivers import Driver
from contract.servers import until
from tokenvalet.testing import AuthorizationServer, ProtectedApi


@pytest.mark.standards("S-201")
def test_cancelling_a_call_that_waits_for_a_token_does_not_cancel_the_renewal(
    open_cancellable: Opener, servers: Servers, api: ProtectedApi, auth: AuthorizationServer, dpop: bool
) -> None:
    servers.watched_auth.hold()
    session = open_cancellable(dpop=dpop, pool_size=1)
    first = session.start("GET", api.origin + "/echo/first")
    until(lambda: auth.token_requests)
    others = [session.start("GET", f"{api.origin}/echo/{number}") for number in range(4)]
    first.cancel()
    with pytest.raises(CancelledError):
        first.result()
    servers.watched_auth.release()
    assert {other.result().status for other in others} == {200}
    assert len(auth.token_requests) == 1
    assert "/echo/first" not in [call.path for call in api.calls]


@pytest.mark.standards("S-201")
def test_a_renewal_that_everybody_left_serves_the_next_call(
    open_cancellable: Opener, servers: Servers, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    servers.watched_auth.hold()
    session = open_cancellable()
    calls = [session.start("GET", api.origin + "/echo") for _ in range(4)]
    until(lambda: auth.token_requests)
    for call in calls:
        call.cancel()
    servers.watched_auth.release()
    assert session.get(api.origin + "/echo").status == 200
    assert (len(auth.token_requests), len(api.calls)) == (1, 1)


@pytest.mark.standards("S-201", "S-207")
def test_cancelling_a_call_that_waits_for_the_replacement_of_its_token_gives_its_connection_back(
    open_cancellable: Opener, servers: Servers, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    session = open_cancellable(pool_size=1)
    session.get(api.origin + "/echo")
    auth.revoke_all()
    servers.watched_auth.hold()
    call = session.start("GET", api.origin + "/echo")
    until(lambda: len(auth.token_requests) == 2)
    call.cancel()
    servers.watched_auth.release()
    assert session.get(api.origin + "/echo").status == 200
    assert [call.status for call in api.calls] == [200, 401, 200]
    assert len(auth.token_requests) == 2


@pytest.mark.standards("S-201", "S-207")
def test_cancelling_a_call_at_the_api_gives_its_connection_back(
    open_cancellable: Opener,
    needs: Callable[[str], None],
    servers: Servers,
    api: ProtectedApi,
    auth: AuthorizationServer,
    dpop: bool,
) -> None:
    needs("abort")
    session = open_cancellable(dpop=dpop, pool_size=1)
    session.get(api.origin + "/echo")
    servers.watched_api.hold()
    for number in range(2, 4):
        call = session.start("GET", api.origin + "/echo")
        until(lambda count=number: len(api.calls) == count)  # type: ignore[misc]
        call.cancel()
        with pytest.raises(CancelledError):
            call.result()
    servers.watched_api.release()
    assert session.get(api.origin + "/echo").status == 200
    assert len(auth.token_requests) == 1


@pytest.mark.standards("S-201", "S-207")
def test_cancelling_the_second_try_gives_its_connection_back(
    open_cancellable: Opener, servers: Servers, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    session = open_cancellable(pool_size=1)
    session.get(api.origin + "/echo")
    auth.revoke_all()
    servers.watched_auth.hold()
    call = session.start("GET", api.origin + "/echo")
    until(lambda: len(auth.token_requests) == 2)
    servers.watched_api.hold()
    servers.watched_auth.release()
    until(lambda: len(api.calls) == 3)
    call.cancel()
    servers.watched_api.release()
    assert session.get(api.origin + "/echo").status == 200
    assert len(auth.token_requests) == 2


def test_a_call_that_takes_too_long_gives_its_connection_back(
    driver: Driver, open_session: Opener, servers: Servers, api: ProtectedApi, auth: AuthorizationServer, dpop: bool
) -> None:
    session = open_session(dpop=dpop, pool_size=1)
    servers.watched_api.hold()
    for _ in range(2):
        with pytest.raises(driver.failures):
            session.get(api.origin + "/echo", timeout=0.1)
    servers.watched_api.release()
    assert session.get(api.origin + "/echo").status == 200
    assert len(auth.token_requests) == 1


@pytest.mark.standards("S-201")
def test_a_call_that_takes_too_long_on_shared_connections_harms_no_other(
    driver: Driver, open_session: Opener, servers: Servers, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    valet = open_session.valet()
    impatient, patient = open_session.on(valet), open_session.on(valet)
    servers.watched_api.hold()
    call = patient.start("GET", api.origin + "/echo")
    with pytest.raises(driver.failures):
        impatient.get(api.origin + "/echo", timeout=0.1)
    impatient.close()
    servers.watched_api.release()
    assert call.result().status == 200
    assert len(auth.token_requests) == 1
