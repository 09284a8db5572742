"""The demo's web host: a service whose handler gets the client ``m2m``, calls the API, and never sees a token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ..errors import TokenValetError
from ..valet import TokenValet

__all__ = ["RECORDS_PATH", "web_host"]

RECORDS_PATH = "/api/v1/integration/health-records"


def web_host(valet: TokenValet, say: Callable[[str, str, str], None]) -> Starlette:
    """Return the host as an ASGI application; it closes the valet when it ends. say: tells who does what with whom."""

    async def records(request: Request) -> JSONResponse:
        say("service", 'client "m2m"', f'get("{RECORDS_PATH}")')
        async with valet.async_client("m2m") as api:
            answer = await api.get(RECORDS_PATH)
        if answer.status_code != 200:
            return JSONResponse({"error": f"the API answered {answer.status_code}"}, status_code=502)
        return JSONResponse({"records": answer.json()})

    async def no_token(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=503)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await valet.aclose()

    return Starlette(
        routes=[Route("/", records), Route("/records", records)],
        exception_handlers={TokenValetError: no_token},
        lifespan=lifespan,
    )
