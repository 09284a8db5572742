"""What a user sets on a client does what its library says, and nothing of it gets round the token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from contract.conftest import Opener, Servers
from contract.drivers import Driver
from contract.servers import Recorder, Reply, fields
from tokenvalet import OriginError, TokenValetError
from tokenvalet.testing import AuthorizationServer, ProtectedApi, serve

Needs = Callable[[str], None]


def test_an_address_is_taken_from_the_base_url(
    open_session: Opener, needs: Needs, api: ProtectedApi, dpop: bool
) -> None:
    needs("base_url")
    session = open_session(dpop=dpop, base_url=api.origin + "/echo")
    assert session.get("/records").status == 200
    assert api.calls[0].path == "/echo/records"


def test_a_base_url_of_ones_own_may_not_lead_abroad(
    open_session: Opener, needs: Needs, foreign: Recorder, auth: AuthorizationServer
) -> None:
    needs("base_url")
    with pytest.raises(OriginError):
        open_session(base_url=foreign.origin).get("/records")
    assert (foreign.requests, auth.token_requests) == ([], [])


def test_headers_parameters_and_cookies_are_sent_with_every_request(
    open_session: Opener, needs: Needs, api: ProtectedApi, auth: AuthorizationServer, dpop: bool
) -> None:
    for what in ("headers", "params", "cookies"):
        needs(what)
    session = open_session(dpop=dpop, headers={"X-Own": "kept"}, params={"page": "2"}, cookies={"flavour": "oat"})
    for _ in range(2):
        assert session.get(api.origin + "/echo", headers={"X-More": "too"}).status == 200
    for call in api.calls:
        assert call.query == "page=2"
        assert [fields(call.headers, name) for name in ("x-own", "x-more", "cookie")] == [
            ["kept"],
            ["too"],
            ["flavour=oat"],
        ]
    assert "kept" not in str(auth.token_requests)


def test_a_cookie_of_the_api_comes_back_to_it_and_goes_nowhere_else(
    open_session: Opener, needs: Needs, scripted: Recorder, foreign: Recorder, auth: AuthorizationServer
) -> None:
    needs("cookies")
    scripted.answer(Reply(headers=(("set-cookie", "session=planted; Path=/records"),)))
    session = open_session(scripted.origin)
    for path in ("/", "/records", "/"):
        session.get(scripted.origin + path)
    assert [request.fields("cookie") for request in scripted.requests] == [[], ["session=planted"], []]
    assert "planted" not in str(auth.token_requests)


def test_the_time_limit_of_the_client_holds(
    driver: Driver, open_session: Opener, servers: Servers, api: ProtectedApi
) -> None:
    servers.watched_api.hold()
    with pytest.raises(driver.failures):
        open_session(timeout=0.1).get(api.origin + "/echo")
    servers.watched_api.release()


@pytest.mark.standards("S-148")
def test_what_a_client_is_shown_before_and_after_has_no_token_in_it(
    open_session: Opener, needs: Needs, api: ProtectedApi, auth: AuthorizationServer, dpop: bool
) -> None:
    needs("before")
    needs("after")
    seen: list[str] = []

    def before(request: Any) -> None:
        seen.append(f"before {list(request.headers.items())} {vars(request)}")

    def after(request: Any) -> None:
        seen.append(f"after {list(request.headers.items())} {vars(request)}")

    session = open_session(dpop=dpop, before=before, after=after)
    api.reject_next(challenge=f'{"DPoP" if dpop else "Bearer"} error="invalid_token"')
    assert session.get(f"{api.origin}/redirect?to=/echo").status == 200
    # Twice, since the redirect is followed; that the first was sent again is not the client's affair.
    assert [text.split()[0] for text in seen] == ["before", "after", "before", "after"]
    for text in seen:
        assert not any(token in text for token in auth.issued_tokens)
        assert "dpop" not in text.lower()
    assert len(api.calls) == 3


def test_a_header_that_is_set_before_sending_is_sent_but_for_those_of_the_token(
    open_session: Opener, needs: Needs, api: ProtectedApi
) -> None:
    needs("before")

    def own(request: Any) -> None:
        request.headers["X-Own"] = "kept"

    def token(request: Any) -> None:
        request.headers["Authorization"] = "Bearer my-own-token"

    assert open_session(before=own).get(api.origin + "/echo").status == 200
    assert fields(api.calls[0].headers, "x-own") == ["kept"]
    with pytest.raises(OriginError):
        open_session(before=token).get(api.origin + "/echo")
    assert len(api.calls) == 1


@pytest.mark.standards("S-071", "S-147", "S-316")
@pytest.mark.parametrize("name", ["Authorization", "DPoP"])
def test_a_header_of_the_token_set_on_the_client_is_refused(
    open_session: Opener, needs: Needs, api: ProtectedApi, auth: AuthorizationServer, name: str
) -> None:
    needs("headers")
    with pytest.raises(OriginError) as raised:
        open_session(headers={name: "my-own"}).get(api.origin + "/echo")
    assert raised.value.code == "authorization_header_given"
    assert (auth.token_requests, api.calls) == ([], [])


@pytest.mark.standards("S-071", "S-147")
def test_credentials_of_ones_own_are_refused_on_the_client_and_on_a_request(
    open_session: Opener, needs: Needs, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    needs("auth")
    with pytest.raises(TokenValetError) as raised:
        open_session(auth=("somebody", "my-own-password")).get(api.origin + "/echo")
    assert raised.value.code in ("unfit_client_option", "authorization_header_given")
    with pytest.raises(OriginError) as refused:
        open_session().get(api.origin + "/echo", auth=("somebody", "my-own-password"))
    assert refused.value.code == "authorization_header_given"
    assert "my-own-password" not in f"{raised.value!r} {refused.value!r}"
    assert (auth.token_requests, api.calls) == ([], [])


# The environment


@pytest.mark.standards("S-147", "S-313")
def test_a_netrc_file_is_not_looked_at(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login somebody password from-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_session().get(api.origin + "/echo").status == 200
    assert fields(api.calls[0].headers, "authorization") == [f"Bearer {auth.issued_tokens[0]}"]
    assert "c29tZWJvZHk6" not in str(auth.token_requests)  # somebody: in base64


@pytest.mark.standards("S-149")
def test_proxies_of_the_environment_are_not_used(
    open_session: Opener,
    api: ProtectedApi,
    auth: AuthorizationServer,
    foreign: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, foreign.origin)
        monkeypatch.setenv(name.lower(), foreign.origin)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert open_session().get(api.origin + "/echo").status == 200
    assert (len(api.calls), len(auth.token_requests), foreign.requests) == (1, 1, [])


def test_authorities_of_the_environment_are_not_trusted_in_the_place_of_the_configured_ones(
    open_session: Opener,
    auth: AuthorizationServer,
    tls: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    monkeypatch.setenv("SSL_CERT_FILE", str(stranger))
    with serve(ProtectedApi(auth), ssl_context=tls("127.0.0.1")) as server:
        assert open_session(server.url).get(server.url + "/echo").status == 200
