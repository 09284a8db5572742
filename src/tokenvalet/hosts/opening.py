"""What all hosts have in common: where the valet comes from, and what a probe is answered."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from ..readiness import Readiness
from ..valet import TokenValet

__all__ = ["PROBE_HEADERS", "Source", "missing", "open_valet", "probe_status"]

Source = TokenValet | str | os.PathLike[str] | Mapping[str, Any] | Callable[[], TokenValet] | None
"""Where a valet comes from: a TOML file, a mapping as TOML would give it, a callable that makes one, one that is made
already and is closed with the host, or None for variables of the environment."""

PROBE_HEADERS = {"Cache-Control": "no-store"}


def open_valet(source: Source, options: Mapping[str, Any], folder: str | os.PathLike[str] = "") -> TokenValet:
    """Return the valet that `source` stands for.

    Args:
        source: where it comes from.
        options: those of the constructor of `TokenValet`.
        folder: what the path of a TOML file is relative to.

    Raises:
        ConfigurationError: with everything that is wrong.
        ValetClosedError: the valet that was handed over is closed, such as by another host that it was handed to.
    """
    if isinstance(source, TokenValet) or callable(source):
        if options:
            given = ", ".join(sorted(options))
            raise ConfigurationError(f"{given}: give it to the valet that is handed over", code="unfit_host_option")
        return _usable(source if isinstance(source, TokenValet) else source())
    if source is None:
        return TokenValet.from_env(**options)
    if isinstance(source, Mapping):
        return TokenValet.from_dict(source, **options)
    if isinstance(source, str | os.PathLike):
        return TokenValet.from_toml(Path(folder) / source, **options)
    raise ConfigurationError(
        f"a valet comes from a path, a mapping, a callable or a TokenValet, not from a {type(source).__name__}",
        code="unfit_host_source",
    )


def _usable(made: Any) -> TokenValet:
    if not isinstance(made, TokenValet):
        if isinstance(made, Coroutine):
            made.close()  # which would warn that nobody awaits it
        raise ConfigurationError(
            f"what makes the valet returned a {type(made).__name__}, not a TokenValet", code="unfit_host_source"
        )
    made._check_open()
    return made


def probe_status(readiness: Readiness) -> int:
    """Return the HTTP status that a probe is answered with."""
    return 200 if readiness.ready else 503


def missing(error: ModuleNotFoundError, framework: str) -> ModuleNotFoundError:
    """Return what to raise where a framework's room is imported without the framework; `error` says what is missing."""
    if error.name is None or error.name.partition(".")[0] != framework:
        return error
    return ModuleNotFoundError(
        f"{framework} is not installed, and tokenvalet.hosts.{framework} needs it: pip install 'tokenvalet[{framework}]'",
        name=error.name,
    )
