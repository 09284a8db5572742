"""httpx2 and httpx on servers of this process: transports that open no connection.

For development only.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

from .in_process import Answered, NoAnswer, Ways

__all__ = ["transports"]


@functools.cache
def _kinds(library: Any) -> tuple[Any, Any]:
    def parts(request: Any) -> tuple[str, str, list[tuple[bytes, bytes]], float | None]:
        url = request.url
        target: bytes = request.extensions.get("target", url.raw_path)
        address = f"{url.scheme}://{url.netloc.decode('ascii')}{target.decode('ascii')}"
        return request.method, address, request.headers.raw, request.extensions.get("timeout", {}).get("read")

    def response(answer: Answered) -> Any:
        return library.Response(
            answer.status,
            headers=answer.headers,
            stream=library.ByteStream(answer.body),
            extensions={"http_version": b"HTTP/1.1"},
        )

    def error(reason: NoAnswer) -> Exception:
        kind = {"unreachable": library.ConnectError, "timeout": library.ReadTimeout}
        made: Exception = kind.get(reason.code, library.RemoteProtocolError)(str(reason))
        return made

    class Sync(library.BaseTransport):  # type: ignore[misc]
        def __init__(self, ways: Ways) -> None:
            self._ways = ways

        def handle_request(self, request: Any) -> Any:
            method, url, headers, timeout = parts(request)
            try:
                return response(self._ways.send(method, url, headers, b"".join(request.stream), timeout))
            except NoAnswer as reason:
                raise error(reason) from None

    class Async(library.AsyncBaseTransport):  # type: ignore[misc]
        def __init__(self, ways: Ways) -> None:
            self._ways = ways

        async def handle_async_request(self, request: Any) -> Any:
            method, url, headers, timeout = parts(request)
            body = b"".join([piece async for piece in request.stream])
            try:
                return response(await self._ways.send_async(method, url, headers, body, timeout))
            except NoAnswer as reason:
                raise error(reason) from None

    return Sync, Async


def transports(ways: Ways, library: Any) -> Any:
    """Return a stand-in for the library, of which the valet's connections are made."""
    sync, asynchronous = _kinds(library)
    return SimpleNamespace(
        __name__=library.__name__,
        HTTPTransport=lambda **_: sync(ways),
        AsyncHTTPTransport=lambda **_: asynchronous(ways),
    )
