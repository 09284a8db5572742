"""Addresses: TLS or loopback, no user in them, and nothing that a server could read in another way."""

from __future__ import annotations

from typing import Any

import pytest

from configuration.makers import ISSUER, SECRET, faults_of, faults_with, settings
from secrecy.walker import Plant, shown_by_error
from tokenvalet import ClientConfig, ConfigurationError

LOOPBACK = [
    "http://127.0.0.1:8000",
    "http://127.8.9.10",
    "http://[::1]:8000",
    "http://localhost:8000",
    "HTTP://LOCALHOST",
]
NOT_LOOPBACK = [
    "http://login.example.org",
    "http://127.0.0.1.example.org",
    "http://localhost.example.org",
    "http://10.0.0.1",
    "http://0.0.0.0:8000",
    "HTTP://login.example.org",
]
NO_URL = [
    "login.example.org",
    "//login.example.org",
    "ftp://login.example.org",
    "file:///etc/passwd",
    "https://",
    "https:///token",
    "https://login.example.org:99999",
    "https://login.example.org:abc",
    "https://[::1",
    "https://login.example.org\\@evil.example",
    "https://login example.org",
    "https://login.example.org\r\nX: y",
]
WITH_USER = [
    "https://user@login.example.org",
    "https://user:planted-pw@login.example.org",
    "http://127.0.0.1@evil.example",
]
ADDRESSES = ["issuer", "token_endpoint", "base_url", "allowed_origins"]


@pytest.mark.standards("S-072", "S-004")
@pytest.mark.parametrize("field", ADDRESSES)
@pytest.mark.parametrize("url", LOOPBACK)
def test_plain_http_is_taken_for_this_machine(field: str, url: str) -> None:
    assert ClientConfig(**settings(**{field: url})) is not None


@pytest.mark.standards("S-072", "S-004", "S-304", "S-308")
@pytest.mark.parametrize("field", ADDRESSES)
@pytest.mark.parametrize("url", [*NOT_LOOPBACK, *NO_URL, *WITH_USER])
def test_any_other_address_without_tls_or_sense_is_refused_and_no_password_in_it_shown(field: str, url: str) -> None:
    faults = faults_of(lambda: ClientConfig(**settings(**{field: url})), Plant("password", ("planted-pw",)))
    assert list(faults) == [field]
    if url in NOT_LOOPBACK:
        assert "https" in faults[field]


@pytest.mark.standards("S-004")
@pytest.mark.parametrize("end", ["?x=1", "#x", "?", "#"])
def test_an_issuer_has_neither_query_nor_fragment(end: str) -> None:
    assert "neither query nor fragment" in faults_with(issuer=ISSUER + end)["issuer"]
    assert "neither query nor fragment" in faults_with(base_url=ISSUER + end)["base_url"]


def test_a_token_endpoint_may_have_a_query_but_no_fragment() -> None:
    assert (
        ClientConfig(**settings(token_endpoint=f"{ISSUER}/token?p=policy")).token_endpoint == f"{ISSUER}/token?p=policy"
    )
    assert "fragment" in faults_with(token_endpoint=f"{ISSUER}/token#x")["token_endpoint"]
    assert "ASCII" in faults_with(token_endpoint=f"{ISSUER}/tökén")["token_endpoint"]


@pytest.mark.standards("S-142")
@pytest.mark.parametrize("end", ["/v1", "/v1/", "//", "?x=1", "#x", "/?x"])
def test_an_allowed_origin_is_an_origin_and_nothing_more(end: str) -> None:
    message = faults_with(allowed_origins=["https://a.example.org", f"https://b.example.org{end}"])["allowed_origins"]
    assert "more than an origin" in message
    assert f"https://b.example.org{end}" in message


@pytest.mark.standards("S-142")
def test_the_token_may_go_to_the_allowed_origins_or_else_to_that_of_base_url() -> None:
    def origins(**more: Any) -> set[str]:
        return {str(origin) for origin in ClientConfig(**settings(**more)).origins()}

    assert origins() == set()
    assert origins(base_url="https://API.example.org:443/v1") == {"https://api.example.org"}
    assert origins(base_url="https://api.example.org", allowed_origins="https://other.example.org/") == {
        "https://other.example.org"
    }
    assert origins(base_url="https://bücher.example") == {"https://xn--bcher-kva.example"}


@pytest.mark.standards("S-167")
@pytest.mark.parametrize(
    "value",
    ["planted-proxy", "//planted-proxy", "ftp://u:planted-proxy@p", "http://", "http://u:planted-proxy@p:99999"],
)
def test_a_proxy_that_is_none_is_told_and_not_quoted(value: str) -> None:
    faults = faults_of(lambda: ClientConfig(**settings(proxy=value)), Plant("proxy", ("planted-proxy",)))
    assert "should be environment, or the URL of a proxy" in faults["proxy"]


@pytest.mark.standards("S-167")
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS5"])
def test_a_socks_proxy_is_refused_at_the_start_where_what_it_needs_is_not_installed(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = Plant("proxy", ("planted-proxy",))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    faults = faults_of(lambda: ClientConfig(**settings(proxy=f"{scheme}://u:planted-proxy@p:1080")), plant)
    assert faults == {"proxy": "a SOCKS proxy needs the package socksio: install it, or use a proxy for HTTP"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert ClientConfig(**settings(proxy=f"{scheme}://u:planted-proxy@p:1080")).proxy


@pytest.mark.standards("S-160")
def test_a_fault_is_shown_without_the_secret_next_to_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        ClientConfig(**settings(issuer=f"https://user:{SECRET}@login.example.org", client_id=None))
    assert SECRET not in "".join(text for _, text in shown_by_error(caught.value) if "values" not in _)
