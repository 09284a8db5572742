"""The list of the drivers: every test of the suite runs with every one of them."""

from __future__ import annotations

import functools
from types import ModuleType

import httpx
import httpx2

from contract.aiohttp_driver import AiohttpDriver
from contract.drivers import Driver, Entry
from contract.httpx_driver import HttpxDriver
from contract.loops import Loop, Loops
from contract.pyreqwest_driver import PyreqwestAsyncioDriver, PyreqwestDriver
from contract.requests_driver import RequestsDriver

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
DRIVERS["requests"] = Entry(
    make=lambda loops: RequestsDriver(),
    cancellable=False,
    pooled=True,
    lacks={
        "before": "requests has no hook before a request is sent",
        "http2": "requests speaks HTTP/1.1 only",
    },
)
DRIVERS["aiohttp"] = Entry(
    make=lambda loops: AiohttpDriver(loops.asyncio),
    cancellable=True,
    pooled=True,
    lacks={
        "base_url": "aiohttp takes a path that begins with a slash for the whole path",
        "http2": "aiohttp speaks HTTP/1.1 only",
    },
)
_PYREQWEST_LACKS = {
    "params": "pyreqwest has no parameters for all requests of a client",
    "cookies": "pyreqwest keeps no cookies, unless the builder of connections of one's own is told to",
    "auth": "pyreqwest has credentials for one request only",
    "before": "pyreqwest's middlewares are gone through once for a call, whatever redirects there are",
    "after": "pyreqwest's middlewares are gone through once for a call, whatever redirects there are",
    "abort": "pyreqwest lets a call that was cancelled go on until its answer comes or its time is over",
    "status first": "pyreqwest hands no answer over before the first part of its body is read",
    "multipart twice": "pyreqwest copies no form, and tells nothing of what is in one",
}
DRIVERS["pyreqwest"] = Entry(
    make=lambda loops: PyreqwestDriver(), cancellable=False, pooled=True, lacks=_PYREQWEST_LACKS
)
DRIVERS["pyreqwest-asyncio"] = Entry(
    make=lambda loops: PyreqwestAsyncioDriver(loops.asyncio), cancellable=True, pooled=True, lacks=_PYREQWEST_LACKS
)
CANCELLABLE = [name for name, entry in DRIVERS.items() if entry.cancellable]
POOLED = [name for name, entry in DRIVERS.items() if entry.pooled]
