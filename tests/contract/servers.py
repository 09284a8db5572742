"""Servers that write down what they are sent: one that answers what it is told to, and wrappers around others."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tokenvalet.testing import AuthorizationServer, ProtectedApi

__all__ = [
    "Both",
    "Received",
    "Recorder",
    "Reply",
    "Watched",
    "basic",
    "claims_of",
    "fields",
    "nobody",
    "until",
]


def basic(name: str, password: str) -> str:
    """Return what stands for a name and a password in an Authorization field."""
    return base64.b64encode(f"{name}:{password}".encode()).decode()


def claims_of(proof: str) -> dict[str, Any]:
    """Return the claims of a JWT, unverified."""
    payload = proof.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def fields(headers: list[tuple[str, str]], name: str) -> list[str]:
    """Return the values of all field lines of a (lower-case) name."""
    return [value for key, value in headers if key == name]


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something has happened."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """Give the URL of a port that refuses every connection, and that nobody else is given meanwhile."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))  # and it never listens
        yield f"http://127.0.0.1:{one.getsockname()[1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as it came; target: path and query, as they were in the request line."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def fields(self, name: str) -> list[str]:
        return fields(self.headers, name)

    @property
    def is_bare(self) -> bool:
        """Whether there is neither a token nor a proof in it, in any place."""
        text = f"{self.target} {self.headers} {self.body!r}".lower()
        return not any(word in text for word in ("authorization", "dpop", "bearer", "ey"))

    @property
    def nonce(self) -> str | None:
        """The nonce in its proof."""
        nonce: str | None = claims_of(self.fields("dpop")[0]).get("nonce")
        return nonce


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to answer; pieces: how often the body is sent, one after the other, None without end."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b"{}"
    pieces: int | None = 1


class Recorder:
    """Keeps every request, and answers with the replies that are waiting, then with `usual`.

    left_early: how many clients closed the connection before all of their answer was sent.
    """

    def __init__(self) -> None:
        self.origin = ""
        self.requests: list[Received] = []
        self.usual = Reply()
        self.left_early = 0
        self._waiting: deque[Reply] = deque()
        self._lock = threading.Lock()

    @property
    def app(self) -> ASGIApp:
        return self._answer

    @property
    def port(self) -> int:
        return int(self.origin.rpartition(":")[2])

    def served_at(self, url: str) -> None:
        self.origin = url

    def answer(self, *replies: Reply) -> None:
        self._waiting.extend(replies)

    def reset(self) -> None:
        self.requests.clear()
        self._waiting.clear()
        self.usual = Reply()
        self.left_early = 0

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        query = scope["query_string"].decode("latin-1")
        received = Received(
            method=scope["method"],
            target=scope["raw_path"].decode("latin-1") + (f"?{query}" if query else ""),
            headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]],
            body=body,
        )
        with self._lock:
            self.requests.append(received)
            reply = self._waiting.popleft() if self._waiting else self.usual
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
        if reply.pieces == 1:
            headers.append((b"content-length", str(len(reply.body)).encode()))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        gone = asyncio.ensure_future(receive())  # ends when the client leaves
        sent = 0
        while reply.pieces is None or sent < reply.pieces:
            await send({"type": "http.response.body", "body": reply.body, "more_body": True})
            sent += 1
            await asyncio.sleep(0)
            if gone.done():
                self.left_early += 1
                return
        await send({"type": "http.response.body", "body": b""})
        gone.cancel()


class Watched:
    """A server, with its connections counted, that keeps its answers back when it is told to.

    connections: has one entry for each connection that brought a request.
    """

    def __init__(self, subject: AuthorizationServer | ProtectedApi) -> None:
        self.subject = subject
        self.connections: set[tuple[str, int]] = set()
        self._held = False

    def hold(self) -> None:
        """Keep back every answer, once it is made, until `release`."""
        self._held = True

    def release(self) -> None:
        self._held = False

    @property
    def app(self) -> ASGIApp:
        inner = self.subject.app

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            async def held(message: Message) -> None:
                while self._held:
                    await asyncio.sleep(0.002)
                await send(message)

            if scope["type"] == "http":
                self.connections.add(tuple(scope["client"]))
            await inner(scope, receive, held)

        return watched

    def served_at(self, url: str) -> None:
        self.subject.served_at(url)


class Both:
    """An authorization server and its API at one origin."""

    def __init__(self, auth: AuthorizationServer, api: ProtectedApi) -> None:
        self.auth = auth
        self.api = api

    @property
    def app(self) -> ASGIApp:
        async def route(scope: Scope, receive: Receive, send: Send) -> None:
            is_auth = scope["type"] == "http" and scope["path"] in ("/token", "/jwks")
            await (self.auth.app if is_auth else self.api.app)(scope, receive, send)

        return route

    def served_at(self, url: str) -> None:
        self.auth.served_at(url)
        self.api.served_at(url)
