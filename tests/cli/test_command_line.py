"""The door of the command line: it says in a sentence what is missing, and opens without any of it."""

from __future__ import annotations

import os
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
from tokenvalet.testing import AuthorizationServer, ProtectedApi

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


def test_fish_shows_descriptions_beyond_their_first_comma() -> None:
    script = run("completion", "fish").stdout.decode()
    assert [line.strip() for line in script.splitlines() if "string split" in line] == [
        'set -l metadata (string split --max 1 "," $completion);'
    ]


@pytest.mark.parametrize("command", ["token", "call", "check"])
def test_the_names_of_clients_are_completed_without_any_secret(
    auth: AuthorizationServer, tmp_path: Path, command: str
) -> None:
    path = written(tmp_path, auth)
    env = {"_TOKENVALET_COMPLETE": "bash_complete", "COMP_CWORD": "4"}
    words = {"COMP_WORDS": f"tokenvalet {command} -c {path} m"}
    assert run("token", cwd=tmp_path, env={**env, **words}).stdout == b"plain,m2m\n"
    path.write_text("no TOML at all")
    assert run("token", cwd=tmp_path, env={**env, **words}).stdout.strip() == b""


def test_the_names_of_clients_are_completed_from_the_environment(tmp_path: Path) -> None:
    env = {"_TOKENVALET_COMPLETE": "bash_complete", "COMP_CWORD": "2", "COMP_WORDS": "tokenvalet token "}
    clients = {"TOKENVALET__CLIENTS__M2M__ISSUER": "x", "TOKENVALET__CLIENTS__OTHER__ISSUER": "x"}
    assert run("token", cwd=tmp_path, env={**env, **clients}).stdout == b"plain,m2m\nplain,other\n"


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


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("call m2m /x -H 'X-Å: 1'", 2),
        ("call m2m /x -H 'a b: 1'", 2),
        ("call m2m /x -X 'G T'", 2),
        ("call m2m $'/a\\nb'", 2),
        ("call m2m $'/a\\xff'", 2),
        ("call m2m 'http://[::1'", 2),
        ("call m2m /x -d @/tmp", 2),
        ("call m2m https://elsewhere.example/", 3),
        ("call nobody /x", 3),
        ("token $'\\xff'", 3),
        ("token m2m --headers --url nonsense", 2),
        ("token m2m >/dev/full", 2),
        ("token nobody 2>/dev/full", 3),
        ("token nobody 2>&-", 3),
        ("check >/dev/full", 2),
        ("check nobody", 3),
        ("-c", 2),
        ("call", 2),
        ("keys new-client-key -o key.pem --password-file empty", 2),
        ("keys new-client-key -o key.pem --password-file long", 2),
        ("keys public .", 3),
        ("trace nothing.py", 2),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_what_goes_wrong_is_one_sentence_and_a_documented_code(
    auth: AuthorizationServer, api: ProtectedApi, tmp_path: Path, command: str, code: int
) -> None:
    written(tmp_path, auth, api)
    (tmp_path / "empty").touch(0o600)
    (tmp_path / "long").write_text("a" * 2000)
    (tmp_path / "long").chmod(0o600)
    environment = {**os.environ, "SECRET_OF_M2M": SECRET}
    line = f"exec {sys.executable} -m tokenvalet {command}"
    result = subprocess.run(["bash", "-c", line], capture_output=True, cwd=tmp_path, env=environment, check=False)
    told = result.stderr.decode()
    assert result.returncode == code, told
    assert "Traceback" not in told
    assert len(told.splitlines()) == (0 if " 2>" in command else 1), told
    assert told.startswith("tokenvalet: ") or not told
    assert SECRET not in told
    assert not (tmp_path / "key.pem").exists()


@pytest.mark.parametrize("command", ["token m2m", "call m2m /api/v1/integration/health-records", "check"])
def test_a_closed_output_is_no_fault(
    auth: AuthorizationServer, api: ProtectedApi, tmp_path: Path, command: str
) -> None:
    written(tmp_path, auth, api)
    environment = {**os.environ, "SECRET_OF_M2M": SECRET}
    line = f"{sys.executable} -m tokenvalet {command} >&-"
    result = subprocess.run(["bash", "-c", line], capture_output=True, cwd=tmp_path, env=environment, check=False)
    assert (result.returncode, result.stderr) == (0, b"")


def test_a_fault_of_ours_is_a_sentence_without_what_it_was_about(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(config: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr("tokenvalet.cli.check_command.configured", broken)
    result = run("check")
    assert result.returncode == Exit.OUR_FAULT
    assert b"a fault of tokenvalet itself (RuntimeError at " in result.stderr
    assert SECRET.encode() not in result.stderr
