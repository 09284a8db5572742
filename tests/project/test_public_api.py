"""The public API is the one of the snapshot, so that no name appears or goes unseen."""

from __future__ import annotations

import functools
import importlib
import sys
from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType
from typing import Protocol

import pytest

from tools import api_snapshot


def test_the_public_api_is_the_one_of_the_snapshot() -> None:
    changed = api_snapshot.difference()
    assert not changed, f"the public API changed; if this is meant, run '{api_snapshot.REWRITE}':\n{changed}"


@pytest.mark.parametrize("name", api_snapshot.PUBLIC_MODULES)
def test_a_public_module_says_what_is_public_and_has_it(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__all__, "an empty or missing __all__"
    assert [n for n in module.__all__ if not hasattr(module, n)] == []


class Base(Exception):
    code = "a_code"

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)

    def _hidden(self) -> None: ...


class Derived(Base):
    code = "another_code"

    def __init__(self, /, **more: int) -> None:
        super().__init__("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    plain: int
    made: list[int] = field(default_factory=list)

    @property
    def derived(self) -> int:
        return self.plain

    @functools.cached_property
    def cached(self) -> int:
        return self.plain

    @classmethod
    def of(cls, plain: int, /, *rest: int, **more: int) -> Value:
        return cls(plain=plain)

    @staticmethod
    async def fetched(a: int, b: int = 1) -> None: ...


class Kind(Enum):
    FIRST = "first"
    SECOND = 2


class OneMethod(Protocol):
    def __call__(self, event: object) -> None: ...


def plain_function(first: object = object(), *, second: int = 2) -> None: ...


def test_a_snapshot_has_names_and_parameters_but_no_types_and_no_values_of_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door, side = ModuleType("made_up"), ModuleType("made_up.side")
    named = {x.__name__: x for x in (Base, Derived, Value, Kind, OneMethod, plain_function)}
    vars(door).update(named, __all__=[*named], number=1)
    vars(side).update(Value=Value, number=1, __all__=["Value", "number"])
    monkeypatch.setitem(sys.modules, "made_up", door)
    monkeypatch.setitem(sys.modules, "made_up.side", side)
    monkeypatch.setattr(api_snapshot, "PACKAGE", __name__.partition(".")[0])

    assert api_snapshot.snapshot(("made_up", "made_up.side")).splitlines() == [
        "# made_up",
        "class Base(message, *, status=...) : Exception",
        "    code = 'a_code'",
        "class Derived(**more) : Base",
        "    code = 'another_code'",
        "class Kind : Enum",
        "    FIRST = 'first'",
        "    SECOND",
        "class OneMethod : Protocol",
        "    def __call__(self, event)",
        "class Value(*, plain, made=...)",
        "    property cached",
        "    property derived",
        "    @staticmethod async def fetched(a, b=...)",
        "    made",
        "    @classmethod def of(cls, plain, /, *rest, **more)",
        "    plain",
        "def plain_function(first=..., *, second=...)",
        "",
        "# made_up.side",
        "Value is made_up.Value",
        "number",
    ]
