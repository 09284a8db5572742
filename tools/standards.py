"""Prints which lines of the standards checklist are named by which tests, and which by none: `make standards`.

A test names a line with ``@pytest.mark.standards("S-101")`` or in its docstring. The ids are those of
tests/project/standards_ids.txt.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IDS = ROOT / "tests" / "project" / "standards_ids.txt"
ID = re.compile(r"\bS-\d{3}\b")

Scope = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def known_ids(path: Path = IDS) -> list[str]:
    """Read the ids of the checklist."""
    return path.read_text(encoding="utf-8").split()


def marks(node: ast.AST) -> Iterator[str]:
    """Yield the ids of the ``standards`` markers in a part of a test file."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "standards":
            for argument in call.args:
                if isinstance(argument, ast.Constant):
                    yield str(argument.value)


def named_in(source: str) -> Iterator[tuple[str, str]]:
    """Yield every id that a test file names, and the test, class or file (an empty name) that names it."""

    def visit(scope: Scope, name: str) -> Iterator[tuple[str, str]]:
        for found in ID.findall(ast.get_docstring(scope) or ""):
            yield found, name
        if not isinstance(scope, ast.Module):
            for decorator in scope.decorator_list:
                yield from ((found, name) for found in marks(decorator))
        for child in scope.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from visit(child, f"{name}::{child.name}")
            else:
                yield from ((found, name) for found in marks(child))

    yield from visit(ast.parse(source), "")


def named_by_tests(tests: Path = ROOT / "tests") -> dict[str, list[str]]:
    """Return every id that the tests name, with the tests."""
    found: dict[str, list[str]] = {}
    for path in sorted(tests.rglob("*.py")):
        if "node_modules" not in path.parts:
            for standard, name in named_in(path.read_text(encoding="utf-8")):
                test = f"{path.relative_to(tests.parent).as_posix()}{name}"
                if test not in found.setdefault(standard, []):
                    found[standard].append(test)
    return found


def main() -> int:
    """Print the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--missing", action="store_true", help="print only the ids that no test names")
    only_missing = parser.parse_args().missing
    known, named = known_ids(), named_by_tests()
    if not only_missing:
        for standard in known:
            for i, test in enumerate(named.get(standard, ())):
                print(f"{'' if i else standard:7}{test}")
    missing = [standard for standard in known if standard not in named]
    print(f"{len(known) - len(missing)} of {len(known)} lines are named by a test. Named by none:")
    for start in range(0, len(missing), 12):
        print("  " + " ".join(missing[start : start + 12]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
