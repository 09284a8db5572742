"""Where a configuration comes from: TOML, the environment, or Python. All three end in the same objects.

What they share is a plain dictionary, ``{"clients": {"m2m": {...}}, "store": {...}}``; all faults are told in one error.
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
from .files import FileFault, read_file
from .store_config import STORE_SECRETS, StoreConfig, validate_store

__all__ = ["Settings", "settings_from_dict", "settings_from_env", "settings_from_toml"]

ENV_PREFIX = "TOKENVALET__"
LARGEST_CONFIGURATION = 4 * 1024 * 1024  # bytes; room for thousands of clients
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_JSON_FIELDS = frozenset(
    {"scope", "resource", "audience", "parameters", "required_scopes", "allowed_origins", "assertion_claims"}
)
_FILE_FIELDS = frozenset(
    name for model in (ClientConfig, StoreConfig) for name in model.model_fields if name.endswith("_file")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A whole configuration: the clients by name, and the store, if there is one."""

    clients: Mapping[str, ClientConfig]
    store: StoreConfig | None = None


# What is read has secrets in it, so every error is raised where nothing of it is left in a variable: whoever sends
# tracebacks home sends the variables of their frames along.


def settings_from_dict(document: Mapping[str, Any]) -> Settings:
    """Return the settings in ``{"clients": {name: {...}}, "store": {...}}``. Raises ConfigurationError with all faults."""
    settings = _settings(document, [])
    del document
    return _raised(settings)


def settings_from_toml(path: str | Path, environ: Mapping[str, str]) -> Settings:
    """Return the settings in a TOML file.

    ``${NAME}`` in a string is replaced by that environment variable, ``$${`` stands for ``${`` itself. A file that is
    named by a relative path is looked for beside the TOML file.
    """
    settings = _from_toml(Path(path), environ)
    del environ
    return _raised(settings)


def settings_from_env(environ: Mapping[str, str]) -> Settings:
    """Return the settings in variables such as ``TOKENVALET__CLIENTS__M2M__CLIENT_ID``.

    Names are read in lower case. Lists and tables may be written as JSON; words of a list also with blanks between.
    A secret may be left in a file that its variable with ``_FILE`` at the end names.
    """
    settings = _from_env(environ)
    del environ
    return _raised(settings)


def _raised(settings: Settings | ConfigurationError) -> Settings:
    if isinstance(settings, ConfigurationError):
        raise settings
    return settings


def _from_toml(path: Path, environ: Mapping[str, str]) -> Settings | ConfigurationError:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_CONFIGURATION + 1)
        if len(content) > LARGEST_CONFIGURATION:
            said = f"{path} has more than {LARGEST_CONFIGURATION} bytes: is it the right file?"
            return ConfigurationError(said, code="configuration_unreadable")
        document = tomllib.loads(content.decode("utf-8").replace("\r\n", "\n"))
    except RecursionError:
        return ConfigurationError(f"{path} is nested too deeply", code="configuration_unreadable")
    except OSError as error:
        return ConfigurationError(f"{path} cannot be read: {error.strerror}", code="configuration_unreadable")
    except UnicodeDecodeError:
        return ConfigurationError(f"{path} is not UTF-8, as TOML has to be", code="configuration_unreadable")
    except tomllib.TOMLDecodeError as error:
        where = str(error).rpartition("(")[2].rstrip(")") or "somewhere"
        return ConfigurationError(f"{path} is no valid TOML, {where}", code="configuration_unreadable")
    faults: list[ConfigurationFault] = []
    filled = _filled(document, environ, "", faults)
    clients = filled.get("clients")
    for section in (*(clients.values() if isinstance(clients, dict) else ()), filled.get("store")):
        if isinstance(section, dict):
            for name in _FILE_FIELDS & section.keys():
                if isinstance(section[name], str) and section[name]:
                    section[name] = str(path.parent / section[name])
    return _settings(filled, faults)


def _from_env(environ: Mapping[str, str]) -> Settings | ConfigurationError:
    clients: dict[str, dict[str, Any]] = {}
    store: dict[str, Any] = {}
    faults: list[ConfigurationFault] = []
    for variable in sorted(environ):
        if not variable.upper().startswith(ENV_PREFIX):
            continue
        path = variable[len(ENV_PREFIX) :].lower().split("__")
        if len(path) == 2 and path[0] == "store" and path[1]:
            fault = _take_for_store(store, path[1], environ[variable])
            if fault:
                faults.append(ConfigurationFault(place=variable, message=fault))
            continue
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
        return ConfigurationError(
            "no client is configured in the environment: set TOKENVALET__CLIENTS__M2M__CLIENT_ID and so on",
            code="configuration_empty",
        )
    return _settings({"clients": clients, **({"store": store} if store else {})}, faults)


def _take_for_store(store: dict[str, Any], field: str, value: str) -> str:
    """Put one variable into the store's settings. Returns what is wrong with it."""
    if field == "allow_unsealed_store":
        return "is never taken from the environment: it has to be written out in TOML or Python"
    stem = field.removesuffix("_file")
    if field not in StoreConfig.model_fields and field.endswith("_file") and stem in STORE_SECRETS:
        try:
            store[stem] = Secret(read_file(Path(value), private=True)[0].decode("utf-8").strip())
        except (FileFault, ValueError):
            return "names a file that cannot be read, or is not UTF-8"
        return ""
    store[field] = Secret(value) if field in STORE_SECRETS and value else value
    return ""


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
            client[stem] = Secret(read_file(Path(value), private=True)[0].decode("utf-8").strip())
        except (FileFault, ValueError):
            return "names a file that cannot be read, or is not UTF-8"
        return ""
    if field in SECRET_FIELDS:
        client[field] = Secret(value) if value else value
    elif field in _JSON_FIELDS and value.startswith(("[", "{")):
        try:
            client[field] = json.loads(value)
        except (ValueError, RecursionError):
            return "starts like JSON and is none"
    else:
        client[field] = value
    return ""


def _filled(value: Any, environ: Mapping[str, str], place: str, faults: list[ConfigurationFault]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(one, environ, f"{place}.{key}" if place else key, faults) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, environ, f"{place}.{index}", faults) for index, one in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    problems: list[str] = []

    def replacement(match: re.Match[str]) -> str:
        name, end = match.groups()
        if name is None:
            return "${"
        if end and name in environ:
            return environ[name]
        # A password may look like this by chance, so what stands there is shown only where it can be a name.
        if not end or not _VARIABLE_NAME.fullmatch(name):
            problems.append("${ begins the name of an environment variable, as in ${NAME}: write $${ for ${ itself")
        else:
            problems.append(f"the environment variable {name} is not set: set it")
        return ""

    text = _VARIABLE.sub(replacement, value)
    for problem in problems:
        faults.append(ConfigurationFault(place=place, message=problem))
    # What is missing was told already; a stand-in keeps the rest of the check from telling it twice.
    return _MISSING if problems else text


_MISSING = Secret("missing")


def _settings(document: Mapping[str, Any], faults: list[ConfigurationFault]) -> Settings | ConfigurationError:
    found = list(faults)
    told = {fault.place for fault in faults}
    clients: dict[str, ClientConfig] = {}
    for key in document:
        if key not in ("clients", "store"):
            message = "unknown section: clients go into [clients.<name>], and where tokens are kept into [store]"
            found.append(ConfigurationFault(place=str(key), message=message))
    store = _store_of(document.get("store"), told, found)
    sections = document.get("clients")
    if (not isinstance(sections, Mapping) or not sections) and "clients" not in told:
        found.append(ConfigurationFault(place="clients", message="no client is configured: add a [clients.m2m]"))
    for name, values in sections.items() if isinstance(sections, Mapping) else ():
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
        return ConfigurationError(faults=found)
    return Settings(clients=clients, store=store)


def _store_of(values: Any, told: set[str], found: list[ConfigurationFault]) -> StoreConfig | None:
    if values is None or isinstance(values, StoreConfig):
        return values
    if not isinstance(values, Mapping):
        found.append(ConfigurationFault(place="store", message="should be a table of settings"))
        return None
    config, wrong = validate_store(values, "store")
    found += [fault for fault in wrong if fault.place not in told]
    return config
