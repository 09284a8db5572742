"""Audits the dependencies, most of it offline: `make audit`.

1. Every package in a lock is pinned to one version and hashed.
2. docs/dependencies.md says in a sentence why each dependency is there, and lists nothing else.
3. No version with a known advisory, and no forbidden package or import: tools/advisories.toml says which; and no import
   in src/ of a package that is there by chance only, since another one brings it.
4. The licences of what a user installs, with all extras, are on the list of tools/advisories.toml.
5. pip-audit asks the advisory service, where it can be reached; where it cannot, this is said, and is no fault.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, packages_distributions
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = "tokenvalet"
ROOT = Path(__file__).resolve().parent.parent
CODE = ("src", "tests", "tools", "benchmarks", "examples")
FOR_DEVELOPMENT = "For development"
PIP_AUDIT_SECONDS = 300
# What pip-audit's traceback names when the service does not answer.
NO_ANSWER = ("ConnectionError", "ServiceError", "Timeout", "Max retries exceeded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One package of a lock."""

    name: str
    version: Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What pyproject.toml asks for, without the project itself."""

    runtime: tuple[Requirement, ...]
    development: tuple[Requirement, ...]


def declared(pyproject: Mapping[str, Any]) -> Declared:
    """Read the dependencies, with all extras, and those of the group `dev`."""
    project = pyproject["project"]
    texts = [*project.get("dependencies", ())]
    for extra in project.get("optional-dependencies", {}).values():
        texts += extra
    runtime = [Requirement(text) for text in texts]
    itself = canonicalize_name(project["name"])
    return Declared(
        runtime=tuple(r for r in runtime if canonicalize_name(r.name) != itself),
        development=tuple(Requirement(text) for text in pyproject["dependency-groups"]["dev"]),
    )


# 1. The locks


def read_lock(name: str, text: str) -> tuple[list[Pin], list[str]]:
    """Return the packages of a lock, and what is wrong with it."""
    pins: list[Pin] = []
    faults: list[str] = []
    lines = (line.strip() for line in re.sub(r"\\\n", " ", text).splitlines())
    for line in (line for line in lines if line and not line.startswith("#")):
        asked, *hashes = re.split(r"\s--hash=", line)
        try:
            requirement = Requirement(asked.strip())
        except InvalidRequirement:
            faults.append(f"{name}: {asked.strip()!r} is no pinned package")
            continue
        versions = list(requirement.specifier)
        if requirement.url or [s.operator for s in versions] != ["=="] or "*" in versions[0].version:
            faults.append(f"{name}: {requirement.name} is not pinned to one version with ==")
            continue
        if not hashes:
            faults.append(f"{name}: {requirement.name} has no hash")
        if not all(re.fullmatch(r"sha256:[0-9a-f]{64}", value.strip()) for value in hashes):
            faults.append(f"{name}: {requirement.name} has a hash that is not sha256")
        pins.append(Pin(name=canonicalize_name(requirement.name), version=Version(versions[0].version)))
    return pins, faults


# 2. The reasons


def reasons(document: str) -> Iterator[tuple[str, str, str]]:
    """Yield heading, name and reason of every ``- **name**: reason`` in the document."""
    for section in re.split(r"^## ", document, flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        for entry in re.finditer(r"^- \*\*(.+?)\*\*:(.*(?:\n  .*)*)", body, flags=re.MULTILINE):
            yield heading.strip(), canonicalize_name(entry[1]), " ".join(entry[2].split())


def check_reasons(document: str, dependencies: Declared) -> list[str]:
    """Compare docs/dependencies.md with what is asked for."""
    faults = []
    listed: dict[bool, list[str]] = {True: [], False: []}
    for heading, name, reason in reasons(document):
        listed[heading != FOR_DEVELOPMENT].append(name)
        if len(reason.split()) < 4 or not reason.endswith("."):
            faults.append(f"docs/dependencies.md: {name} needs a sentence that says why it is there")
    for at_run_time, wanted, where in (
        (True, dependencies.runtime, "a dependency or an extra"),
        (False, dependencies.development, f"the group dev, under '{FOR_DEVELOPMENT}'"),
    ):
        asked = {canonicalize_name(requirement.name) for requirement in wanted}
        found = listed[at_run_time]
        faults += [f"docs/dependencies.md: no entry for {name}, {where}" for name in sorted(asked - {*found})]
        faults += [f"docs/dependencies.md: {name} is listed, but not {where}" for name in sorted({*found} - asked)]
        faults += [
            f"docs/dependencies.md: {name} is listed twice" for name in sorted(set(found)) if found.count(name) > 1
        ]
    return faults


# 3. Advisories that we know


def check_versions(pins: Iterable[Pin], dependencies: Declared, advisories: Mapping[str, Any]) -> list[str]:
    """Look for old versions and forbidden packages, in the locks and in what pyproject.toml allows."""
    faults = []
    minimum = {name: Version(entry["version"]) for name, entry in advisories["minimum"].items()}
    why = {name: entry["why"] for name, entry in advisories["minimum"].items()}
    forbidden = advisories["forbidden"]["packages"]
    for pin in pins:
        if pin.name in forbidden:
            faults.append(f"{pin.name} is forbidden: {forbidden[pin.name]}")
        if pin.name in minimum and pin.version < minimum[pin.name]:
            faults.append(
                f"{pin.name} {pin.version} is locked; at least {minimum[pin.name]} is needed ({why[pin.name]})"
            )
    for requirement in (*dependencies.runtime, *dependencies.development):
        name = canonicalize_name(requirement.name)
        bounds = [Version(s.version) for s in requirement.specifier if s.operator in {">=", ">", "~=", "=="}]
        if name in minimum and not any(bound >= minimum[name] for bound in bounds):
            faults.append(f"pyproject.toml: '{requirement}' allows {name} before {minimum[name]} ({why[name]})")
    return faults


def imports(source: str) -> Iterator[str]:
    """Yield the dotted names that a source imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def check_imports(files: Iterable[Path], advisories: Mapping[str, Any]) -> list[str]:
    """Look for forbidden imports."""
    forbidden: Mapping[str, str] = advisories["forbidden"]["imports"]
    return [
        f"{path}: imports {name}, and {module} is forbidden: {reason}"
        for path in files
        for name in imports(path.read_text(encoding="utf-8"))
        for module, reason in forbidden.items()
        if f"{name}.".startswith(f"{module}.")
    ]


def check_declared(files: Iterable[Path], dependencies: Declared, owners: Mapping[str, Iterable[str]]) -> list[str]:
    """Look for imports of packages that pyproject.toml does not ask for; `owners` says which package has a module."""
    asked = {canonicalize_name(requirement.name) for requirement in dependencies.runtime}
    found = {(path, name.partition(".")[0]) for path in files for name in imports(path.read_text(encoding="utf-8"))}
    return [
        f"{path}: imports {module}, which comes with {', '.join(sorted(by))}, and pyproject.toml does not ask for that"
        for path, module in sorted(found)
        if (by := {canonicalize_name(owner) for owner in owners.get(module, ())}) and not by & {*asked, PROJECT}
    ]


# 4. Licences

Find = Callable[[str], Distribution | None]


def installed(name: str) -> Distribution | None:
    """Find a package in the running environment."""
    try:
        return Distribution.from_name(name)
    except PackageNotFoundError:
        return None


def everything_needed(requirements: Iterable[Requirement], find: Find) -> dict[str, Distribution | None]:
    """Follow the requirements, for this interpreter and platform, to all packages that they bring."""
    found: dict[str, Distribution | None] = {}
    followed = set()
    waiting = [(requirement, "") for requirement in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        distribution = found.setdefault(name, find(name))
        for wanted in ("", *requirement.extras):
            if distribution and (name, wanted) not in followed:
                followed.add((name, wanted))
                waiting += [(Requirement(text), wanted) for text in distribution.requires or ()]
    return found


def licence(distribution: Distribution, spelled: Mapping[str, str]) -> str:
    """Return what a package says about its licence: an SPDX expression, or the words that we could not read."""
    metadata = distribution.metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    classifiers = [c.rpartition(" :: ")[2] for c in metadata.get_all("Classifier") or () if c.startswith("License ::")]
    words = [spelled.get(word, word) for word in classifiers if word != "OSI Approved"]
    if words:
        return " AND ".join(sorted(words))
    text = metadata["License"].strip() if "License" in metadata else ""
    # Some put the whole text there, which begins with the name.
    first = text.partition("\n")[0]
    return spelled.get(text, spelled.get(first, first))


def is_allowed(expression: str, allowed: Iterable[str]) -> bool:
    """Read a flat SPDX expression: one branch of its ORs must be allowed as a whole."""
    known = {*allowed}
    return any(known.issuperset(re.split(r"\s+AND\s+", branch)) for branch in re.split(r"\s+OR\s+", expression.strip()))


def check_licences(dependencies: Declared, advisories: Mapping[str, Any], find: Find = installed) -> list[str]:
    """Look at the licence of everything that a user installs."""
    rules = advisories["licences"]
    faults = []
    for name, distribution in sorted(everything_needed(dependencies.runtime, find).items()):
        if distribution is None:
            faults.append(f"{name} is needed and not installed here, so its licence cannot be read: run 'make venv'")
            continue
        said = licence(distribution, rules["spelled"]) or rules.get("read", {}).get(name, "")
        if not is_allowed(said, rules["allowed"]):
            faults.append(f"{name}: its licence, {said or 'not stated'!r}, is not on the list of tools/advisories.toml")
    return faults


# 5. The advisory service


def run_pip_audit(lock: Path) -> subprocess.CompletedProcess[str]:
    """Ask the advisory service about every package of the lock."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--require-hashes", "--disable-pip"]
    command += ["--progress-spinner", "off", "--timeout", "15", "--format", "json"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PIP_AUDIT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"Timeout: no end after {PIP_AUDIT_SECONDS} s")


def read_pip_audit(
    result: subprocess.CompletedProcess[str], accepted: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Return the faults that pip-audit found, and what else there is to say."""
    try:
        packages = json.loads(result.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (result.stderr.strip().splitlines() or ["no output"])[-1]
        if any(name in result.stderr for name in NO_ANSWER):
            return [], [f"the advisory service cannot be reached from here, so pip-audit was skipped: {last}"]
        return [f"pip-audit failed, with exit code {result.returncode}: {last}"], []
    faults, notes = [], []
    skipped = sorted(package["name"] for package in packages if "skip_reason" in package)
    if skipped and len(skipped) == len(packages):
        notes.append("the advisory service cannot be reached from here: it knows none of the packages; skipped")
    elif skipped:
        notes.append(f"the advisory service does not know: {', '.join(skipped)}")
    for package in packages:
        for found in package.get("vulns", ()):
            ids = [found["id"], *found.get("aliases", ())]
            reason = next((accepted[i] for i in ids if i in accepted), None)
            fixed = ", ".join(found.get("fix_versions", ())) or "no version yet"
            line = f"{package['name']} {package['version']}: {', '.join(ids)}; fixed in {fixed}"
            if reason:
                notes.append(f"{line}; accepted: {reason}")
            else:
                faults.append(line)
    return faults, notes


def main() -> int:
    """Run all checks, print what each found, and return 1 where one found a fault."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    advisories = tomllib.loads((ROOT / "tools" / "advisories.toml").read_text(encoding="utf-8"))
    dependencies = declared(pyproject)
    pins: list[Pin] = []
    lock_faults: list[str] = []
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        read, faults = read_lock(path.name, path.read_text(encoding="utf-8"))
        pins += read
        lock_faults += faults
    document = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    files = [path for room in CODE for path in sorted((ROOT / room).rglob("*.py")) if "node_modules" not in path.parts]
    service_faults, notes = read_pip_audit(
        run_pip_audit(ROOT / "requirements" / "dev.txt"), advisories.get("accepted", {})
    )
    checks = {
        f"pinned and hashed ({len(pins)} packages)": lock_faults,
        "reasons in docs/dependencies.md": check_reasons(document, dependencies),
        "versions with known advisories": check_versions(pins, dependencies, advisories),
        "forbidden imports": check_imports(files, advisories),
        "imports by chance": check_declared(
            (path for path in files if ROOT / "src" in path.parents), dependencies, packages_distributions()
        ),
        "licences at run time": check_licences(dependencies, advisories),
        "pip-audit": service_faults,
    }
    for name, faults in checks.items():
        print(f"{'FAULT' if faults else 'ok':5}  {name}", *faults, sep="\n         ")
    for note in notes:
        print(f"note   {note}")
    return int(any(checks.values()))


if __name__ == "__main__":
    sys.exit(main())
