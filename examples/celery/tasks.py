"""A Celery application whose task calls a protected API through the client ``m2m``, and never sees a token."""

import os
from pathlib import Path

import httpx2
from celery import Celery

from tokenvalet import TokenRequestError
from tokenvalet.hosts.celery import CeleryValet

app = Celery("records", broker=os.environ.get("BROKER_URL", "redis://127.0.0.1:6379/0"))
valet = CeleryValet(app, Path(__file__).with_name("tokenvalet.toml"))


# A TokenRequestError is a provider that is down or busy: later is better. What it refuses, it refuses again.
@app.task(autoretry_for=(TokenRequestError, httpx2.TransportError), retry_backoff=True, max_retries=8)
def fetch_records() -> int:
    with valet.client("m2m") as api:
        answer = api.get("/api/v1/integration/health-records")
    return len(answer.raise_for_status().json())
