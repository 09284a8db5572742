"""The servers of a test, reached without a socket: by the valet's own back channel, and by every HTTP client of a valet.

A request becomes a call of the ASGI application, on the thread or the event loop that it comes from. What only a real
connection has is not there: client certificates, bodies that trickle, HTTP/2. `serve` has all that.

For development only.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Generator
from contextvars import copy_context
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from starlette.types import ASGIApp

from ..backchannel import read_answer
from ..core.guard import parse_origin
from ..core.messages import Failure, HttpReply, HttpRequest
from ..core.secret import Secret
from ..tls import TlsIdentity
from ..valet import TokenValet
from ..waiting import running_loop
from .asgi import Sleep, driven_by_hand
from .faults import DROP_CONNECTION

__all__ = ["Answered", "InProcessNetwork", "NoAnswer", "Ways"]

_T = TypeVar("_T")


class _Reachable(Protocol):
    @property
    def app(self) -> ASGIApp: ...

    def served_at(self, url: str) -> None: ...


class NoAnswer(Exception):
    """There is no answer: `code` is "unreachable", "timeout" or "broken_answer", as the back channel calls it."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(slots=True)
class Answered:
    """One complete answer; header fields as they were sent."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


class InProcessNetwork:
    """Servers of this process, at addresses that nobody else has.

    network = InProcessNetwork()
    network.serve(auth, "https://login.tokenvalet.test")
    network.serve(api, "https://api.tokenvalet.test")
    network.attach(valet)       # from now on, all that it sends goes to them, and nothing to anybody else
    """

    def __init__(self) -> None:
        self._ways = Ways()

    def serve(self, server: _Reachable, url: str) -> None:
        """Have a server, such as an `AuthorizationServer`, answer at an origin, and tell it where that is."""
        self._ways.apps[str(parse_origin(url))] = server.app
        server.served_at(url)

    def stop(self, url: str) -> None:
        """Let nobody answer at an origin any more, until it is served again."""
        self._ways.apps.pop(str(parse_origin(url)), None)

    def attach(self, valet: TokenValet) -> None:
        """Have a valet send everything here. To be called before it has sent anything."""
        valet._around.backchannel.close()
        valet._around.backchannel = _InProcessBackchannel(self._ways)
        valet._pools.through = self._ways.connections


class Ways:
    """The ways to the servers: for each HTTP library, and for the back channel."""

    def __init__(self) -> None:
        self.apps: dict[str, ASGIApp] = {}

    def connections(self, library: Any) -> Any:
        """Return what a valet's connections for an HTTP library are made of."""
        name = library.__name__
        if name in ("httpx", "httpx2"):
            from .in_process_httpx import transports

            return transports(self, library)
        if name == "requests":
            from .in_process_requests import InProcessConnections as OfRequests

            return SimpleNamespace(__name__=name, HTTPTransport=lambda **_: OfRequests(self))
        from .in_process_aiohttp import InProcessConnections as OfAiohttp

        return SimpleNamespace(__name__=name, AsyncHTTPTransport=lambda **_: OfAiohttp(self))

    def app_at(self, url: str) -> ASGIApp:
        """Return what answers at a URL. Raises NoAnswer where there is nothing."""
        origin = str(parse_origin(url))
        app = self.apps.get(origin)
        if app is None:
            known = ", ".join(sorted(self.apps)) or "nothing"
            raise NoAnswer("unreachable", f"nothing answers at {origin} in this test, which can reach {known}")
        return app

    def send(
        self, method: str, url: str, headers: list[tuple[bytes, bytes]], body: bytes, timeout: float | None
    ) -> Answered:
        """Return the answer to a request, waiting on this thread. Raises NoAnswer."""
        steps = self._exchange(method, url, headers, body, timeout)
        with contextlib.suppress(StopIteration):
            step = next(steps)
            while True:
                time.sleep(step.seconds)
                step = steps.send(None)
        return steps.answered()

    async def send_async(
        self, method: str, url: str, headers: list[tuple[bytes, bytes]], body: bytes, timeout: float | None
    ) -> Answered:
        """Return the answer to a request, waiting on the running event loop. Raises NoAnswer."""
        steps = self._exchange(method, url, headers, body, timeout)
        with contextlib.suppress(StopIteration):
            step = next(steps)
            while True:
                await _sleep(step.seconds)
                step = steps.send(None)
        return steps.answered()

    def _exchange(
        self, method: str, url: str, headers: list[tuple[bytes, bytes]], body: bytes, timeout: float | None
    ) -> _Exchange:
        return _Exchange(self.app_at(url), method, url, headers, body, timeout)


class _Exchange:
    """One call of an application, without an event loop: a generator of the pauses that it makes."""

    def __init__(
        self,
        app: ASGIApp,
        method: str,
        url: str,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        timeout: float | None,
    ) -> None:
        self._answer = Answered()
        self._body = body
        self._received = False
        self._dropped = False
        self._ended = False
        self._timed_out = False
        self._left = timeout
        self._steps = self._drive(app(self._scope(method, url, headers), self._receive, self._send))

    def __next__(self) -> Sleep:
        return next(self._steps)

    def send(self, nothing: None) -> Sleep:
        return self._steps.send(nothing)

    def answered(self) -> Answered:
        """Return the answer, now that it is there. Raises NoAnswer."""
        if self._timed_out:
            raise NoAnswer("timeout", "the server took longer than the timeout")
        if not self._ended:
            raise NoAnswer("broken_answer", "the server cut the connection without an answer")
        return self._answer

    def _drive(self, running: Awaitable[None]) -> Generator[Sleep, None, None]:
        coroutine: Any = running
        context = copy_context()
        context.run(driven_by_hand.set, True)
        try:
            while True:
                step = context.run(coroutine.send, None)
                if not isinstance(step, Sleep):
                    raise RuntimeError("this application needs an event loop: serve it on a port")
                if self._left is not None and step.seconds >= self._left:
                    self._timed_out = True
                    yield Sleep(self._left)
                    return
                if self._left is not None:
                    self._left -= step.seconds
                yield step
        except StopIteration:
            pass
        finally:
            coroutine.close()

    def _scope(self, method: str, url: str, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
        parts = urlsplit(url)
        origin = parse_origin(f"{parts.scheme}://{parts.netloc}")
        fields = [(name.lower(), value) for name, value in headers]
        if not any(name == b"host" for name, _ in fields):
            fields.insert(0, (b"host", parts.netloc.encode("ascii")))
        if self._body and not any(name in (b"content-length", b"transfer-encoding") for name, _ in fields):
            fields.append((b"content-length", str(len(self._body)).encode()))
        path = parts.path or "/"
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": origin.scheme,
            "path": unquote(path),
            "raw_path": path.encode("latin-1"),
            "query_string": parts.query.encode("latin-1"),
            "root_path": "",
            "headers": fields,
            "client": ("127.0.0.1", 1),
            "server": (origin.host, origin.port),
            "extensions": {DROP_CONNECTION: self._drop},
        }

    def _drop(self) -> None:
        self._dropped = True

    async def _receive(self) -> dict[str, Any]:
        if self._dropped or self._received:
            return {"type": "http.disconnect"}
        self._received = True
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._answer.status = message["status"]
            self._answer.headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        else:
            self._answer.body += message.get("body", b"")
            self._ended = not message.get("more_body", False)


async def _sleep(seconds: float) -> None:
    import asyncio

    if isinstance(running_loop(), asyncio.AbstractEventLoop):
        await asyncio.sleep(seconds)
    else:
        import trio

        await trio.sleep(seconds)


def _outcome(send: Callable[[], Answered]) -> HttpReply | Failure:
    try:
        answer = send()
    except NoAnswer as reason:
        return Failure(code=reason.code, detail=str(reason))
    return read_answer(answer.status, answer.headers, (answer.body,))


class _InProcessBackchannel:
    """Token requests, carried to the servers of the test; a `Backchannel`."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    def send(
        self, request: HttpRequest, *, timeout: float, identity: TlsIdentity | None, proxy: Secret | None
    ) -> HttpReply | Failure:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
        return _outcome(lambda: self._ways.send(request.method, request.url, headers, request.body, timeout))

    def close(self) -> None:
        """There is nothing to close."""

    def after_fork(self) -> None:
        """There is nothing of the parent's."""
