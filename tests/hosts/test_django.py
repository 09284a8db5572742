"""Django: views of both kinds, settings that tests change, checks, and a life with the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from tokenvalet import TokenValet, ValetClosedError
from tokenvalet.hosts.django import async_client, client, lifespan, readiness, valet
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve

SECRET = "a-secret"


def records(request: HttpRequest) -> HttpResponse:
    with client("m2m") as api:
        return HttpResponse(status=api.get("/echo").status_code)


async def async_records(request: HttpRequest) -> HttpResponse:
    async with async_client("m2m") as api:
        return HttpResponse(status=(await api.get("/echo")).status_code)


urlpatterns = [path("records", records), path("async-records", async_records), path("ready", readiness())]
PAGES = ["/records", "/async-records", "/ready"]


@pytest.fixture(scope="module", autouse=True)
def _django() -> None:
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"], INSTALLED_APPS=["tokenvalet.hosts.django"], ROOT_URLCONF=__name__, USE_TZ=True
        )
        django.setup()


@pytest.fixture
def auth() -> Iterator[AuthorizationServer]:
    server = AuthorizationServer([RegisteredClient(client_id="records-web", client_secret=SECRET)])
    with serve(server):
        yield server


@pytest.fixture
def configuration(auth: AuthorizationServer) -> Iterator[dict[str, Any]]:
    with serve(ProtectedApi(auth)) as api:
        settings_ = {"issuer": auth.issuer, "client_id": "records-web", "client_secret": SECRET, "base_url": api.url}
        yield {"clients": {"m2m": settings_}}


def is_closed(one: TokenValet) -> bool:
    try:
        one.client("m2m")
    except ValetClosedError:
        return True
    return False


def test_views_of_both_kinds_share_a_token_under_wsgi_and_asgi(
    configuration: dict[str, Any], auth: AuthorizationServer
) -> None:
    async def pages() -> list[int]:
        return [(await AsyncClient().get(page)).status_code for page in PAGES]

    with override_settings(TOKENVALET=configuration, ROOT_URLCONF=__name__):
        assert [Client().get(page).status_code for page in PAGES] == [200] * 3
        assert [asyncio.run(pages()) for _ in range(2)] == [[200] * 3] * 2
        assert Client().head("/ready").status_code == 200
        assert Client().post("/ready").status_code == 405
    assert auth.issued == 1


def test_a_setting_that_a_test_changes_begins_anew_and_closes_what_was(configuration: dict[str, Any]) -> None:
    with override_settings(TOKENVALET=configuration):
        outer = valet()
        with override_settings(TOKENVALET=lambda: TokenValet.from_dict(configuration)):
            assert is_closed(outer)
            inner = valet()
        assert is_closed(inner)
        assert not is_closed(valet())


def test_a_valet_that_is_handed_over_is_used_and_is_not_closed_by_the_checks(configuration: dict[str, Any]) -> None:
    with TokenValet.from_dict(configuration) as mine, override_settings(TOKENVALET=mine):
        assert valet() is mine
        assert run_checks(tags=["tokenvalet"]) == []
        assert "nothing is wrong" in told("tokenvalet_check")
        assert not is_closed(mine)


def told(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out, no_color=True)
    return out.getvalue()


def test_the_command_looks_at_the_clients_of_a_callable_and_at_the_store(
    configuration: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with override_settings(TOKENVALET=lambda: TokenValet.from_dict(configuration)):
        assert "good m2m: token: Bearer, good for 3600 s" in told("tokenvalet_check", "m2m")
    folder = tmp_path / "tokens"
    with override_settings(
        TOKENVALET={**configuration, "store": {"url": f"file://{folder}", "allow_unsealed_store": True}}
    ):
        assert "odd  store: tokens are kept in clear" in told("tokenvalet_check")
        folder.rmdir()
        folder.write_text("no folder", encoding="utf-8")
        with pytest.raises(CommandError, match="one fault"):
            told("tokenvalet_check")
    # What is wrong is told once, on standard output.
    assert capfd.readouterr().err == ""


def lived(messages: list[str]) -> tuple[list[dict[str, Any]], list[TokenValet]]:
    sent: list[dict[str, Any]] = []
    valets: list[TokenValet] = []

    async def receive() -> dict[str, Any]:
        if sent:
            valets.append(valet())
            async with async_client("m2m") as api:
                assert (await api.get("/echo")).status_code == 200
        return {"type": messages.pop(0)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    asyncio.run(lifespan(never)({"type": "lifespan"}, receive, send))  # type: ignore[arg-type]
    return sent, valets


def test_under_asgi_the_valet_lives_as_long_as_the_server(configuration: dict[str, Any]) -> None:
    with override_settings(TOKENVALET=configuration):
        sent, (made,) = lived(["lifespan.startup", "lifespan.shutdown"])
    assert [one["type"] for one in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert is_closed(made)


def test_under_asgi_a_server_is_told_why_it_cannot_start() -> None:
    with override_settings(TOKENVALET={"clients": {"m2m": {"client_id": "records-web"}}}):
        (failed,), _ = lived(["lifespan.startup"])
    assert failed["type"] == "lifespan.startup.failed"
    assert "clients.m2m" in failed["message"]
    assert "Traceback" not in failed["message"]
    sent: list[Any] = []

    def broken() -> TokenValet:
        raise LookupError("no such thing")

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    with override_settings(TOKENVALET=broken), pytest.raises(LookupError):
        asyncio.run(lifespan(None)({"type": "lifespan"}, receive, send))  # type: ignore[arg-type]
    assert "no such thing" in json.dumps(sent)
