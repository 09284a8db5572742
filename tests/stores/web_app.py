"""A small web host for gunicorn: its valet is made when this is imported, before or after the workers are forked."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tokenvalet import ClientConfig, StoreConfig, TokenValet

settings = json.loads(os.environ["WEB_APP"])
valet = TokenValet({"m2m": ClientConfig(**settings["client"])}, store=StoreConfig(**settings["store"]))
if settings["renews_at_import"]:
    # Under --preload the workers are forked while this is under way.
    threading.Thread(target=valet.token, daemon=True).start()


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    yield
    await valet.aclose()


async def token(request: Request) -> JSONResponse:
    return JSONResponse({"process": os.getpid(), "token": (await valet.async_token()).value})


app = Starlette(routes=[Route("/token", token)], lifespan=lifespan)
