"""The environment: names, lists and tables in it, secrets in files, and what may not be set there."""

from __future__ import annotations

from pathlib import Path

import pytest

from configuration.makers import ISSUER, PASSWORD, SECRET, faults_of, write
from secrecy.walker import Plant
from tokenvalet import ClientConfig, ConfigurationError, Secret, TokenValet
from tokenvalet.config import SECRET_FIELDS
from tokenvalet.configuration_sources import settings_from_env
from tokenvalet.files import LARGEST_FILE

PREFIX = "TOKENVALET__CLIENTS__M2M__"


def variables(**more: str) -> dict[str, str]:
    plain = {"ISSUER": ISSUER, "CLIENT_ID": "records-web", "CLIENT_SECRET": SECRET} | more
    return {PREFIX + name: value for name, value in plain.items() if value != "..."}


def read(**more: str) -> ClientConfig:
    return settings_from_env(variables(**more)).clients["m2m"]


def faults_in(environ: dict[str, str], *plants: Plant) -> dict[str, str]:
    return faults_of(lambda: settings_from_env(environ), *plants)


def test_several_clients_are_read_and_other_variables_are_left_alone() -> None:
    environ = variables() | {
        "PATH": "/bin",
        "TOKENVALET_DEBUG": "1",
        "TOKENVALET__CLIENTS__TENANT_42__TOKEN_ENDPOINT": "https://login.example.org/token",
        "TOKENVALET__CLIENTS__TENANT_42__CLIENT_ID": "tenant",
        "TOKENVALET__CLIENTS__TENANT_42__CLIENT_SECRET": "x",
    }
    assert settings_from_env(environ).clients.keys() == {"m2m", "tenant_42"}


def test_names_are_read_in_lower_case() -> None:
    environ = {name.lower(): value for name, value in variables().items()}
    assert settings_from_env(environ).clients == settings_from_env(variables()).clients


@pytest.mark.parametrize("name", ["SCOPE", "RESOURCE", "ALLOWED_ORIGINS"])
def test_a_list_may_be_written_with_blanks_or_as_json(name: str) -> None:
    one, two = "https://a.example.org", "https://b.example.org"
    field = name.lower()
    assert getattr(read(**{name: f"{one} {two}"}), field) == (one, two)
    assert getattr(read(**{name: f'["{one}", "{two}"]'}), field) == (one, two)


def test_an_audience_may_have_blanks_in_it_so_that_several_are_written_as_json() -> None:
    assert read(AUDIENCE="the records API").audience == ("the records API",)
    assert read(AUDIENCE='["one", "two"]').audience == ("one", "two")


def test_a_table_may_be_written_as_json_or_in_parts() -> None:
    together = read(PARAMETERS='{"tenant": "a", "kind": "b"}')
    in_parts = read(PARAMETERS__TENANT="a", PARAMETERS__KIND="b")
    mixed = read(PARAMETERS='{"tenant": "x", "kind": "b"}', PARAMETERS__TENANT="a")
    assert together == in_parts == mixed
    claims = read(CLIENT_SECRET="...", PRIVATE_KEY="x", ASSERTION_CLAIMS__TENANT="a").assertion_claims
    assert claims == {"tenant": "a"}


def test_only_lists_and_tables_are_read_as_json() -> None:
    assert read(CLIENT_ID="{0f8fad5b-d9cb}").client_id == "{0f8fad5b-d9cb}"
    assert read(CLIENT_SECRET='{"not": json').client_secret == Secret('{"not": json')


@pytest.mark.standards("S-167")
@pytest.mark.parametrize("name", sorted(SECRET_FIELDS))
def test_a_secret_may_be_left_in_a_file(name: str, tmp_path: Path) -> None:
    secret = "http://user:planted@proxy.example.org"
    file = write(tmp_path / "secret", f"\n  {secret}\n")
    beside = {"CLIENT_SECRET": "..."} if name.startswith("private_key") or name == "client_secret" else {}
    if name == "private_key_password":
        beside["PRIVATE_KEY_FILE"] = "/etc/records/key.pem"
    config = read(**beside, **{f"{name.upper()}_FILE": str(file)})
    if f"{name}_file" in ClientConfig.model_fields:
        # A setting of its own: read by the valet, and again when it changes.
        assert getattr(config, f"{name}_file") == file
    else:
        assert getattr(config, name) == Secret(secret)


@pytest.mark.standards("S-167", "S-307")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe planted", "not UTF-8"),
        (b" \n", "is empty"),
        (b"x" * (LARGEST_FILE + 1), "cannot be read"),
    ],
    ids=["missing", "no UTF-8", "empty", "too large"],
)
def test_a_secret_file_that_cannot_be_used_is_told(content: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "secret" if content is None else write(tmp_path / "secret", content)
    faults = faults_in(variables(PROXY_FILE=str(file)), Plant("the content", ("planted", "x" * 16)))
    place = "clients.m2m.proxy" if content == b" \n" else f"{PREFIX}PROXY_FILE"
    assert list(faults) == [place]
    assert message in faults[place]


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    assert "cannot be read" in faults_in(variables(PROXY_FILE=str(tmp_path / "pipe")))[f"{PREFIX}PROXY_FILE"]


@pytest.mark.standards("S-223")
@pytest.mark.parametrize("value", ["true", "1", "false", ""])
def test_tls_cannot_be_made_insecure_from_the_environment(value: str) -> None:
    faults = faults_in(variables(ALLOW_INSECURE_TLS=value))
    assert "never taken from the environment" in faults[f"{PREFIX}ALLOW_INSECURE_TLS"]


@pytest.mark.parametrize(
    "name",
    [
        "TOKENVALET__",
        "TOKENVALET__CLIENTS",
        "TOKENVALET__CLIENTS__M2M",
        "TOKENVALET__STORE",
        "TOKENVALET__STORE__URL__HOST",
        "TOKENVALET__CLIENTS____ISSUER",
    ],
)
def test_a_variable_of_another_shape_is_told_with_the_right_one(name: str) -> None:
    faults = faults_in(variables() | {name: SECRET})
    assert faults == {name: "should look like TOKENVALET__CLIENTS__M2M__CLIENT_ID"}


@pytest.mark.parametrize("name", ["ISSUER__X", "PARAMETERS__X__Y", "CLIENT_SECRET__X"])
def test_a_setting_without_parts_has_none_in_the_environment_either(name: str) -> None:
    assert "has no parts" in faults_in(variables(**{name: SECRET}))[PREFIX + name]


@pytest.mark.parametrize(("name", "value"), [("SCOPE", '["a"'), ("PARAMETERS", "{'a': 1}"), ("SCOPE", "[" * 100_000)])
def test_broken_json_is_told_and_not_quoted(name: str, value: str) -> None:
    faults = faults_in(variables(**{name: value}), Plant("the value", (value,)))
    assert faults == {PREFIX + name: "starts like JSON and is none"}


def test_what_is_wrong_with_a_variable_and_with_a_setting_is_told_together() -> None:
    faults = faults_in(variables(ISUER="x", TIMEOUT="soon", SCOPE="[", CLIENT_SECRET=""))
    assert sorted(faults) == [
        f"{PREFIX}SCOPE",
        "clients.m2m.client_secret",
        "clients.m2m.isuer",
        "clients.m2m.timeout",
    ]


def test_an_environment_without_clients_is_told_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="TOKENVALET__CLIENTS__M2M__CLIENT_ID") as caught:
        TokenValet.from_env({"PATH": "/bin"})
    assert caught.value.code == "configuration_empty"


@pytest.mark.standards("S-167")
def test_a_secret_that_the_environment_brought_in_other_bytes_than_utf_8_is_told() -> None:
    # This is how os.environ shows them.
    faults = faults_in(variables(CLIENT_SECRET="...") | {f"{PREFIX}CLIENT_SECRET": "planted\udcff"})
    assert faults == {"clients.m2m.client_secret": "is not UTF-8"}


def test_a_password_for_nothing_is_told() -> None:
    faults = faults_in(variables(PRIVATE_KEY_PASSWORD=PASSWORD), Plant.of("password", PASSWORD))
    assert "no private_key" in faults["clients.m2m.private_key_password"]
