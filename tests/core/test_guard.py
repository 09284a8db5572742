"""May this origin have the token? Origins as they are parsed, compared and refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.makers import API, CLIENT, everything_held_by, modest
from tokenvalet.core.guard import Guard, Origin, is_loopback, origin_of, parse_origin, same_site
from tokenvalet.errors import OriginError

GUARD = Guard(CLIENT, [API])


def refused(guard: Guard, origin: Origin) -> str:
    with pytest.raises(OriginError) as caught:
        guard.check(origin)
    assert caught.value.code == "origin_not_allowed"
    return str(caught.value)


@pytest.mark.standards("S-142")
@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.example.org", "https://api.example.org"),
        ("https://api.example.org/a/b?c#d", "https://api.example.org"),
        ("HTTPS://API.Example.ORG", "https://api.example.org"),
        ("https://api.example.org:443/", "https://api.example.org"),
        ("https://api.example.org:8443/", "https://api.example.org:8443"),
        ("https://api.example.org./", "https://api.example.org"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:8080/x", "http://localhost:8080"),
        ("https://[2001:DB8::1]/", "https://[2001:db8::1]"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("https://bücher.example/", "https://xn--bcher-kva.example"),
        ("https://faß.example/", "https://xn--fa-hia.example"),
    ],
)
def test_an_origin_is_scheme_host_and_port_in_one_form(url: str, origin: str) -> None:
    assert str(parse_origin(url)) == origin
    assert parse_origin(url) == parse_origin(origin)


@pytest.mark.standards("S-141", "S-308")
@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.org",
        "//api.example.org",
        "/records",
        "https:api.example.org",
        "https://",
        "https:///records",
        "ftp://api.example.org",
        "file:///etc/passwd",
        "data:text/plain,x",
        "wss://api.example.org",
        "https://user@api.example.org",
        "https://user:word@api.example.org",
        "https://@api.example.org",
        "https://api.example.org\\@evil.example",
        "https://api.example.org\\evil",
        " https://api.example.org",
        "https://api.example.org\r\nHost: evil.example",
        "https://api.exam\tple.org",
        "https://api.example.org\x00",
        "https://api.example.org\u2028",
        "https://api.example.org:99999",
        "https://api.example.org:port",
        "https://api.example.org:-1",
        "https://[::1",
        "https://xn--\u2603-.example",
    ],
)
def test_what_is_no_plain_absolute_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        parse_origin(url)


@pytest.mark.standards("S-072", "S-304")
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1@evil.example/", "http://localhost:80@evil.example/", "http://[::1]@evil/"]
)
def test_user_information_that_looks_like_loopback_fools_nobody(url: str) -> None:
    with pytest.raises(ValueError, match="user information"):
        parse_origin(url)


@pytest.mark.standards("S-162")
@pytest.mark.parametrize("url", ["https://web:planted/word@h/", "https://web:planted\u2100@h/"])
def test_a_password_in_a_url_is_not_quoted(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_origin(url)
    assert "planted" not in everything_held_by(caught.value)


@pytest.mark.standards("S-141")
def test_a_host_that_is_only_a_dot_is_refused() -> None:
    with pytest.raises(ValueError):
        parse_origin("https://./")


@pytest.mark.standards("S-072")
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.255.255.254", "::1"])
def test_loopback_needs_no_tls(host: str) -> None:
    assert is_loopback(host)
    assert origin_of("http", host, 80).is_safe


@pytest.mark.standards("S-072")
@pytest.mark.parametrize(
    "host",
    [
        "api.example.org",
        "localhost.example.org",
        "127.0.0.1.example.org",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "0177.0.0.1",
        "127.0.0.01",
        "0.0.0.0",
        "128.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "::",
        "::2",
        "fe80::1",
        "sub.localhost",
        "",
    ],
)
def test_nothing_else_is_loopback(host: str) -> None:
    assert not is_loopback(host)
    assert not origin_of("http", host, 80).is_safe
    assert origin_of("https", host, 443).is_safe


@pytest.mark.standards("S-072")
def test_an_ipv4_address_in_ipv6_clothing_is_not_loopback() -> None:
    assert not is_loopback("::ffff:127.0.0.1")


@pytest.mark.standards("S-072")
def test_an_address_with_a_zone_is_not_loopback() -> None:
    assert not is_loopback("::1%25eth0")


@pytest.mark.standards("S-140", "S-142")
def test_the_allowed_origin_passes_however_it_is_spelled() -> None:
    for url in ("https://api.example.org/records", "https://API.EXAMPLE.ORG:443", "https://api.example.org./x?y"):
        GUARD.check(parse_origin(url))


@pytest.mark.standards("S-140", "S-141", "S-143", "S-324")
@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example",
        "https://example.org",
        "https://api.example.org.evil.example",
        "https://evil-api.example.org",
        "https://api.example.org:8443",
        "http://api.example.org",
        "http://api.example.org:443",
        "https://localhost",
    ],
)
def test_any_other_origin_is_refused_with_the_remedy(url: str) -> None:
    said = refused(GUARD, parse_origin(url))
    assert CLIENT in said
    assert str(parse_origin(url)) in said
    assert "https://api.example.org" in said
    assert "allowed_origins" in said
    assert "nothing was sent" in said


@pytest.mark.standards("S-072")
def test_an_allowed_origin_without_tls_is_refused_unless_it_is_loopback() -> None:
    plain = Guard(CLIENT, [parse_origin("http://api.example.org"), parse_origin("http://127.0.0.1:8080")])
    assert "over TLS" in refused(plain, parse_origin("http://api.example.org/"))
    plain.check(parse_origin("http://127.0.0.1:8080/records"))


@pytest.mark.standards("S-140")
def test_a_client_without_any_origin_serves_by_hand_only() -> None:
    assert "by hand" in refused(Guard(CLIENT, []), API)


@pytest.mark.standards("S-150")
def test_a_websocket_handshake_follows_the_rule_of_its_http_origin() -> None:
    assert origin_of("wss", "api.example.org", None) == API
    assert origin_of("ws", "api.example.org", None) == Origin("http", "api.example.org", 80)
    GUARD.check(origin_of("WSS", "API.example.org", 443))
    refused(GUARD, origin_of("ws", "api.example.org", None))


@pytest.mark.standards("S-166")
def test_what_is_quoted_of_an_origin_is_escaped() -> None:
    said = refused(GUARD, Origin("https", "evil\r\nexample\u202e", 443))
    assert said.isprintable()
    assert "\\r\\n" in said


@pytest.mark.standards("S-142")
@modest
@given(
    scheme=st.sampled_from(["http", "https"]),
    host=st.from_regex(r"[a-z][a-z0-9]{0,8}(\.[a-z]{2,5}){0,2}", fullmatch=True),
    port=st.none() | st.integers(1, 65535),
)
def test_an_origin_written_out_is_the_same_origin(scheme: str, host: str, port: int | None) -> None:
    origin = origin_of(scheme, host, port)
    assert parse_origin(str(origin)) == origin
    assert origin_of(scheme.upper(), host.upper() + ".", origin.port) == origin


@pytest.mark.standards("S-141")
@modest
@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_whatever_follows_the_scheme_the_outcome_is_an_origin_or_a_value_error(text: str) -> None:
    try:
        origin = parse_origin(f"https://{text}")
    except ValueError:
        return
    assert origin.scheme == "https"
    assert origin.host.isascii()
    assert "@" not in origin.host


@pytest.mark.standards("S-008")
@pytest.mark.parametrize(
    ("host", "other", "expected"),
    [
        ("login.example.org", "login.example.org", True),
        ("login.example.org", "token.example.org", True),
        ("a.b.example.org", "example.org", True),
        ("login.example.org", "login.example.com", False),
        ("login.example.org", "login.example.org.evil.com", False),
        ("login.example.co.uk", "token.example.co.uk", True),
        ("login.example.co.uk", "login.evil.co.uk", False),
        ("localhost", "127.0.0.1", True),
        ("localhost", "login.example.org", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "20.0.0.1", False),
        ("intranet", "intranet", True),
        ("intranet", "other", False),
        ("::1", "127.0.0.1", True),
        ("2001:db8::1", "2001:db8::2", False),
    ],
)
def test_hosts_of_one_organisation_are_told_from_others(host: str, other: str, expected: bool) -> None:
    assert same_site(host, other) is expected
    assert same_site(other, host) is expected
