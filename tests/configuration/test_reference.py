"""docs/configuration.md has every setting with its default and its limits, every code of an error, every event."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import tokenvalet
from configuration.makers import settings
from tokenvalet import ClientConfig, ConfigurationError, StoreConfig, TokenValet
from tokenvalet.config import SECRET_FIELDS
from tokenvalet.configuration_sources import settings_from_env

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
CLIENT, STORE = "The settings of a client", "The settings of the store"
MODELS: dict[str, type[BaseModel]] = {CLIENT: ClientConfig, STORE: StoreConfig}


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, flags=re.DOTALL | re.MULTILINE)
    assert found is not None, f"there is no section {title}"
    return found[1]


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table in a section, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def documented(title: str) -> dict[str, tuple[str, str]]:
    """Return what a table says of each setting: its default and its meaning."""
    return {name: (cells[1], cells[2]) for cells in rows(title) for name in re.findall(r"`(\w+)`", cells[0])}


FIELDS = [(title, name, field) for title, model in MODELS.items() for name, field in model.model_fields.items()]


@pytest.mark.parametrize("title", MODELS)
def test_every_setting_is_documented_and_no_other(title: str) -> None:
    names = [name for cells in rows(title) for name in re.findall(r"`(\w+)`", cells[0])]
    assert sorted(names) == sorted(MODELS[title].model_fields)


def default_of(field: FieldInfo) -> Any:
    return None if field.is_required() else field.get_default(call_default_factory=True)


def as_written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else str(value)


@pytest.mark.parametrize(("title", "name", "field"), FIELDS, ids=[f"{title[-6:]}-{name}" for title, name, _ in FIELDS])
def test_the_default_is_the_documented_one(title: str, name: str, field: FieldInfo) -> None:
    cell = documented(title)[name][0]
    default = default_of(field)
    if field.is_required():
        assert cell == "needed"
    elif default is None or default in ((), {}):
        # What stands there is in words, since it is worked out from other settings, or there is none.
        assert not re.match(r"`|\d", cell)
    else:
        assert cell == f"`{as_written(default)}`"


@pytest.mark.parametrize(("title", "name", "field"), FIELDS, ids=[f"{title[-6:]}-{name}" for title, name, _ in FIELDS])
def test_the_limits_are_the_documented_ones(title: str, name: str, field: FieldInfo) -> None:
    meaning = documented(title)[name][1]
    bounds = field.metadata
    lowest = [f"{one.ge:g}" for one in bounds if isinstance(one, Ge)]
    highest = [f"{one.le:g}" for one in bounds if isinstance(one, Le)]
    highest += [str(one.max_length) for one in bounds if isinstance(one, MaxLen)]
    assert not any(isinstance(one, Lt) for one in bounds)
    assert all(one.gt == 0 for one in bounds if isinstance(one, Gt)), "which goes without saying"
    if highest:
        expected = f"{lowest[0]} to {highest[0]}" if lowest else f"up to {highest[0]}"
        assert re.search(rf"\b{expected}\b", meaning), f"{expected} is not in: {meaning}"
    if field.annotation in (int, float):
        assert highest, "a number without an upper limit"
        assert "seconds" in meaning, "numbers are given with their unit"


def test_what_is_said_to_be_for_python_only_cannot_be_written_down() -> None:
    for name in ("signer", "assertion"):
        assert documented(CLIENT)[name][1].startswith("Python only")
        with pytest.raises(ConfigurationError):
            TokenValet.from_dict({"clients": {"m2m": settings(client_secret=..., **{name: "x"})}})
    for name in ("client", "store"):
        assert documented(STORE)[name][1].startswith("Python only")


def test_every_secret_may_be_left_in_a_file_that_the_environment_names(tmp_path: Path) -> None:
    assert "Every secret may be left in a file" in TEXT
    for name in SECRET_FIELDS:
        file = tmp_path / name
        file.write_text("http://proxy.example.org:3128\n" if name == "proxy" else f"planted-{name}\n")
        file.chmod(0o600)
        plain = (
            settings(client_secret=..., assertion_file="/a/b")
            if name != "client_secret"
            else settings(client_secret=...)
        )
        if name == "private_key":
            del plain["assertion_file"]
        if name == "private_key_password":
            plain |= {"certificate_file": "/a/b", "auth_method": "private_key_jwt"}
        environ = {f"TOKENVALET__CLIENTS__M2M__{key.upper()}": str(value) for key, value in plain.items()}
        environ[f"TOKENVALET__CLIENTS__M2M__{name.upper()}_FILE"] = str(file)
        read = settings_from_env(environ).clients["m2m"]
        value = getattr(read, name)
        assert (value is not None and value.reveal() == file.read_text().strip()) or getattr(
            read, f"{name}_file"
        ) == file


def test_what_is_said_of_lists_and_tables_in_the_environment_is_so() -> None:
    assert "`…__M2M__PARAMETERS__TENANT=…`" in TEXT
    values = settings(
        scope="a b", resource="https://a.example https://b.example", audience="one value", parameters__tenant="acme"
    )
    values |= {
        "allowed_origins": '["https://a.example", "https://b.example"]',
        "assertion_claims": '{"tenant": "acme"}',
    }
    environ = {f"TOKENVALET__CLIENTS__M2M__{name.upper()}": value for name, value in values.items()}
    read = settings_from_env(environ).clients["m2m"]
    assert (read.scope, read.audience) == (("a", "b"), ("one value",))
    assert read.resource == read.allowed_origins == ("https://a.example", "https://b.example")
    assert read.parameters == read.assertion_claims == {"tenant": "acme"}


@pytest.mark.parametrize("name", ["allow_insecure_tls", "ALLOW_INSECURE_TLS", "Allow_Insecure_Tls"])
def test_what_makes_things_insecure_is_not_taken_from_the_environment_in_any_spelling(name: str) -> None:
    environ = {f"TOKENVALET__CLIENTS__M2M__{key.upper()}": value for key, value in settings().items()}
    with pytest.raises(ConfigurationError, match="never taken from the environment"):
        settings_from_env(environ | {f"tokenvalet__clients__m2m__{name}": "true"})


def test_every_code_of_an_error_is_documented_with_its_class_and_no_other() -> None:
    codes = {code for cells in rows("Errors") for code in re.findall(r"`(\w+)`", cells[2])}
    classes = {name for cells in rows("Errors") for name in re.findall(r"`(\w+)`", cells[0])}
    assert classes == {name for name in tokenvalet.__all__ if name.endswith("Error")} - {"TokenValetError"}
    raised = set()
    for source in (ROOT / "src" / "tokenvalet").rglob("*.py"):
        if not {"testing", "cli"} & set(source.parts):
            text = source.read_text(encoding="utf-8")
            raised |= set(re.findall(r"code(?:: str)? ?= ?\"(\w+)\"", text))
            raised |= set(re.findall(r"code=\"\w+\" if .+ else \"(\w+)\"", text))
    # What a failure of the back channel is called, of which `token_request_` makes the code of an error.
    causes = {"answer_refused", "broken_answer", "timeout", "tls", "unreachable"}
    raised = (raised - causes - {"tokenvalet_error"}) | {
        f"token_request_{cause}" for cause in causes - {"answer_refused"}
    }
    assert codes == raised
