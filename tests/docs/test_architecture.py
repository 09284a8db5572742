"""The page on the architecture speaks of rooms and tests that are there, and leaves no room out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TESTS = re.findall(r"`([\w/]+\.py)::(test_\w+)`", PAGE)
PROMISES = 18


def test_every_promise_has_a_line_with_a_test() -> None:
    for number in range(PROMISES):
        assert re.search(rf"^\| {number} \|.*::test_", PAGE, re.MULTILINE), f"promise {number} has none"


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_each_test_that_is_named_is_there(file: str, name: str) -> None:
    assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")


def test_every_room_is_on_the_page() -> None:
    rooms = {path.name for path in (ROOT / "src" / "tokenvalet").rglob("*.py")} - {"__init__.py", "_version.py"}
    inside = {
        path.name for folder in ("cli", "testing") for path in (ROOT / "src" / "tokenvalet" / folder).glob("*.py")
    }
    assert {room for room in rooms - inside - {"__main__.py"} if room not in PAGE} == set()


def test_every_room_on_the_page_is_there() -> None:
    named = set(re.findall(r"^ +(\w+\.py) ", PAGE, re.MULTILINE))
    assert named
    assert {room for room in named if not list((ROOT / "src").rglob(room))} == set()
