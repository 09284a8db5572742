"""The HTTP client that talks to token endpoints and metadata, and to nobody else.

Blocking, without redirects, cookies, .netrc or content codings; answers are bounded in bytes, and the whole of a request
is bounded in time: a server that trickles its answer byte by byte, a host with many dead addresses and a resolver that
hangs meet the same deadline as one that is silent. That needs a network backend of our own (`deadlines`), which is why this
is httpcore and not the client above it.
"""

from __future__ import annotations

import ssl
import threading
import time
import urllib.request
from collections.abc import Iterable
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import httpcore2

from .configuration_values import ENVIRONMENT_PROXY
from .core.messages import Failure, HttpReply, HttpRequest
from .core.secret import Secret
from .deadlines import DeadlineBackend, DeadlineStream, TooManyBytes
from .tls import TlsIdentity

__all__ = ["Backchannel", "HttpBackchannel", "proxy_for", "read_answer"]

LARGEST_BODY = 1024 * 1024
KEEP_ALIVE = 5.0
UNUSED_SECONDS = 900.0  # longer than any request may take
# A configured one was looked at when it was read. It may hold a password, so that it is not shown.
_UNUSABLE_PROXY = Failure(code="unreachable", detail="the environment names a proxy that cannot be used")
_TOO_LONG = Failure(code="answer_refused", detail=f"it has more than {LARGEST_BODY} bytes")
# What a server sent beyond its last answer, such as the same answer twice: the token in it is another request's.
_LEFT_OVER = Failure(code="broken_answer", detail="an answer was there before the request was sent")


class Backchannel(Protocol):
    """Whatever can carry a token request. The one of the valet speaks HTTP; tests may hand over another."""

    def send(
        self, request: HttpRequest, *, timeout: float, identity: TlsIdentity | None, proxy: Secret | None
    ) -> HttpReply | Failure:
        """Return the complete answer, or why there is none, within `timeout` seconds. Never raises."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...

    def after_fork(self) -> None:
        """Begin anew in a forked child, whose connections are the parent's."""
        ...


class HttpBackchannel:
    """Token requests over HTTP/1.1, one pool of connections for each TLS identity and proxy."""

    def __init__(self) -> None:
        self._pools: dict[tuple[int, Secret | None], _Pool] = {}
        self._left_behind: list[Any] = []
        self._lock = threading.Lock()
        self._backend = DeadlineBackend()

    def send(
        self, request: HttpRequest, *, timeout: float, identity: TlsIdentity | None, proxy: Secret | None
    ) -> HttpReply | Failure:
        """Return the complete answer, or why there is none, within `timeout` seconds."""
        self._backend.begin(timeout)
        through = proxy_for(request.url, proxy)
        result = self._exchange(request, timeout, identity, through)
        if through is not None and isinstance(result, Failure) and result.code in ("unreachable", "timeout"):
            return Failure(code=result.code, detail=f"{result.detail} (through the proxy that is configured)")
        return result

    def _exchange(
        self, request: HttpRequest, timeout: float, identity: TlsIdentity | None, proxy: Secret | None
    ) -> HttpReply | Failure:
        try:
            pool = self._pool(identity, proxy)
        except ValueError:
            return _UNUSABLE_PROXY
        limits = {"connect": timeout, "read": timeout, "write": timeout, "pool": timeout}
        try:
            with pool.stream(
                request.method,
                request.url,
                headers=[*request.headers, ("Connection", "keep-alive")],
                content=request.body,
                extensions={"timeout": limits},
            ) as response:
                stream = response.extensions.get("network_stream")
                if isinstance(stream, DeadlineStream) and not stream.answered:
                    return _LEFT_OVER
                return read_answer(response.status, response.headers, response.iter_stream())
        except TooManyBytes:
            return _TOO_LONG
        except (httpcore2.TimeoutException, TimeoutError):
            return Failure(code="timeout", detail=f"it took longer than {timeout:.1f} s")
        except (httpcore2.ConnectError, httpcore2.ProxyError) as error:
            return _connect_failure(error)
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.UnsupportedProtocol) as error:
            # With TLS 1.3 a server looks at the client certificate when the client believes that all is well.
            if (alert := _alert(error)) is not None:
                return alert
            # The texts of these may quote headers, so only their kind is told.
            kind = type(error).__name__
            return Failure(code="broken_answer", detail=f"the connection broke, or what came was no HTTP ({kind})")
        except ImportError:  # of what SOCKS needs
            return _UNUSABLE_PROXY
        except (OSError, ValueError, UnicodeError) as error:
            return Failure(code="unreachable", detail=type(error).__name__)

    def close(self) -> None:
        """Close all connections, for good: one that is being made is closed as soon as it is."""
        with self._lock:
            pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            pool.connections.close()
        self._backend.close()

    def after_fork(self) -> None:
        """Begin anew in a forked child. The parent's connections are kept from being collected, and not touched."""
        self._lock = threading.Lock()
        self._left_behind += self._pools.values()
        self._backend.after_fork()
        self._pools = {}

    def _pool(self, identity: TlsIdentity | None, proxy: Secret | None) -> httpcore2.ConnectionPool:
        key = (id(identity), proxy)
        with self._lock:
            known = self._pools.get(key)
            if known is not None and known.identity is identity:
                known.used = time.monotonic()
                return known.connections
            way = _proxy(proxy) if proxy is not None else None
            # A certificate that was rotated leaves a pool behind that nobody will ask for again.
            unused = [one for one, pool in self._pools.items() if time.monotonic() - pool.used > UNUSED_SECONDS]
            leaving = [self._pools.pop(one) for one in unused]
            connections = httpcore2.ConnectionPool(
                ssl_context=identity.context if identity is not None else None,
                proxy=way,
                max_connections=None,
                keepalive_expiry=KEEP_ALIVE,
                network_backend=self._backend,
            )
            self._pools[key] = _Pool(identity, connections)
        for pool in leaving:
            pool.connections.close()
        return connections


class _Pool:
    __slots__ = ("connections", "identity", "used")

    def __init__(self, identity: TlsIdentity | None, connections: httpcore2.ConnectionPool) -> None:
        self.identity = identity
        self.connections = connections
        self.used = time.monotonic()


def proxy_for(url: str, proxy: Secret | None) -> Secret | None:
    """Return the proxy that `url` is reached through, or None.

    Only TLS goes through proxies, inside CONNECT: what is not encrypted never leaves this machine anyway.
    """
    if proxy is None or not url.startswith("https:"):
        return None
    if proxy.reveal() != ENVIRONMENT_PROXY:
        return proxy
    host = url.split("/", 3)[2]
    if urllib.request.proxy_bypass(host):
        return None
    found = urllib.request.getproxies()
    # Variables that name host and port alone are common, and mean this everywhere.
    return next((Secret(_with_scheme(found[kind])) for kind in ("https", "all") if found.get(kind)), None)


def _with_scheme(url: str) -> str:
    return url if "://" in url else f"http://{url}"


def _proxy(url: Secret) -> httpcore2.Proxy:
    """Return the proxy at a URL. Raises ValueError where it can be none."""
    parts = urlsplit(url.reveal())
    if parts.scheme not in ("http", "https", "socks5", "socks5h") or not parts.hostname:
        raise ValueError("not the URL of a proxy")
    auth = None
    if parts.username is not None:
        # As UTF-8 (RFC 7617 §2.1): httpcore takes text for ASCII.
        auth = (unquote(parts.username).encode(), unquote(parts.password or "").encode())
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    return httpcore2.Proxy(f"{parts.scheme}://{host}{port}", auth=auth)


def read_answer(status: int, headers: Iterable[tuple[bytes, bytes]], chunks: Iterable[bytes]) -> HttpReply | Failure:
    """Return an answer that came whole, or why it was not read to its end."""
    fields = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)
    for name, value in fields:
        if name == "content-encoding" and value.strip().lower() not in ("", "identity"):
            return Failure(code="answer_refused", detail="it came compressed though that was not asked for")
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > LARGEST_BODY:
            return _TOO_LONG
    return HttpReply(status=status, headers=fields, body=bytes(body))


def _connect_failure(error: Exception) -> Failure:
    if isinstance(error, httpcore2.ProxyError):
        # What follows the status is the proxy's own words, which may be those that it was sent.
        status = str(error)[:3]
        said = f"the proxy answered {status}" if status.isdecimal() else "the proxy refused"
        return Failure(
            code="unreachable", detail=f"{said}: check the user and the password in proxy" if status == "407" else said
        )
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Failure(code="tls", detail=f"its certificate is not trusted: {cause.verify_message}")
        if isinstance(cause, ssl.SSLError):
            return Failure(code="tls", detail=f"the TLS handshake failed: {cause.reason or 'no reason given'}")
        if isinstance(cause, OSError) and cause.strerror:
            return Failure(code="unreachable", detail=cause.strerror)
        cause = cause.__cause__ or cause.__context__
    return Failure(code="unreachable", detail="no connection could be made")


def _alert(error: BaseException) -> Failure | None:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
            return Failure(code="tls", detail=f"the server ended the connection: {cause.reason}")
        cause = cause.__cause__ or cause.__context__
    return None
