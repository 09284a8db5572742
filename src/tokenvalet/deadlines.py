"""Sockets for the back channel: every operation ends at the deadline of the request that its thread is on.

A timeout bounds one read, one address of a host and no look-up of its name; a deadline bounds them all together. The bytes
that one answer may take are counted here as well, before anything of HTTP is taken off them.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

import httpcore2

__all__ = ["DeadlineBackend", "DeadlineStream", "TooManyBytes"]

# As much as a body may have, once more for its header fields, chunk lines and provisional answers.
LARGEST_ANSWER = 2 * 1024 * 1024


class TooManyBytes(Exception):
    """An answer, with all that goes around it, is longer than any that is meant well."""


class DeadlineBackend(httpcore2.NetworkBackend):
    """Makes connections, for many threads at once, each with a deadline of its own."""

    def __init__(self) -> None:
        self._inner = httpcore2.SyncBackend()
        self._thread = threading.local()
        self._open: weakref.WeakSet[DeadlineStream] = weakref.WeakSet()
        self._closed = False
        self._lock = threading.Lock()

    def begin(self, timeout: float) -> None:
        """Let all that this thread does from now on end in `timeout` seconds."""
        self._thread.deadline = time.monotonic() + timeout
        self._thread.received = 0

    def left(self, timeout: float | None) -> float:
        """Return the seconds that are left, and no more than `timeout`."""
        left = float(self._thread.deadline) - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("the deadline of the whole request has passed")
        return left if timeout is None else min(left, timeout)

    def count(self, data: bytes) -> bytes:
        """Count what came in. Raises TooManyBytes."""
        self._thread.received += len(data)
        if self._thread.received > LARGEST_ANSWER:
            raise TooManyBytes
        return data

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the first address of a host that answers."""
        addresses = _addresses(host, port, self.left(timeout))
        while True:
            address, *others = addresses
            # An address that swallows everything leaves time for those after it.
            share = self.left(timeout) / len(addresses)
            try:
                stream = self._inner.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if not others:
                    raise
                addresses = others
            else:
                return self.watched(DeadlineStream(stream, self))

    def watched(self, stream: DeadlineStream) -> DeadlineStream:
        """Return a connection that is closed with all others: a pool does not know of one before it is made."""
        with self._lock:
            if not self._closed:
                self._open.add(stream)
                return stream
        stream.close()
        raise httpcore2.ConnectError("the valet was closed while the connection was made")

    def close(self) -> None:
        """Close all connections, and those that are being made as soon as they are."""
        with self._lock:
            self._closed = True
            streams = list(self._open)
        for stream in streams:
            stream.close()

    def after_fork(self) -> None:
        """Begin anew in a forked child, where the connections are the parent's."""
        self._lock = threading.Lock()
        self._open = weakref.WeakSet()

    def sleep(self, seconds: float) -> None:
        """Pause, as httpcore asks for."""
        time.sleep(min(seconds, self.left(None)))


class DeadlineStream(httpcore2.NetworkStream):
    """A connection.

    Attributes:
        answered: whether anything has come since something was last sent.
    """

    def __init__(self, inner: httpcore2.NetworkStream, backend: DeadlineBackend) -> None:
        self._inner = inner
        self._backend = backend
        self.answered = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has come, or wait for it."""
        data = self._inner.read(max_bytes, self._backend.left(timeout))
        self.answered = True
        return self._backend.count(data)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`."""
        self.answered = False
        self._inner.write(buffer, self._backend.left(timeout))

    def close(self) -> None:
        """Close the connection, and wake whoever waits for something on it."""
        # Closing alone would not wake a thread that waits for an answer, and close() of a valet means just that.
        connection = self._inner.get_extra_info("socket")
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        """Return this connection, secured."""
        inner = self._inner.start_tls(ssl_context, server_hostname, self._backend.left(timeout))
        return self._backend.watched(DeadlineStream(inner, self._backend))

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore wants to know of the socket."""
        return self._inner.get_extra_info(info)


def _addresses(host: str, port: int, timeout: float) -> list[str]:
    """Return the addresses of a host, the preferred ones first."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _looked_up(host, port, timeout)
    return [host]


def _looked_up(host: str, port: int, timeout: float) -> list[str]:
    found: Future[list[Any]] = Future()

    def look_up() -> None:
        try:
            found.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            found.set_exception(error)

    # A resolver knows no deadline. One that hangs is left to itself, on a thread that nobody waits for.
    resolver = threading.Thread(target=look_up, name="tokenvalet-resolver", daemon=True)
    try:
        resolver.start()
        entries = found.result(timeout)
    except TimeoutError as error:
        raise httpcore2.ConnectTimeout("its name could not be looked up in time") from error
    except (OSError, RuntimeError) as error:  # RuntimeError where the interpreter ends, or has no threads left
        raise httpcore2.ConnectError(error) from error
    if not entries:
        raise httpcore2.ConnectError("it has no address")
    return list(dict.fromkeys(_address(*entry[4]) for entry in entries))


def _address(host: str, _port: int, _flow: int = 0, scope: int = 0) -> str:
    return f"{host}%{scope}" if scope and "%" not in host else host
