"""A Starlette service whose endpoint calls a protected API through the client ``m2m``, and never sees a token."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tokenvalet import TokenValetError
from tokenvalet.hosts.starlette import lifespan, readiness, valet_of


async def records(request: Request) -> JSONResponse:
    async with valet_of(request).async_client("m2m") as api:
        answer = await api.get("/api/v1/integration/health-records")
    return JSONResponse(answer.json(), answer.status_code)


async def no_token(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TokenValetError)
    return JSONResponse({"detail": "the records cannot be had at the moment", "code": error.code}, status_code=503)


app = Starlette(
    routes=[Route("/records", records), Route("/ready", readiness())],
    lifespan=lifespan(Path(__file__).with_name("tokenvalet.toml")),
    exception_handlers={TokenValetError: no_token},
)
