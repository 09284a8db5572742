"""The TOML file: variables of the environment in it, files beside it, and what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from configuration.makers import ISSUER, SECRET, faults_of
from secrecy.walker import Plant, found, shown_by_error
from tokenvalet import ClientConfig, ConfigurationError, Secret, TokenValet
from tokenvalet.configuration_sources import settings_from_toml

CLIENT = f'issuer = "{ISSUER}"\nclient_id = "records-web"\n'


def read(path: Path, text: str, **environ: str) -> ClientConfig:
    """Return the client m2m of a TOML file that has these settings besides issuer and client_id."""
    return settings_from_toml(toml(path, text), environ).clients["m2m"]


def toml(path: Path, text: str) -> Path:
    file = path / "tokenvalet.toml"
    file.write_text(f"[clients.m2m]\n{CLIENT}{text}\n", encoding="utf-8")
    return file


def faults_in(path: Path, text: str, **environ: str) -> dict[str, str]:
    plants = [Plant.of(name, value) for name, value in environ.items() if len(value) >= 8]
    return faults_of(lambda: read(path, text, **environ), *plants)


# Variables -------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-167")
def test_a_variable_in_a_string_is_replaced_by_its_value(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        'client_secret = "${SECRET_OF_RECORDS}"\nbase_url = "https://${HOST}:${PORT}/v1"',
        SECRET_OF_RECORDS=SECRET,
        HOST="api.example.org",
        PORT="8443",
    )
    assert config.client_secret == Secret(SECRET)
    assert config.base_url == "https://api.example.org:8443/v1"


def test_variables_are_replaced_in_lists_and_tables_too(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        'client_secret = "x"\nscope = ["records:read", "${MORE}"]\nparameters = { tenant = "${TENANT}" }',
        MORE="records:write",
        TENANT="a",
    )
    assert config.scope == ("records:read", "records:write")
    assert config.parameters == {"tenant": "a"}


def test_what_is_no_string_in_toml_may_come_from_a_variable_as_well(tmp_path: Path) -> None:
    config = read(tmp_path, 'client_secret = "x"\ntimeout = "${T}"\ndpop = "${D}"', T="2.5", D="true")
    assert (config.timeout, config.dpop) == (2.5, True)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a$${b}c", "a${b}c"),
        ("$${", "${"),
        ("$$${NAME}", "$${NAME}"),
        ("$NAME", "$NAME"),
        ("$$NAME", "$$NAME"),
        ("{NAME}$", "{NAME}$"),
        ("${NAME}$${NAME}${NAME}", "value${NAME}value"),
    ],
)
def test_a_dollar_sign_stands_for_itself_unless_a_brace_follows(written: str, meant: str, tmp_path: Path) -> None:
    config = read(tmp_path, f'client_secret = "{written}"', NAME="value")
    assert config.client_secret == Secret(meant)


def test_the_value_of_a_variable_is_not_looked_at_for_variables_again(tmp_path: Path) -> None:
    assert read(tmp_path, 'client_secret = "${ONE}"', ONE="${TWO}", TWO="no").client_secret == Secret("${TWO}")


@pytest.mark.parametrize("setting", ['client_secret = "{}"', 'scope = ["{}"]', 'timeout = "{}"', 'ca_file = "{}"'])
def test_a_variable_that_is_not_set_is_told_once_with_its_place(setting: str, tmp_path: Path) -> None:
    credential = "" if "client_secret" in setting else 'client_secret = "x"\n'
    faults = faults_in(tmp_path, credential + setting.format("before ${NOT_SET} after"))
    name = setting.partition(" ")[0]
    place = f"clients.m2m.{name}.0" if name == "scope" else f"clients.m2m.{name}"
    assert faults == {place: "the environment variable NOT_SET is not set: set it"}


def test_every_variable_that_is_not_set_is_told_together_with_the_other_faults(tmp_path: Path) -> None:
    faults = faults_in(
        tmp_path, 'client_secret = "${ONE}"\nbase_url = "${TWO}"\nparameters = { a = "${THREE}" }\ntimeout = -1'
    )
    assert sorted(faults) == [
        "clients.m2m.base_url",
        "clients.m2m.client_secret",
        "clients.m2m.parameters.a",
        "clients.m2m.timeout",
    ]


def test_a_variable_that_is_set_to_nothing_is_an_empty_secret(tmp_path: Path) -> None:
    assert faults_in(tmp_path, 'client_secret = "${EMPTY}"', EMPTY="") == {"clients.m2m.client_secret": "is empty"}


@pytest.mark.parametrize("written", ["planted${pass-word!}rest", "planted${never-closed!rest", "planted${}rest"])
def test_a_brace_that_names_no_variable_is_a_fault_that_does_not_quote_it(written: str, tmp_path: Path) -> None:
    # It may be a password that has such signs in it by chance.
    faults = faults_of(
        lambda: read(tmp_path, f'client_secret = "{written}"'),
        Plant("the secret", (written, "pass-word!", "never-closed", "planted")),
    )
    assert list(faults) == ["clients.m2m.client_secret"]
    assert "write $${ for ${ itself" in faults["clients.m2m.client_secret"]


# Files -----------------------------------------------------------------------------------------------------------

FILE_SETTINGS = [
    ("client_secret_file", ""),
    ("private_key_file", ""),
    ("assertion_file", ""),
    ("certificate_file", ""),
    ("certificate_key_file", 'certificate_file = "tls.pem"'),
    ("dpop_key_file", 'client_secret = "x"\ndpop = true'),
    ("ca_file", 'client_secret = "x"'),
]


def test_all_settings_that_name_a_file_are_tried() -> None:
    assert {name for name, _ in FILE_SETTINGS} == {name for name in ClientConfig.model_fields if name.endswith("_file")}


@pytest.mark.parametrize(("name", "beside"), FILE_SETTINGS)
def test_a_relative_file_is_looked_for_beside_the_toml_file(
    name: str, beside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    config = read(tmp_path, f'{beside}\n{name} = "keys/one"')
    assert getattr(config, name) == tmp_path / "keys" / "one"


@pytest.mark.parametrize(("name", "beside"), FILE_SETTINGS)
def test_an_absolute_file_is_taken_as_it_is(name: str, beside: str, tmp_path: Path) -> None:
    assert getattr(read(tmp_path, f'{beside}\n{name} = "/run/secrets/one"'), name) == Path("/run/secrets/one")


def test_a_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    config = read(tmp_path, 'client_secret_file = "${DIRECTORY}/secret"', DIRECTORY="run")
    assert config.client_secret_file == tmp_path / "run" / "secret"


# What cannot be read ---------------------------------------------------------------------------------------------


def unreadable(path: Path, *plants: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        TokenValet.from_toml(path, environ={})
    assert caught.value.code == "configuration_unreadable"
    assert str(path) in str(caught.value)
    assert found([Plant.of(one, one) for one in (SECRET, *plants)], shown_by_error(caught.value)) == []
    return caught.value


def test_a_file_that_is_not_there_is_named_with_the_reason(tmp_path: Path) -> None:
    assert "No such file" in str(unreadable(tmp_path / "not-there.toml"))


def test_a_directory_is_no_toml_file(tmp_path: Path) -> None:
    assert "cannot be read" in str(unreadable(tmp_path))


@pytest.mark.standards("S-162", "S-165")
def test_a_file_that_is_no_toml_is_told_by_its_line_and_nothing_of_it_is_shown(tmp_path: Path) -> None:
    file = toml(tmp_path, f'client_secret = "{SECRET}\ndpop = true')
    assert "line 4" in str(unreadable(file))


@pytest.mark.standards("S-162")
def test_a_file_that_is_not_utf_8_is_told_and_nothing_of_it_is_shown(tmp_path: Path) -> None:
    file = toml(tmp_path, "")
    file.write_bytes(file.read_bytes() + f'client_secret = "{SECRET} '.encode() + b'\xff\xfe"\n')
    assert "UTF-8" in str(unreadable(file))


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", "clients", "no client is configured"),
        ("clients = 5", "clients", "no client is configured"),
        ("[clients]", "clients", "no client is configured"),
        ("[clients]\nm2m = 5", "clients.m2m", "should be a table of settings"),
        ("store = 5", "store", "should be a table of settings"),
        ('[store]\nurl = "redis://cache"', "store.encryption_keys_file", "tokens would lie there in clear"),
        ("[client.m2m]", "client", "clients go into [clients.<name>]"),
    ],
)
def test_a_file_of_another_shape_is_told_where(text: str, place: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "tokenvalet.toml"
    file.write_text(text)
    assert message in faults_of(lambda: settings_from_toml(file, {}))[place]


@pytest.mark.standards("S-162", "S-167")
def test_a_fault_of_a_toml_file_leaves_no_secret_in_any_variable(tmp_path: Path) -> None:
    file = toml(
        tmp_path,
        'client_secret = "${NOT_SET_HERE}"\nprivate_key_password = "planted-password"\n'
        'parameters = { a = "planted-parameter" }\ntimeout = -1',
    )
    with pytest.raises(ConfigurationError) as caught:
        TokenValet.from_toml(file)  # with the variables of this process
    assert len(caught.value.faults) == 3
    texts = list(shown_by_error(caught.value))
    planted = [Plant.of(one, one) for one in ("planted-password", "planted-parameter")]
    assert found(planted, texts) == []


@pytest.mark.standards("S-162", "S-167")
def test_the_environment_is_in_no_variable_of_an_error_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECORDS_CLIENT_SECRET", SECRET)
    file = toml(tmp_path, 'client_secret = "${RECORDS_CLIENT_SECRET}"\ntimeout = -1')
    faults_of(lambda: TokenValet.from_toml(file))
    monkeypatch.setenv("TOKENVALET__CLIENTS__M2M__CLIENT_SECRET", SECRET)
    faults_of(TokenValet.from_env)
