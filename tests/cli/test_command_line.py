"""The door of the command line: it says in a sentence what is missing, and opens without any of it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.command_line import SECRET, run, written
from tokenvalet import __version__
from tokenvalet.cli.commands import commands
from tokenvalet.cli.outcomes import Exit
from tokenvalet.stores.sealing import Sealer, parse_keys
from tokenvalet.testing import AuthorizationServer

HINT = "The command line needs more than the library does: pip install 'tokenvalet[cli]'\n"


@pytest.mark.parametrize("missing", ["click", "starlette", "uvicorn", "joserfc"])
def test_a_missing_extra_is_named_in_one_sentence(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = ['demo']\nfrom tokenvalet.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", HINT)


def test_the_module_is_the_command_line() -> None:
    command = [sys.executable, "-m", "tokenvalet", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == f"tokenvalet {__version__}\n"


def test_what_cannot_be_asked_is_exit_code_2() -> None:
    command = [sys.executable, "-m", "tokenvalet", "demo", "--port", "nowhere"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_new_store_key_can_be_put_into_a_file_and_seals() -> None:
    command = [sys.executable, "-m", "tokenvalet", "keys", "new-store-key"]
    lines = [subprocess.run(command, capture_output=True, check=True).stdout for _ in range(2)]
    sealer = Sealer(parse_keys(b"# the keys of our store\n" + b"".join(lines)))
    assert sealer.open(sealer.seal(b"content", "key"), "key") == b"content"


def test_a_store_key_with_an_odd_id_is_refused_in_a_sentence() -> None:
    command = [sys.executable, "-m", "tokenvalet", "keys", "new-store-key", "--id", "a:b"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert "an id has 1 to 64 letters" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_what_it_completes_with(shell: str) -> None:
    assert b"_TOKENVALET_COMPLETE" in run("completion", shell).stdout


def test_the_names_of_clients_are_completed_from_the_configuration(auth: AuthorizationServer, tmp_path: Path) -> None:
    path = written(tmp_path, auth)
    env = {"_TOKENVALET_COMPLETE": "bash_complete", "COMP_CWORD": "4", "SECRET_OF_M2M": SECRET}
    words = {"COMP_WORDS": f"tokenvalet token -c {path} m"}
    assert run("token", cwd=tmp_path, env={**env, **words}).stdout == b"plain,m2m\n"
    path.write_text("no TOML at all")
    assert run("token", cwd=tmp_path, env={**env, **words}).stdout.strip() == b""


def test_every_exit_code_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "command_line.md").read_text(encoding="utf-8")
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == {int(one) for one in Exit}


def test_every_command_and_option_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "command_line.md").read_text(encoding="utf-8")

    def walk(command: click.Command, path: str) -> Iterator[str]:
        yield f"tokenvalet {path}".strip()
        yield from (max(option.opts, key=len) for option in command.params if isinstance(option, click.Option))
        if isinstance(command, click.Group):
            for name, one in command.commands.items():
                yield from walk(one, f"{path} {name}".strip())

    assert [one for one in walk(commands, "") if f"`{one}" not in page and f" {one}" not in page] == []
