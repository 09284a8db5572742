"""Servers that say back what they were sent, in every place of an answer that a client could be tempted to show."""

from __future__ import annotations

import functools
import json
import socket
from collections.abc import Callable
from urllib.parse import parse_qsl, quote

from starlette.types import ASGIApp, Receive, Scope, Send

from secrecy.walker import Plant

__all__ = ["ANSWERS", "RAW_ANSWERS", "Mirror", "Sent"]


class Sent:
    """One request as it came."""

    def __init__(self, headers: list[tuple[str, str]], body: bytes) -> None:
        self.headers = headers
        self.body = body

    def secrets(self) -> list[str]:
        """Return what was secret in it, as a server would read it."""
        form = [value for name, value in parse_qsl(self.body.decode()) if name in ("client_secret", "client_assertion")]
        fields = [value.rpartition(" ")[2] for name, value in self.headers if name in ("authorization", "dpop")]
        return form + fields

    def text(self) -> str:
        return " ".join(self.secrets())


Answer = Callable[[Sent], tuple[int, dict[str, str], bytes]]


class Mirror:
    """Answers what `answer` makes of the request."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.sent: list[Sent] = []
        self.origin = ""

    @property
    def app(self) -> ASGIApp:
        return self._answer

    def served_at(self, url: str) -> None:
        self.origin = url

    def plants(self) -> list[Plant]:
        secrets = [secret for sent in self.sent for secret in sent.secrets()]
        return [Plant.of("what was sent", secret, secret.lower(), quote(secret).lower()[:48]) for secret in secrets]

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        sent = Sent([(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]], body)
        self.sent.append(sent)
        status, headers, content = self.answer(sent)
        fields = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": content})


def _json(status: int, members: Callable[[Sent], dict[str, object]]) -> Answer:
    return lambda sent: (status, {"content-type": "application/json"}, json.dumps(members(sent)).encode())


def _token(**members: Callable[[Sent], object]) -> Answer:
    def made(sent: Sent) -> dict[str, object]:
        plain: dict[str, object] = {"access_token": "a", "token_type": "Bearer", "expires_in": 60}
        return plain | {name: make(sent) for name, make in members.items()}

    return _json(200, made)


ANSWERS: dict[str, Answer] = {
    "a description": _json(401, lambda sent: {"error": "invalid_client", "error_description": sent.text()}),
    "a description with the form": _json(
        400, lambda sent: {"error": "invalid_request", "error_description": sent.body.decode()}
    ),
    "an error code": _json(400, lambda sent: {"error": sent.secrets()[0]}),
    "an error_uri": _json(400, lambda sent: {"error": "invalid_scope", "error_uri": f"https://e/?{sent.text()}"}),
    "an error in a 200": _json(200, lambda sent: {"error": "invalid_scope", "error_description": sent.text()}),
    "a page": lambda sent: (400, {"content-type": "text/html"}, f"<p>{sent.text()}".encode()),
    "a bare 401": lambda sent: (401, {"www-authenticate": f'Basic realm="{quote(sent.text())}"'}, b""),
    "a text": lambda sent: (200, {"content-type": "text/plain"}, sent.text().encode()),
    "a content type": lambda sent: (200, {"content-type": f"text/{quote(sent.secrets()[0])}"}, b""),
    "no JSON": lambda sent: (200, {"content-type": "application/json"}, f'{{"access_token": "{sent.text()}'.encode()),
    "no UTF-8": lambda sent: (200, {"content-type": "application/json"}, b'"\xff' + sent.text().encode() + b'"'),
    "a member twice": lambda sent: (
        200,
        {"content-type": "application/json"},
        f'{{"access_token": "{sent.body.decode()}", "access_token": "b"}}'.encode(),
    ),
    "an array": _json(200, lambda sent: {"access_token": [sent.text()], "token_type": "Bearer"}),
    "a token with a line feed": _token(access_token=lambda sent: f"{sent.text()}\n"),
    "a token type": _token(token_type=lambda sent: sent.text()),
    "a lifetime": _token(expires_in=lambda sent: sent.text()),
    "a scope": _token(scope=lambda sent: f'"{sent.text()}'),
    "a redirect": lambda sent: (307, {"location": f"https://abroad.example/?{quote(sent.text())}"}, b""),
    "a content coding": lambda sent: (200, {"content-encoding": quote(sent.text())}, b"abc"),
    "a 503": lambda sent: (503, {"retry-after": "60", "content-type": "text/plain"}, sent.text().encode()),
}


# What no HTTP framework would send ----------------------------------------------------------------------------------


def _raw(make: Callable[[bytes], bytes], connection: socket.socket, request: bytes) -> None:
    connection.sendall(make(request))


def _fields(request: bytes) -> bytes:
    lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return b" ".join(line.partition(b": ")[2] for line in lines if line.lower().startswith((b"authorization", b"dpop")))


RAW_ANSWERS: dict[str, Callable[[socket.socket, bytes], None]] = {
    name: functools.partial(_raw, make)
    for name, make in {
        "the request itself": lambda request: request,
        "a status line": lambda request: b"HTTP/1.1 " + _fields(request) + b" OK\r\n\r\n",
        "a field that is none": lambda request: b"HTTP/1.1 200 OK\r\n" + _fields(request) + b"\r\n\r\n",
        "a length that is none": lambda request: (
            b"HTTP/1.1 200 OK\r\nContent-Length: " + _fields(request) + b"\r\n\r\n"
        ),
        "a chunk that is none": lambda request: (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + _fields(request) + b"\r\n"
        ),
        "a body cut short": lambda request: b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + request,
        "nothing": lambda request: b"",
    }.items()
}
