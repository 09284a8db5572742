"""A web host whose handler calls a protected API through the client ``m2m``, and never sees a token."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx2
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from tokenvalet import TokenValet, TokenValetError

CONFIGURATION = Path(__file__).with_name("tokenvalet.toml")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    valet = app.state.valet = TokenValet.from_toml(CONFIGURATION)
    try:
        yield
    finally:
        await valet.aclose()


app = FastAPI(lifespan=lifespan)


async def m2m(request: Request) -> AsyncIterator[httpx2.AsyncClient]:
    # One for each request is fine: it takes microseconds, and all of them share their connections and tokens.
    async with request.app.state.valet.async_client("m2m") as api:
        yield api


@app.get("/records")
async def records(api: Annotated[httpx2.AsyncClient, Depends(m2m)]) -> Any:
    answer = await api.get("/api/v1/integration/health-records")
    if answer.is_error:
        raise HTTPException(502, f"the records API answered {answer.status_code}")
    return answer.json()


@app.exception_handler(TokenValetError)
async def no_token(request: Request, error: TokenValetError) -> JSONResponse:
    # The text says what was tried and what to do, and has no secret in it; the code is for whoever calls us.
    return JSONResponse({"detail": "the records cannot be had at the moment", "code": error.code}, status_code=503)
