"""Imports point inward: the arrows between the rooms of src/tokenvalet, and the libraries that each room may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
PACKAGE = "tokenvalet"

# Loaded when a module is, these are for one room only; in `clients` and `hosts`, for the module of the same name.
LIBRARIES = {
    **dict.fromkeys(("aiohttp", "httpx", "httpx2", "pyreqwest", "requests"), "clients"),
    **dict.fromkeys(("celery", "django", "fastapi", "flask", "litestar", "starlette"), "hosts"),
    **dict.fromkeys(("redis", "valkey"), "stores"),
    **dict.fromkeys(("joserfc", "trustme", "uvicorn"), "testing"),
    **dict.fromkeys(("click",), "cli"),
    **dict.fromkeys(("opentelemetry",), "telemetry"),
    **dict.fromkeys(("anyio", "trio"), "nobody"),
}
BESIDE = {("fastapi", "starlette")}  # FastAPI's users meet Starlette's names in FastAPI itself
HANDED_OUT = ("hosts", "httpx2")  # what every host hands to those who write for it
IN_CORE = {"idna"}  # computes, and nothing else
# The demo; python -m tokenvalet; `tokenvalet check`, and `manage.py tokenvalet_check`.
DOORS = {("cli", "testing"), ("__main__", "cli"), ("cli", "checkup"), ("hosts", "checkup")}
NOT_IN_CORE = {"asyncio", "concurrent", "http", "socket", "ssl", "subprocess", "threading", "time", "urllib.request"}
NOT_AT_THE_DOOR = {*LIBRARIES, "pydantic"}


def imports(tree: ast.AST, module: str, is_package: bool, at_load: bool) -> Iterator[str]:
    """Yield the dotted names that a module imports: all of them, or those that run when it is loaded."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            base = parts[: len(parts) - node.level + is_package] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)
        elif at_load and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        elif at_load and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports(ast.Module(node.orelse, []), module, is_package, at_load)
        else:
            yield from imports(node, module, is_package, at_load)


def wrong_arrows(source: Path) -> Iterator[str]:
    """Yield a line for every import that points where it must not."""
    for path in sorted((source / PACKAGE).rglob("*.py")):
        parts = list(path.relative_to(source).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[: len(parts) - is_package])
        room = ([*parts[1:-1], *parts[1:]])[0]
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for name in imports(tree, module, is_package, at_load=False):
            line = f"{module} imports {name}"
            other = name.split(".")[1] if name.startswith(f"{PACKAGE}.") else ""
            if (
                other in {"checkup", "hosts", "telemetry", "testing", "cli"}
                and room != other
                and (room, other) not in DOORS
            ):
                yield f"{line}: nothing imports {other}"
            if {room, other} <= {"stores", "clients", "hosts"} and room != other:
                yield f"{line}: stores, clients and hosts never import one another"
            if room != "core":
                continue
            if name.partition(".")[0] == PACKAGE and other not in {"core", "errors", "config"}:
                yield f"{line}: core imports only core, errors and config"
            if any(f"{name}.".startswith(f"{away}.") for away in NOT_IN_CORE):
                yield f"{line}: core does no I/O, has no clock and no lock"
            library = name.partition(".")[0]
            own = {"cryptography"} if parts[-1] == "signing" else IN_CORE
            if library not in {PACKAGE, *own, *sys.stdlib_module_names}:
                yield f"{line}: core uses no library, but for cryptography in signing"
        for name in imports(tree, module, is_package, at_load=True):
            library = name.partition(".")[0]
            if library not in LIBRARIES or room in {"testing", "cli"} or (room, library) == HANDED_OUT:
                continue
            home = LIBRARIES[library]
            named = home not in {"clients", "hosts"} or f"{parts[-1]}_".startswith(f"{library}_")
            named = named or (parts[-1], library) in BESIDE or library in parts[2:-1]
            if room != home or not named:
                yield f"{module} imports {name} when it is loaded: only {home} may, in a module of that name"


def test_imports_point_inward() -> None:
    faults = list(wrong_arrows(SOURCE))
    assert not faults, "\n".join(faults)


def test_importing_the_package_loads_no_optional_library_and_starts_no_thread() -> None:
    code = "import sys, threading, tokenvalet; print(threading.active_count(), *sys.modules)"
    command = [sys.executable, "-I", "-c", code]
    threads, *loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert NOT_AT_THE_DOOR.intersection(loaded) == set()
    assert threads == "1"


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("core/call.py", "from ..renewal import Renewer", "only core, errors and config"),
        ("core/call.py", "from .. import valet", "only core, errors and config"),
        ("core/call.py", "def now():\n    import time", "no clock"),
        ("core/dpop.py", "from cryptography import x509", "but for cryptography in signing"),
        ("core/signing.py", "import httpx2", "core uses no library"),
        ("clients/aiohttp.py", "from tokenvalet.stores import files", "never import one another"),
        ("hosts/flask.py", "from ..clients.requests import adapter", "never import one another"),
        ("valet.py", "def demo():\n    from .testing import AuthorizationServer", "nothing imports testing"),
        ("valet.py", "import httpx2", "only clients may"),
        ("clients/aiohttp.py", "import requests", "in a module of that name"),
        ("hosts/fastapi.py", "import celery", "in a module of that name"),
        ("hosts/django/access.py", "import celery", "in a module of that name"),
        ("hosts/flask.py", "from ..cli.screen import Screen", "nothing imports cli"),
        ("valet.py", "from .checkup.findings import Finding", "nothing imports checkup"),
        ("renewal.py", "import opentelemetry.trace", "only telemetry may"),
        ("valet.py", "def measured():\n    from . import telemetry", "nothing imports telemetry"),
        ("waiting.py", "try:\n    import trio\nexcept ImportError:\n    pass", "only nobody may"),
    ],
)
def test_a_wrong_arrow_is_seen(path: str, source: str, fault: str, tmp_path: Path) -> None:
    file = tmp_path / PACKAGE / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert any(fault in line for line in wrong_arrows(tmp_path))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("core/call.py", "from . import token\nfrom ..errors import OriginError\nimport json"),
        ("core/__init__.py", "from .token import AccessToken"),
        ("core/signing.py", "from cryptography.hazmat.primitives import hashes"),
        ("clients/httpx2.py", "import httpx2"),
        ("clients/aiohttp_shell.py", "import aiohttp"),
        ("hosts/fastapi.py", "import fastapi\nfrom starlette.requests import Request"),
        ("hosts/django/access.py", "import httpx2\nfrom django.conf import settings"),
        ("hosts/django/check.py", "from ...checkup.findings import Finding"),
        ("stores/server.py", "import redis"),
        ("telemetry/spans.py", "from opentelemetry import trace\nfrom ..observe import Event"),
        ("waiting.py", "def wait():\n    import trio"),
        ("valet.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import httpx2"),
        ("cli/demo.py", "import click\ndef demo():\n    from ..testing import AuthorizationServer"),
        ("__main__.py", "from .cli.main import main"),
        ("testing/plugin.py", "import httpx2, starlette, joserfc\nfrom ..valet import TokenValet"),
    ],
)
def test_a_right_arrow_is_no_fault(path: str, source: str, tmp_path: Path) -> None:
    file = tmp_path / PACKAGE / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert list(wrong_arrows(tmp_path)) == []
