"""`tokenvalet trace`: the flow of a program as it is, written as a diagram, whatever becomes of the program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cli.command_line import SECRET, run, written
from tokenvalet import Event
from tokenvalet.cli.mermaid import MOST_ARROWS, Diagram
from tokenvalet.observe import Observers, observed_everywhere
from tokenvalet.testing import AuthorizationServer, ProtectedApi

PROGRAM = """
import sys
from tokenvalet import TokenValet
with TokenValet.from_toml(sys.argv[1]) as valet, valet.client("m2m") as api:
    for _ in range(2):
        print(api.get("/api/v1/integration/health-records").status_code)
"""


def traced(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    (folder / "program.py").write_text(program)
    return run("trace", "program.py", *arguments, cwd=folder, env={"SECRET_OF_M2M": SECRET})


def test_the_flow_of_a_program_is_a_diagram_without_a_secret(
    auth: AuthorizationServer, api: ProtectedApi, tmp_path: Path
) -> None:
    path = written(tmp_path, auth, api)
    result = traced(tmp_path, PROGRAM, str(path))
    assert (result.returncode, result.stdout) == (0, b"200\n200\n")
    assert b"arrows are in flow.mmd" in result.stderr
    diagram = (tmp_path / "flow.mmd").read_text(encoding="utf-8")
    lines = [line.strip() for line in diagram.splitlines()]
    assert lines[:2] == ["sequenceDiagram", 'participant K1 as client "m2m"']
    steps = [line for line in lines if "->>" in line]
    assert steps[0] == "K1->>C: miss: there is no token yet"
    assert [step.partition(":")[0] for step in steps[-3:]] == ["K1->>A", "K1->>C", "K1->>A"]
    assert any(step.startswith("K1->>T: POST /token") for step in steps)
    assert auth.issued_tokens[0] not in diagram
    assert SECRET not in diagram


@pytest.mark.parametrize("end", ["raise SystemExit(7)", "raise ValueError('of the program')"])
def test_the_diagram_is_written_whatever_becomes_of_the_program(
    auth: AuthorizationServer, api: ProtectedApi, tmp_path: Path, end: str
) -> None:
    result = traced(tmp_path, PROGRAM + end + "\n", str(written(tmp_path, auth, api)))
    assert result.returncode == (7 if "SystemExit" in end else 1)
    assert ("of the program" in result.stderr.decode()) is ("ValueError" in end)
    assert "K1->>A" in (tmp_path / "flow.mmd").read_text()


def test_a_module_is_run_as_python_would(auth: AuthorizationServer, api: ProtectedApi, tmp_path: Path) -> None:
    (tmp_path / "nightly.py").write_text(PROGRAM)
    path = written(tmp_path, auth, api)
    result = run("trace", "-o", "n.mmd", "-m", "nightly", str(path), cwd=tmp_path, env={"SECRET_OF_M2M": SECRET})
    assert result.stdout == b"200\n200\n"
    assert "K1->>A" in (tmp_path / "n.mmd").read_text()


def test_a_script_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    result = run("trace", str(tmp_path / "nowhere.py"))
    assert result.returncode == 2
    assert b"there is no script" in result.stderr


def test_what_a_diagram_would_read_as_its_own_is_written_in_codes_and_repetitions_are_counted() -> None:
    diagram = Diagram()
    client = diagram.of_client('odd;"<name>"\n%%')
    for _ in range(3):
        client.arrow("client", "API", "GET /a;b#c")
    text = diagram.text()
    assert "3 × GET /a#59;b#35;c" in text
    assert len(text.splitlines()) == 6
    for number in range(MOST_ARROWS + 5):
        client.arrow("client", "API", f"GET /{number}")
    assert diagram.count == MOST_ARROWS
    assert "6 further arrows were left out" in diagram.text()


def test_who_listens_everywhere_hears_of_every_valet_made_meanwhile_and_of_no_other() -> None:
    heard: list[str] = []
    before = Observers()
    with observed_everywhere(lambda event: heard.append(event.name)):
        meanwhile = Observers()
    after = Observers()
    for observers in (before, meanwhile, after):
        observers.tell(Event(name="cache_hit", client="m2m"))
    assert heard == ["cache_hit"]


def test_the_traceback_of_a_program_is_its_own(tmp_path: Path) -> None:
    result = traced(tmp_path, "def broken():\n    raise ValueError('of the program')\nbroken()\n")
    told = result.stderr.decode()
    assert result.returncode == 1
    assert told.startswith("Traceback")
    assert "ValueError: of the program" in told
    assert told.count("File ") == 2
    assert "runpy" not in told
