"""Where a configuration comes from: TOML, the environment, or Python. All three end in the same objects.

What they share is a plain dictionary, ``{"clients": {"m2m": {...}}}``; all faults of all clients are told in one error.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import SECRET_FIELDS, ClientConfig, validate_client
from .core.secret import Secret
from .errors import ConfigurationError, ConfigurationFault

__all__ = ["Settings", "settings_from_dict", "settings_from_env", "settings_from_toml"]

ENV_PREFIX = "TOKENVALET__"
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_FILE_FIELDS = frozenset(name for name in ClientConfig.model_fields if name.endswith("_file"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A whole configuration: the clients by name."""

    clients: Mapping[str, ClientConfig]


def settings_from_dict(document: Mapping[str, Any]) -> Settings:
    """Return the settings in ``{"clients": {name: {...}}}``. Raises ConfigurationError with all faults."""
    return _settings(document, [])


def settings_from_toml(path: str | Path, environ: Mapping[str, str]) -> Settings:
    """Return the settings in a TOML file.

    ``${NAME}`` in a string is replaced by that environment variable, ``$${`` stands for ``${`` itself. A file that is
    named by a relative path is looked for beside the TOML file.
    """
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", code="configuration_unreadable") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8, as TOML has to be", code="configuration_unreadable") from None
    except tomllib.TOMLDecodeError as error:
        where = str(error).rpartition("(")[2].rstrip(")") or "somewhere"
        raise ConfigurationError(f"{path} is no valid TOML, {where}", code="configuration_unreadable") from None
    faults: list[ConfigurationFault] = []
    filled = _filled(document, environ, "", faults)
    clients = filled.get("clients")
    for client in clients.values() if isinstance(clients, dict) else ():
        if isinstance(client, dict):
            for name in _FILE_FIELDS & client.keys():
                if isinstance(client[name], str) and client[name]:
                    client[name] = str(path.parent / client[name])
    return _settings(filled, faults)


def settings_from_env(environ: Mapping[str, str]) -> Settings:
    """Return the settings in variables such as ``TOKENVALET__CLIENTS__M2M__CLIENT_ID``.

    Names are read in lower case. Lists and tables may be written as JSON; words of a list also with blanks between.
    A secret may be left in a file that its variable with ``_FILE`` at the end names.
    """
    clients: dict[str, dict[str, Any]] = {}
    faults: list[ConfigurationFault] = []
    for variable in sorted(environ):
        if not variable.upper().startswith(ENV_PREFIX):
            continue
        path = variable[len(ENV_PREFIX) :].lower().split("__")
        if len(path) < 3 or path[0] != "clients" or not all(path):
            faults.append(
                ConfigurationFault(place=variable, message="should look like TOKENVALET__CLIENTS__M2M__CLIENT_ID")
            )
            continue
        _, client, field, *rest = path
        fault = _take(clients.setdefault(client, {}), field, rest, environ[variable])
        if fault:
            faults.append(ConfigurationFault(place=variable, message=fault))
    if not clients and not faults:
        raise ConfigurationError(
            "no client is configured in the environment: set TOKENVALET__CLIENTS__M2M__CLIENT_ID and so on",
            code="configuration_empty",
        )
    return _settings({"clients": clients}, faults)


def _take(client: dict[str, Any], field: str, rest: list[str], value: str) -> str:
    """Put one variable into a client. Returns what is wrong with it."""
    if field == "allow_insecure_tls":
        return "is never taken from the environment: it has to be written out in TOML or Python"
    if rest:
        if field not in ("parameters", "assertion_claims") or len(rest) > 1:
            return f"{field} has no parts"
        table = client.setdefault(field, {})
        if isinstance(table, dict):
            table[rest[0]] = value
        return ""
    stem = field.removesuffix("_file")
    if field not in ClientConfig.model_fields and field.endswith("_file") and stem in SECRET_FIELDS:
        try:
            client[stem] = Secret(Path(value).read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError):
            return "names a file that cannot be read"
        return ""
    if field in SECRET_FIELDS:
        client[field] = Secret(value) if value else value
    elif value[:1] in "[{" and value:
        try:
            client[field] = json.loads(value)
        except ValueError:
            return "starts like JSON and is none"
    else:
        client[field] = value
    return ""


def _filled(value: Any, environ: Mapping[str, str], place: str, faults: list[ConfigurationFault]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(one, environ, f"{place}.{key}" if place else key, faults) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, environ, f"{place}[{index}]", faults) for index, one in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    missing: list[str] = []

    def replacement(match: re.Match[str]) -> str:
        name = match.group(1)
        if name is None:
            return "${"
        if name not in environ:
            missing.append(name)
            return ""
        return environ[name]

    text = _VARIABLE.sub(replacement, value)
    for name in missing:
        faults.append(
            ConfigurationFault(
                place=place, message=f"the environment variable {name or '(without a name)'} is not set: set it"
            )
        )
    # What is missing was told already; a stand-in keeps the rest of the check from telling it twice.
    return _MISSING if missing else text


_MISSING = Secret("missing")


def _settings(document: Mapping[str, Any], faults: list[ConfigurationFault]) -> Settings:
    found = list(faults)
    told = {fault.place for fault in faults}
    clients: dict[str, ClientConfig] = {}
    for key in document:
        if key not in ("clients",):
            found.append(ConfigurationFault(place=str(key), message=_unknown_section(str(key))))
    sections = document.get("clients")
    if not isinstance(sections, Mapping) or not sections:
        found.append(ConfigurationFault(place="clients", message="no client is configured: add a [clients.m2m]"))
        sections = {}
    for name, values in sections.items():
        place = f"clients.{name}"
        if isinstance(values, ClientConfig):
            clients[name] = values
            continue
        if not isinstance(values, Mapping):
            found.append(ConfigurationFault(place=place, message="should be a table of settings"))
            continue
        config, wrong = validate_client(values, place)
        found += [fault for fault in wrong if fault.place not in told]
        if config is not None:
            clients[name] = config
    if found:
        raise ConfigurationError(faults=found)
    return Settings(clients=clients)


def _unknown_section(name: str) -> str:
    if name == "store":
        return "a store shared by processes is not there in this version: remove the section"
    return "unknown section: clients go into [clients.<name>]"
