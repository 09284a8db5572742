"""A Litestar service whose handler calls a protected API through the client ``m2m``, and never sees a token."""

from pathlib import Path
from typing import Any

import httpx2
from litestar import Litestar, Request, Response, get
from litestar.di import NamedDependency

from tokenvalet import TokenValetError
from tokenvalet.hosts.litestar import TokenValetPlugin, readiness


@get("/records")
async def records(m2m: NamedDependency[httpx2.AsyncClient]) -> Any:
    answer = await m2m.get("/api/v1/integration/health-records")
    return answer.raise_for_status().json()


def no_token(request: Request[Any, Any, Any], error: TokenValetError) -> Response[dict[str, str]]:
    return Response({"detail": "the records cannot be had at the moment", "code": error.code}, status_code=503)


app = Litestar(
    route_handlers=[records, readiness(path="/ready")],
    plugins=[TokenValetPlugin(Path(__file__).with_name("tokenvalet.toml"), clients=["m2m"])],
    exception_handlers={TokenValetError: no_token},
)
