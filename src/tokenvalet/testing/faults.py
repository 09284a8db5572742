"""Answers that no authorization server should give, and some do: what a client must survive.

A fault is raw: its status, header fields and body go out as they are. What an HTTP framework cannot produce (a body
that trickles in, a response that is no HTTP) is not here.

For development only.
"""

from __future__ import annotations

import functools
import json
import threading
import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .asgi import pause

__all__ = ["DROP_CONNECTION", "Fault", "FaultQueue", "FaultResponse"]

DROP_CONNECTION = "tokenvalet.drop_connection"
"""The ASGI extension by which `serving` lets an application cut the connection without an answer."""

_PIECE = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One bad answer, for `AuthorizationServer.misbehave`.

    status, headers, body: of the response, raw; a content-length is added unless the headers give one.
    delay: seconds to wait before it is sent.
    target: the endpoint that gives it, "token" or "metadata".
    drops_connection: cut the connection instead of answering.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay: float = 0.0
    target: Literal["token", "metadata"] = "token"
    drops_connection: bool = False

    def at(self, target: Literal["token", "metadata"]) -> Self:
        """Return the same fault for another endpoint."""
        return replace(self, target=target)

    @classmethod
    def status_only(cls, status: int, *, retry_after: int | str | None = None) -> Self:
        """A status with an empty body; `retry_after` in seconds, or whatever text is to stand there."""
        return cls(status=status, headers=() if retry_after is None else (("retry-after", str(retry_after)),))

    @classmethod
    def json(cls, obj: object, status: int = 200, content_type: str = "application/json") -> Self:
        """Any JSON value, with any status and any content type."""
        return cls(status=status, headers=(("content-type", content_type),), body=json.dumps(obj).encode())

    @classmethod
    def redirect(cls, url: str, status: int = 307) -> Self:
        """A redirect to somewhere else; 307 and 308 would have the client repeat its credentials there."""
        return cls(status=status, headers=(("location", url),))

    @classmethod
    def html(cls, status: int = 200) -> Self:
        """The page of a gateway or a captive portal."""
        page = b"<!doctype html><title>Sign in</title><p>Please sign in to the network."
        return cls(status=status, headers=(("content-type", "text/html; charset=utf-8"),), body=page)

    @classmethod
    def oauth_error(
        cls,
        error: str,
        *,
        description: str | None = None,
        status: int = 400,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """An OAuth error (RFC 6749 §5.2), with further header fields if wanted."""
        members: dict[str, Any] = {"error": error}
        if description is not None:
            members["error_description"] = description
        fault = cls.json(members, status=status)
        return replace(fault, headers=(*fault.headers, *(headers or {}).items()))

    @classmethod
    def hang(cls, seconds: float) -> Self:
        """Silence for so many seconds, and then a 503."""
        return cls(status=503, delay=seconds)

    @classmethod
    def oversized(cls, size: int = 8 * 1024 * 1024) -> Self:
        """A token response that is valid but for its `size` in bytes."""
        return cls(headers=(("content-type", "application/json"),), body=_padded_token_response(size))

    @classmethod
    def gzip_bomb(cls, size: int = 64 * 1024 * 1024) -> Self:
        """A token response of `size` bytes, compressed to a thousandth of it, although nobody asked for that."""
        headers = (("content-type", "application/json"), ("content-encoding", "gzip"))
        return cls(headers=headers, body=_bomb(size))

    @classmethod
    def disconnect(cls) -> Self:
        """No answer at all: the connection is cut. Needs `serve`, or an `InProcessNetwork`."""
        return cls(drops_connection=True)


_HEAD = b'{"access_token":"a","token_type":"Bearer","expires_in":3600,"padding":"'
_TAIL = b'"}'


def _padded_token_response(size: int) -> bytes:
    return _HEAD + b"a" * (size - len(_HEAD) - len(_TAIL)) + _TAIL


@functools.cache
def _bomb(size: int) -> bytes:
    gzip = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    return gzip.compress(_padded_token_response(size)) + gzip.flush()


class FaultQueue:
    """The faults to come, for each target in turn. Filled by a test's thread, emptied by the server's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Fault, int | None]] = deque()

    def add(self, fault: Fault, times: int | None) -> None:
        """Answer with `fault` so many times; None: until `clear`."""
        with self._lock:
            self._waiting.append((fault, times))

    def clear(self) -> None:
        """Forget every fault."""
        with self._lock:
            self._waiting.clear()

    def take(self, target: str) -> Fault | None:
        """Return the fault that is to be given now, if any."""
        with self._lock:
            for place, (fault, times) in enumerate(self._waiting):
                if fault.target != target:
                    continue
                if times is not None and times <= 1:
                    del self._waiting[place]
                elif times is not None:
                    self._waiting[place] = (fault, times - 1)
                return fault
            return None


class FaultResponse(Response):
    """Sends a fault as it is, in pieces, so that a client that stops reading is noticed."""

    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self._fault
        await pause(fault.delay)
        if fault.drops_connection:
            scope["extensions"][DROP_CONNECTION]()
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fault.headers]
        if not any(name in (b"content-length", b"transfer-encoding") for name, _ in headers) and fault.status != 204:
            headers.append((b"content-length", str(len(fault.body)).encode()))
        await send({"type": "http.response.start", "status": fault.status, "headers": headers})
        for start in range(0, len(fault.body), _PIECE):
            await send({"type": "http.response.body", "body": fault.body[start : start + _PIECE], "more_body": True})
        await send({"type": "http.response.body", "body": b""})
