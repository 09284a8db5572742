"""All that is wrong with a configuration is told in one error, each fault with its place and its remedy."""

from __future__ import annotations

from typing import Any

import pytest

from configuration.makers import SendsNothing, faults_of, faults_with, settings
from secrecy.walker import Plant, found, shown_by_error
from tokenvalet import ClientConfig, ConfigurationError, Secret, TokenParameters, TokenValet
from tokenvalet.configuration_sources import settings_from_dict

KEY_FILE = "/etc/records/key.pem"


def test_all_faults_of_all_clients_are_in_one_error() -> None:
    document = {
        "clients": {
            "m2m": settings(issuer="http://login.example.org", isuer="x", timeout="soon"),
            "other": settings(client_id=..., scope='records"read', client_secret=...),
            "fine": settings(),
            "table": 5,
        },
        "store": {"url": "redis://cache", "urll": "x", "timeout": 0},
    }
    faults = faults_of(lambda: settings_from_dict(document))
    assert faults == {
        "store.timeout": "Input should be greater than 0",
        "store.urll": "unknown setting; did you mean url?",
        "clients.m2m.issuer": "an issuer is an https URL (RFC 8414 §2)",
        "clients.m2m.timeout": "Input should be a valid number, unable to parse string as a number",
        "clients.m2m.isuer": "unknown setting; did you mean issuer?",
        "clients.other.client_id": "is missing",
        "clients.other.scope": (
            "'records\"read' is no scope: printable ASCII without quote and backslash (RFC 6749 §3.3)"
        ),
        "clients.other.client_secret": (
            "no credential: give client_secret, client_secret_file, private_key, private_key_file, assertion_file or "
            "certificate_file"
        ),
        "clients.table": "should be a table of settings",
    }


def test_the_text_has_a_line_for_each_fault() -> None:
    with pytest.raises(ConfigurationError) as caught:
        ClientConfig(**settings(timeout=-1, isuer="x"))
    head, *lines = str(caught.value).splitlines()
    assert head == "the configuration has 2 faults:"
    assert [line.strip().partition(":")[0] for line in lines] == ["timeout", "isuer"]
    with pytest.raises(ConfigurationError, match="the configuration has a fault:"):
        ClientConfig(**settings(timeout=-1))


def test_faults_of_keys_and_files_of_all_clients_are_in_one_error_too(nothing: SendsNothing) -> None:
    configs = {
        name: ClientConfig(**settings(client_secret=..., **{field: "/not/there"}))
        for name, field in (("one", "private_key_file"), ("two", "assertion_file"), ("three", "client_secret_file"))
    }
    configs["four"] = ClientConfig(**settings(dpop=True, dpop_key_file="/not/there", ca_file="/not/there"))
    faults = faults_of(lambda: TokenValet(configs, backchannel=nothing))
    assert sorted(faults) == [
        "clients.four.ca_file",
        "clients.four.dpop_key_file",
        "clients.one.private_key_file",
        "clients.three.client_secret_file",
        "clients.two.assertion_file",
    ]
    assert all("/not/there" in message for message in faults.values())
    assert nothing.requests == []


# Unknown settings and names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("isuer", "issuer"),
        ("token_endpont", "token_endpoint"),
        ("scopes", "scope"),
        ("base-url", "base_url"),
        ("Client_ID", "client_id"),
    ],
)
def test_an_unknown_setting_suggests_the_nearest(written: str, meant: str) -> None:
    assert faults_with(**{written: "x"}) == {written: f"unknown setting; did you mean {meant}?"}


@pytest.mark.parametrize("written", ["self", "values", "verify", "5", "__class__", "model_config"])
def test_an_unknown_setting_with_nothing_near_is_told_all_the_same(written: str) -> None:
    assert faults_with(**{written: "x"})[written].startswith("unknown setting")


def test_a_key_that_is_no_string_is_an_unknown_setting() -> None:
    faults = faults_of(lambda: settings_from_dict({"clients": {"m2m": settings() | {5: "x"}}}))
    assert faults == {"clients.m2m.5": "unknown setting"}


def unknown(valet: TokenValet, name: str | None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        valet.client(name)
    assert caught.value.code == "unknown_client"
    return str(caught.value)


def test_an_unknown_client_suggests_the_nearest_name_or_lists_those_that_there_are() -> None:
    config = ClientConfig(**settings())
    with TokenValet({"m2m": config, "records-web": config}) as valet:
        assert "did you mean 'records-web'?" in unknown(valet, "record-web")
        assert unknown(valet, "zzz").endswith("known clients: m2m, records-web")
        assert "'default'" in unknown(valet, None)
    with TokenValet() as empty:
        assert unknown(empty, "m2m").endswith("known clients: none")


def test_an_unknown_client_cannot_forge_a_line() -> None:
    with TokenValet() as valet:
        assert "\n" not in unknown(valet, "x\n2026-01-01 ERROR all is lost")


# Wrong types and values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("issuer", 5),
        ("token_endpoint", ["https://a.example"]),
        ("client_id", None),
        ("client_id", ""),
        ("client_id", "é"),
        ("client_id", "a\r\nb"),
        ("auth_method", "basic"),
        ("client_secret", 12345678),
        ("client_secret", ["x"]),
        ("client_secret_file", 5),
        ("client_secret_file", ""),
        ("basic_encoding", "base64"),
        ("private_key", 12345678),
        ("private_key_password", True),
        ("key_id", "a\nb"),
        ("key_id", "é"),
        ("signing_alg", "none"),
        ("signing_alg", "ES256K"),
        ("signer", object()),
        ("assertion", "token"),
        ("assertion_lifetime", 0),
        ("assertion_lifetime", 601),
        ("assertion_lifetime", 1.5),
        ("assertion_claims", "x"),
        ("assertion_typ", "a\r\nb"),
        ("scope", 5),
        ("scope", ["a", 5]),
        ("resource", 5),
        ("audience", {"a": 1}),
        ("parameters", ["a"]),
        ("parameters", {"a": 1}),
        ("required_scopes", None),
        ("dpop", "maybe"),
        ("dpop", 2),
        ("dpop_alg", "HS1"),
        ("base_url", 5),
        ("allowed_origins", 5),
        ("proxy", 5),
        ("allow_insecure_tls", "true"),
        ("allow_insecure_tls", 1),
        ("renew_before", -1),
        ("renew_before", float("nan")),
        ("renew_before", "soon"),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", float("inf")),
        ("timeout", 601),
        ("default_lifetime", 0),
        ("default_lifetime", 86401),
        ("name", 5),
    ],
)
def test_a_value_of_the_wrong_type_or_beyond_its_bounds_is_told_at_its_place(field: str, value: Any) -> None:
    faults = faults_of(lambda: ClientConfig(**settings(**{field: value})), Plant("the value", ("12345678",)))
    at_the_field = [place for place in faults if place.partition(".")[0] == field]
    assert at_the_field, faults
    assert all(faults[place] and len(faults[place]) > 5 for place in at_the_field)


@pytest.mark.standards("S-307")
@pytest.mark.parametrize("empty", ["", b"", Secret("")], ids=["str", "bytes", "Secret"])
@pytest.mark.parametrize("field", ["client_secret", "private_key", "private_key_password", "proxy"])
def test_an_empty_secret_is_refused(field: str, empty: Any) -> None:
    assert faults_with(**{field: empty})[field] == "is empty"


@pytest.mark.standards("S-307")
def test_no_secret_at_all_is_refused() -> None:
    assert list(faults_with(client_secret=None)) == ["client_secret"]
    assert list(faults_with(client_secret=...)) == ["client_secret"]


@pytest.mark.standards("S-162", "S-167")
@pytest.mark.parametrize("field", ["client_secret", "private_key_password", "proxy"])
@pytest.mark.parametrize("value", [b"planted-bytes\xff\xfe", "planted-bytes\ud800"], ids=["bytes", "str"])
def test_a_secret_that_is_not_utf_8_is_refused_and_in_no_variable_of_the_error(field: str, value: Any) -> None:
    faults = faults_of(lambda: ClientConfig(**settings(**{field: value})), Plant("the secret", ("planted-bytes",)))
    assert faults[field] == "is not UTF-8"


@pytest.mark.standards("S-162")
def test_secrets_of_a_client_with_faults_are_in_no_variable_of_the_error() -> None:
    planted = {
        "client_secret": "planted-secret",
        "private_key": {"kty": "EC", "d": "planted-number"},
        "private_key_password": b"planted-password",
        "proxy": "http://user:planted-pw@proxy.example.org",
        "parameters": {"password": "planted-parameter"},
    }
    with pytest.raises(ConfigurationError) as caught:
        ClientConfig(**settings(timeout=-1, **planted))
    plants = [Plant("a secret", ("planted-",))]
    assert found(plants, shown_by_error(caught.value)) == []


@pytest.mark.standards("S-222")
@pytest.mark.parametrize("field", ["private_key_file", "client_secret_file", "certificate_key_file", "dpop_key_file"])
@pytest.mark.parametrize(
    "content", ["-----BEGIN PRIVATE KEY-----\nplanted-line\n", '{"kty":"EC","d":"planted-line"}', "planted-line\n"]
)
def test_the_content_of_a_file_in_the_place_of_its_path_is_told_and_not_quoted(field: str, content: str) -> None:
    faults = faults_of(lambda: ClientConfig(**settings(**{field: content})), Plant("the content", ("planted-line",)))
    assert faults[field] == "is the content of a file, it seems: give its path, or use the setting without _file"


def test_a_fault_does_not_hide_what_does_not_go_together_nor_invent_it() -> None:
    # What was written in another way than it is kept, as a list or as a string, is compared as what it means.
    good = {"scope": "records:read records:write", "required_scopes": ["records:read"], "dpop": "false"}
    assert list(faults_with(**good, timeout=-1)) == ["timeout"]
    bad = {"scope": "records:read", "required_scopes": "records:write", "dpop": "false", "dpop_key_file": KEY_FILE}
    assert list(faults_with(**bad, timeout=-1)) == ["timeout", "dpop_key_file", "required_scopes"]


# What does not go together ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "place", "message"),
    [
        ({"issuer": ...}, "issuer", "give issuer, or token_endpoint"),
        ({"required_scopes": "a b", "scope": "b"}, "required_scopes", "a is required, but scope does not ask for it"),
        ({"dpop_key_file": KEY_FILE}, "dpop_key_file", "set dpop = true"),
        ({"dpop": True, "dpop_alg": "EdDSA"}, "dpop_alg", "give dpop_key_file"),
        ({"certificate_key_file": KEY_FILE}, "certificate_key_file", "no certificate_file"),
        ({"private_key_password": "planted-password"}, "private_key_password", "no private_key"),
        ({"basic_encoding": "raw", "client_id": "a:b"}, "client_id", "colon"),
    ],
)
def test_settings_that_do_not_go_together_are_told(more: dict[str, Any], place: str, message: str) -> None:
    faults = faults_with(**more)
    assert list(faults) == [place]
    assert message in faults[place]


def test_required_scopes_may_be_asked_of_whatever_the_server_grants_by_default() -> None:
    assert ClientConfig(**settings(required_scopes="records:read")).required_scopes == ("records:read",)


# Scopes, resources, parameters, claims ---------------------------------------------------------------------------


@pytest.mark.standards("S-033")
@pytest.mark.parametrize("field", ["scope", "required_scopes"])
@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\tb", "a\r\nb", "é", "a\x00", "a\x7f", "a\u2028b"])
def test_a_scope_with_illegal_characters_is_refused(field: str, value: str) -> None:
    for written in (f"records:read {value}", ["records:read", value]):
        message = faults_with(**{field: written})[field]
        assert "RFC 6749 §3.3" in message
        assert message.isprintable()


@pytest.mark.standards("S-033")
def test_a_scope_with_illegal_characters_is_refused_for_one_token_too(nothing: SendsNothing) -> None:
    with TokenValet({"m2m": ClientConfig(**settings())}, backchannel=nothing) as valet:
        with pytest.raises(ConfigurationError) as caught:
            valet.token("m2m", scope='a"b')
        assert caught.value.code == "invalid_scope_parameter"
        with pytest.raises(ConfigurationError):
            TokenParameters(scope=["a\nb"])
    assert nothing.requests == []


RESERVED = (
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "scope",
    "resource",
)


@pytest.mark.standards("S-034")
@pytest.mark.parametrize("name", [*RESERVED, "audience"])
def test_a_parameter_may_not_take_the_place_of_a_field_of_the_protocol(name: str, nothing: SendsNothing) -> None:
    message = faults_with(parameters={"tenant": "a", name: "x"})["parameters"]
    assert message.startswith(name)
    with TokenValet({"m2m": ClientConfig(**settings())}, backchannel=nothing) as valet:
        with pytest.raises(ConfigurationError, match=name) as caught:
            valet.token("m2m", parameters={name: "x"})
        assert caught.value.code == "invalid_token_parameters"
    assert nothing.requests == []


def test_a_parameter_needs_a_name() -> None:
    (place,) = faults_with(parameters={"": "x"})
    assert place.startswith("parameters")


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "exp", "iat", "nbf", "jti"])
def test_an_assertion_claim_may_not_take_the_place_of_one_of_rfc_7523(claim: str) -> None:
    message = faults_with(assertion_claims={"tenant": "a", claim: "x"})["assertion_claims"]
    assert message.startswith(claim)


@pytest.mark.standards("S-035")
@pytest.mark.parametrize("value", ["/records", "api.example.org", "https://a.example/#x", "https://a.example/\x7f"])
def test_a_resource_that_is_no_absolute_uri_is_refused(value: str) -> None:
    assert "RFC 8707" in faults_with(resource=[value])["resource"]
