"""The connections of pyreqwest's clients: a client of pyreqwest for each pool, shared by all clients of a name.

pyreqwest is on no event loop: its connections live on a thread of its own, so that one pool serves threads and loops
alike. They end with the last call that uses them, once nobody can ask for the pool any more; no call is counted here.

A pool is made with the token that is at hand as a header of all its requests, since one that is set for each of them costs
as much as all else that is done here for a call. Whoever is to see a request, or sends it with another token or none, has
it undressed first.
"""

from __future__ import annotations

import os
import re
from types import SimpleNamespace
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives import serialization
from pyreqwest.client import BaseClientBuilder, Client, ClientBuilder, SyncClient, SyncClientBuilder
from pyreqwest.http import HeaderMap
from pyreqwest.proxy import ProxyBuilder

from ..at_hand import AtHand
from ..core.secret import Secret
from ..core.token import AccessToken
from ..errors import ConfigurationError
from ..named_client import NamedClient
from ..tls import TlsIdentity
from .pools import POOL_SECONDS, Pool

__all__ = ["ASYNC_CONNECTIONS", "CONNECTIONS", "NOT_CONNECTED", "forked", "own_pool", "undressed"]

_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)

# For how many addresses requests are kept ready.
MOST_READY = 256

Builder = TypeVar("Builder", bound=BaseClientBuilder)


class _UncountedPool(Pool):
    """A pool whose calls nobody counts: its connections are closed behind the last of them all the same."""

    __slots__ = ()

    def serves(self, now: float, identity: TlsIdentity | None) -> bool:
        return not self._retired and super().serves(now, identity)

    def enter(self, now: float, identity: TlsIdentity | None) -> bool:
        # As `serves` says, in one step less.
        return not self._retired and now - self.made < POOL_SECONDS and (identity is None or identity is self.identity)

    def leave(self) -> bool:
        return False

    def retire(self) -> bool:
        done, self._retired = self._retired, True
        self.transport.lapse()
        return not done

    def leave_behind(self) -> None:
        super().leave_behind()
        self.transport.leave_behind()


class _OwnPool(_UncountedPool):
    """The pool of a caller's own connections; nobody tells it of a fork, so that it looks for itself."""

    __slots__ = ()

    def enter(self, now: float, identity: TlsIdentity | None) -> bool:
        return not self.transport.is_left_behind and super().enter(now, identity)


class Ready:
    """A request with nothing of its own, of which copies are sent.

    Attributes:
        address: as it was asked for.
        native: the request of pyreqwest; None once its connections are closed.
        pool, connections: which it is sent over.
    """

    __slots__ = ("address", "connections", "native", "pool")

    def __init__(self, address: str, native: Any, pool: Pool) -> None:
        self.address = address
        self.native = native
        self.pool = pool
        self.connections = pool.transport


class Connections:
    """The client of a pool: it speaks TLS, and goes through a proxy, as the client's configuration says.

    Attributes:
        native: the client of pyreqwest; None once it is closed, or is that of another process.
        token: what all requests that it makes are dressed with, if with any.
        is_used: whether a request was sent with it.
        ready: requests of which copies are sent, by the address that they were asked for with.
        at_hand: that token, as long as it may be sent over these.
    """

    pool_class = _UncountedPool
    _builder: Any

    def __init__(self, native: Client | SyncClient) -> None:
        self.native: Any = native
        self.token: AccessToken | None = None
        self.is_used = False
        self.process = os.getpid()
        self.ready: dict[str, Ready] = {}
        self._met: set[str] = set()
        self.at_hand = AtHand.never()

    def wear(self, at_hand: AtHand) -> None:
        """Note the token that all requests are dressed with."""
        self.token, self.at_hand = at_hand.token, at_hand
        at_hand.until = min(at_hand.until, at_hand.monotonic() + POOL_SECONDS)

    def lapse(self) -> None:
        """Have the token be sent as it was put on no more, since their pool takes no more calls."""
        self.at_hand.lapse()

    def keep(self, address: str, native: Any, pool: Pool) -> bool:
        """Have a copy of a request ready for the next to its address, from the second on; none that has a query.

        Args:
            address: as it was asked for.
            native: a request of the client of this pool.
            pool: that of these connections.

        Returns:
            Whether there is one: there is none on connections that take no more calls.
        """
        if "?" in address or not self.at_hand.is_current():
            return False
        if address not in self._met:
            if len(self._met) >= MOST_READY:
                self._met, self.ready = set(), {}
            self._met.add(address)
            return False
        if address not in self.ready:
            self.ready[address] = Ready(address, native.copy(), pool)
            if self.native is None:  # closed by another thread
                self.close()
        return True

    @property
    def is_left_behind(self) -> bool:
        """Whether this is a forked child of the process that it was made in, where nothing would ever answer."""
        return os.getpid() != self.process

    def close(self) -> None:
        """Let go of the client of pyreqwest: its connections end with the last call that holds on to it."""
        self.lapse()
        former, self.native, self.ready = self.ready, None, {}
        for ready in former.copy().values():
            ready.native = None

    def leave_behind(self) -> None:
        """As `close`, in a forked child: what is its parent's is not collected there."""
        self._parents = self.native, [ready.native for ready in self.ready.values()]
        self.close()

    @classmethod
    def speaking_for(
        cls, client: NamedClient, identity: TlsIdentity, *, abroad: bool, proxy: str | None, at_hand: AtHand | None
    ) -> Connections:
        """Make connections as a client's configuration says, with the token that is at hand, if there is one."""
        token = at_hand.token if at_hand is not None else None
        made = cls(_built(cls._builder, client, identity, abroad, proxy, token))
        if at_hand is not None:
            made.wear(at_hand)
        return made


class _SyncConnections(Connections):
    _builder = SyncClientBuilder


class _AsyncConnections(Connections):
    _builder = ClientBuilder


# In the place of connections, where there are none.
NOT_CONNECTED = SimpleNamespace(ready={})

# As `Pools` takes a library.
CONNECTIONS = SimpleNamespace(__name__="pyreqwest", HTTPTransport=_SyncConnections)
ASYNC_CONNECTIONS = SimpleNamespace(__name__="pyreqwest, async", HTTPTransport=_AsyncConnections)


def own_pool(builder: ClientBuilder | SyncClientBuilder) -> Pool:
    """Return connections of the caller's own, as a pool that is never replaced."""
    return _OwnPool(Connections(_hop_by_hop(builder).build()), None, float("inf"))  # type: ignore[arg-type]


def forked(client: NamedClient) -> ConfigurationError:
    """Return the error for a child whose parent used pyreqwest."""
    return ConfigurationError(
        f"client {client.name!r}: pyreqwest was used before the process forked, and cannot be used in the child: fork "
        "before the first call, or start processes by spawn",
        code="library_does_not_fork",
    )


def _hop_by_hop(builder: Builder) -> Builder:
    """Have answers handed over as they come, redirects and errors too, since each hop is decided upon here."""
    return builder.follow_redirects(False).error_for_status(False)


def undressed(native: Any, token: AccessToken | None) -> Any:
    """Return a request of pyreqwest without the header of the token that it was made with, if with any."""
    if token is not None:
        headers = native.headers
        # Another one is the caller's own, which is refused where it matters.
        if headers.get("authorization") == token.authorization.decode("ascii"):
            del headers["authorization"]
    return native


def _built(
    kind: Any, client: NamedClient, identity: TlsIdentity, abroad: bool, proxy: str | None, token: AccessToken | None
) -> Any:
    try:
        return _dressed(_configured(kind(), client, identity, abroad, proxy), token).build()
    except RuntimeError as error:
        if "fork" not in str(error):
            raise
    # The thread that all clients of the parent share by default is not here; those of the other kind are made anew.
    try:
        builder = _configured(kind(), client, identity, abroad, proxy).runtime_multithreaded(True)
        return _dressed(builder, token).build()
    except RuntimeError:
        raise forked(client) from None


def _dressed(builder: Builder, token: AccessToken | None) -> Builder:
    if token is None:
        return builder
    headers = HeaderMap()
    # Shown by no repr, and entered into no table of HTTP/2 (RFC 7541 §7.1.3).
    headers.append("Authorization", token.authorization.decode("ascii"), is_sensitive=True)
    return builder.default_headers(headers)


def _configured(
    builder: Builder, client: NamedClient, identity: TlsIdentity, abroad: bool, proxy: str | None
) -> Builder:
    config = client.config
    builder = _hop_by_hop(builder).no_proxy().min_tls_version("TLSv1.2")
    if config.ca_file is not None:
        for authority in identity.context.get_ca_certs(binary_form=True):
            builder.add_root_certificate_der(authority)
    if config.allow_insecure_tls:
        builder.danger_accept_invalid_certs(True)
    if identity.certificate is not None and not abroad:
        builder.identity_pem(_readable(identity.certificate, config.private_key_password))
    if proxy is not None:
        builder.proxy(_proxy(proxy))
    return builder


def _readable(certificate: Secret, password: Secret | None) -> bytes:
    """Return a certificate and its key as PEM that is not encrypted."""
    content = certificate.reveal().encode("ascii", "replace")
    if b"ENCRYPTED" not in content:
        return content
    given = password.reveal().encode() if password is not None else None

    def opened(key: re.Match[bytes]) -> bytes:
        return serialization.load_pem_private_key(key[0], given).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    return _PRIVATE_KEY.sub(opened, content)


def _proxy(url: str) -> ProxyBuilder:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    proxy = ProxyBuilder.all(f"{parts.scheme}://{host}")
    if parts.username is None:
        return proxy
    # Apart from the address, which is shown in errors.
    return proxy.basic_auth(unquote(parts.username), unquote(parts.password or ""))
