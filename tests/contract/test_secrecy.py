"""No token, proof or secret is in a log, an exception, its frames, or what the caller is handed (promise 12)."""

from __future__ import annotations

import logging
import ssl
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.conftest import CLIENT_ID, CLIENT_SECRET, Opener
from contract.drivers import Body, Driver
from contract.h2_server import THREADS, H2Server
from contract.hunt import found_in, in_exception, in_records
from contract.servers import Recorder, basic, fields, nobody, until
from support.raw_server import Behaviour, RawServer, garbage_bytes, never_answer, reset_connection
from tokenvalet import Event, StepUpRequiredError, TokenParameters, TokenRefusedError, TokenValetError
from tokenvalet.testing import AuthorizationServer, Fault, ProtectedApi

STEP_UP = 'error="insufficient_user_authentication", acr_values="urn:example:strong"'


def secrets(auth: AuthorizationServer, *seen: list[tuple[str, str]]) -> list[str]:
    """Return all that must not be shown: of the client, what was issued, and every proof that was sent."""
    proofs = [proof for headers in seen for proof in fields(headers, "dpop")]
    asked = [proof for request in auth.token_requests for proof in fields(request.headers, "dpop")]
    found = [CLIENT_SECRET, basic(CLIENT_ID, CLIENT_SECRET), *auth.issued_tokens, *asked, *proofs]
    assert len(found) > 2
    return found


def go_through_it_all(
    opener: Opener, api: ProtectedApi, auth: AuthorizationServer, foreign: Recorder, dpop: bool
) -> Any:
    """Make calls of every kind, with every way to put them right, and return the last answer."""
    scheme = "DPoP" if dpop else "Bearer"
    events: list[Event] = []
    session = opener.on(opener.valet(dpop=dpop, observers=[events.append]))
    session.get(api.origin + "/echo")
    auth.revoke_all()
    session.request("POST", api.origin + "/echo", body=Body(kind="json"))
    if dpop:
        api.require_dpop_nonce = auth.require_dpop_nonce = True
        api.rotate_nonce()
    session.get(api.origin + "/echo", token_parameters=TokenParameters(scope="records:write"))
    session.get(f"{api.origin}/redirect?to={foreign.origin}/records")
    api.reject_next(2, challenge=f'{scheme} error="invalid_token"')
    auth.misbehave(Fault.status_only(503), times=1)
    session.request("POST", api.origin + "/echo", body=Body(kind="generator"))
    with nobody() as nowhere:
        for url in (foreign.origin, nowhere):
            assert session.start("GET", url).exception() is not None
    found = secrets(auth, *(call.headers for call in api.calls))
    assert found_in(repr(events), found) == []
    assert foreign.requests[0].is_bare
    return session.get(f"{api.origin}/redirect?to=/echo")


# Logs


@pytest.mark.standards("S-161", "S-164", "S-165")
def test_no_logger_tells_a_secret_at_debug(
    driver: Driver,
    open_session: Opener,
    api: ProtectedApi,
    auth: AuthorizationServer,
    foreign: Recorder,
    caplog: pytest.LogCaptureFixture,
    dpop: bool,
) -> None:
    caplog.set_level(logging.DEBUG)
    go_through_it_all(open_session, api, auth, foreign, dpop)
    spoke = {record.name.partition(".")[0] for record in caplog.records}
    assert {"tokenvalet", *driver.loggers} <= spoke
    assert in_records(caplog.records, secrets(auth, *(call.headers for call in api.calls))) == []


@pytest.mark.standards("S-161")
def test_no_logger_tells_a_secret_at_debug_over_http2(
    driver: Driver,
    open_session: Opener,
    needs: Callable[[str], None],
    auth: AuthorizationServer,
    tls: Callable[..., ssl.SSLContext],
    ca_file: Path,
    caplog: pytest.LogCaptureFixture,
    dpop: bool,
) -> None:
    needs("http2")
    caplog.set_level(logging.DEBUG)
    with H2Server(tls("127.0.0.1")) as server:
        session = open_session(server.origin, dpop=dpop, http2=ca_file)
        # More often than the table of the header compression has room for.
        for number in range(25):
            assert session.get(f"{server.origin}/records/{number:0200}").status == 200
        session.close()
    ours = [record for record in caplog.records if not str(record.threadName).startswith(THREADS)]
    assert set(driver.loggers_of_http2) <= {record.name for record in ours}
    [token] = auth.issued_tokens
    assert {value.partition(" ")[2] for headers in server.requests for value in fields(headers, "authorization")} == {
        token
    }
    assert in_records(ours, secrets(auth, *server.requests)) == []


# What the caller is handed


@pytest.mark.standards("S-160")
def test_nothing_that_the_caller_is_handed_has_a_secret_in_it(
    driver: Driver,
    open_session: Opener,
    api: ProtectedApi,
    auth: AuthorizationServer,
    foreign: Recorder,
    dpop: bool,
) -> None:
    answer = go_through_it_all(open_session, api, auth, foreign, dpop)
    handed = driver.handed_over(answer)
    assert b"/redirect" in handed
    assert found_in(handed, secrets(auth, *(call.headers for call in api.calls))) == []


@pytest.mark.standards("S-160")
def test_a_401_that_could_not_be_put_right_is_handed_over_without_a_secret(
    driver: Driver, open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, dpop: bool
) -> None:
    session = open_session(dpop=dpop)
    session.get(api.origin + "/echo")
    auth.revoke_all()
    auth.misbehave(Fault.oauth_error("invalid_client", status=401), times=None)
    answer = session.get(api.origin + "/echo")
    assert answer.status == 401
    found = secrets(auth, *(call.headers for call in api.calls))
    assert found_in(driver.handed_over(answer), found) == []


# Exceptions


@pytest.fixture
def raw() -> Iterator[RawServer]:
    with RawServer(never_answer) as server:
        yield server


def says(data: bytes) -> Behaviour:
    return lambda connection, _: connection.sendall(data)


BREAKS: dict[str, Behaviour] = {
    "reset": reset_connection,
    "hung up": says(b""),
    "silent": never_answer,
    "garbage": garbage_bytes(),
    "broken off": says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\nand so"),
    "bad chunks": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n"),
}


def sent(raw: RawServer) -> list[list[tuple[str, str]]]:
    heads = [request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:] for request in raw.requests]
    pairs = [[line.partition(": ") for line in head] for head in heads]
    return [[(name.lower(), value) for name, _, value in head] for head in pairs]


@pytest.mark.standards("S-162")
@pytest.mark.parametrize("pool_size", [None, 1], ids=["shared", "own"])
@pytest.mark.parametrize("breaks", BREAKS)
def test_an_error_of_the_connection_has_no_secret_in_its_text_or_frames(
    open_session: Opener, auth: AuthorizationServer, raw: RawServer, breaks: str, pool_size: int | None
) -> None:
    raw.behaviour = BREAKS[breaks]
    session = open_session(raw.url, dpop=True, pool_size=pool_size)
    error = session.start("GET", raw.url, timeout=1.0 if breaks == "silent" else None).exception()
    assert error is not None
    until(lambda: raw.requests)  # a server under load reads what it was sent after the caller has given up
    found = secrets(auth, *sent(raw))
    assert any(secret in raw.requests[0].decode("latin-1") for secret in found)
    assert in_exception(error, found) == []


@pytest.mark.standards("S-162")
def test_an_error_of_the_body_that_is_read_has_no_secret_in_its_text_or_frames(
    driver: Driver, open_session: Opener, auth: AuthorizationServer, raw: RawServer
) -> None:
    raw.behaviour = BREAKS["broken off"]
    opened = open_session(raw.url, dpop=True).open("GET", raw.url)
    with pytest.raises(driver.failures) as raised:
        opened.rest()
    opened.close()
    assert in_exception(raised.value, secrets(auth, *sent(raw))) == []


@pytest.mark.standards("S-162")
def test_an_error_on_the_way_to_the_api_has_no_secret_in_its_text_or_frames(
    driver: Driver, open_session: Opener, auth: AuthorizationServer, dpop: bool
) -> None:
    with nobody() as nowhere, pytest.raises(driver.failures) as raised:
        open_session(nowhere, dpop=dpop).get(nowhere)
    assert in_exception(raised.value, secrets(auth)) == []


@pytest.mark.standards("S-162")
def test_an_error_of_the_callers_own_body_keeps_its_frames_and_shows_no_secret(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, dpop: bool
) -> None:
    with pytest.raises(LookupError) as raised:
        open_session(dpop=dpop).request("POST", api.origin + "/echo", body=Body(kind="failing"))
    assert traceback.extract_tb(raised.value.__traceback__)[-1].line == 'raise LookupError("no more")'
    assert in_exception(raised.value, secrets(auth)) == []


@pytest.mark.standards("S-162")
def test_an_error_of_ours_has_no_secret_in_its_text_or_frames(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, foreign: Recorder, dpop: bool
) -> None:
    session = open_session(dpop=dpop)
    session.get(api.origin + "/echo")
    errors: list[BaseException] = []
    for url, options in (
        (foreign.origin, {}),
        (api.origin + "/echo", {"headers": {"Authorization": "Bearer other"}}),
        (api.origin + "/echo", {"token_parameters": TokenParameters(scope="records:sign")}),
    ):
        with pytest.raises(TokenValetError, match="m2m") as raised:
            session.get(url, **options)
        errors.append(raised.value)
    api.reject_next(challenge=f"{'DPoP' if dpop else 'Bearer'} {STEP_UP}")
    with pytest.raises(StepUpRequiredError) as wanted:
        session.get(api.origin + "/echo")
    auth.misbehave(Fault.oauth_error("invalid_client", description=CLIENT_SECRET, status=401), times=None)
    with pytest.raises(TokenRefusedError) as refused:
        session.get(api.origin + "/echo", token_parameters=TokenParameters(resource="https://other.example"))
    found = secrets(auth, *(call.headers for call in api.calls))
    for error in (*errors, wanted.value, refused.value):
        assert in_exception(error, found) == []
