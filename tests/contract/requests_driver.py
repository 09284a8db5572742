"""The driver of requests: a ready session of the valet, over its connections or over those of an adapter of one's own."""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from contract.drivers import Answer, Body, Custom, Kind, Opened, Session
from contract.httpx_driver import Parts
from tokenvalet import TokenValet

__all__ = ["RequestsDriver"]

PIECE = 4096


class _Session:
    def __init__(self, native: requests.Session, custom: Custom) -> None:
        self.native = native
        self._timeout = custom.timeout
        self._threads = ThreadPoolExecutor(32)

    def request(self, method: str, url: str, **options: Any) -> Answer:
        response = self._send(method, url, **options)
        return Answer(
            status=response.status_code,
            headers=list(response.headers.items()),
            body=response.content,
            history=[one.status_code for one in response.history],
            url=response.url,
            native=response,
        )

    def get(self, url: str, **options: Any) -> Answer:
        return self.request("GET", url, **options)

    def start(self, method: str, url: str, **options: Any) -> Future[Answer]:
        return self._threads.submit(self.request, method, url, **options)

    def open(self, method: str, url: str, **options: Any) -> Opened:
        return _Opened(self._send(method, url, stream=True, **options))

    def close(self) -> None:
        self.native.close()
        self._threads.shutdown()

    def _send(
        self, method: str, url: str, *, body: Body | None = None, follow_redirects: bool = True, **options: Any
    ) -> requests.Response:
        if (timeout := options.pop("timeout", None)) is None:
            timeout = self._timeout
        if options.get("token_parameters") is None:
            options.pop("token_parameters", None)
        made = _body(body) if body is not None else {}
        return self.native.request(method, url, allow_redirects=follow_redirects, timeout=timeout, **made, **options)


def _body(body: Body) -> dict[str, Any]:
    content = body.content

    def generator() -> Iterator[bytes]:
        yield content[:10]
        yield content[10:]

    def failing() -> Iterator[bytes]:
        yield content
        raise LookupError("no more")

    by_kind: dict[Kind, Callable[[], dict[str, Any]]] = {
        "bytes": lambda: {"data": content},
        "json": lambda: {"json": {"content": content.decode()}},
        "form": lambda: {"data": {"content": content.decode(), "more": "a b&c"}},
        "multipart": lambda: {"files": {"upload": content}, "data": {"more": "yes"}},
        "multipart-file": lambda: {"files": {"upload": ("name.bin", io.BytesIO(content))}},
        # requests reads the files of a form before it sends anything.
        "multipart-pipe": lambda: {"data": generator()},
        "generator": lambda: {"data": generator()},
        "iterator": lambda: {"data": Parts(content)},
        "file": lambda: {"data": io.BytesIO(content)},
        "failing": lambda: {"data": failing()},
    }
    return by_kind[body.kind]()


class _Opened:
    def __init__(self, response: requests.Response) -> None:
        self.status: int = response.status_code
        self._response = response
        self._parts = response.iter_content(PIECE)

    def first(self) -> bytes:
        return next(self._parts)

    def rest(self) -> bytes:
        return b"".join(self._parts)

    def close(self) -> None:
        self._response.close()


class RequestsDriver:
    """requests, which blocks."""

    name = "requests"
    one_pool = True
    opens_ahead = False
    # Some it takes for another path of the same host.
    unreadable: tuple[type[Exception], ...] = (ValueError, requests.TooManyRedirects)
    failures: tuple[type[Exception], ...] = (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
    )
    loggers: tuple[str, ...] = ("urllib3",)
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
        own = HTTPAdapter(pool_maxsize=pool_size, pool_block=True) if pool_size is not None else None
        native = valet.requests_session(client, base_url=custom.base_url, customize=custom.customize, adapter=own)
        native.headers.update(custom.headers or {})
        native.params.update(custom.params or {})
        for name, value in (custom.cookies or {}).items():
            native.cookies.set(name, value)
        native.auth = custom.auth
        if (after := custom.after) is not None:
            native.hooks["response"].append(lambda response, **_: after(response.request))
        return _Session(native, custom)

    def close_valet(self, valet: TokenValet) -> None:
        valet.close()

    @contextlib.contextmanager
    def on_another_loop(self) -> Iterator[RequestsDriver]:
        yield self

    def handed_over(self, answer: Answer) -> bytes:
        seen: list[object] = []
        for response in (*answer.native.history, answer.native):
            for twin in (response, copy.copy(response)):
                request = twin.request
                seen += [twin, twin.headers, vars(twin), request, request.headers, vars(request)]
            raw = response.raw
            seen += [vars(raw), getattr(raw._original_response, "__dict__", None), vars(response.connection)]
        return repr(seen).encode() + pickle.dumps(answer.native) + pickle.dumps(answer.native.request)
