"""What the tests of the recipe for niquests run in .venv-niquests: requests, one for each line of JSON that comes in.

A line is ``{"mode": "sync" or "async", "requests": [[method, url, body], ...], "settings": {...}}``; what is printed is what
each request came to.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import Iterator
from typing import Any

import niquests

from tokenvalet import ClientConfig, TokenValet, TokenValetError


def body_of(kind: str | None) -> Any:
    return iter([b"a", b"b"]) if kind == "stream" else kind.encode() if kind is not None else None


def seen(response: Any, body: bytes) -> dict[str, Any]:
    shown = [response.request.headers, *(one.request.headers for one in response.history)]
    return {
        "status": response.status_code,
        "hops": len(response.history) + 1,
        "length": len(body),
        "leaked": any("authorization" in headers or "dpop" in headers for headers in shown),
    }


def failed(error: Exception) -> dict[str, Any]:
    headers = getattr(getattr(error, "request", None), "headers", None) or {}
    return {"error": type(error).__name__, "text": str(error), "leaked": "authorization" in headers}


def blocking(recipe: Any, valet: TokenValet, requests: list[Any]) -> Iterator[dict[str, Any]]:
    with recipe.Session(valet) as api:
        for method, url, body in requests:
            try:
                response = api.request(method, url, data=body_of(body), stream=True, timeout=20)
                yield seen(response, b"".join(response.iter_content(4096)))
            except (TokenValetError, niquests.RequestException) as error:
                yield failed(error)


async def on_a_loop(recipe: Any, valet: TokenValet, requests: list[Any]) -> list[dict[str, Any]]:
    came = []
    async with recipe.AsyncSession(valet) as api:
        for method, url, body in requests:
            try:
                response = await api.request(method, url, data=body_of(body), stream=True, timeout=20)
                came.append(seen(response, b"".join([part async for part in await response.iter_content(4096)])))
            except (TokenValetError, niquests.RequestException) as error:
                came.append(failed(error))
    return came


def main(path: str) -> None:
    spec = importlib.util.spec_from_file_location("recipe", path)
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    asked = json.load(sys.stdin)
    with TokenValet({"m2m": ClientConfig(**asked["settings"])}) as valet:
        if asked["mode"] == "sync":
            came = list(blocking(recipe, valet, asked["requests"]))
        else:
            came = asyncio.run(on_a_loop(recipe, valet, asked["requests"]))
    print(json.dumps(came))


if __name__ == "__main__":
    main(sys.argv[1])
