"""Puts an ASGI application on a port of this machine, in a thread of its own: uvicorn, with three things added.

The client certificate of a TLS connection is handed to the application (the ASGI TLS extension; uvicorn keeps it to
itself), an application can cut its connection without an answer, and stopping takes a moment, whatever hangs.

For development only: no workers, no limits, no logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from typing import Any, Protocol, Self, runtime_checkable

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from .faults import DROP_CONNECTION

__all__ = ["Connection", "RunningServer", "serve"]

_BACKLOG = 2048
_GRACE = 0.2  # seconds that requests under way have to end by themselves when the server stops
_START_TIMEOUT = 10.0


@runtime_checkable
class Servable(Protocol):
    """What `serve` takes besides a bare ASGI application: something that wants to know its own address."""

    @property
    def app(self) -> ASGIApp: ...

    def served_at(self, url: str) -> None: ...


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 connection, with two ASGI extensions: `tls`, and the cutting of the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        extensions: dict[str, Any] = {DROP_CONNECTION: transport.abort}
        ssl_object: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if ssl_object is not None:
            der = ssl_object.getpeercert(binary_form=True)
            chain = (ssl.DER_cert_to_PEM_cert(der),) if der else ()
            extensions["tls"] = {"client_cert_chain": chain, "tls_version": None, "cipher_suite": None}
        application: Any = self.app

        async def with_extensions(scope: Any, receive: Any, send: Any) -> None:
            scope["extensions"] = {**scope.get("extensions", {}), **extensions}
            await application(scope, receive, send)

        self.app = with_extensions


class _Server(uvicorn.Server):
    """uvicorn's server, told to stop by an event instead of a flag, and not waiting for anybody for long."""

    def __init__(self, config: uvicorn.Config, ready: threading.Event) -> None:
        super().__init__(config)
        self._ready = ready
        self._stopping: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets)
        await self.on_tick(0)  # the date header, before the first request
        self._ready.set()

    async def main_loop(self) -> None:
        assert self._stopping is not None
        while not self._stopping.is_set():
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), timeout=1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            await asyncio.wait(list(self.server_state.tasks), timeout=_GRACE)
        # Cut first, cancel then: a request without a connection ends without an answer and without a line in the log.
        for connection in list(self.server_state.connections):
            transport: Any = connection.transport
            transport.abort()
        for _ in range(5):  # the turns of the loop that it takes until a connection knows that it was cut
            await asyncio.sleep(0)
        for task in list(self.server_state.tasks):
            task.cancel()
        if self.server_state.tasks:
            await asyncio.wait(list(self.server_state.tasks), timeout=_GRACE)
        await self.lifespan.shutdown()

    def stop(self) -> None:
        """Ask the server to stop; from any thread."""
        if self._loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has stopped
                self._loop.call_soon_threadsafe(self._stopping.set)


class RunningServer:
    """A server on a port, to be used as a context manager; `stop` and `start` play an outage in between."""

    def __init__(self, app: ASGIApp | Servable, *, host: str, port: int, ssl_context: ssl.SSLContext | None) -> None:
        self._subject = app
        self._host = host
        self._port = port
        self._ssl_context = ssl_context
        self._thread: threading.Thread | None = None
        self._server: _Server | None = None
        self._announced = False

    @property
    def port(self) -> int:
        """The port, chosen by the system if 0 was asked for; it stays the same over `stop` and `start`."""
        return self._port

    @property
    def url(self) -> str:
        """The origin that the server is reached at, without a trailing slash."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._ssl_context else 'http'}://{host}:{self._port}"

    def start(self) -> None:
        """Bind the port and answer requests; returns when it does."""
        if self._thread is not None:
            return
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # asyncio sets TCP_NODELAY only where the protocol is named; without it, answers to a kept connection take 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self._port))
        except OSError:
            listener.close()
            raise
        self._port = listener.getsockname()[1]
        if isinstance(self._subject, Servable) and not self._announced:
            self._subject.served_at(self.url)  # once: after an outage, an issuer that was set by hand stays
            self._announced = True
        ready = threading.Event()
        self._server = _Server(self._config(), ready)
        self._thread = threading.Thread(
            target=self._run, args=(self._server, listener, ready), name=f"serve:{self._port}", daemon=True
        )
        self._thread.start()
        ready.wait(_START_TIMEOUT)
        if not self._server.started:
            self.stop()
            raise RuntimeError("the server did not start; its lifespan may have failed")

    def stop(self) -> None:
        """Close the port and every connection: from now on, connections are refused."""
        if self._thread is None or self._server is None:
            return
        self._server.stop()
        self._thread.join(_START_TIMEOUT)
        self._thread = self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _config(self) -> uvicorn.Config:
        app: Any = self._subject.app if isinstance(self._subject, Servable) else self._subject
        config = uvicorn.Config(
            _without_cancellation(app),
            http=Connection,
            ws="none",
            lifespan="auto",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=60,
        )
        config.load()
        config.ssl = self._ssl_context
        return config

    def _run(self, server: _Server, listener: socket.socket, ready: threading.Event) -> None:
        try:
            # SystemExit is how uvicorn says that the lifespan failed; start() says it in a better way.
            with (
                contextlib.closing(listener),
                asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner,
                contextlib.suppress(SystemExit),
            ):
                runner.run(server.serve(sockets=[listener]))
        finally:
            ready.set()


def _without_cancellation(app: ASGIApp) -> ASGIApp:
    """Let a request that is cancelled when the server stops end quietly; uvicorn would log it as a fault."""

    async def quiet(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise

    return quiet


def serve(
    app: ASGIApp | Servable, host: str = "127.0.0.1", port: int = 0, ssl_context: ssl.SSLContext | None = None
) -> RunningServer:
    """Serve an ASGI application, an `AuthorizationServer` or a `ProtectedApi` while the `with` block runs.

    Args:
        app: what is served.
        host: an address of this machine.
        port: 0 lets the system choose one; see `RunningServer.port` and `RunningServer.url`.
        ssl_context: serves https. For client certificates it must have `verify_mode = ssl.CERT_OPTIONAL` (or
            CERT_REQUIRED) and their authorities loaded; a self-signed client certificate is its own authority.
    """
    return RunningServer(app, host=host, port=port, ssl_context=ssl_context)
