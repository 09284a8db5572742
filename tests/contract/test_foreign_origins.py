"""An address abroad, given by the caller, is refused before anything is asked for or sent; so are headers of one's own."""

from __future__ import annotations

import pytest

from contract.conftest import Opener
from contract.drivers import Body, Driver
from contract.servers import Recorder
from tokenvalet import OriginError
from tokenvalet.testing import AuthorizationServer, ProtectedApi


def tricks(home: str, port: int, abroad: str, foreign_port: int) -> list[str]:
    """Return addresses abroad, some of which look like home; `home` and `abroad` are host:port."""
    return [
        f"http://{abroad}/",
        f"HTTP://{abroad}/",
        f"http://user:password@{abroad}/",
        f"http://{home}@{abroad}/",
        f"http://{home}%40@{abroad}/",
        f"http://{home}:password@{abroad}/",
        f"http://{abroad}\\@{home}/",
        f"http://{home}\\@{abroad}/",
        f"http://{abroad}#@{home}/",
        f"http://{abroad}?@{home}/",
        f"http://{abroad}/@{home}/",
        f"http://LOCALHOST:{port}/",
        f"http://localhost.:{foreign_port}/",
        f"http://127.0.0.1.:{foreign_port}/",
        f"http://127.1:{port}/",
        f"http://2130706433:{port}/",
        f"http://0x7f000001:{port}/",
        f"http://0x7f.0.0.1:{port}/",
        f"http://0177.0.0.1:{port}/",
        f"http://[::ffff:127.0.0.1]:{port}/",
        f"http://[::1]:{port}/",
        f"http://127.0.0.2:{port}/",
        f"https://{home}/",
        f"http://{home}.evil.example/",
        f"http://127.0.0.1.evil.example:{port}/",
        f"http://evil.example/{home}",
        "http://127.0.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "https://api.example.org/",
        "http://api.example.org/",
        f"ftp://{home}/",
        f"file://{home}/etc/passwd",
        "file:///etc/passwd",
    ]


@pytest.mark.standards("S-140", "S-141", "S-142", "S-072", "S-304", "S-324")
def test_an_address_abroad_is_refused_before_a_token_is_asked_for(
    driver: Driver,
    open_session: Opener,
    api: ProtectedApi,
    foreign: Recorder,
    auth: AuthorizationServer,
    dpop: bool,
) -> None:
    session = open_session(dpop=dpop)
    home, abroad = api.origin.removeprefix("http://"), foreign.origin.removeprefix("http://")
    refused: tuple[type[Exception], ...] = (OriginError, *driver.unreadable)
    for url in tricks(home, int(home.rpartition(":")[2]), abroad, foreign.port):
        try:
            answer = session.get(url)
        except refused:
            continue
        pytest.fail(f"{url} was answered with {answer.status}")
    assert (auth.token_requests, foreign.requests, api.calls) == ([], [], [])


@pytest.mark.standards("S-141")
def test_an_address_that_names_a_host_without_a_scheme_goes_to_no_other_host(
    driver: Driver, open_session: Opener, api: ProtectedApi, foreign: Recorder
) -> None:
    session = open_session(settings={"base_url": api.origin})
    abroad = foreign.origin.removeprefix("http:")
    refused: tuple[type[Exception], ...] = (OriginError, *driver.unreadable)
    for url in (f"{abroad}/echo", f"\\\\{abroad[2:]}/echo", f"/{abroad}/echo", f"//user@{abroad[2:]}/echo"):
        try:
            session.get(url)
        except refused:
            continue
    assert foreign.requests == []


@pytest.mark.standards("S-141", "S-142")
def test_the_refusal_names_both_origins_and_the_remedy(
    open_session: Opener, api: ProtectedApi, foreign: Recorder
) -> None:
    with pytest.raises(OriginError, match="allowed_origins") as raised:
        open_session().get(foreign.origin + "/path?secret=1")
    assert raised.value.code == "origin_not_allowed"
    assert api.origin in str(raised.value)
    assert foreign.origin in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.standards("S-140", "S-141")
def test_a_body_given_to_an_address_abroad_does_not_leave(
    open_session: Opener, foreign: Recorder, auth: AuthorizationServer
) -> None:
    with pytest.raises(OriginError):
        open_session().request("POST", foreign.origin, body=Body(kind="bytes"))
    assert (foreign.requests, auth.token_requests) == ([], [])


@pytest.mark.standards("S-072")
def test_an_api_over_tls_is_sent_nothing_in_the_clear(
    open_session: Opener, foreign: Recorder, auth: AuthorizationServer
) -> None:
    session = open_session("https://api.example.org", f"https://127.0.0.1:{foreign.port}")
    for url in ("http://api.example.org/", "http://api.example.org:443/", f"http://127.0.0.1:{foreign.port}/"):
        with pytest.raises(OriginError):
            session.get(url)
    assert (foreign.requests, auth.token_requests) == ([], [])


@pytest.mark.standards("S-142", "S-147")
def test_user_information_in_an_address_at_home_is_refused(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    session = open_session()
    for user in ("user", "user:password", ":password", "%75ser"):
        with pytest.raises(OriginError):
            session.get(api.origin.replace("//", f"//{user}@") + "/echo")
    assert (auth.token_requests, api.calls) == ([], [])


@pytest.mark.standards("S-142")
def test_a_client_without_origins_sends_nothing(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    session = open_session(settings={"allowed_origins": ()})
    with pytest.raises(OriginError, match="by hand"):
        session.get(api.origin + "/echo")
    assert (auth.token_requests, api.calls) == ([], [])


@pytest.mark.standards("S-071", "S-098", "S-316")
@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION", "DPoP", "dpop", "DPOP"])
def test_a_header_of_ones_own_is_refused(
    open_session: Opener, api: ProtectedApi, auth: AuthorizationServer, name: str
) -> None:
    session = open_session(dpop=True)
    with pytest.raises(OriginError) as raised:
        session.get(api.origin + "/echo", headers={name: "Bearer my-own-token"})
    assert raised.value.code == "authorization_header_given"
    assert "my-own-token" not in str(raised.value)
    assert (auth.token_requests, api.calls) == ([], [])


def test_a_session_goes_on_after_a_refusal(open_session: Opener, api: ProtectedApi, foreign: Recorder) -> None:
    session = open_session(pool_size=1)
    for _ in range(3):
        with pytest.raises(OriginError):
            session.get(foreign.origin)
        assert session.get(api.origin + "/echo").status == 200
