"""The tests that the page about hosts has for its examples, run as a user runs them: without a secret and the network."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from support.host_processes import EXAMPLES

pytest_plugins = ["pytester"]

DOCS = Path(__file__).parents[2] / "docs"
TESTS = dict(re.findall(r"```python\n# (\w+)\n(.*?)```", (DOCS / "how_to" / "hosts.md").read_text("utf-8"), re.DOTALL))
(CONFTEST,) = re.findall(r"```python\n(# conftest.py\n.*?)```", (DOCS / "testing.md").read_text("utf-8"), re.DOTALL)
DJANGO = "import django\ndjango.setup()\n"


def test_every_framework_has_one() -> None:
    assert set(TESTS) == {"celery", "django", "fastapi", "flask", "litestar", "starlette"}


@pytest.mark.parametrize("name", TESTS)
def test_the_test_of_an_example_passes(name: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(EXAMPLES / name, pytester.path, dirs_exist_ok=True)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "service.settings")
    monkeypatch.delenv("RECORDS_CLIENT_SECRET", raising=False)
    pytester.makeconftest(CONFTEST + (DJANGO if name == "django" else ""))
    pytester.makepyfile(test_service=TESTS[name])
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist", "-W", "error", timeout=120)
    result.assert_outcomes(passed=1)
