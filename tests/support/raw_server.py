"""A server of plain sockets, for the faults that no HTTP framework can produce.

    with RawServer(trickle(b"{}", seconds_between_bytes=0.5)) as server:
        ...                                 # server.url, server.connections, server.requests

A behaviour is a callable that is given the connected socket and the bytes of one request, and does what it likes; the
connection is closed when it returns. All threads are daemons, and they end when the `with` block does.
"""

from __future__ import annotations

import contextlib
import functools
import select
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable
from typing import Self

__all__ = [
    "Behaviour",
    "RawServer",
    "answer",
    "close_midway",
    "close_without_answer",
    "content_length_mismatch",
    "endless_body",
    "endless_headers",
    "garbage_bytes",
    "gzip_bomb",
    "never_answer",
    "read_request",
    "reset_connection",
    "trickle",
    "trickle_headers",
    "wait",
]

Behaviour = Callable[[socket.socket, bytes], None]

# "close" is said, since it is meant: a client that pooled the connection would find out in the middle of its next request.
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
_IDLE = 30.0  # seconds after which a connection that nobody uses is given up


class RawServer:
    """Accepts connections on 127.0.0.1 and hands each request to `behaviour`, which may be changed at any time."""

    def __init__(self, behaviour: Behaviour, *, ssl_context: ssl.SSLContext | None = None) -> None:
        self.behaviour = behaviour
        self.connections = 0
        self.requests: list[bytes] = []
        self.handshake_failures = 0
        self._ssl_context = ssl_context
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if ssl_context else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._listener.listen(128)
        self._start(self._accept)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)  # wakes whoever reads, writes or waits
            threads = list(self._threads)
        for thread in threads:
            thread.join(5)
        self._listener.close()

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"raw:{self.port}", daemon=True)
        with self._lock:
            self._threads = [known for known in self._threads if known.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _accept(self) -> None:
        self._listener.settimeout(0.02)
        while not self._stopped.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a byte at a time means that
                self.connections += 1
                self._start(functools.partial(self._serve, connection))

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(_IDLE)
            if not self._enlist(connection):
                return
            try:
                secured = self._handshake(connection)
                with secured, contextlib.suppress(OSError):  # the client went away: all that these servers can expect
                    request = read_request(secured)
                    if request:
                        self.requests.append(request)
                        self.behaviour(secured, request)
            except OSError:
                self.handshake_failures += 1
            finally:
                with self._lock:
                    self._open.discard(connection)

    def _enlist(self, connection: socket.socket) -> bool:
        with self._lock:
            if self._stopped.is_set():
                return False
            self._open.add(connection)
            return True

    def _handshake(self, connection: socket.socket) -> socket.socket:
        if self._ssl_context is None:
            return connection
        # A duplicate, since wrapping takes the descriptor away from the socket that __exit__ wakes us through.
        return self._ssl_context.wrap_socket(connection.dup(), server_side=True)


def read_request(connection: socket.socket) -> bytes:
    """Return one whole request, or b"" if the client left before it was sent."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(65536)):
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        if not (more := connection.recv(65536)):
            return b""
        data, body = data + more, body + more
    return data


def wait(connection: socket.socket, seconds: float) -> None:
    """Wait for so many seconds. Raises ConnectionError at once when the client leaves or the server stops."""
    readable, _, _ = select.select([connection], [], [], seconds)
    if readable and not connection.recv(65536):
        raise ConnectionAbortedError("nobody is waiting for an answer any more")


# Behaviours


def answer(
    body: bytes = b"{}", *, status: str = "200 OK", headers: bytes = b"Content-Type: application/json\r\n"
) -> Behaviour:
    """A response as it should be, byte for byte: `headers` are lines that end with CRLF."""

    def behave(connection: socket.socket, request: bytes) -> None:
        head = b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n"
        connection.sendall(head % (status.encode(), headers, len(body)) + body)

    return behave


def trickle(body: bytes, seconds_between_bytes: float) -> Behaviour:
    """A response whose body comes a byte at a time: no single read is slow, all of them together are."""

    def behave(connection: socket.socket, request: bytes) -> None:
        connection.sendall(_HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
        _send_slowly(connection, body, seconds_between_bytes)

    return behave


def trickle_headers(
    seconds_between_bytes: float, response: bytes = _HEAD + b"Content-Length: 2\r\n\r\n{}"
) -> Behaviour:
    """A response of which even the status line comes a byte at a time."""

    def behave(connection: socket.socket, request: bytes) -> None:
        _send_slowly(connection, response, seconds_between_bytes)

    return behave


def _send_slowly(connection: socket.socket, data: bytes, seconds_between_bytes: float) -> None:
    for place in range(len(data)):
        connection.sendall(data[place : place + 1])
        wait(connection, seconds_between_bytes)


def close_without_answer(connection: socket.socket, request: bytes) -> None:
    """Read the request, and hang up."""


def reset_connection(connection: socket.socket, request: bytes) -> None:
    """Read the request, and slam the door: a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def close_midway(body: bytes, after: int | None = None) -> Behaviour:
    """Announce the whole body and hang up `after` so many bytes of it; None: half of them."""

    def behave(connection: socket.socket, request: bytes) -> None:
        sent = body[: len(body) // 2 if after is None else after]
        connection.sendall(_HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + sent)

    return behave


def content_length_mismatch(body: bytes, announced: int) -> Behaviour:
    """Announce another length than the body has, in bytes."""

    def behave(connection: socket.socket, request: bytes) -> None:
        connection.sendall(_HEAD + b"Content-Length: %d\r\n\r\n" % announced + body)

    return behave


def garbage_bytes(data: bytes | None = None) -> Behaviour:
    """Answer with something that is not HTTP; by default, every byte there is."""

    def behave(connection: socket.socket, request: bytes) -> None:
        connection.sendall(bytes(range(255, -1, -1)) * 16 if data is None else data)

    return behave


def endless_headers(connection: socket.socket, request: bytes) -> None:
    """Header fields without end."""
    connection.sendall(_HEAD)
    while True:
        connection.sendall(b"X-Padding: " + b"a" * 1000 + b"\r\n")


def endless_body(connection: socket.socket, request: bytes) -> None:
    """A chunked body without end: the beginning of a token response, and then padding."""
    connection.sendall(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    piece = b'{"access_token":"a","token_type":"Bearer","padding":"'
    while True:
        connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        piece = b"a" * 16384


def never_answer(connection: socket.socket, request: bytes) -> None:
    """Keep the connection open, and say nothing."""
    while True:
        wait(connection, _IDLE)


def gzip_bomb(size: int = 64 * 1024 * 1024) -> Behaviour:
    """A small Content-Length, and `size` bytes of JSON in it, although nobody asked for gzip."""

    def behave(connection: socket.socket, request: bytes) -> None:
        body = _bomb(size)
        connection.sendall(_HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    return behave


@functools.cache
def _bomb(size: int) -> bytes:
    gzip = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    head, tail = b'{"access_token":"a","token_type":"Bearer","padding":"', b'"}'
    parts = [gzip.compress(head)]
    piece = b"a" * 65536
    for _ in range(size // len(piece)):
        parts.append(gzip.compress(piece))
    return b"".join([*parts, gzip.compress(tail), gzip.flush()])
