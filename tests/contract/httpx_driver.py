"""The drivers of httpx2 and httpx: synchronous, and asynchronous on asyncio and trio."""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2

from contract.drivers import TIMEOUT, Answer, Body, Custom, Kind, Opened, Session
from contract.loops import Loop
from tokenvalet import TokenParameters, TokenValet

__all__ = ["HttpxDriver"]


class Pipe(io.RawIOBase):
    """A file that cannot be rewound."""

    def __init__(self, content: bytes) -> None:
        self._rest = content

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        end = len(self._rest) if size < 0 else size
        taken, self._rest = self._rest[:end], self._rest[end:]
        return taken


class Parts:
    """An iterator of one's own: what was taken from it is gone."""

    def __init__(self, content: bytes) -> None:
        self._left = [content[:10], content[10:]]

    def __iter__(self) -> Iterator[bytes]:
        while self._left:
            yield self._left.pop(0)


class AsyncParts:
    """The same, for an asynchronous library."""

    def __init__(self, content: bytes) -> None:
        self._parts = Parts(content)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part


class _Client:
    """What the sessions of httpx2 and httpx have in common."""

    def __init__(self, library: ModuleType, native: Any) -> None:
        self.library = library
        self.native = native

    def options(
        self,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        follow_redirects: bool = True,
        token_parameters: TokenParameters | object = None,
        timeout: float | None = None,
        auth: tuple[str, str] | None = None,
    ) -> dict[str, Any]:
        options: dict[str, Any] = {"headers": headers, "follow_redirects": follow_redirects}
        if auth is not None:
            options["auth"] = auth
        if token_parameters is not None:
            options["extensions"] = {"tokenvalet": token_parameters}
        if timeout is not None:
            options["timeout"] = timeout
        return options | (self._body(body) if body is not None else {})

    def _body(self, body: Body) -> dict[str, Any]:
        content = body.content
        by_kind: dict[Kind, Callable[[], dict[str, Any]]] = {
            "bytes": lambda: {"content": content},
            "json": lambda: {"json": {"content": content.decode()}},
            "form": lambda: {"data": {"content": content.decode(), "more": "a b&c"}},
            "multipart": lambda: {"files": {"upload": content}, "data": {"more": "yes"}},
            "multipart-file": lambda: {"files": {"upload": ("name.bin", io.BytesIO(content))}},
            "multipart-pipe": lambda: {"files": {"upload": ("name.bin", Pipe(content))}},
            "generator": lambda: {"content": self.generator(content)},
            "iterator": lambda: {"content": self.iterator(content)},
            "file": lambda: {"content": self.file(content)},
            "failing": lambda: {"content": self.failing(content)},
        }
        return by_kind[body.kind]()

    def generator(self, content: bytes) -> Any:
        return (part for part in (content[:10], content[10:]))

    def failing(self, content: bytes) -> Any:
        def parts() -> Iterator[bytes]:
            yield content
            raise LookupError("no more")

        return parts()

    def iterator(self, content: bytes) -> Any:
        return Parts(content)

    def file(self, content: bytes) -> Any:
        return io.BytesIO(content)

    def answer(self, response: Any) -> Answer:
        return Answer(
            status=response.status_code,
            headers=list(response.headers.multi_items()),
            body=response.content,
            history=[one.status_code for one in response.history],
            url=str(response.url),
            native=response,
        )


class _SyncSession(_Client):
    def __init__(self, library: ModuleType, native: Any) -> None:
        super().__init__(library, native)
        self._threads = ThreadPoolExecutor(32)

    def request(self, method: str, url: str, **options: Any) -> Answer:
        return self.answer(self.native.request(method, url, **self.options(**options)))

    def get(self, url: str, **options: Any) -> Answer:
        return self.request("GET", url, **options)

    def start(self, method: str, url: str, **options: Any) -> Future[Answer]:
        return self._threads.submit(self.request, method, url, **options)

    def open(self, method: str, url: str, **options: Any) -> Opened:
        made = self.options(**options)
        sending = {name: made.pop(name) for name in ("follow_redirects", "auth") if name in made}
        request = self.native.build_request(method, url, **made)
        return _SyncOpened(self.native.send(request, stream=True, **sending))

    def close(self) -> None:
        self.native.close()
        self._threads.shutdown()


class _SyncOpened:
    def __init__(self, response: Any) -> None:
        self.status: int = response.status_code
        self._response = response
        self._parts = response.iter_raw()

    def first(self) -> bytes:
        return bytes(next(self._parts))

    def rest(self) -> bytes:
        return b"".join(self._parts)

    def close(self) -> None:
        self._response.close()


class _AsyncSession(_Client):
    def __init__(self, library: ModuleType, native: Any, loop: Loop) -> None:
        super().__init__(library, native)
        self._loop = loop

    def request(self, method: str, url: str, **options: Any) -> Answer:
        return self.start(method, url, **options).result(2 * TIMEOUT)

    def get(self, url: str, **options: Any) -> Answer:
        return self.request("GET", url, **options)

    def start(self, method: str, url: str, **options: Any) -> Future[Answer]:
        async def call() -> Answer:
            return self.answer(await self.native.request(method, url, **self.options(**options)))

        return self._loop.submit(call)

    def open(self, method: str, url: str, **options: Any) -> Opened:
        made = self.options(**options)
        sending = {name: made.pop(name) for name in ("follow_redirects", "auth") if name in made}

        async def call() -> Any:
            request = self.native.build_request(method, url, **made)
            return await self.native.send(request, stream=True, **sending)

        return _AsyncOpened(self._loop.run(call), self._loop)

    def close(self) -> None:
        self._loop.run(self.native.aclose)

    def generator(self, content: bytes) -> Any:
        async def parts() -> AsyncIterator[bytes]:
            yield content[:10]
            yield content[10:]

        return parts()

    def failing(self, content: bytes) -> Any:
        async def parts() -> AsyncIterator[bytes]:
            yield content
            raise LookupError("no more")

        return parts()

    def iterator(self, content: bytes) -> Any:
        return AsyncParts(content)

    def file(self, content: bytes) -> Any:
        # An asynchronous client of httpx takes no plain file: this is what a library of asynchronous files has.
        return AsyncFile(content)


class AsyncFile:
    """An open file of a library of asynchronous files."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    async def aread(self, size: int) -> bytes:
        return self._file.read(size)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._file.read()


class _AsyncOpened:
    def __init__(self, response: Any, loop: Loop) -> None:
        self.status: int = response.status_code
        self._response = response
        self._loop = loop
        self._parts = response.aiter_raw()

    def first(self) -> bytes:
        return bytes(self._loop.run(self._parts.__anext__))

    def rest(self) -> bytes:
        async def read() -> bytes:
            return b"".join([part async for part in self._parts])

        return self._loop.run(read)

    def close(self) -> None:
        self._loop.run(self._response.aclose)


class HttpxDriver:
    """httpx2 or httpx: synchronous, or on an event loop of asyncio or trio."""

    def __init__(self, library: ModuleType, loop: Loop | None, name: str) -> None:
        self.name = name
        self.library: Any = library
        self.loop = loop
        self.one_pool = loop is None
        self.opens_ahead = False
        self.unreadable: tuple[type[Exception], ...] = (self.library.InvalidURL, self.library.UnsupportedProtocol)
        self.loggers: tuple[str, ...] = (library.__name__, library.__name__.replace("httpx", "httpcore"))
        self.loggers_of_http2: tuple[str, ...] = ("hpack.hpack", "hpack.table")
        self.failures: tuple[type[Exception], ...] = (self.library.TransportError,)

    def open(
        self,
        valet: TokenValet,
        client: str = "m2m",
        *,
        custom: Custom,
        pool_size: int | None = None,
        http2: Path | None = None,
    ) -> Session:
        inner = None
        if http2 is not None:
            inner = self._inner(verify=ssl.create_default_context(cafile=http2), http2=True)
        elif pool_size is not None:
            inner = self._inner(limits=self.library.Limits(max_connections=pool_size))
        native = self._client(valet, client, inner, custom)
        return (
            _SyncSession(self.library, native) if self.loop is None else _AsyncSession(self.library, native, self.loop)
        )

    def _inner(self, **options: Any) -> Any:
        # A context without authorities, since loading them takes longer than most of the tests.
        options.setdefault("verify", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        kind = self.library.HTTPTransport if self.loop is None else self.library.AsyncHTTPTransport
        return kind(trust_env=False, **options)

    def _client(self, valet: TokenValet, client: str, inner: Any, custom: Custom) -> Any:
        """Return a client of the library, made as its user would."""
        options: dict[str, Any] = {"timeout": custom.timeout}
        for name in ("base_url", "headers", "params", "cookies", "auth"):
            if (value := getattr(custom, name)) is not None:
                options[name] = value
        hooks = options["event_hooks"] = {}
        if (before := custom.before) is not None:
            hooks["request"] = [self._hook(before)]
        if (after := custom.after) is not None:
            hooks["response"] = [self._hook(lambda response: after(response.request))]
        if self.library is httpx2:
            make: Any = valet.client if self.loop is None else valet.async_client
            return make(client, transport=inner, customize=custom.customize, **options)
        kind = self.library.Client if self.loop is None else self.library.AsyncClient
        transport = valet.transport(client, self.library, inner=inner, customize=custom.customize)
        return kind(transport=transport, **options)

    def _hook(self, hook: Callable[[Any], None]) -> Any:
        async def hook_on_a_loop(message: Any) -> None:
            hook(message)

        return hook if self.loop is None else hook_on_a_loop

    def close_valet(self, valet: TokenValet) -> None:
        if self.loop is None:
            valet.close()
        else:
            self.loop.run(valet.aclose)

    @contextlib.contextmanager
    def on_another_loop(self) -> Iterator[HttpxDriver]:
        if self.loop is None:
            yield self
            return
        loop = type(self.loop)()
        try:
            yield HttpxDriver(self.library, loop, self.name)
        finally:
            loop.close()

    def handed_over(self, answer: Answer) -> bytes:
        seen: list[object] = []
        for response in (*answer.native.history, answer.native):
            for twin in (response, copy.copy(response), copy.deepcopy(response)):
                request = twin.request
                seen += [twin, twin.headers.raw, vars(twin), request, request.headers.raw, vars(request)]
                seen += [one for key, one in twin.extensions.items() if key != "network_stream"]
        return repr(seen).encode() + pickle.dumps(answer.native) + pickle.dumps(answer.native.request)
