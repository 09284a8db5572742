"""The door of the command line: it says in a sentence what is missing, and opens without any of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tokenvalet import __version__
from tokenvalet.stores.sealing import Sealer, parse_keys

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
