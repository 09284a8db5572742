"""The drivers of pyreqwest: its blocking client, and the one for asyncio, over the connections of the valet or others."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

from pyreqwest.client import ClientBuilder, SyncClientBuilder
from pyreqwest.exceptions import BuilderError, RedirectError, RequestError, TransportError
from pyreqwest.multipart import FormBuilder, PartBuilder

from contract.drivers import TIMEOUT, Answer, Body, Custom, Kind, Opened, Session
from contract.httpx_driver import AsyncParts, Parts, Pipe
from contract.loops import AsyncioLoop
from tokenvalet import TokenValet

__all__ = ["PyreqwestAsyncioDriver", "PyreqwestDriver"]

PIECE = 4096


def _answer(url: str, response: Any, body: bytes) -> Answer:
    return Answer(
        status=response.status,
        headers=_fields(response),
        body=body,
        history=response.extensions.get("tokenvalet.history", []),
        url=response.extensions.get("tokenvalet.url", url),
        native=response,
    )


def _fields(response: Any) -> list[tuple[str, str]]:
    try:
        return list(response.headers.items())
    except ValueError:  # of a value that is no text
        return []


class _Session:
    """What is set on a client holds for all of its requests, so that one that is not to follow redirects is another."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.native = make()
        self._still = make(follow_redirects=False)

    def _built(
        self,
        method: str,
        url: str,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        follow_redirects: bool = True,
        token_parameters: Any = None,
        timeout: float | None = None,
        auth: tuple[str, str] | None = None,
    ) -> Any:
        built = (self.native if follow_redirects else self._still).request(method, url)
        if headers is not None:
            built = built.headers(headers)
        if token_parameters is not None:
            built = built.extensions({"tokenvalet": token_parameters})
        if timeout is not None:
            built = built.timeout(timedelta(seconds=timeout))
        if auth is not None:
            built = built.basic_auth(*auth)
        return built if body is None else self._with(built, body)

    def _with(self, built: Any, body: Body) -> Any:
        content = body.content
        by_kind: dict[Kind, Callable[[], Any]] = {
            "bytes": lambda: built.body_bytes(content),
            "json": lambda: built.body_json({"content": content.decode()}),
            "form": lambda: built.form({"content": content.decode(), "more": "a b&c"}),
            "multipart": lambda: built.multipart(
                FormBuilder().part("upload", PartBuilder.from_bytes(content).file_name("name.bin")).text("more", "yes")
            ),
            "multipart-file": lambda: built.multipart(
                FormBuilder().part("upload", PartBuilder.from_bytes(content).file_name("name.bin"))
            ),
            "multipart-pipe": lambda: built.multipart(
                FormBuilder().part("upload", PartBuilder.from_stream(iter(Pipe(content).read, b"")))
            ),
            # pyreqwest has files in forms only.
            "file": lambda: built.body_stream(self._parts(content)),
            "iterator": lambda: built.body_stream(self._parts(content)),
            "generator": lambda: built.body_stream(self._generator(content)),
            "failing": lambda: built.body_stream(self._failing(content)),
        }
        return by_kind[body.kind]()

    def _parts(self, content: bytes) -> Any:
        return Parts(content)

    def _generator(self, content: bytes) -> Any:
        yield content[:10]
        yield content[10:]

    def _failing(self, content: bytes) -> Any:
        yield content
        raise LookupError("no more")


class _SyncSession(_Session):
    def __init__(self, make: Callable[..., Any]) -> None:
        super().__init__(make)
        self._threads = ThreadPoolExecutor(32)

    def request(self, method: str, url: str, **options: Any) -> Answer:
        response = self._built(method, url, **options).build().send()
        return _answer(url, response, bytes(response.bytes()))

    def get(self, url: str, **options: Any) -> Answer:
        return self.request("GET", url, **options)

    def start(self, method: str, url: str, **options: Any) -> Future[Answer]:
        return self._threads.submit(self.request, method, url, **options)

    def open(self, method: str, url: str, **options: Any) -> Opened:
        return _SyncOpened(self._built(method, url, **options).streamed_read_buffer_limit(1).build_streamed())

    def close(self) -> None:
        self.native.close()
        self._still.close()
        self._threads.shutdown()


class _SyncOpened:
    def __init__(self, request: Any) -> None:
        self._request = request
        self._response = request.__enter__()
        self.status: int = self._response.status

    def first(self) -> bytes:
        return bytes(self._response.body_reader.read_chunk() or b"")

    def rest(self) -> bytes:
        parts = []
        while (part := self._response.body_reader.read(65536)) is not None:
            parts.append(bytes(part))
        self.close()
        return b"".join(parts)

    def close(self) -> None:
        self._request.__exit__(None, None, None)


class _AsyncSession(_Session):
    def __init__(self, make: Callable[..., Any], loop: AsyncioLoop) -> None:
        super().__init__(make)
        self._loop = loop

    def _parts(self, content: bytes) -> Any:
        return AsyncParts(content)

    async def _generator(self, content: bytes) -> AsyncIterator[bytes]:
        yield content[:10]
        yield content[10:]

    async def _failing(self, content: bytes) -> AsyncIterator[bytes]:
        yield content
        raise LookupError("no more")

    def request(self, method: str, url: str, **options: Any) -> Answer:
        return self.start(method, url, **options).result(2 * TIMEOUT)

    def get(self, url: str, **options: Any) -> Answer:
        return self.request("GET", url, **options)

    def start(self, method: str, url: str, **options: Any) -> Future[Answer]:
        async def call() -> Answer:
            response = await self._built(method, url, **options).build().send()
            return _answer(url, response, bytes(await response.bytes()))

        return self._loop.submit(call)

    def open(self, method: str, url: str, **options: Any) -> Opened:
        request = self._built(method, url, **options).streamed_read_buffer_limit(1).build_streamed()
        return _AsyncOpened(request, self._loop.run(request.__aenter__), self._loop)

    def close(self) -> None:
        self._loop.run(self.native.close)
        self._loop.run(self._still.close)


class _AsyncOpened:
    def __init__(self, request: Any, response: Any, loop: AsyncioLoop) -> None:
        self.status: int = response.status
        self._request = request
        self._response = response
        self._loop = loop

    def first(self) -> bytes:
        return bytes(self._loop.run(self._response.body_reader.read_chunk) or b"")

    def rest(self) -> bytes:
        async def read() -> bytes:
            parts = []
            while (part := await self._response.body_reader.read(65536)) is not None:
                parts.append(bytes(part))
            return b"".join(parts)

        try:
            return self._loop.run(read)
        finally:
            self.close()

    def close(self) -> None:
        self._loop.run(self._request.__aexit__, None, None, None)


def _options(custom: Custom, given: dict[str, Any]) -> dict[str, Any]:
    return {
        "base_url": custom.base_url,
        "headers": dict(custom.headers or {}),
        "timeout": timedelta(seconds=custom.timeout),
        "customize": custom.customize,
        # Beside the authorities of the tests; no client of ours may leave those of the machine out.
        "trust_system_authorities": True,
        **given,
    }


def _own(builder: Any, pool_size: int | None, http2: Path | None) -> Any:
    if pool_size is None and http2 is None:
        return None
    if pool_size is not None:
        builder = builder.max_connections(pool_size).no_proxy()
    if http2 is not None:
        builder = builder.http2(True).no_proxy().add_root_certificate_pem(http2.read_bytes())
    return builder


class PyreqwestDriver:
    """pyreqwest, which blocks."""

    name = "pyreqwest"
    one_pool = True
    opens_ahead = True
    unreadable: tuple[type[Exception], ...] = (ValueError, BuilderError, RedirectError)
    failures: tuple[type[Exception], ...] = (TransportError, RequestError)
    loggers: tuple[str, ...] = ()
    loggers_of_http2: tuple[str, ...] = ()

    def open(
        self,
        valet: TokenValet,
        client: str = "m2m",
        *,
        custom: Custom,
        pool_size: int | None = None,
        http2: Path | None = None,
    ) -> Session:
        def make(**given: Any) -> Any:
            builder = _own(SyncClientBuilder(), pool_size, http2)
            return valet.pyreqwest_sync_client(client, builder=builder, **_options(custom, given))

        return _SyncSession(make)

    def close_valet(self, valet: TokenValet) -> None:
        valet.close()

    @contextlib.contextmanager
    def on_another_loop(self) -> Iterator[PyreqwestDriver]:
        yield self

    def handed_over(self, answer: Answer) -> bytes:
        # Besides the address that was asked for: an answer of pyreqwest does not lead to its request.
        response = answer.native
        return repr([answer.url, response, response.headers, _fields(response), response.extensions]).encode()


class PyreqwestAsyncioDriver:
    """pyreqwest, on asyncio."""

    name = "pyreqwest-asyncio"
    one_pool = True
    opens_ahead = True
    unreadable = PyreqwestDriver.unreadable
    failures: tuple[type[Exception], ...] = (*PyreqwestDriver.failures, TimeoutError)
    loggers: tuple[str, ...] = ()
    loggers_of_http2: tuple[str, ...] = ()

    def __init__(self, loop: AsyncioLoop) -> None:
        self.loop = loop

    def open(
        self,
        valet: TokenValet,
        client: str = "m2m",
        *,
        custom: Custom,
        pool_size: int | None = None,
        http2: Path | None = None,
    ) -> Session:
        def make(**given: Any) -> Any:
            builder = _own(ClientBuilder(), pool_size, http2)
            return valet.pyreqwest_client(client, builder=builder, **_options(custom, given))

        return _AsyncSession(make, self.loop)

    def close_valet(self, valet: TokenValet) -> None:
        self.loop.run(valet.aclose)

    @contextlib.contextmanager
    def on_another_loop(self) -> Iterator[PyreqwestAsyncioDriver]:
        loop = AsyncioLoop()
        try:
            yield PyreqwestAsyncioDriver(loop)
        finally:
            loop.close()

    def handed_over(self, answer: Answer) -> bytes:
        return PyreqwestDriver().handed_over(answer)
