"""What the repository holds: no secrets, no traces of a machine, files with a purpose, ids that exist, locks that agree."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tools import audit, standards

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
LONGEST = 400

# The brackets keep these patterns from finding themselves.
FORBIDDEN = {
    "a path of a machine": r"(?:(?<![\w.:/-])|file://)/(?:wor[k]|roo[t]|hom[e]/\w+|User[s]/\w+|opt/pyp[i])/|[A-Z]:\\User[s]\\",
    "a host of a package registry": (
        r"pypi[.]org|pythonhosted[.]org|registry[.]npmjs[.]org|registry[.]yarnpkg[.]com|npmmirror[.]com"
        r"|deb[.]debian[.]org|archive[.]ubuntu[.]com|static[.]crates[.]io|index[.]crates[.]io|proxy[.]golang[.]org"
    ),
    "a private key": r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}",
    "a credential": (
        r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bglpat-[\w-]{20}\b|\bxox[abprs]-[\w-]{10,}"
        r"|\bnpm_[A-Za-z0-9]{36}\b|\bpypi-[A-Za-z0-9_-]{60,}|\bsk_live_\w{16,}|://[^/\s:@\"'{}$<>]+:[^/\s:@\"'{}$<>]{16,}@"
    ),
}


def files_of_the_repository() -> list[Path]:
    """The files that git knows, and those that it would take up."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        reason = "needs git, and a checkout made by it"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def traces(text: str) -> list[str]:
    patterns = {**FORBIDDEN, "the path of this checkout": rf"{re.escape(str(ROOT))}(?![\w-])"}
    return [f"{what}: {found[0]!r}" for what, pattern in patterns.items() for found in re.finditer(pattern, text)]


def test_no_file_holds_a_secret_or_a_trace_of_the_machine_that_it_was_written_on() -> None:
    found = {}
    for path in files_of_the_repository():
        if faults := traces(path.read_bytes().decode("utf-8", "replace")):
            found[str(path.relative_to(ROOT))] = faults
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "see /wor" + "k/shared/notes.md",
        'open("/roo' + 't/x")',
        "file:///hom" + "e/ann/tokens",
        "C:\\Use" + "rs\\ann",
        "https://pyp" + "i.org/simple",
        "https://registry.npm" + "js.org/jose",
        "-----BEGIN EC PRIV" + "ATE KEY-----\n" + "MHcCAQEE" * 6,
        "AKIA" + "ABCDEFGH12345678",
        "https://ann:abcdefgh" + "12345678@example.org/",
        pytest.param(str(ROOT) + "/README.md", id="this checkout"),
    ],
)
def test_a_trace_is_seen(text: str) -> None:
    assert traces(text) != []


@pytest.mark.parametrize(
    "text",
    [
        "api/v1/work/orders, ./work/out, https://example.org/work/1, /run/secrets/key, /var/lib/records/tokens",
        "a key begins with -----BEGIN PRIV" + "ATE KEY-----",
        "redis://cache:6379/0, https://user:${PASSWORD}@proxy.example.org",
    ],
)
def test_what_looks_like_a_trace_and_is_none_is_left_alone(text: str) -> None:
    assert traces(text) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_source_file_says_first_what_it_is_for_and_is_no_longer_than_it_may_be(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "it must open with a docstring"
    assert len(text.splitlines()) <= LONGEST, f"it has more than {LONGEST} lines: find the second room in it"


# The standards checklist


def test_the_checklist_has_every_id_once_and_in_order() -> None:
    known = standards.known_ids()
    assert known == sorted(set(known))
    assert all(standards.ID.fullmatch(standard) for standard in known)


def test_every_id_that_a_test_names_is_in_the_checklist() -> None:
    known = {*standards.known_ids()}
    unknown = {standard: tests for standard, tests in standards.named_by_tests().items() if standard not in known}
    assert unknown == {}


def test_ids_are_read_from_markers_and_docstrings_and_from_nowhere_else(tmp_path: Path) -> None:
    file = tmp_path / "tests" / "room" / "test_it.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        '''"""About S-001."""
pytestmark = pytest.mark.standards("S-002")
OTHER = "S-900"

@pytest.mark.standards("S-003", "S-004")
class TestIt:
    async def test_async(self):
        """Keeps S-003 and AES-256."""

@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.standards("S-005"))])
def test_plain(x):
    assert "S-901"
'''
    )
    name = "tests/room/test_it.py"
    assert standards.named_by_tests(tmp_path / "tests") == {
        "S-001": [name],
        "S-002": [name],
        "S-003": [f"{name}::TestIt", f"{name}::TestIt::test_async"],
        "S-004": [f"{name}::TestIt"],
        "S-005": [f"{name}::test_plain"],
    }


# The locks


def pins(lock: str) -> dict[str, str]:
    found, faults = audit.read_lock(lock, (ROOT / "requirements" / lock).read_text(encoding="utf-8"))
    assert faults == []
    return {pin.name: str(pin.version) for pin in found}


def test_a_lock_names_no_index_and_no_path() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text(encoding="utf-8")
        assert not re.search(r"^\s*--(?!hash=)|://|file:|(?<!\w)/\w", text, flags=re.MULTILINE), lock.name


def test_the_first_uv_is_the_one_of_the_lock() -> None:
    assert pins("bootstrap.txt") == {"uv": pins("dev.txt")["uv"]}


def test_the_lock_has_everything_that_the_project_asks_for() -> None:
    asked = audit.declared(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    locked = pins("dev.txt")
    for requirement in (*asked.runtime, *asked.development):
        version = locked.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in requirements/dev.txt: run 'make lock'"
        assert requirement.specifier.contains(version), f"{requirement} is locked at {version}: run 'make lock'"
