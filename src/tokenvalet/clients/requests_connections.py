"""The connections of requests' adapters: an adapter of requests for each pool, shared by all sessions of a client."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import requests
from requests.adapters import HTTPAdapter

__all__ = ["CONNECTIONS"]

MOST_CONNECTIONS = 100  # to one origin, kept for the next call


class _Connections(HTTPAdapter):
    """The adapter of a pool: it speaks TLS, and goes through a proxy, as the client's configuration says."""

    def __init__(self, *, verify: Any, trust_env: bool, proxy: str | None) -> None:
        self._context = verify
        self._proxies = {"http": proxy, "https": proxy} if proxy is not None else None
        super().__init__(pool_maxsize=MOST_CONNECTIONS)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, **options, ssl_context=self._context)

    def build_connection_pool_key_attributes(self, *args: Any, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        host, _ = super().build_connection_pool_key_attributes(*args, **options)
        return host, {}

    def cert_verify(self, *_: Any) -> None:
        """Leave the authorities of requests out: the context has the ones that count."""

    def close(self) -> None:
        """Close what is idle now, and the others behind the last bytes of their answers."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118  which copies them
                if (pool := manager.pools.get(key)) is not None:
                    pool.close()
        super().close()

    def handle(self, request: requests.PreparedRequest, stream: bool, timeout: Any) -> requests.Response:
        return super().send(request, stream=stream, timeout=timeout, proxies=self._proxies)


# As `Pools` takes a library.
CONNECTIONS = SimpleNamespace(__name__="requests", HTTPTransport=_Connections)
