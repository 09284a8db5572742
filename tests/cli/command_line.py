"""The command line as a shell runs it, and servers for it to talk to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner

from tokenvalet.cli.commands import commands
from tokenvalet.testing import AuthorizationServer, ProtectedApi

__all__ = ["SECRET", "run", "written"]

SECRET = "s3cret-of-the-command-line"


def run(
    *arguments: str, cwd: Path | None = None, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line, with what it needs of the environment and `env`; in `cwd`, as a process of its own."""
    if cwd is None:
        without = {name: None for name in os.environ if name.upper().startswith("TOKENVALET")}
        result = CliRunner().invoke(
            commands, arguments, input=stdin, env={**without, **(env or {})}, prog_name="tokenvalet"
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout_bytes, result.stderr_bytes)
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("TOKENVALET")}
    return subprocess.run(
        [sys.executable, "-m", "tokenvalet", *arguments],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env={**kept, "PYTHONIOENCODING": "utf-8", **(env or {})},
        timeout=60,
        check=False,
    )


def written(
    folder: Path, auth: AuthorizationServer, api: ProtectedApi | None = None, name: str = "m2m", more: str = ""
) -> Path:
    """Write a configuration for a client of `auth` with the secret from SECRET_OF_M2M, and return its path."""
    base_url = f'base_url = "{api.origin}"\n' if api is not None else ""
    path = folder / "tokenvalet.toml"
    path.write_text(
        f'[clients.{name}]\nissuer = "{auth.issuer}"\nclient_id = "records-web"\n'
        f'client_secret = "${{SECRET_OF_M2M}}"\n{base_url}{more}',
        encoding="utf-8",
    )
    return path
