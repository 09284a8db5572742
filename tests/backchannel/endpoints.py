"""What the tests of the token endpoint's answers share: clients at an endpoint, answers byte by byte, what to look at."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from backchannel.issuers import SECRET, config, everything_said
from support.raw_server import Behaviour, RawServer, read_request
from tokenvalet import TokenValet, TokenValetError
from tokenvalet.testing import AuthorizationServer, Fault

TOKEN = "planted-access-token-4Zk8"


def valet_for(endpoint: str, *, observers: Any = (), clock: Any = None, **settings: Any) -> TokenValet:
    """Return a valet whose client m2m asks at this endpoint."""
    options: dict[str, Any] = {"observers": observers} | ({"clock": clock} if clock is not None else {})
    return TokenValet({"m2m": config(token_endpoint=endpoint, **settings)}, **options)


def told(error: TokenValetError, endpoint: str, *fragments: str) -> None:
    """Hold an error to name the client and the place, to have these fragments in it, and to give nothing away."""
    for fragment in (*fragments, "client 'm2m'", endpoint):
        assert fragment in str(error)
    assert str(error).isprintable()
    for secret in (SECRET, TOKEN):
        assert secret not in everything_said(error)


def granted(token: str = TOKEN, **members: Any) -> dict[str, Any]:
    """Return a token response; a member that is None is left out."""
    document = {"access_token": token, "token_type": "Bearer", "expires_in": 3600, **members}
    return {name: value for name, value in document.items() if value is not None}


def body(text: bytes, content_type: str = "application/json") -> Fault:
    """A body that no JSON writer would write."""
    return Fault(headers=(("content-type", content_type),), body=text)


@contextmanager
def always(auth: AuthorizationServer, fault: Fault) -> Iterator[AuthorizationServer]:
    """Give every request this answer."""
    auth.misbehave(fault, times=None)
    try:
        yield auth
    finally:
        auth.behave()


# Byte by byte ----------------------------------------------------------------------------------------------------


def http_answer(text: bytes, *fields: bytes, status: bytes = b"200 OK") -> bytes:
    """Return a whole HTTP answer on a connection that stays open."""
    head = (b"HTTP/1.1 " + status, b"Content-Type: application/json", b"Content-Length: %d" % len(text), *fields)
    return b"\r\n".join(head) + b"\r\n\r\n" + text


def token_bytes(token: str = TOKEN, **members: Any) -> bytes:
    return http_answer(json.dumps(granted(token, **members)).encode())


def says(data: bytes) -> Behaviour:
    """Answer with these bytes, whatever they are, and hang up."""
    return lambda connection, request: connection.sendall(data)


class Endpoint(RawServer):
    """A server that keeps its connections open: each request gets the next of the answers, the last one for ever.

    requests: all of them, those that came on a connection that had been used before included.
    heard: where they came: (number of the connection, number of the request on it), from 1.
    """

    def __init__(self, *answers: bytes | Behaviour, **options: Any) -> None:
        super().__init__(self._talk, **options)
        self._answers = list(answers)
        self.heard: list[tuple[int, int]] = []

    @property
    def token_endpoint(self) -> str:
        return f"{self.url}/token"

    def _talk(self, connection: socket.socket, request: bytes) -> None:
        number, count = self.connections, 1
        while request:
            if count > 1:
                self.requests.append(request)
            self.heard.append((number, count))
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            if callable(answer):
                answer(connection, request)
                return
            connection.sendall(answer)
            request, count = read_request(connection), count + 1

    @property
    def connected(self) -> int:
        """How many connections are open, seen from here."""
        return len(self._open)
