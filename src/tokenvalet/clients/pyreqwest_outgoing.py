"""A request of pyreqwest on its way: what it takes to send it again, over other connections, or to another address."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

from pyreqwest.http import Url
from pyreqwest.request import RequestBuilder

from ..core.token import AccessToken
from .pools import Pool

__all__ = ["ALREADY_SENT", "Outgoing", "following", "has_own", "is_read", "keeps_body", "leads_to"]

ALREADY_SENT = "Request was already sent"  # as pyreqwest says it
# How many bytes of an answer are read before it is handed over.
BUFFER = RequestBuilder.default_streamed_read_buffer_limit()
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# What describes a body, and what belongs to one origin.
OF_A_BODY = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-type",
    "transfer-encoding",
)
OF_AN_ORIGIN = ("authorization", "cookie", "host", "proxy-authorization")


class Outgoing:
    """One request, as its caller made it.

    Attributes:
        native: the request of pyreqwest; it is not sent itself, as long as it can be copied.
        maker: the client of pyreqwest that it was made by.
        pool: whose that is.
        timeout: its time limit, which pyreqwest does not tell.
        is_special: whether there is something about it beyond method, address, headers and body.
        is_spent: whether it was sent itself, so that it cannot be sent again.
        token: with which it was sent by now.
    """

    __slots__ = ("is_special", "is_spent", "maker", "native", "pool", "timeout", "token")

    def __init__(self, native: Any, pool: Pool, maker: Any, timeout: timedelta | None, *, is_special: bool) -> None:
        self.native = native
        self.pool = pool
        self.maker = maker
        self.timeout = timeout
        self.is_special = is_special
        self.is_spent = False
        self.token: AccessToken | None = None

    @property
    def has_body(self) -> bool:
        """Whether a body would go along. That of a multipart form is known by its headers only."""
        headers = self.native.headers
        if self.is_spent or self.native.body is not None or "transfer-encoding" in headers:
            return True
        return headers.get("content-length", "0").strip() != "0" or _is_multipart(headers)

    def take(self) -> Any:
        """Return what to send: a copy, or, where the body allows for none, the request itself, for the only time."""
        if self.is_spent:
            raise RuntimeError(ALREADY_SENT)
        try:
            return self.native.copy()
        except Exception:  # noqa: BLE001  a body says in its own way that it cannot be copied
            spent = self.native
        self.native = self._anew(self.maker, spent.method, spent.url, spent.headers, None)
        self.is_spent = True
        return spent

    def move_to(self, pool: Pool, maker: Any) -> bool:
        """Have it sent over other connections. Returns False where that cannot be: a multipart form is of its client."""
        native = self.native
        if native.body is None and _is_multipart(native.headers):
            return False
        self.native = self._anew(maker, native.method, native.url, native.headers, native.body)
        self.pool, self.maker = pool, maker
        return True

    def towards(self, method: str, url: Url, *, keeps_body: bool, goes_abroad: bool) -> Outgoing | None:
        """Return the request that a redirect asks for, or None where its body cannot be sent again."""
        if keeps_body and self.is_spent:
            return None
        headers = self.native.headers.copy()
        for name in (*(() if keeps_body else OF_A_BODY), *(OF_AN_ORIGIN if goes_abroad else ())):
            headers.pop(name, None)
        made = self._anew(self.maker, method, url, headers, self.native.copy().body if keeps_body else None)
        return Outgoing(made, self.pool, self.maker, self.timeout, is_special=self.is_special)

    def _anew(self, maker: Any, method: str, url: Url, headers: Any, body: Any) -> Any:
        builder: RequestBuilder = maker.request(method, url)
        if self.timeout is not None:
            builder = builder.timeout(self.timeout)
        builder = builder.streamed_read_buffer_limit(self.native.read_buffer_limit)
        made = builder.build_streamed()
        made.headers = headers
        made.extensions = self.native.extensions
        if body is not None:
            made.body = body
        return made


def has_own(headers: Any) -> bool:
    """Whether there is a header that only this package sets."""
    return "authorization" in headers or "dpop" in headers


def is_read(response: Any) -> bool:
    """Whether an answer is known to have been read to its end before it was handed over, as short ones are."""
    length = response.get_header("content-length")
    # Four digits are fewer than the buffer has room for.
    return length is not None and (len(length) <= 4 or int(length) < BUFFER)


def leads_to(url: Url, response: Any) -> Url | None:
    """Return where an answer redirects to, or None (RFC 9110 §15.4)."""
    if response.status not in REDIRECTS:
        return None
    with contextlib.suppress(Exception):  # a Location that is no text, or no address
        if (location := response.get_header("location")) is not None:
            return url.join(location)
    return None


def keeps_body(method: str, status: int) -> bool:
    """Whether a redirect has the same request sent again; a POST becomes a GET, as browsers have it (RFC 9110 §15.4)."""
    return not (status == 303 and method != "HEAD") and not (status in (301, 302) and method == "POST")


def following(outgoing: Outgoing, status: int, target: Url) -> Outgoing | None:
    """Return the request that a redirect asks for, or None where its body cannot be sent again."""
    native = outgoing.native
    keeps = keeps_body(native.method, status)
    goes_abroad = _address(target) != _address(native.url)
    return outgoing.towards(native.method if keeps else "GET", target, keeps_body=keeps, goes_abroad=goes_abroad)


def _address(url: Url) -> tuple[str, str | None, int | None]:
    return url.scheme, url.host_str, url.port


def _is_multipart(headers: Any) -> bool:
    return str(headers.get("content-type", "")).lower().startswith("multipart/")
