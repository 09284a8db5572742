"""May this origin have the token? May this body be sent twice?

A token goes to the origins that were allowed, over TLS or loopback, and to no others (RFC 6750 §5.3). Origins are
compared as (scheme, host, port) of the address that is really used, never as text, so that ``http://127.0.0.1@evil/``
and its kin find nothing to exploit.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from ..errors import OriginError, shown

__all__ = ["Guard", "Origin", "is_loopback", "parse_origin", "path_of", "same_site"]

DEFAULT_PORTS = {"https": 443, "http": 80}
# A WebSocket handshake is an HTTP request, to the same origin and under the same rule.
_HTTP_SCHEMES = {"https": "https", "http": "http", "wss": "https", "ws": "http"}


class Origin(NamedTuple):
    """Scheme, host and effective port, in the form in which they are compared (RFC 6454 §4)."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """Return the origin as a URL without path; a default port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS.get(self.scheme) else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def is_safe(self) -> bool:
        """Whether a token may travel there: over TLS, or not over a network at all."""
        return self.scheme == "https" or is_loopback(self.host)


def origin_of(scheme: str, host: str, port: int | None) -> Origin:
    """Return the origin of an address that was parsed already; `host` is in A-labels, without brackets."""
    scheme = _HTTP_SCHEMES.get(scheme.lower(), scheme.lower())
    bare = host.lower()
    bare = bare[:-1] if bare.endswith(".") else bare
    return Origin(scheme, bare, port if port is not None else DEFAULT_PORTS.get(scheme, 0))


def is_loopback(host: str) -> bool:
    """Whether a parsed host is this machine: 127.0.0.0/8, ::1 or localhost, and nothing else."""
    if host == "localhost":
        return True
    if "%" in host:  # a zone: an address of some interface
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_origin(url: str) -> Origin:
    """Return the origin of an absolute http(s) URL from a configuration.

    Raises:
        ValueError: it is no absolute http(s) URL, has user information in it, or a host or port that cannot be.
    """
    if any(ch.isspace() or not ch.isprintable() or ch == "\\" for ch in url):
        raise ValueError("it has a blank, a backslash or a control character in it")
    try:
        parts = urlsplit(url)
        hostname, port = parts.hostname, parts.port
    except ValueError:
        parts = None
    if parts is None:  # outside the handler, since the exception may quote the URL with a password in it
        raise ValueError("its host or port cannot be")
    if parts.scheme not in DEFAULT_PORTS or not hostname or hostname == ".":
        raise ValueError("it is not an absolute URL such as https://api.example.org")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it has user information (name@) in it")
    host = hostname
    if not host.isascii():
        import idna

        try:
            host = idna.encode(host).decode("ascii")
        except idna.IDNAError:
            raise ValueError("its host is no valid international domain name") from None
    return origin_of(parts.scheme, host, port)


def path_of(url: str) -> str:
    """Return the path of an absolute URL as it goes into a request line, without query and fragment."""
    rest = re.split(r"[?#]", url.partition("://")[2], maxsplit=1)[0]
    path = f"/{rest.partition('/')[2]}"
    # As every library writes it; what is in ASCII is left as it is.
    return path if path.isascii() else "".join(one if one.isascii() else quote(one) for one in path)


def same_site(host: str, other: str) -> bool:
    """Whether two hosts plainly belong to one organisation: equal, both loopback, or under one registrable domain.

    The registrable domain is taken as the last two labels, or three below a short second level such as ``co.uk``. It
    serves to doubt what metadata says, never to decide where a token may go.
    """
    if host == other or (is_loopback(host) and is_loopback(other)):
        return True
    return _site(host) is not None and _site(host) == _site(other)


def _site(host: str) -> tuple[str, ...] | None:
    labels = host.split(".")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return None
    if len(labels) < 2:
        return None
    wanted = 3 if len(labels[-1]) == 2 and len(labels[-2]) <= 3 else 2
    return tuple(labels[-wanted:]) if len(labels) >= wanted else None


def _as_written_by_others(origin: Origin) -> Origin:
    """Return an origin with its IPv6 address as short as it can be (RFC 5952), as some HTTP libraries write it."""
    if ":" not in origin.host:
        return origin
    try:
        return origin._replace(host=ipaddress.IPv6Address(origin.host).compressed)
    except ValueError:
        return origin


class Guard:
    """The origins that one client's tokens may go to.

    Attributes:
        allowed: those that were configured.
        home: those of them where a token may travel to: over TLS, or not over a network at all.
    """

    __slots__ = ("allowed", "client", "home")

    def __init__(self, client: str, allowed: Iterable[Origin]) -> None:
        self.client = client
        origins = frozenset(allowed)
        self.allowed = origins | {_as_written_by_others(origin) for origin in origins}
        # Worked out once: this is asked for every request.
        self.home = frozenset(origin for origin in self.allowed if origin.is_safe)

    def check(self, origin: Origin) -> None:
        """Raise OriginError, with the remedy, unless a token of this client may go to `origin`."""
        if origin in self.allowed:
            if origin.is_safe:
                return
            raise OriginError(
                f"client {self.client!r}: {shown(str(origin))} is not reached over TLS, and a token may only leave "
                "this machine over TLS (RFC 6750 §5.3): use https"
            )
        if not self.allowed:
            raise OriginError(
                f"client {self.client!r} has neither base_url nor allowed_origins, so its tokens are served by hand "
                f"only: set base_url to let them go to {shown(str(origin))}"
            )
        allowed = ", ".join(sorted(str(one) for one in self.allowed))
        raise OriginError(
            f"client {self.client!r}: its token may go to {allowed} and not to {shown(str(origin))}; nothing was sent. "
            "If it belongs there, add the origin to allowed_origins; else use an HTTP client without a token"
        )
