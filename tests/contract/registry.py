"""The list of the drivers: every test of the suite runs with every one of them."""

from __future__ import annotations

import functools
from types import ModuleType

import httpx
import httpx2

from contract.drivers import Driver, Entry
from contract.httpx_driver import HttpxDriver
from contract.loops import Loop, Loops

__all__ = ["CANCELLABLE", "DRIVERS", "POOLED"]


def _httpx(library: ModuleType, suffix: str, loops: Loops) -> Driver:
    by_suffix: dict[str, Loop | None] = {"": None, "-asyncio": loops.asyncio, "-trio": loops.trio}
    return HttpxDriver(library, by_suffix[suffix], library.__name__ + suffix)


DRIVERS: dict[str, Entry] = {
    library.__name__ + suffix: Entry(
        make=functools.partial(_httpx, library, suffix), cancellable=suffix != "", pooled=True
    )
    for library in (httpx2, httpx)
    for suffix in ("", "-asyncio", "-trio")
}
CANCELLABLE = [name for name, entry in DRIVERS.items() if entry.cancellable]
POOLED = [name for name, entry in DRIVERS.items() if entry.pooled]
