"""A broker that speaks just enough of the Kafka protocol for a client to log in: over TLS, by SASL/OAUTHBEARER.

https://kafka.apache.org/protocol: ApiVersions 0, SaslHandshake 1, SaslAuthenticate 0 and 1, and Metadata 0 and 1 of a
cluster that has this broker and no topics; nothing else is answered.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from typing import Self

__all__ = ["KafkaBroker"]

API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE, METADATA = 18, 17, 36, 3
UNSUPPORTED_VERSION = 35
# Which requests it takes, in which versions.
TAKEN = ((METADATA, 0, 1), (SASL_HANDSHAKE, 0, 1), (API_VERSIONS, 0, 0), (SASL_AUTHENTICATE, 0, 1))


def text(value: bytes) -> bytes:
    return struct.pack(">h", len(value)) + value


class KafkaBroker:
    """Lets in everybody who logs in.

    Attributes:
        said: the client-first messages of SASL (RFC 7628 §3.1) that came.
        session_ms: after how many milliseconds a client has to log in anew (KIP-368); 0 for never.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.said: list[bytes] = []
        self.session_ms = 0
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *exception: object) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # that of the end
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            connection,
            # A duplicate, since wrapping takes the descriptor away from the socket that __exit__ wakes us through.
            self._context.wrap_socket(connection.dup(), server_side=True) as secured,
            secured.makefile("rb") as came,
        ):
            while len(size := came.read(4)) == 4:
                request = came.read(struct.unpack(">i", size)[0])
                key, version, number, length = struct.unpack_from(">hhih", request)
                answer = self._answer(key, version, request[10 + max(length, 0) :])
                if answer is not None:
                    secured.sendall(struct.pack(">ii", 4 + len(answer), number) + answer)

    def _answer(self, key: int, version: int, body: bytes) -> bytes | None:
        if key == API_VERSIONS:
            # Asked for in a later version, it is refused in the first one, which every client understands (KIP-511).
            error = UNSUPPORTED_VERSION if version else 0
            return struct.pack(">hi", error, len(TAKEN)) + b"".join(struct.pack(">hhh", *one) for one in TAKEN)
        if key == SASL_HANDSHAKE:
            return struct.pack(">hi", 0, 1) + text(b"OAUTHBEARER")
        if key == SASL_AUTHENTICATE:
            self.said.append(body[4:])
            session = struct.pack(">q", self.session_ms) if version else b""
            return struct.pack(">hhi", 0, -1, 0) + session
        if key == METADATA:
            host, port = self.address.encode().split(b":")
            broker = struct.pack(">ii", 1, 1) + text(host) + struct.pack(">i", int(port))
            return broker + (struct.pack(">hii", -1, 1, 0) if version else struct.pack(">i", 0))
        return None
