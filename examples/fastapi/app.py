"""A FastAPI service whose handlers call a protected API through the client ``m2m``, and never see a token."""

from pathlib import Path
from typing import Annotated, Any

import httpx2
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from tokenvalet import TokenValetError
from tokenvalet.hosts.fastapi import client, lifespan, readiness, sync_client

app = FastAPI(lifespan=lifespan(Path(__file__).with_name("tokenvalet.toml")))
app.add_route("/ready", readiness())

# One client for each request is fine: it takes microseconds, and all of them share their connections and tokens.
Records = Annotated[httpx2.AsyncClient, Depends(client("m2m"))]


@app.get("/records")
async def records(api: Records) -> Any:
    answer = await api.get("/api/v1/integration/health-records")
    if answer.is_error:
        raise HTTPException(502, f"the records API answered {answer.status_code}")
    return answer.json()


@app.get("/records/in-a-thread")
def records_in_a_thread(api: Annotated[httpx2.Client, Depends(sync_client("m2m"))]) -> Any:
    return api.get("/api/v1/integration/health-records").raise_for_status().json()


@app.exception_handler(TokenValetError)
async def no_token(request: Request, error: TokenValetError) -> JSONResponse:
    # The text says what was tried and what to do, and has no secret in it; the code is for whoever calls us.
    return JSONResponse({"detail": "the records cannot be had at the moment", "code": error.code}, status_code=503)
