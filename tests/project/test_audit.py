"""The audit of dependencies sees every violation of its rules, in locks, documents and packages made up for it."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Mapping
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tools import audit
from tools.audit import Declared, Pin

HASH = "sha256:" + "0a" * 32
ADVISORIES: Mapping[str, Any] = tomllib.loads((audit.ROOT / "tools" / "advisories.toml").read_text(encoding="utf-8"))


def needs(*runtime: str, development: tuple[str, ...] = ()) -> Declared:
    return Declared(
        runtime=tuple(Requirement(text) for text in runtime),
        development=tuple(Requirement(text) for text in development),
    )


def test_all_dependencies_are_read_without_the_project_itself() -> None:
    found = audit.declared(
        {
            "project": {
                "name": "made-up",
                "dependencies": ["one>=1"],
                "optional-dependencies": {"extra": ["two>=2", "Made_Up[other]"], "other": ["three"]},
            },
            "dependency-groups": {"dev": ["four"]},
        }
    )
    assert [r.name for r in found.runtime] == ["one", "two", "three"]
    assert [r.name for r in found.development] == ["four"]


# Locks


def test_a_lock_of_pinned_and_hashed_packages_has_no_fault() -> None:
    lock = f"# a comment\nOne_Two==1.2 ; os_name == 'nt' \\\n    --hash={HASH} \\\n    --hash={HASH}\n    # via x\n"
    assert audit.read_lock("dev.txt", lock) == ([Pin(name="one-two", version=Version("1.2"))], [])


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (f"one>=1 --hash={HASH}", "one is not pinned to one version with =="),
        (f"one --hash={HASH}", "one is not pinned to one version with =="),
        (f"one==1.* --hash={HASH}", "one is not pinned to one version with =="),
        (f"one==1,<2 --hash={HASH}", "one is not pinned to one version with =="),
        (f"one @ https://example.org/one.whl --hash={HASH}", "one is not pinned to one version with =="),
        ("one==1", "one has no hash"),
        ("one==1 --hash=md5:" + "0a" * 16, "one has a hash that is not sha256"),
        ("one==1 --hash=sha256:00", "one has a hash that is not sha256"),
        ("--index-url https://packages.example.org", "is no pinned package"),
        ("-e .", "is no pinned package"),
    ],
)
def test_a_lock_with_a_violation_has_a_fault(line: str, fault: str) -> None:
    _, faults = audit.read_lock("dev.txt", f"two==2 \\\n    --hash={HASH}\n{line}\n")
    assert len(faults) == 1
    assert fault in faults[0]
    assert faults[0].startswith("dev.txt: ")


# Reasons

DOCUMENT = """# Dependencies

## At run time

- **one**: it is there since we
  need it here.

## For development

- **two**: runs all of the tests.
"""


def test_a_document_with_all_reasons_has_no_fault() -> None:
    assert audit.check_reasons(DOCUMENT, needs("one>=1", development=("two",))) == []


@pytest.mark.parametrize(
    ("dependencies", "document", "fault"),
    [
        (needs("one", "three", development=("two",)), DOCUMENT, "no entry for three, a dependency or an extra"),
        (needs("one", development=("two", "three")), DOCUMENT, "no entry for three, the group dev"),
        (needs(development=("two",)), DOCUMENT, "one is listed, but not a dependency"),
        (needs("one"), DOCUMENT, "two is listed, but not the group dev"),
        (
            needs("one", development=("two",)),
            DOCUMENT.replace("runs all of the tests.", "tests."),
            "two needs a sentence",
        ),
        (needs("one", development=("two",)), DOCUMENT.replace("need it here.", "need it"), "one needs a sentence"),
        (
            needs("one", development=("two",)),
            f"{DOCUMENT}\n## More\n\n- **One**: it is there since we said so.\n",
            "one is listed twice",
        ),
    ],
)
def test_a_document_that_differs_from_the_project_has_a_fault(
    dependencies: Declared, document: str, fault: str
) -> None:
    faults = audit.check_reasons(document, dependencies)
    assert len(faults) == 1
    assert fault in faults[0]


# Advisories


def lock_of(name: str, version: str) -> list[Pin]:
    return [Pin(name=name, version=Version(version))]


@pytest.mark.standards("S-329")
@pytest.mark.parametrize(
    ("name", "last_bad", "first_good"),
    [
        ("joserfc", "1.7.3", "1.7.4"),
        ("pyjwt", "2.12.9", "2.13.0"),
        ("aiohttp", "3.14.2", "3.14.3"),
        ("urllib3", "2.6.9", "2.7.0"),
        ("requests", "2.32.9", "2.33.0"),
    ],
)
def test_a_version_with_a_known_advisory_is_refused_in_the_lock_and_in_the_project(
    name: str, last_bad: str, first_good: str
) -> None:
    assert f"{name} {last_bad} is locked" in audit.check_versions(lock_of(name, last_bad), needs(), ADVISORIES)[0]
    assert audit.check_versions(lock_of(name, first_good), needs(), ADVISORIES) == []
    for allows_bad in (name, f"{name}<99", f"{name}>={last_bad}", f"{name}!={last_bad}"):
        assert "pyproject.toml" in audit.check_versions([], needs(allows_bad), ADVISORIES)[0]
        assert "pyproject.toml" in audit.check_versions([], needs(development=(allows_bad,)), ADVISORIES)[0]
    for allows_good in (f"{name}>={first_good}", f"{name}>={first_good},<99", f"{name}=={first_good}"):
        assert audit.check_versions([], needs(allows_good), ADVISORIES) == []


@pytest.mark.standards("S-329")
def test_a_forbidden_package_is_refused_in_any_lock() -> None:
    assert "python-jose is forbidden" in audit.check_versions(lock_of("python-jose", "99"), needs(), ADVISORIES)[0]


@pytest.mark.standards("S-329")
@pytest.mark.parametrize(
    ("source", "forbidden"),
    [
        ("import jose", True),
        ("from jose import jwt", True),
        ("def f():\n    import jose.jwt as jwt", True),
        ("import authlib.jose", True),
        ("from authlib import jose", True),
        ("from authlib.jose.errors import JoseError", True),
        ("import joserfc, authlib.oauth2", False),
        ("from . import jose\nfrom .jose import sign", False),
    ],
)
def test_a_forbidden_import_is_refused(source: str, forbidden: bool, tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(source)
    assert bool(audit.check_imports([file], ADVISORIES)) is forbidden


def test_an_import_of_a_package_that_only_another_one_brings_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("import json, one.part, two, tokenvalet\nfrom . import two_of_our_own")
    owners = {"one": ["One"], "two": ["Two-Dist", "two-dist"], "tokenvalet": ["tokenvalet"]}
    assert audit.check_declared([file], needs("one", "two.dist"), owners) == []
    faults = audit.check_declared([file], needs("one"), owners)
    assert faults == [f"{file}: imports two, which comes with two-dist, and pyproject.toml does not ask for that"]


# Licences


def package(folder: Path, name: str, *metadata: str) -> Distribution:
    info = folder / f"{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1", *metadata]) + "\n"
    )
    return PathDistribution(info)


@pytest.mark.parametrize(
    ("metadata", "allowed"),
    [
        (["License-Expression: MIT"], True),
        (["License-Expression: Apache-2.0 OR GPL-3.0-or-later"], True),
        (["License-Expression: Apache-2.0 AND GPL-3.0-or-later"], False),
        (["License-Expression: Apache-2.0 AND (MIT OR GPL-3.0-or-later)"], False),
        (["License-Expression: LGPL-3.0-or-later"], False),
        (["Classifier: License :: OSI Approved :: MIT License"], True),
        (["Classifier: License :: OSI Approved", "Classifier: License :: OSI Approved :: BSD License"], True),
        (["Classifier: License :: OSI Approved :: GNU Affero General Public License v3"], False),
        (["License: MIT License"], True),
        (["License: BSD-3-Clause"], True),
        (["License: see the file"], False),
        ([], False),
    ],
)
def test_only_the_licences_of_the_list_are_allowed(metadata: list[str], allowed: bool, tmp_path: Path) -> None:
    found = {"one": package(tmp_path, "one", *metadata)}
    assert (audit.check_licences(needs("one"), ADVISORIES, found.get) == []) is allowed


def test_a_licence_that_was_read_counts_where_the_metadata_state_none(tmp_path: Path) -> None:
    found = {"one": package(tmp_path, "one")}
    assert "'not stated'" in audit.check_licences(needs("one"), ADVISORIES, found.get)[0]
    for said, faults in (("MIT", 0), ("LGPL-3.0-only", 1)):
        advisories = {**ADVISORIES, "licences": {**ADVISORIES["licences"], "read": {"one": said}}}
        assert len(audit.check_licences(needs("one"), advisories, found.get)) == faults


def test_the_licence_of_a_package_that_others_bring_counts_and_that_of_a_development_tool_does_not(
    tmp_path: Path,
) -> None:
    mit = "License-Expression: MIT"
    found = {
        "one": package(tmp_path, "one", mit, "Provides-Extra: x", "Requires-Dist: two; extra == 'x'"),
        "two": package(tmp_path, "two", mit, "Requires-Dist: three", "Requires-Dist: one[x]"),
        "three": package(tmp_path, "three", "License-Expression: LGPL-3.0-only"),
    }
    assert audit.check_licences(needs("one", development=("three",)), ADVISORIES, found.get) == []
    faults = audit.check_licences(needs("one[x]", "nobody; os_name == 'none'"), ADVISORIES, found.get)
    assert faults == ["three: its licence, 'LGPL-3.0-only', is not on the list of tools/advisories.toml"]


def test_a_package_that_is_not_installed_is_a_fault() -> None:
    assert "one is needed and not installed here" in audit.check_licences(needs("one"), ADVISORIES, lambda _: None)[0]


# The advisory service


def answer(*packages: object, code: int = 0, stderr: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, json.dumps({"dependencies": packages}) if packages else "", stderr)


CLEAN = {"name": "one", "version": "1", "vulns": []}
UNKNOWN = {"name": "two", "skip_reason": "Dependency not found and could not be audited: two (2)"}
FOUND = {
    "name": "three",
    "version": "3",
    "vulns": [{"id": "X-1", "aliases": ["CVE-1"], "fix_versions": ["3.1"], "description": "..."}],
}


def test_an_advisory_is_a_fault_until_it_is_accepted_with_a_reason() -> None:
    faults, _ = audit.read_pip_audit(answer(CLEAN, FOUND, code=1), {})
    assert faults == ["three 3: X-1, CVE-1; fixed in 3.1"]
    faults, notes = audit.read_pip_audit(answer(CLEAN, FOUND, code=1), {"CVE-1": "not reached"})
    assert (faults, notes) == ([], ["three 3: X-1, CVE-1; fixed in 3.1; accepted: not reached"])


def test_a_package_that_the_service_does_not_know_is_named() -> None:
    assert audit.read_pip_audit(answer(CLEAN, UNKNOWN), {}) == ([], ["the advisory service does not know: two"])


@pytest.mark.parametrize(
    "silence",
    [
        answer(UNKNOWN),
        answer(code=1, stderr="Traceback ...\nrequests.exceptions.ConnectionError: no such host"),
        answer(code=1, stderr="pip_audit._service.interface.ServiceError"),
        answer(code=1, stderr="Timeout: no end after 300 s"),
    ],
)
def test_a_service_that_cannot_be_reached_is_said_and_no_fault(silence: subprocess.CompletedProcess[str]) -> None:
    faults, notes = audit.read_pip_audit(silence, {})
    assert faults == []
    assert len(notes) == 1
    assert notes[0].startswith("the advisory service cannot be reached from here")


def test_any_other_failure_of_the_tool_is_a_fault() -> None:
    faults, _ = audit.read_pip_audit(answer(code=2, stderr="error: unrecognized arguments"), {})
    assert faults == ["pip-audit failed, with exit code 2: error: unrecognized arguments"]
