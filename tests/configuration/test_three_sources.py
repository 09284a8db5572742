"""Every setting can be written in TOML, in the environment and in Python, and comes out as the same object."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from configuration.makers import ISSUER, PASSWORD, SECRET, as_json, pem, settings
from tokenvalet import ClientConfig, Secret
from tokenvalet.config import SECRET_FIELDS
from tokenvalet.configuration_sources import settings_from_dict, settings_from_env, settings_from_toml

HERE = "/etc/records"  # files are not opened before a valet is made
ENDPOINT = "https://login.example.org/token"


@dataclass(frozen=True)
class Case:
    """One setting: how it is written, what comes out, and what it needs beside it (... takes away)."""

    name: str
    written: Any
    result: Any
    beside: dict[str, Any] = field(default_factory=dict)
    in_environment: str | None = None
    in_python: Any = None

    def __str__(self) -> str:
        return f"{self.name}={str(self.written)[:24]!r}"


KEY = {"client_secret": ..., "private_key": pem("P-256")}
KEY_FILE = {"client_secret": ..., "private_key_file": f"{HERE}/key.pem"}
ASSERTION = {"client_secret": ..., "assertion_file": f"{HERE}/token"}
CERTIFICATE = {"client_secret": ..., "certificate_file": f"{HERE}/tls.pem"}
SPIFFE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"

CASES = [
    Case("name", "m2m", "m2m"),
    Case("issuer", ISSUER + "/realms/a", ISSUER + "/realms/a"),
    Case("token_endpoint", ENDPOINT, ENDPOINT),
    Case("token_endpoint", ENDPOINT, ENDPOINT, {"issuer": ...}),
    Case("client_id", "records web:{1}", "records web:{1}"),
    *(Case("auth_method", one, one) for one in ("client_secret_basic", "client_secret_post", "client_secret_jwt")),
    Case("auth_method", "private_key_jwt", "private_key_jwt", KEY),
    *(Case("auth_method", one, one, CERTIFICATE) for one in ("tls_client_auth", "self_signed_tls_client_auth")),
    Case("client_secret", "c d%é:$=\"'\\", Secret("c d%é:$=\"'\\")),
    Case("client_secret", "as bytes", Secret("as bytes"), in_python=b"as bytes"),
    Case("client_secret_file", f"{HERE}/secret", Path(HERE, "secret"), {"client_secret": ...}),
    Case("basic_encoding", "raw", "raw"),
    Case("private_key", pem("P-256"), Secret(pem("P-256")), {"client_secret": ...}),
    Case("private_key", as_json({"kty": "EC"}), Secret(as_json({"kty": "EC"})), {"client_secret": ...}),
    Case(
        "private_key",
        as_json({"kty": "EC"}),
        Secret(as_json({"kty": "EC"})),
        {"client_secret": ...},
        in_python={"kty": "EC"},
    ),
    Case("private_key_file", f"{HERE}/key.pem", Path(HERE, "key.pem"), {"client_secret": ...}),
    Case("private_key_password", PASSWORD, Secret(PASSWORD), KEY_FILE),
    Case("key_id", "{2026-1}", "{2026-1}", KEY),
    Case("signing_alg", "ES256", "ES256", KEY),
    Case("signing_alg", "HS512", "HS512", {"auth_method": "client_secret_jwt"}),
    Case("assertion_file", f"{HERE}/token", Path(HERE, "token"), {"client_secret": ...}),
    Case("assertion_type", SPIFFE, SPIFFE, ASSERTION),
    Case("assertion_audience", "https://other.example.org", "https://other.example.org", KEY),
    Case("assertion_lifetime", 30, 30, KEY),
    Case("assertion_claims", {"tenant": "a", "level": 3}, {"tenant": "a", "level": 3}, KEY),
    Case("assertion_typ", "JWT", "JWT", KEY),
    Case("assertion_typ", "", "", KEY),
    Case("certificate_file", f"{HERE}/tls.pem", Path(HERE, "tls.pem"), {"client_secret": ...}),
    Case("certificate_key_file", f"{HERE}/tls.key", Path(HERE, "tls.key"), CERTIFICATE),
    Case("scope", "records:read records:write", ("records:read", "records:write")),
    Case(
        "scope",
        ["records:read", "records:write"],
        ("records:read", "records:write"),
        in_python=("records:read", "records:write"),
    ),
    Case("scope", ["records:read records:write"], ("records:read", "records:write")),
    Case("resource", "https://api.example.org/records", ("https://api.example.org/records",)),
    Case(
        "resource",
        ["https://a.example.org/", "https://b.example.org/"],
        ("https://a.example.org/", "https://b.example.org/"),
    ),
    Case(
        "resource",
        "https://a.example.org/ https://b.example.org/",
        ("https://a.example.org/", "https://b.example.org/"),
    ),
    Case("audience", "the records API", ("the records API",)),
    Case("audience", ["one", "two"], ("one", "two")),
    Case("parameters", {"tenant": "a", "prompt": "ä b"}, {"tenant": "a", "prompt": "ä b"}),
    Case("required_scopes", "records:read", ("records:read",)),
    Case("required_scopes", ["records:read"], ("records:read",), {"scope": "records:read records:write"}),
    Case("dpop", True, True),
    Case("dpop", True, True, in_environment="1"),
    Case("dpop", False, False),
    Case("dpop_key_file", f"{HERE}/dpop.pem", Path(HERE, "dpop.pem"), {"dpop": True}),
    Case("dpop_alg", "EdDSA", "EdDSA", {"dpop": True, "dpop_key_file": f"{HERE}/dpop.pem"}),
    Case("base_url", "https://api.example.org/v1", "https://api.example.org/v1"),
    Case("allowed_origins", "https://api.example.org", ("https://api.example.org",)),
    Case(
        "allowed_origins",
        ["https://a.example.org", "http://127.0.0.1:80"],
        ("https://a.example.org", "http://127.0.0.1:80"),
    ),
    Case(
        "allowed_origins",
        "https://a.example.org https://b.example.org",
        ("https://a.example.org", "https://b.example.org"),
    ),
    Case("ca_file", f"{HERE}/ca.pem", Path(HERE, "ca.pem")),
    Case(
        "proxy",
        "http://user:planted-pw@proxy.example.org:3128",
        Secret("http://user:planted-pw@proxy.example.org:3128"),
    ),
    Case("proxy", "environment", Secret("environment")),
    Case("renew_before", 60, 60.0),
    Case("renew_before", 0.5, 0.5),
    Case("timeout", 2.5, 2.5),
    Case("default_lifetime", 120, 120.0),
]


def toml_of(values: dict[str, Any]) -> str:
    """Return one client in TOML. A JSON string is a basic string of TOML as well."""

    def written(value: Any) -> str:
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{as_json(key)} = {written(one)}" for key, one in value.items()) + " }"
        return as_json(value)

    escaped = {name: value.replace("${", "$${") if isinstance(value, str) else value for name, value in values.items()}
    return "\n".join(["[clients.m2m]", *(f"{name} = {written(value)}" for name, value in escaped.items())])


def environment_of(values: dict[str, Any]) -> dict[str, str]:
    return {
        f"TOKENVALET__CLIENTS__M2M__{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    }


@pytest.mark.standards("S-167")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_setting_is_the_same_from_toml_from_the_environment_and_from_python(case: Case, tmp_path: Path) -> None:
    values = settings(**{**case.beside, case.name: case.written})
    file = tmp_path / "tokenvalet.toml"
    file.write_text(toml_of(values), encoding="utf-8")
    variables = environment_of(values)
    if case.in_environment is not None:
        variables[f"TOKENVALET__CLIENTS__M2M__{case.name.upper()}"] = case.in_environment

    python = ClientConfig(**values | ({case.name: case.in_python} if case.in_python is not None else {}))
    others = [
        settings_from_toml(file, {}).clients["m2m"],
        settings_from_env(variables).clients["m2m"],
        settings_from_dict({"clients": {"m2m": values}}).clients["m2m"],
    ]

    assert getattr(python, case.name) == case.result
    assert type(getattr(python, case.name)) is type(case.result)
    assert python.model_fields_set == {name for name, value in values.items()}
    for other in others:
        assert other == python
        assert {name: getattr(other, name) for name in values} == {name: getattr(python, name) for name in values}


def test_every_setting_but_those_of_python_alone_is_tried_in_all_three_ways() -> None:
    # A callable and a signer cannot be written down; allow_insecure_tls is not taken from the environment, on purpose.
    assert {case.name for case in CASES} | {
        "signer",
        "assertion",
        "allow_insecure_tls",
    } == ClientConfig.model_fields.keys()


@pytest.mark.standards("S-160")
def test_configurations_with_different_secrets_are_not_equal() -> None:
    # Or the tests above would prove nothing about secrets.
    for name, beside in (("client_secret", {}), ("private_key_password", KEY_FILE), ("proxy", {})):
        one, other = (
            ClientConfig(**settings(**{**beside, name: f"http://{end}.example.org"})) for end in ("one", "other")
        )
        assert one != other
    assert ClientConfig(**settings()) != ClientConfig(**settings(client_secret=SECRET.upper()))


def test_the_defaults_are_those_of_the_table() -> None:
    config = ClientConfig(**settings())
    assert (config.renew_before, config.timeout, config.default_lifetime) == (300.0, 10.0, 300.0)
    assert (config.assertion_lifetime, config.basic_encoding, config.dpop) == (60, "form", False)
    assert config.assertion_type == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert config.allow_insecure_tls is False
    assert config.origins() == frozenset()


@pytest.mark.standards("S-167")
@pytest.mark.parametrize("name", sorted(SECRET_FIELDS))
def test_a_setting_that_is_none_in_python_counts_as_left_out(name: str) -> None:
    values = (
        settings(**{name: None}) if name != "client_secret" else settings(**KEY, client_secret_file=None) | {name: None}
    )
    assert getattr(ClientConfig(**values), name) is None


def test_a_configuration_cannot_be_changed_after_it_was_checked() -> None:
    config = ClientConfig(**settings())
    with pytest.raises(ValueError, match="frozen"):
        config.base_url = "https://evil.example"  # type: ignore[misc]
