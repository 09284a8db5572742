"""The driver of aiohttp: a ready session of the valet, or a session of one's own with its middleware."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp

from contract.drivers import TIMEOUT, Answer, Body, Custom, Kind, Opened, Session
from contract.httpx_driver import AsyncParts, Pipe
from contract.loops import AsyncioLoop
from tokenvalet import TokenParameters, TokenValet

__all__ = ["AiohttpDriver"]

PIECE = 4096


class _Session:
    def __init__(
        self, native: aiohttp.ClientSession, loop: AsyncioLoop, own: Callable[..., Any], custom: Custom
    ) -> None:
        self.native = native
        self._loop = loop
        self._own = own
        self._params = custom.params

    def request(self, method: str, url: str, **options: Any) -> Answer:
        return self.start(method, url, **options).result(2 * TIMEOUT)

    def get(self, url: str, **options: Any) -> Answer:
        return self.request("GET", url, **options)

    def start(self, method: str, url: str, **options: Any) -> Future[Answer]:
        async def call() -> Answer:
            async with await self._send(method, url, **options) as response:
                body = await response.read()
                return Answer(
                    status=response.status,
                    headers=list(response.headers.items()),
                    body=body,
                    history=[one.status for one in response.history],
                    url=str(response.url),
                    native=response,
                )

        return self._loop.submit(call)

    def open(self, method: str, url: str, **options: Any) -> Opened:
        async def call() -> aiohttp.ClientResponse:
            return await self._send(method, url, **options)

        return _Opened(self._loop.run(call), self._loop)

    def close(self) -> None:
        self._loop.run(self.native.close)

    async def _send(
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
    ) -> aiohttp.ClientResponse:
        options: dict[str, Any] = {"headers": headers, "allow_redirects": follow_redirects, "params": self._params}
        if token_parameters is not None:
            options["middlewares"] = self._own(token_parameters)
        if timeout is not None:
            options["timeout"] = aiohttp.ClientTimeout(total=timeout)
        if auth is not None:
            options["headers"] = {**(headers or {}), "Authorization": aiohttp.encode_basic_auth(*auth)}
        try:
            return await self.native.request(method, url, **options, **(_body(body) if body is not None else {}))
        except aiohttp.ClientConnectionError as error:
            # In which aiohttp wraps what a body of the caller's raises.
            if isinstance(error.__cause__, LookupError):
                raise error.__cause__ from None
            raise


def _body(body: Body) -> dict[str, Any]:
    content = body.content

    async def generator() -> AsyncIterator[bytes]:
        yield content[:10]
        yield content[10:]

    async def failing() -> AsyncIterator[bytes]:
        yield content
        raise LookupError("no more")

    def form(**fields: Any) -> dict[str, Any]:
        made = aiohttp.FormData(default_to_multipart=True)
        for name, value in fields.items():
            made.add_field(name, value, filename="name.bin" if name == "upload" else None)
        return {"data": made}

    by_kind: dict[Kind, Callable[[], dict[str, Any]]] = {
        "bytes": lambda: {"data": content},
        "json": lambda: {"json": {"content": content.decode()}},
        "form": lambda: {"data": {"content": content.decode(), "more": "a b&c"}},
        "multipart": lambda: form(upload=content, more="yes"),
        "multipart-file": lambda: form(upload=io.BytesIO(content)),
        "multipart-pipe": lambda: form(upload=Pipe(content)),
        "generator": lambda: {"data": generator()},
        "iterator": lambda: {"data": AsyncParts(content)},
        "file": lambda: {"data": io.BytesIO(content)},
        "failing": lambda: {"data": failing()},
    }
    return by_kind[body.kind]()


class _Opened:
    def __init__(self, response: aiohttp.ClientResponse, loop: AsyncioLoop) -> None:
        self.status: int = response.status
        self._response = response
        self._loop = loop

    def first(self) -> bytes:
        return self._loop.run(self._response.content.read, PIECE)

    def rest(self) -> bytes:
        return self._loop.run(self._response.content.read)

    def close(self) -> None:
        async def close() -> None:
            self._response.close()

        self._loop.run(close)


class AiohttpDriver:
    """aiohttp, on asyncio."""

    name = "aiohttp"
    one_pool = False
    opens_ahead = False
    unreadable: tuple[type[Exception], ...] = (
        aiohttp.InvalidURL,
        aiohttp.NonHttpUrlClientError,
        aiohttp.TooManyRedirects,  # of one that it takes for another path
    )
    failures: tuple[type[Exception], ...] = (
        aiohttp.ClientConnectionError,
        aiohttp.ClientPayloadError,
        aiohttp.ClientResponseError,  # an answer that is none
        TimeoutError,
    )
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
        around = [_shown(custom)] if custom.before is not None or custom.after is not None else []

        def own(parameters: TokenParameters | None) -> list[Any]:
            return [*around, valet.aiohttp_middleware(client, token_parameters=parameters, customize=custom.customize)]

        # Of which some of the tests have more than aiohttp reads otherwise.
        options: dict[str, Any] = {"timeout": aiohttp.ClientTimeout(total=custom.timeout), "max_field_size": 65536}
        for name in ("base_url", "headers"):
            if (value := getattr(custom, name)) is not None:
                options[name] = value
        headers = dict(custom.headers or {})
        if custom.auth is not None:
            headers["Authorization"] = aiohttp.encode_basic_auth(*custom.auth)
        options["headers"] = headers

        async def make() -> aiohttp.ClientSession:
            # Hosts without a name are sent no cookies otherwise.
            jar = aiohttp.CookieJar(unsafe=True)
            if custom.cookies:
                jar.update_cookies(custom.cookies)
            if pool_size is not None or around:
                connector = aiohttp.TCPConnector(limit=pool_size if pool_size is not None else 100)
                return aiohttp.ClientSession(connector=connector, middlewares=own(None), cookie_jar=jar, **options)
            return valet.aiohttp_session(client, customize=custom.customize, cookie_jar=jar, **options)

        return _Session(self.loop.run(make), self.loop, own, custom)

    def close_valet(self, valet: TokenValet) -> None:
        self.loop.run(valet.aclose)

    @contextlib.contextmanager
    def on_another_loop(self) -> Iterator[AiohttpDriver]:
        loop = AsyncioLoop()
        try:
            yield AiohttpDriver(loop)
        finally:
            loop.close()

    def handed_over(self, answer: Answer) -> bytes:
        seen: list[object] = []
        for response in (*answer.native.history, answer.native):
            for twin in (response, copy.copy(response)):
                info = twin.request_info
                seen += [twin, twin.headers, vars(twin), info, list(info.headers.items()), vars(twin._session or self)]
        return repr(seen).encode()


def _shown(custom: Custom) -> Any:
    async def middleware(request: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
        if custom.before is not None:
            custom.before(request)
        response: aiohttp.ClientResponse = await handler(request)
        if custom.after is not None:
            info = response.request_info
            custom.after(SimpleNamespace(method=info.method, url=info.url, headers=info.headers))
        return response

    return middleware
