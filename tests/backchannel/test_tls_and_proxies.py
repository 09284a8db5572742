"""How the token endpoint is reached: whom TLS trusts, what is not checked, and which way the request goes."""

from __future__ import annotations

import logging
import socket
import ssl
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backchannel.issuers import (
    CLIENT_ID,
    SECRET,
    Authority,
    authorization_of,
    basic,
    config,
    everything_said,
    failure,
    failure_at,
    issuer_of_tests,
    lowered,
    replace,
    token_answer,
    tunnel,
    valet_at,
)
from life.makers import Clock, Seen
from support.raw_server import RawServer, answer, close_without_answer, garbage_bytes
from tokenvalet import ConfigurationError, TokenRequestError, TokenValet, TokenValetError
from tokenvalet.testing import AuthorizationServer, serve

PASSWORD = "planted-proxy-password-7hTz"
PROXY_VARIABLES = [
    name for low in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for name in (low, low.upper())
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy in the environment, and changes on disk looked for at every use."""
    monkeypatch.setattr("tokenvalet.named_client.TLS_CHECK_SECONDS", -1.0)
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def auth(authority: Authority) -> Iterator[AuthorizationServer]:
    server = issuer_of_tests()
    with serve(server, ssl_context=authority.server()):
        yield server


@pytest.fixture
def proxy() -> Iterator[RawServer]:
    with RawServer(tunnel()) as server:
        yield server


def with_password(proxy: RawServer) -> str:
    return proxy.url.replace("//", f"//somebody:{PASSWORD}@")


def distrusted(error: TokenValetError, *fragments: str) -> None:
    """Hold an error to be that of a server that TLS does not trust, with its remedy."""
    assert isinstance(error, TokenRequestError)
    assert error.code == "token_request_tls"
    for fragment in (*fragments, "check the certificate, ca_file and certificate_file"):
        assert fragment in str(error)


def unreachable(error: TokenValetError, *fragments: str) -> None:
    assert isinstance(error, TokenRequestError)
    assert error.code == "token_request_unreachable"
    for fragment in fragments:
        assert fragment in str(error)


# Whom TLS trusts -------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-004")
def test_a_server_of_an_authority_that_is_not_known_gets_no_request(auth: AuthorizationServer, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    for settings in ({}, {"ca_file": other.file}):
        distrusted(failure_at(auth.issuer, **settings), "its certificate is not trusted")
    assert (auth.metadata_requests, auth.token_requests) == ([], [])


def test_ca_file_says_whom_to_trust(auth: AuthorizationServer, authority: Authority) -> None:
    with valet_at(auth.issuer, ca_file=authority.file) as valet:
        assert valet.token().value == auth.issued_tokens[0]


def test_a_certificate_for_another_host_is_not_trusted(authority: Authority) -> None:
    with RawServer(token_answer, ssl_context=authority.server("elsewhere.example")) as server:
        distrusted(failure_at(server.url, ca_file=authority.file), "not trusted", "127.0.0.1")
        assert server.requests == []


def test_an_expired_certificate_is_not_trusted(authority: Authority) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    context = authority.server("127.0.0.1", not_before=past - timedelta(days=1), not_after=past)
    with RawServer(token_answer, ssl_context=context) as server:
        distrusted(failure_at(server.url, ca_file=authority.file), "certificate has expired")
        assert server.requests == []


def test_a_ca_file_that_changes_is_followed(auth: AuthorizationServer, authority: Authority, tmp_path: Path) -> None:
    file, clock = tmp_path / "ca.pem", Clock()
    replace(file, Authority(tmp_path, "other").file.read_bytes())
    with valet_at(auth.issuer, ca_file=file, clock=clock) as valet:
        distrusted(failure(valet), "not trusted")
        replace(file, authority.file.read_bytes())
        clock.advance(61)
        assert valet.token().value == auth.issued_tokens[0]
        # What cannot be used leaves the former one in force.
        replace(file, b"no certificate")
        clock.advance(3601)
        assert valet.token().value == auth.issued_tokens[1]
        replace(file, Authority(tmp_path, "third").file.read_bytes())
        clock.advance(3601)
        # A connection from before the change is not used for what is no longer trusted.
        distrusted(failure(valet), "not trusted")
    assert len(auth.token_requests) == 2


@pytest.mark.parametrize("content", [b"", b"no certificate", None], ids=["empty", "other", "gone"])
def test_a_ca_file_that_never_was_one_is_a_fault_of_the_configuration(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        replace(file, content)
    with pytest.raises(ConfigurationError, match=r"m2m\.ca_file.*no certificates of authorities"):
        TokenValet({"m2m": config(token_endpoint="https://login.example.org/token", ca_file=file)})


def old_server(authority: Authority) -> ssl.SSLContext:
    context = authority.server()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def old_client(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@pytest.mark.standards("S-223")
@pytest.mark.parametrize("insecure", [False, True])
def test_a_server_that_speaks_no_tls_above_1_1_gets_no_request(
    authority: Authority, insecure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As careless as a system's defaults can be, so that it is our lower bound that counts.
    lax = old_client(authority)
    monkeypatch.setattr("tokenvalet.tls.ssl.create_default_context", lambda cafile: lax)
    with RawServer(token_answer, ssl_context=old_server(authority)) as server:
        with (
            socket.create_connection(("127.0.0.1", server.port)) as bare,
            old_client(authority).wrap_socket(bare, server_hostname="127.0.0.1") as secured,
        ):
            assert secured.version() == "TLSv1.1"
        error = failure_at(server.url, ca_file=authority.file, allow_insecure_tls=insecure)
        distrusted(error, "the TLS handshake failed")
        assert server.requests == []


def test_a_server_without_tls_at_an_https_address_is_told_as_such() -> None:
    with RawServer(garbage_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        error = failure_at(f"https://127.0.0.1:{server.port}")
        assert isinstance(error, TokenRequestError)
        assert SECRET.encode() not in b"".join(server.requests)


# What is not checked ---------------------------------------------------------------------------------------------


@pytest.mark.standards("S-223")
def test_a_server_is_not_checked_only_where_that_is_configured_and_each_time_with_a_warning(
    auth: AuthorizationServer, caplog: pytest.LogCaptureFixture
) -> None:
    for count in (1, 2):
        with (
            caplog.at_level(logging.WARNING, "tokenvalet"),
            valet_at(auth.issuer, allow_insecure_tls=True) as valet,
        ):
            assert valet.token().value == auth.issued_tokens[-1]
        warned = [one for one in caplog.records if "allow_insecure_tls is set" in one.getMessage()]
        assert [one.levelname for one in warned] == ["WARNING"] * count


@pytest.mark.standards("S-223")
@pytest.mark.parametrize("value", [1, "true", "yes", 0])
def test_only_true_itself_turns_the_checks_off(value: object) -> None:
    with pytest.raises(ConfigurationError, match="allow_insecure_tls"):
        config(issuer="https://login.example.org", allow_insecure_tls=value)


@pytest.mark.standards("S-223")
def test_the_environment_cannot_turn_the_checks_off(auth: AuthorizationServer, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "TOKENVALET__CLIENTS__M2M__ISSUER": auth.issuer,
        "TOKENVALET__CLIENTS__M2M__CLIENT_ID": CLIENT_ID,
        "TOKENVALET__CLIENTS__M2M__CLIENT_SECRET": SECRET,
    }
    with pytest.raises(ConfigurationError, match=r"(?i)allow_insecure_tls"):
        TokenValet.from_env({**variables, "TOKENVALET__CLIENTS__M2M__ALLOW_INSECURE_TLS": "true"})
    for name, value in (("PYTHONHTTPSVERIFY", "0"), ("CURL_INSECURE", "1"), ("NODE_TLS_REJECT_UNAUTHORIZED", "0")):
        monkeypatch.setenv(name, value)
    with TokenValet.from_env(variables) as valet:
        distrusted(failure(valet), "not trusted")


@pytest.mark.standards("S-224", "S-319")
@pytest.mark.parametrize("first", ["careless", "careful"])
def test_what_one_client_does_not_check_is_checked_for_every_other(auth: AuthorizationServer, first: str) -> None:
    # The same in all but this, so that nothing else keeps them apart: no connection, no metadata and no token is shared.
    configs = {
        "careless": config(issuer=auth.issuer, allow_insecure_tls=True),
        "careful": config(issuer=auth.issuer),
    }
    with TokenValet(configs) as valet:
        for _ in range(2):
            for name in sorted(configs, key=lambda name: name != first):
                if name == "careful":
                    distrusted(failure(valet, name), "'careful'", "/.well-known/", "not trusted")
                else:
                    assert valet.token(name).value == auth.issued_tokens[0]
    assert (len(auth.metadata_requests), len(auth.token_requests)) == (1, 1)


@pytest.mark.standards("S-224", "S-319")
def test_a_connection_that_was_opened_without_checks_carries_no_request_of_another(auth: AuthorizationServer) -> None:
    def at(**settings: object) -> dict[str, object]:
        return {"token_endpoint": auth.token_endpoint, **settings}

    configs = {
        "careless": config(**at(allow_insecure_tls=True)),
        "careful": config(**at(audience="https://api.example.org")),
    }
    with TokenValet(configs) as valet:
        valet.token("careless")
        distrusted(failure(valet, "careful"), "not trusted")
        valet.remove_client("careless")
        valet.add_client("careless", config(**at(scope=())))
        distrusted(failure(valet, "careless"), "not trusted")
    assert len(auth.token_requests) == 1


# Proxies ---------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-149")
def test_a_token_request_goes_through_the_proxy_inside_tls(
    auth: AuthorizationServer, authority: Authority, proxy: RawServer
) -> None:
    with valet_at(auth.issuer, ca_file=authority.file, proxy=proxy.url) as valet:
        assert valet.token().value == auth.issued_tokens[0]
    [connect] = proxy.requests
    assert connect.startswith(f"CONNECT {auth.issuer.removeprefix('https://')} HTTP/1.1\r\n".encode())
    assert "authorization" not in lowered(connect)
    assert SECRET.encode() not in connect


def test_a_proxy_with_a_password_is_given_it_and_the_server_is_not(
    auth: AuthorizationServer, authority: Authority, proxy: RawServer
) -> None:
    proxy.behaviour = tunnel(credentials=basic("somebody", PASSWORD))
    with valet_at(auth.issuer, ca_file=authority.file, proxy=with_password(proxy)) as valet:
        assert valet.token().value == auth.issued_tokens[0]
    [request] = auth.token_requests
    assert authorization_of(request.headers) == [basic(CLIENT_ID, SECRET)]
    assert "proxy-authorization" not in dict(request.headers)


def test_a_password_with_signs_in_it_is_decoded(
    auth: AuthorizationServer, authority: Authority, proxy: RawServer
) -> None:
    proxy.behaviour = tunnel(credentials=basic("some@body", "p:w/dé%"))
    url = proxy.url.replace("//", "//some%40body:p%3Aw%2Fd%C3%A9%25@")
    with valet_at(auth.issuer, ca_file=authority.file, proxy=url) as valet:
        assert valet.token().value == auth.issued_tokens[0]


def test_a_proxy_that_wants_a_password_is_told_with_the_remedy(auth: AuthorizationServer, proxy: RawServer) -> None:
    proxy.behaviour = tunnel(credentials=basic("somebody", "another"))
    for url in (proxy.url, with_password(proxy)):
        error = failure_at(auth.issuer, proxy=url)
        unreachable(error, "the proxy answered 407", "check the user and the password in proxy")
        assert PASSWORD not in everything_said(error)
    assert auth.metadata_requests == []


def test_a_proxy_that_refuses_is_told_by_its_status_and_not_in_its_words(
    auth: AuthorizationServer, proxy: RawServer
) -> None:
    proxy.behaviour = answer(status=f"403 Not for {PASSWORD}")
    error = failure_at(auth.issuer, proxy=with_password(proxy))
    unreachable(error, "the proxy answered 403")
    assert PASSWORD not in everything_said(error)


def test_a_proxy_that_is_down_is_not_gone_round(auth: AuthorizationServer, authority: Authority) -> None:
    with RawServer(answer()) as gone:
        pass
    unreachable(failure_at(auth.issuer, ca_file=authority.file, proxy=gone.url), "through the proxy")
    assert (auth.metadata_requests, auth.token_requests) == ([], [])


def echo(connection: socket.socket, request: bytes) -> None:
    """Answer with what was sent, as a status line."""
    connection.sendall(b"HTTP/1.1 502 " + request.replace(b"\r\n", b" ") + b"\r\n\r\n")


@pytest.mark.parametrize(
    "behaviour",
    [echo, close_without_answer, garbage_bytes(), tunnel(), answer(status="502 Bad Gateway")],
    ids=["echoes", "hangs up", "no HTTP", "works", "refuses"],
)
def test_the_password_of_a_proxy_is_in_no_error_event_or_log(
    auth: AuthorizationServer, proxy: RawServer, behaviour: object, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.behaviour = behaviour  # type: ignore[assignment]
    seen = Seen()
    with (
        caplog.at_level(logging.DEBUG),
        valet_at(auth.issuer, proxy=with_password(proxy), observers=[seen]) as valet,
    ):
        said = everything_said(failure(valet)) + repr(valet) + str(seen.events) + caplog.text
    for trace in (PASSWORD, basic("somebody", PASSWORD).split()[1]):
        assert trace not in said
    assert seen.of("renewal_failed") != []
    assert auth.token_requests == []


def test_the_password_of_a_proxy_that_cannot_be_one_is_in_no_fault() -> None:
    with pytest.raises(ConfigurationError) as caught:
        config(issuer="https://login.example.org", proxy=f"ftp://somebody:{PASSWORD}@proxy.example.org")
    assert "should be environment, or the URL of a proxy" in str(caught.value)
    assert PASSWORD not in everything_said(caught.value)


def test_what_is_on_this_machine_and_not_encrypted_never_sees_the_proxy(proxy: RawServer) -> None:
    auth = issuer_of_tests()
    with serve(auth), valet_at(auth.issuer, proxy=proxy.url) as valet:
        assert valet.token().value == auth.issued_tokens[0]
    assert proxy.connections == 0


# The environment -------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-149", "S-313")
def test_the_environment_is_not_asked_for_proxies_and_passwords_unless_that_is_configured(
    auth: AuthorizationServer,
    authority: Authority,
    proxy: RawServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in PROXY_VARIABLES[:-2]:
        monkeypatch.setenv(name, proxy.url)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login intruder password intruder\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with valet_at(auth.issuer, ca_file=authority.file, auth_method="client_secret_basic") as valet:
        assert valet.token().value == auth.issued_tokens[0]
    assert proxy.connections == 0
    assert authorization_of(auth.token_requests[0].headers) == [basic(CLIENT_ID, SECRET)]


@pytest.mark.standards("S-149")
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""], ids=["URL", "host and port"])
def test_the_proxy_of_the_environment_is_used_where_that_is_configured(
    auth: AuthorizationServer,
    authority: Authority,
    proxy: RawServer,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    scheme: str,
) -> None:
    monkeypatch.setenv(name, proxy.url.replace("http://", scheme))
    with valet_at(auth.issuer, ca_file=authority.file, proxy="environment") as valet:
        assert valet.token().value == auth.issued_tokens[0]
    assert len(proxy.requests) == 1


@pytest.mark.standards("S-149")
@pytest.mark.parametrize(
    ("name", "value"), [("NO_PROXY", "127.0.0.1"), ("no_proxy", "a.example, 127.0.0.1"), ("NO_PROXY", "*")]
)
def test_no_proxy_is_heeded(
    auth: AuthorizationServer,
    authority: Authority,
    proxy: RawServer,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv(name, value)
    with valet_at(auth.issuer, ca_file=authority.file, proxy="environment") as valet:
        assert valet.token().value == auth.issued_tokens[0]
    assert proxy.connections == 0


def test_without_a_proxy_in_the_environment_the_way_is_direct(auth: AuthorizationServer, authority: Authority) -> None:
    with valet_at(auth.issuer, ca_file=authority.file, proxy="environment") as valet:
        assert valet.token().value == auth.issued_tokens[0]


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://somebody:{PASSWORD}@127.0.0.1:1",
        f"http://somebody:{PASSWORD}@127.0.0.1:port",
        f"socks5://somebody:{PASSWORD}@127.0.0.1:1",
        f"http://somebody:{PASSWORD}@",
        f"http://somebody:{PASSWORD}@[127.0.0.1:1",
    ],
)
def test_a_proxy_of_the_environment_that_cannot_be_used_is_not_gone_round(
    auth: AuthorizationServer, authority: Authority, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    error = failure_at(auth.issuer, ca_file=authority.file, proxy="environment")
    unreachable(error, "proxy")
    assert PASSWORD not in everything_said(error)
    assert (auth.metadata_requests, auth.token_requests) == ([], [])
