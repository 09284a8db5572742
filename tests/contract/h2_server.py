"""A server that speaks HTTP/2 over TLS and answers everything with 200, in a thread for each connection."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import Self

import h2.config
import h2.connection
import h2.events

__all__ = ["H2Server"]

THREADS = "h2 server"  # what the names of its threads begin with, and so the log records of its own library


class H2Server:
    """Serves on 127.0.0.1 while the `with` block runs; `requests` has the header fields of every request."""

    def __init__(self, context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["h2"])
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.origin = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: list[list[tuple[str, str]]] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts or reads
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _start(self, target: object, *args: object) -> None:
        assert callable(target)
        thread = threading.Thread(target=target, args=args, name=f"{THREADS} {len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._start(self._serve, self._listener.accept()[0])

    def _serve(self, raw: socket.socket) -> None:
        with contextlib.suppress(OSError), self._context.wrap_socket(raw, server_side=True) as secured:
            self._open.append(secured)
            connection = h2.connection.H2Connection(
                h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
            )
            connection.initiate_connection()
            secured.sendall(connection.data_to_send())
            while data := secured.recv(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        self.requests.append([(str(name), str(value)) for name, value in event.headers])
                        connection.send_headers(event.stream_id, [(":status", "200"), ("content-length", "2")])
                        connection.send_data(event.stream_id, b"{}", end_stream=True)
                secured.sendall(connection.data_to_send())
