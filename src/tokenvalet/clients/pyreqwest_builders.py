"""What requests to pyreqwest's clients of a valet are built of: a builder hands on what it is told to one of pyreqwest."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pyreqwest.http import HeaderMap, Url
from pyreqwest.middleware.types import Middleware, SyncMiddleware
from pyreqwest.multipart import FormBuilder
from pyreqwest.types import ExtensionsType, FormParams, HeadersType, QueryParams, Stream

from ..errors import OriginError
from .pools import Pool
from .pyreqwest_connections import NOT_CONNECTED, undressed
from .pyreqwest_outgoing import has_own
from .pyreqwest_requests import ValetRequest, ValetStreamRequest, ValetSyncRequest, ValetSyncStreamRequest
from .pyreqwest_shell import Shell

__all__ = ["Settings", "ValetRequestBuilder", "ValetSyncRequestBuilder"]

_SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*:")
_BEFORE_PATH = re.compile("(?<![:/])[/?#]")
_NUMBER = re.compile("0[xX][0-9A-Fa-f]*|[0-9]+")
_AN_ADDRESS = Url("http://localhost/")


class Settings:
    """What is set on a client for all of its requests.

    Attributes:
        is_plain: whether they are nothing special.
        is_usual: whether they are as those of other clients of its name, so that these have ready ones in common.
        connections: whose ready requests are copied, if any.
    """

    __slots__ = (
        "base_url",
        "connections",
        "error_for_status",
        "headers",
        "is_plain",
        "is_usual",
        "middlewares",
        "shell",
        "timeout",
    )

    def __init__(
        self,
        shell: Shell,
        base_url: str | None,
        headers: HeadersType | None,
        timeout: timedelta | None,
        middlewares: Iterable[Any],
        error_for_status: bool,
    ) -> None:
        self.shell = shell
        self.base_url = base_url.rstrip("/") if base_url is not None else None
        self.headers = HeaderMap(headers) if headers else None
        self.timeout = timeout
        self.middlewares = tuple(middlewares)
        self.error_for_status = error_for_status
        self.is_plain = self.headers is None and not self.middlewares and not error_for_status
        self.is_usual = self.is_plain and base_url == shell.client.config.base_url
        self.connections: Any = NOT_CONNECTED

    def close(self) -> None:
        """Have no ready requests used any more."""
        self.is_usual, self.connections = False, NOT_CONNECTED

    def keep(self, address: str, native: Any, pool: Pool) -> None:
        """Have a request ready for the next to its address, and use those that other clients of the name have made ready."""
        if pool.transport.keep(address, native, pool):
            self.connections = pool.transport
            if not self.is_usual:  # closed by another thread
                self.connections = NOT_CONNECTED

    def absolute(self, url: Url | str) -> Url | str:
        """Return an address, behind the base URL if it has no host.

        Raises:
            OriginError: parsers differ in what host it has.
        """
        if not isinstance(url, str):
            return url
        if self.base_url is not None and url[:2] != "//" and (url[:1] == "/" or not _SCHEME.match(url)):
            return f"{self.base_url}/{url.lstrip('/')}"
        if "\\" in _BEFORE_PATH.split(url, maxsplit=1)[0] or _is_odd(urlsplit(url).hostname or ""):
            raise OriginError(
                f"client {self.shell.client.name!r}: no token goes to this URL: there is a backslash before its path, or a "
                "number in an odd notation, and parsers differ in what host that is"
            )
        return url


def _is_odd(host: str) -> bool:
    """Whether a host is a number, in another notation than an IPv4 address has (RFC 3986 §3.2.2)."""
    if _NUMBER.fullmatch(host.rpartition(".")[2] if host[-1:] != "." else host[:-1].rpartition(".")[2]) is None:
        return False
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return True
    return False


class _Builder:
    """What a request is built of; it hands on what it is told to a builder of pyreqwest, which checks it."""

    # What most requests leave as it is on the client; each is made for one call, and costs what is written into it.
    settings: Settings
    pool: Any
    maker: Any
    method: str
    address: Url | str
    _native: Any
    is_plain = False
    is_bare = True
    is_dressed = False
    is_special = False
    given: str | None = None
    raises: bool | None = None
    middlewares: tuple[Any, ...] = ()
    time_limit: timedelta | None = None
    _has_headers = False

    def __init__(self, settings: Settings, method: str, url: Url | str) -> None:
        self.settings = settings
        shell = settings.shell
        pool = shell.at_hand
        maker = pool.transport.native if pool is not None else None
        if maker is None:  # or another thread has replaced the pool
            pool, maker = shell.connections()
        self.pool, self.maker = pool, maker
        if not isinstance(url, str) or not url.startswith(shell.homes):
            url = settings.absolute(url)
            self.is_plain = settings.is_plain and isinstance(url, str) and url.startswith(shell.homes)
        elif settings.is_plain:
            self.is_plain = True
        self.method = method
        self.address = url
        self._native = maker.request(method, url)
        if self.pool.transport.token is not None and not (isinstance(url, str) and url.startswith(shell.homes)):
            self._name_again(Url(url) if isinstance(url, str) else url)
        if settings.timeout is not None:
            self.timeout(settings.timeout)

    def _name_again(self, url: Url) -> None:
        """Have credentials in an address be the header that pyreqwest makes of them, unless it wears the token."""
        if url.username or url.password is not None:
            password = unquote(url.password) if url.password is not None else None
            self.basic_auth(unquote(url.username or ""), password)

    def error_for_status(self, enable: bool = True) -> Self:
        """Raise pyreqwest's StatusError for an answer of 4xx or 5xx that is the caller's."""
        self._check_unbuilt()
        self.raises = enable
        self.is_plain = False
        return self

    def header(self, key: str, value: str, *, is_sensitive: bool = False) -> Self:
        """Append a header."""
        self._native.header(key, value, is_sensitive=is_sensitive)
        self._has_headers, self.is_bare = True, False
        return self

    def headers(self, headers: HeadersType) -> Self:
        """Merge several headers in."""
        self._native.headers(headers)
        self._has_headers, self.is_bare = True, False
        return self

    def basic_auth(self, username: str, password: str | None) -> Self:
        """Set credentials of one's own: the client refuses to send them, for it sets the header itself."""
        self._native.basic_auth(username, password)
        self._has_headers, self.is_bare = True, False
        return self

    def bearer_auth(self, token: str) -> Self:
        """Set a token of one's own: the client refuses to send it, for it sets the header itself."""
        self._native.bearer_auth(token)
        self._has_headers, self.is_bare = True, False
        return self

    def body_bytes(self, body: bytes | bytearray | memoryview) -> Self:
        """Set the body, which can be sent again."""
        self._native.body_bytes(body)
        self.is_bare = False
        return self

    def body_text(self, body: str) -> Self:
        """Set the body, which can be sent again."""
        self._native.body_text(body)
        self.is_bare = False
        return self

    def body_json(self, body: Any) -> Self:
        """Set the body and its type, to be sent as JSON; it can be sent again."""
        self._native.body_json(body)
        self.is_bare = False
        return self

    def body_stream(self, stream: Stream) -> Self:
        """Set the body. It can be sent again if the stream has a ``__copy__`` of its own."""
        self._native.body_stream(stream)
        self.is_plain = False
        return self

    def form(self, form: FormParams) -> Self:
        """Set the body and its type, to be sent as ``application/x-www-form-urlencoded``; it can be sent again."""
        # Not as a form of pyreqwest's, whose body would not be seen in the request.
        self._native.body_text(_AN_ADDRESS.with_query(form).query_string or "")
        self._native.header("Content-Type", "application/x-www-form-urlencoded")
        self.is_bare = False
        return self

    def multipart(self, multipart: FormBuilder) -> Self:
        """Set the body and its type, to be sent as ``multipart/form-data``, once: pyreqwest copies no form."""
        self._native.multipart(multipart)
        self.is_plain = False
        return self

    def query(self, query: QueryParams) -> Self:
        """Merge parameters into the query."""
        self._native.query(query)
        self.is_bare = False
        return self

    def timeout(self, timeout: timedelta) -> Self:
        """Set the time limit of each sending, from connecting to the end of the answer."""
        self._native.timeout(timeout)
        self.time_limit = timeout
        return self

    def extensions(self, extensions: ExtensionsType) -> Self:
        """Set what goes along inside the process: ``{"tokenvalet": TokenParameters(...)}`` for the token of this request."""
        self._native.extensions(extensions)
        self.is_special, self.is_plain = True, False
        return self

    def streamed_read_buffer_limit(self, value: int) -> Self:
        """Set how many bytes of an answer are read before it is handed over, and at a time."""
        self._native.streamed_read_buffer_limit(value)
        self.is_special, self.is_plain = True, False
        return self

    def _check_unbuilt(self) -> None:
        """Raise what pyreqwest does for a builder whose request is built; this is set on its clients by now."""
        self._native.error_for_status(False)

    def let_go(self) -> Any:
        """Return the client of pyreqwest that it was made by, and hold on to its connections no more."""
        maker, self.maker = self.maker, None
        return maker

    def anew(self, maker: Any) -> Any:
        """Return a bare request once more, undressed, by the same maker: pyreqwest lets go of one that was sent."""
        builder = maker.request(self.method, self.address)
        if self.time_limit is not None:
            builder = builder.timeout(self.time_limit)
        return undressed(builder.build_streamed(), self.pool.transport.token)

    def _bare(self) -> tuple[Any, Any]:
        """Return a bare request, and the connections whose token it wears."""
        native = self._native.build_streamed()
        self.is_dressed = True
        if self.given is not None and self.time_limit is None:
            self.settings.keep(self.given, native, self.pool)
        return native, self.pool.transport

    def _built(self) -> Any:
        """Return the request of pyreqwest, whose answer is always read as it comes, so that an endless 401 can be left."""
        native = self._native.build_streamed()
        if self.is_plain and not self._has_headers:
            self.is_dressed = True
            return native
        native = undressed(native, self.pool.transport.token)
        if self.settings.headers is not None:
            given = set(native.headers)
            for name, value in self.settings.headers.items():
                if name not in given:
                    native.headers.append(name, value)
        if self._has_headers and has_own(native.headers):
            self.is_plain = False
        return native

    def _with(self, middleware: Any) -> Self:
        self._check_unbuilt()
        self.middlewares = (*self.middlewares, middleware)
        self.is_plain = False
        return self


class ValetRequestBuilder(_Builder):
    """As pyreqwest's RequestBuilder."""

    def with_middleware(self, middleware: Middleware) -> Self:
        """Have the request go through a middleware, before it gets its token."""
        return self._with(middleware)

    def build(self) -> ValetRequest:
        """Return a request whose answer is read to its end when it is sent."""
        return ValetRequest(self, *(self._bare() if self.is_plain and self.is_bare else (self._built(), None)))

    def build_streamed(self) -> ValetStreamRequest:
        """Return a request whose answer is read as it comes."""
        return ValetStreamRequest(self, self._built(), None)


class ValetSyncRequestBuilder(_Builder):
    """As pyreqwest's SyncRequestBuilder."""

    def with_middleware(self, middleware: SyncMiddleware) -> Self:
        """Have the request go through a middleware, before it gets its token."""
        return self._with(middleware)

    def build(self) -> ValetSyncRequest:
        """Return a request whose answer is read to its end when it is sent."""
        return ValetSyncRequest(self, *(self._bare() if self.is_plain and self.is_bare else (self._built(), None)))

    def build_streamed(self) -> ValetSyncStreamRequest:
        """Return a request whose answer is read as it comes."""
        return ValetSyncStreamRequest(self, self._built(), None)
