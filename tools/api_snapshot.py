"""Writes the snapshot of the public API, tests/project/public_api.txt: `make api-snapshot`; with --check, compares.

The snapshot has every public name with its parameters: their names, kinds, and whether there is a default. Types and
values of defaults are left out, so that it is the same under every Python that we support.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

PUBLIC_MODULES = (
    "tokenvalet",
    "tokenvalet.errors",
    "tokenvalet.hosts.celery",
    "tokenvalet.hosts.django",
    "tokenvalet.hosts.fastapi",
    "tokenvalet.hosts.flask",
    "tokenvalet.hosts.litestar",
    "tokenvalet.hosts.starlette",
    "tokenvalet.telemetry",
    "tokenvalet.testing",
)
PACKAGE = "tokenvalet"
SNAPSHOT = Path(__file__).resolve().parent.parent / "tests" / "project" / "public_api.txt"
REWRITE = "make api-snapshot"
# The special methods that a user's code calls by its syntax.
SPOKEN = {"__call__", "__enter__", "__exit__", "__aenter__", "__aexit__", "__iter__", "__len__", "__getitem__"}


def parameters(function: Callable[..., Any]) -> str:
    """Write a function's parameters, without annotations and values of defaults."""
    inner = inspect.unwrap(function)
    if not isinstance(inner, FunctionType):
        return "(...)"
    code, defaults, named = inner.__code__, inner.__defaults__ or (), inner.__kwdefaults__ or {}
    names = list(code.co_varnames)
    plain, rest = names[: code.co_argcount], names[code.co_argcount :]
    written = [name + ("=..." if i >= len(plain) - len(defaults) else "") for i, name in enumerate(plain)]
    if code.co_posonlyargcount:
        written.insert(code.co_posonlyargcount, "/")
    only_named, rest = rest[: code.co_kwonlyargcount], rest[code.co_kwonlyargcount :]
    if code.co_flags & inspect.CO_VARARGS:
        written.append(f"*{rest.pop(0)}")
    elif only_named:
        written.append("*")
    written += [name + ("=..." if name in named else "") for name in only_named]
    if code.co_flags & inspect.CO_VARKEYWORDS:
        written.append(f"**{rest.pop(0)}")
    return f"({', '.join(written)})"


def keyword(function: Callable[..., Any]) -> str:
    """Return how a function is defined; a wrapped one counts as what the caller gets."""
    return "async def" if inspect.iscoroutinefunction(function) else "def"


def member(name: str, value: object) -> str:
    """Write one member of a class."""
    if isinstance(value, (classmethod, staticmethod)):
        return f"@{type(value).__name__} {keyword(value.__func__)} {name}{parameters(value.__func__)}"
    if isinstance(value, (property, functools.cached_property)):
        return f"property {name}"
    if inspect.isclass(value):
        return f"class {name}"
    if inspect.isroutine(value):
        return f"{keyword(value)} {name}{parameters(value)}"
    # A text is part of the contract: the code of an error, the value of an enumeration's member.
    text = value.value if isinstance(value, Enum) else value
    return f"{name} = {text!r}" if isinstance(text, str) else name


def fields(cls: type) -> list[str]:
    """Return the names that the class annotates, without evaluating the annotations."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format, get_annotations

        return list(get_annotations(cls, format=Format.FORWARDREF))
    return list(inspect.get_annotations(cls))


def members(cls: type) -> dict[str, object]:
    """Collect the public members that are defined in our own package, the nearest definition of each."""
    found: dict[str, object] = {}
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] == PACKAGE:
            own = vars(base)
            for name in (*own, *(name for name in fields(base) if name not in own)):
                if (not name.startswith("_") or name in SPOKEN) and name != "model_config":
                    found.setdefault(name, own.get(name))
    return found


def constructor(cls: type) -> str:
    """Write the parameters that make an instance, where our own package says so."""
    for base in cls.__mro__:
        for name in ("__init__", "__new__"):
            function = vars(base).get(name)
            function = getattr(function, "__func__", function)
            ours = base.__module__.partition(".")[0] == PACKAGE and not issubclass(base, Enum)
            if ours and isinstance(function, FunctionType) and function.__module__ != "typing":
                _, _, others = parameters(function)[1:-1].partition(", ")
                return f"({others.removeprefix('/, ')})"
    return ""


def described(name: str, value: object) -> Iterator[str]:
    """Write one public name of a module."""
    if inspect.isclass(value):
        bases = [base.__name__ for base in value.__bases__ if base.__name__ not in {"object", "Generic"}]
        yield f"class {name}{constructor(value)}{' : ' + ', '.join(bases) if bases else ''}"
        yield from (f"    {member(key, item)}" for key, item in sorted(members(value).items()))
    elif inspect.isroutine(value):
        yield f"{keyword(value)} {name}{parameters(value)}"
    elif isinstance(value, ModuleType):
        yield f"module {name}"
    else:
        yield name


def snapshot(modules: tuple[str, ...] = PUBLIC_MODULES) -> str:
    """Write the public API of the modules; a name that an earlier one has too is only referred to."""
    lines = []
    seen: dict[int, str] = {}
    for module_name in modules:
        module = importlib.import_module(module_name)
        lines += ["", f"# {module_name}"]
        for name in sorted(getattr(module, "__all__", ())):
            value = getattr(module, name)
            here = f"{module_name}.{name}"
            shared = inspect.isclass(value) or inspect.isroutine(value)
            first = seen.setdefault(id(value), here) if shared else here
            lines += described(name, value) if first == here else [f"{name} is {first}"]
    return "\n".join(lines[1:]) + "\n"


def difference() -> str:
    """Return how the API differs from the snapshot, or an empty text."""
    before = SNAPSHOT.read_text(encoding="utf-8") if SNAPSHOT.exists() else ""
    lines = difflib.unified_diff(before.splitlines(), snapshot().splitlines(), "snapshot", "now", lineterm="", n=2)
    return "\n".join(lines)


def main() -> int:
    """Write the snapshot, or compare with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit code 1 where the API differs")
    if not parser.parse_args().check:
        SNAPSHOT.write_text(snapshot(), encoding="utf-8")
        return 0
    if changed := difference():
        print(f"The public API is not the one of {SNAPSHOT.name}:\n\n{changed}\n\nIf this is meant: {REWRITE}")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
