"""niquests: adapters that send each hop of a request with the token of a valet, for sync and async sessions.

A redirect is a hop of its own, so that it gets what belongs to it; one to another origin is refused, as is a URL abroad.
TLS, proxies and time limits are those of the session; its `retries` are not used, for a proof is made for one sending.
niquests replaces the urllib3 of requests, so have no requests in the same environment, or install it as its page says.
"""

from __future__ import annotations

from typing import Any

import niquests
from niquests.adapters import AsyncHTTPAdapter, HTTPAdapter

from tokenvalet import TokenValet


def is_repeatable(request: niquests.PreparedRequest) -> bool:
    return request.body is None or isinstance(request.body, bytes | str)


def with_headers(request: niquests.PreparedRequest, headers: dict[str, str]) -> niquests.PreparedRequest:
    """Return a copy, so that neither a redirect, a response nor an error has the token in it."""
    sent = request.copy()
    sent.headers.update(headers)
    return sent


class ValetAdapter(HTTPAdapter):
    def __init__(self, valet: TokenValet, name: str | None = None) -> None:
        super().__init__()
        self._valet = valet
        self._name = name

    def send(self, request: niquests.PreparedRequest, *args: Any, **options: Any) -> niquests.Response:
        # A lazy answer has no status yet.
        options["multiplexed"] = False
        call = self._valet.call(self._name, request.method, request.url, repeatable=is_repeatable(request))
        while True:
            try:
                response = super().send(with_headers(request, call.headers), *args, **options)
            except niquests.RequestException as error:
                error.request = request
                raise
            response.request = request
            if not call.answered(response.status_code, response.headers):
                return response
            response.close()


class AsyncValetAdapter(AsyncHTTPAdapter):
    def __init__(self, valet: TokenValet, name: str | None = None) -> None:
        super().__init__()
        self._valet = valet
        self._name = name

    async def send(self, request: niquests.PreparedRequest, *args: Any, **options: Any) -> niquests.AsyncResponse:
        options["multiplexed"] = False
        repeatable = is_repeatable(request)
        call = await self._valet.async_call(self._name, request.method, request.url, repeatable=repeatable)
        while True:
            try:
                response = await super().send(with_headers(request, call.headers), *args, **options)
            except niquests.RequestException as error:
                error.request = request
                raise
            response.request = request
            if not await call.answered(response.status_code, response.headers):
                return response
            await response.close()


class Session(niquests.Session):
    """A session all of whose requests go through the valet's adapter."""

    def __init__(self, valet: TokenValet, name: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._of_valet = ValetAdapter(valet, name)

    def get_adapter(self, url: str) -> Any:
        return self._of_valet

    def close(self) -> None:
        self._of_valet.close()
        super().close()


class AsyncSession(niquests.AsyncSession):
    """An async session all of whose requests go through the valet's adapter."""

    def __init__(self, valet: TokenValet, name: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._of_valet = AsyncValetAdapter(valet, name)

    def get_adapter(self, url: str) -> Any:
        return self._of_valet

    async def close(self) -> None:
        await self._of_valet.close()
        await super().close()


if __name__ == "__main__":
    with TokenValet.from_toml("tokenvalet.toml") as valet, Session(valet) as api:
        print(api.get("https://api.example.org/api/v1/integration/health-records").json())
