"""Which configuration a command works with: the file that is named, the one that lies here, or the environment."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..configuration_sources import ENV_PREFIX, Settings, settings_from_env, settings_from_toml
from ..errors import ConfigurationError

__all__ = ["CLIENT", "CLIENTS", "CONFIG", "USUAL_FILE", "configured", "source_of"]

USUAL_FILE = "tokenvalet.toml"


def _client_names(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    # The shell asks while somebody types, mostly without the secrets: names are all that is read.
    try:
        source = source_of(context.params.get("config"))
        if source is not None:
            names = list(tomllib.loads(source.read_text(encoding="utf-8")).get("clients", {}))
        else:
            begin = f"{ENV_PREFIX}CLIENTS__"
            found = (name[len(begin) :].lower() for name in os.environ if name.upper().startswith(begin))
            names = sorted({name.partition("__")[0] for name in found})
    except Exception:  # noqa: BLE001  whatever is wrong is told when the command is run
        return []
    return [name for name in names if name.startswith(incomplete)]


CONFIG: Callable[[Any], Any] = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    envvar="TOKENVALET_CONFIG",
    show_envvar=True,
    help=f"The TOML file to read.  [default: {USUAL_FILE} if it is here, else variables {ENV_PREFIX}…]",
)
CLIENT: Callable[[Any], Any] = click.argument("client", shell_complete=_client_names)
CLIENTS: Callable[[Any], Any] = click.argument("clients", nargs=-1, shell_complete=_client_names)


def source_of(config: Path | None) -> Path | None:
    """Return the TOML file that is read, or None where it is the environment."""
    if config is not None:
        return config
    usual = Path(USUAL_FILE)
    return usual if usual.is_file() else None


def configured(config: Path | None) -> Settings:
    """Return the whole configuration. Raises ConfigurationError with all its faults."""
    source = source_of(config)
    if source is not None:
        return settings_from_toml(source, os.environ)
    if not any(name.upper().startswith(ENV_PREFIX) for name in os.environ):
        raise ConfigurationError(
            f"there is no configuration: no {USUAL_FILE} in this folder and no variable {ENV_PREFIX}…: name a file "
            "with --config",
            code="configuration_empty",
        )
    return settings_from_env(os.environ)
