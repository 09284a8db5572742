"""Every test of this folder runs with every driver, and no test knows which one it has."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contract import conftest
from contract.drivers import ABILITIES, Custom, Driver
from contract.registry import CANCELLABLE, DRIVERS, POOLED

HERE = Path(__file__).parent
LIBRARIES = {"aiohttp", "httpcore", "httpcore2", "httpx", "httpx2", "pyreqwest", "requests", "urllib3"}
FIXTURES = {"open_session", "open_cancellable", "open_pooled"}
MODULES = sorted(path.stem for path in HERE.glob("test_*.py") if path != Path(__file__))


def all_tests() -> Iterator[tuple[str, Callable[..., Any]]]:
    for module in MODULES:
        for name, function in vars(importlib.import_module(f"contract.{module}")).items():
            if name.startswith("test_") and inspect.isfunction(function):
                yield f"{module}.{name}", function


def test_every_test_is_run_by_every_driver() -> None:
    found = dict(all_tests())
    assert len(found) > 100
    without = [name for name, test in found.items() if not FIXTURES & inspect.signature(test).parameters.keys()]
    assert without == []


def test_every_fixture_of_sessions_has_every_driver_that_can_be_meant() -> None:
    wanted = {"driver": list(DRIVERS), "cancellable": CANCELLABLE, "pooled": POOLED}
    for name, drivers in wanted.items():
        definition = inspect.getattr_static(conftest, name)
        assert list(definition._fixture_function_marker.params) == drivers, name
    assert [name for name, entry in DRIVERS.items() if entry.cancellable] == CANCELLABLE
    assert [name for name, entry in DRIVERS.items() if entry.pooled] == POOLED


def test_httpx2_and_httpx_take_part_in_all_three_ways_and_lack_nothing() -> None:
    for library in ("httpx2", "httpx"):
        for name in (library, f"{library}-asyncio", f"{library}-trio"):
            entry = DRIVERS[name]
            assert entry.pooled
            assert entry.lacks == {}
            assert entry.cancellable == (name != library)


@pytest.mark.parametrize("module", MODULES)
def test_no_test_names_a_library_or_asks_which_one_it_has(module: str) -> None:
    tree = ast.parse((HERE / f"{module}.py").read_text(encoding="utf-8"))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert not imported & LIBRARIES
    asked = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not {text for text in asked if text.endswith(("driver.name", "pooled.name", "cancellable.name"))}
    texts = {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert not texts & {*LIBRARIES, *DRIVERS}


def test_what_a_library_may_lack_is_something_that_is_asked_for_and_has_a_reason() -> None:
    known = {field.name for field in dataclasses.fields(Custom)} | inspect.signature(Driver.open).parameters.keys()
    known |= ABILITIES.keys()
    for name, entry in DRIVERS.items():
        assert entry.lacks.keys() <= known, name
        assert all(len(reason) > 10 for reason in entry.lacks.values()), name
    # And a test that needs something says it by a name that a library can lack.
    for module in MODULES:
        tree = ast.parse((HERE / f"{module}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "needs":
                for argument in node.args:
                    assert not isinstance(argument, ast.Constant) or argument.value in known, module
