"""requests: sessions of the user's own, what they find in the environment, and what belongs to one request."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from contract.servers import Recorder, fields
from tokenvalet import ConfigurationError, OriginError, TokenParameters, TokenValet
from tokenvalet.testing import ProtectedApi

Make = Callable[..., TokenValet]


@pytest.fixture
def own() -> Iterator[requests.Session]:
    """A session of the user's own."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


def test_a_redirect_away_from_where_the_adapter_is_mounted_goes_there_without_a_token(
    own: requests.Session, make_valet: Make, served: ProtectedApi, stranger: Recorder
) -> None:
    own.mount(served.origin, make_valet(dpop=True).requests_adapter("m2m"))
    assert own.get(f"{served.origin}/redirect?to={stranger.origin}/download", timeout=10).ok
    assert [request.is_bare for request in stranger.requests] == [True]
    assert [bool(call.proof_claims) for call in served.calls] == [True]


def test_an_address_that_only_begins_like_the_one_that_the_adapter_is_mounted_on_is_refused(
    own: requests.Session, make_valet: Make, served: ProtectedApi
) -> None:
    own.mount("https://api.example.org", make_valet(base_url="https://api.example.org").requests_adapter("m2m"))
    for address in ("https://api.example.org.evil.example/", "https://api.example.org@evil.example/"):
        with pytest.raises(OriginError):
            own.get(address, timeout=10)
    assert served.auth.token_requests == []


def test_what_a_netrc_file_sets_does_not_take_the_place_of_the_token(
    own: requests.Session, make_valet: Make, served: ProtectedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password from-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    own.trust_env = True
    own.mount(served.origin, make_valet().requests_adapter("m2m"))
    with pytest.raises(OriginError, match=r"\.netrc") as raised:
        own.get(f"{served.origin}/echo", timeout=10)
    assert raised.value.code == "authorization_header_given"
    assert served.calls == []
    own.trust_env = False
    assert own.get(f"{served.origin}/echo", timeout=10).ok


@pytest.mark.parametrize(
    "setting",
    [
        {"verify": False},
        {"verify": "/some/ca.pem"},
        {"cert": "/some/cert.pem"},
        {"proxies": {"http": "http://127.0.0.1:1"}},
    ],
)
def test_what_the_configuration_decides_cannot_be_given_with_a_request(
    make_valet: Make, served: ProtectedApi, setting: dict[str, Any]
) -> None:
    with make_valet().requests_session("m2m") as session, pytest.raises(ConfigurationError) as raised:
        session.get("/echo", timeout=10, **setting)
    assert raised.value.code == "unfit_client_option"
    assert (served.calls, served.auth.token_requests) == ([], [])


def test_what_a_session_of_ones_own_finds_in_the_environment_is_not_used(
    own: requests.Session, make_valet: Make, served: ProtectedApi, stranger: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, stranger.origin)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/not/there.pem")
    own.trust_env = True
    own.mount(served.origin, make_valet().requests_adapter("m2m"))
    assert own.get(f"{served.origin}/echo", timeout=10).ok
    assert (len(served.calls), stranger.requests) == (1, [])


def test_parameters_of_one_request_leave_the_hooks_of_the_session_and_of_the_request_alone(
    make_valet: Make, served: ProtectedApi
) -> None:
    heard: list[str] = []

    def hook(name: str) -> Callable[..., None]:
        return lambda response, **_: heard.append(name)

    with make_valet().requests_session("m2m") as session:
        session.hooks["response"].append(hook("session"))
        wanted = TokenParameters(scope="records:write")
        session.get("/echo", timeout=10, token_parameters=wanted)
        session.get("/echo", timeout=10, token_parameters=wanted, hooks={"response": hook("request")})
        assert len(session.hooks["response"]) == 1
    assert heard == ["session", "request"]  # of which requests takes one or the other
    assert [asked.form.get("scope") for asked in served.auth.token_requests] == [["records:write"]]


def test_a_prepared_request_that_was_redirected_is_refused_abroad_when_it_is_sent_again(
    make_valet: Make, served: ProtectedApi, stranger: Recorder
) -> None:
    with make_valet().requests_session("m2m") as session:
        prepared = session.prepare_request(requests.Request("GET", "/redirect?to=/echo"))
        assert session.send(prepared, timeout=10).ok
        prepared.url = stranger.origin + "/"
        with pytest.raises(OriginError):
            session.send(prepared, timeout=10)
    assert stranger.requests == []


def test_an_address_with_a_backslash_in_its_host_is_refused_since_parsers_differ_on_it(
    make_valet: Make, served: ProtectedApi
) -> None:
    with make_valet().requests_session("m2m") as session:
        with pytest.raises(requests.exceptions.InvalidURL):
            session.get(served.origin + "\\@evil.example/", timeout=10)
        assert session.get("/echo/back\\slash", timeout=10).ok


def test_a_session_is_not_pickled(make_valet: Make) -> None:
    with make_valet().requests_session("m2m") as session, pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(session)


def test_the_answer_says_that_it_is_one_to_the_callers_request(make_valet: Make, served: ProtectedApi) -> None:
    with make_valet(dpop=True).requests_session("m2m") as session:
        prepared = session.prepare_request(requests.Request("GET", "/echo/%7e%2f[a]"))
        answer = session.send(prepared, timeout=10)
    assert answer.request is prepared
    assert answer.url == prepared.url
    assert fields(served.calls[0].headers, "dpop")


def test_without_the_library_it_is_said_what_to_install(make_valet: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    valet = make_valet()
    for library in ("requests", "aiohttp"):
        monkeypatch.delitem(sys.modules, f"tokenvalet.clients.{library}_shell", raising=False)
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(ConfigurationError, match=rf"tokenvalet\[{library}\]") as raised:
            getattr(valet, {"requests": "requests_adapter", "aiohttp": "aiohttp_middleware"}[library])("m2m")
        assert raised.value.code == "library_missing"
