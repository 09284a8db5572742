"""A web host that calls a protected API, with a page at /metrics that Prometheus reads."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import make_asgi_app

from tokenvalet import TokenValet, TokenValetError, telemetry

CONFIGURATION = Path(__file__).with_name("tokenvalet.toml")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    meters = MeterProvider([PrometheusMetricReader()])
    async with TokenValet.from_toml(CONFIGURATION) as valet:
        telemetry.instrument(valet, meter_provider=meters)
        app.state.valet = valet
        yield
    meters.shutdown()


app = FastAPI(lifespan=lifespan)
# To be reached from inside only: it names clients and servers, and tells how busy they are.
app.mount("/metrics", make_asgi_app())


@app.get("/records")
async def records(request: Request) -> Any:
    async with request.app.state.valet.async_client("m2m") as api:
        answer = await api.get("/api/v1/integration/health-records")
    if answer.is_error:
        raise HTTPException(502, f"the records API answered {answer.status_code}")
    return answer.json()


@app.exception_handler(TokenValetError)
async def no_token(request: Request, error: TokenValetError) -> JSONResponse:
    return JSONResponse({"detail": "the records cannot be had at the moment", "code": error.code}, status_code=503)
