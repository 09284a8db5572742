"""What hosts promise beyond their examples: whose valet it is, how long it lives, and what is said where there is none."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx2
import pytest
from celery import Celery
from fastapi import BackgroundTasks, Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from flask import Flask
from litestar import Litestar, Response, get, websocket
from litestar import WebSocket as LitestarSocket
from litestar.background_tasks import BackgroundTask
from litestar.di import NamedDependency
from litestar.response import Stream
from litestar.testing import TestClient as LitestarClient
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from tokenvalet import ConfigurationError, TokenValet, ValetClosedError
from tokenvalet.hosts import fastapi, flask, litestar, starlette
from tokenvalet.hosts.celery import CeleryValet, _readiness
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve

SECRET = "a-secret"


@pytest.fixture
def configuration() -> Iterator[dict[str, Any]]:
    auth = AuthorizationServer([RegisteredClient(client_id="records-web", client_secret=SECRET)])
    with serve(auth), serve(ProtectedApi(auth)) as api:
        client = {
            "issuer": auth.issuer,
            "client_id": "records-web",
            "client_secret": SECRET,
            "base_url": api.url,
        }
        yield {"clients": {"m2m": client, "tenant": client}}


def is_closed(valet: TokenValet) -> bool:
    try:
        valet.client("m2m")
    except ValetClosedError:
        return True
    return False


def of_tenant(connection: HTTPConnection) -> str:
    return connection.headers["x-tenant"]


def test_a_lifespan_of_ones_own_runs_within_that_of_the_valet(configuration: dict[str, Any]) -> None:
    seen: list[Any] = []

    @asynccontextmanager
    async def mine(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        seen.append(is_closed(app.state.tokenvalet))
        yield {"mine": 42}
        seen.append(is_closed(app.state.tokenvalet))

    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{request.state.mine} {is_closed(starlette.valet_of(request))}")

    app = Starlette(routes=[Route("/", page)], lifespan=starlette.lifespan(configuration, around=mine))
    for _ in range(2):
        with TestClient(app) as user:
            assert user.get("/").text == "42 False"
        assert is_closed(app.state.tokenvalet)
    assert seen == [False, False] * 2


def test_an_application_that_is_mounted_finds_the_valet(configuration: dict[str, Any]) -> None:
    async def page(request: Request) -> PlainTextResponse:
        async with starlette.valet_of(request).async_client("m2m") as api:
            return PlainTextResponse(str((await api.get("/echo")).status_code))

    inner = Starlette(routes=[Route("/", page)])
    app = Starlette(routes=[Mount("/inner", inner)], lifespan=starlette.lifespan(configuration))
    with TestClient(app) as user:
        assert user.get("/inner/").text == "200"


def test_without_a_lifespan_it_is_said_what_is_missing() -> None:
    app = FastAPI(lifespan=fastapi.lifespan({"clients": {}}))

    @app.get("/")
    async def page(api: Annotated[httpx2.AsyncClient, Depends(fastapi.client("m2m"))]) -> None:
        raise AssertionError

    with pytest.raises(RuntimeError, match="in a with statement, which runs the lifespan"):
        TestClient(app).get("/")


def test_clients_are_given_by_name_of_the_request_to_websockets_and_can_be_overridden(
    configuration: dict[str, Any],
) -> None:
    app = FastAPI(lifespan=fastapi.lifespan(configuration))

    @app.get("/tenant")
    async def tenant(api: Annotated[httpx2.AsyncClient, Depends(fastapi.client(of_tenant))]) -> int:
        return (await api.get("/echo")).status_code

    @app.get("/valet")
    async def whose(valet: Annotated[TokenValet, Depends(fastapi.valet)]) -> bool:
        return valet is app.state.tokenvalet

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, api: Annotated[httpx2.AsyncClient, Depends(fastapi.client("m2m"))]) -> None:
        await websocket.accept()
        await websocket.send_json((await api.get("/echo")).status_code)
        await websocket.close()

    @app.get("/overridden")
    async def overridden(api: Annotated[Any, Depends(fastapi.client("m2m"))]) -> str:
        return str(api)

    with TestClient(app) as user:
        assert user.get("/tenant", headers={"x-tenant": "tenant"}).json() == 200
        with pytest.raises(ConfigurationError, match="did you mean 'tenant'"):
            user.get("/tenant", headers={"x-tenant": "tenent"})
        assert user.get("/valet").json() is True
        with user.websocket_connect("/socket") as connection:
            assert connection.receive_json() == 200
        app.dependency_overrides[fastapi.client("m2m")] = lambda: "in the place of it"
        assert user.get("/overridden").json() == "in the place of it"


def test_each_flask_application_has_a_valet_that_ends_with_it(configuration: dict[str, Any]) -> None:
    extension = flask.FlaskValet()
    apps = [Flask("one"), Flask("two")]
    valets = []
    for app in apps:
        app.config["TOKENVALET"] = configuration
        extension.init_app(app)
        with app.app_context():
            assert flask.current_valet.token("m2m").token_type == "Bearer"
        valets.append(app.extensions["tokenvalet"])
    assert valets[0] is not valets[1]
    with pytest.raises(RuntimeError, match="call init_app once"):
        extension.init_app(apps[0])
    with Flask("three").app_context(), pytest.raises(RuntimeError, match="'three' has no valet"):
        extension.client("m2m")
    del app
    apps.clear()
    gc.collect()
    assert [is_closed(one) for one in valets] == [True, True]


def test_the_plugin_of_litestar_gives_handlers_the_valet_and_closes_it(configuration: dict[str, Any]) -> None:
    seen: list[TokenValet] = []

    @get("/")
    async def page(valet: NamedDependency[TokenValet], other: NamedDependency[httpx2.AsyncClient]) -> int:
        seen.append(valet)
        return (await other.get("/echo")).status_code

    plugin = litestar.TokenValetPlugin(configuration)
    app = Litestar([page], plugins=[plugin], dependencies={"other": litestar.client("tenant")})
    with LitestarClient(app) as user:
        assert user.get("/").json() == 200
        assert not is_closed(seen[0])
    assert is_closed(seen[0])


def test_a_client_of_litestar_serves_to_the_end_of_streams_and_background_tasks(configuration: dict[str, Any]) -> None:
    done: list[int] = []

    @get("/stream")
    async def stream(m2m: NamedDependency[httpx2.AsyncClient]) -> Stream:
        async def passed_on() -> AsyncIterator[bytes]:
            async with m2m.stream("GET", "/echo") as answer:
                async for chunk in answer.aiter_bytes():
                    yield chunk

        return Stream(passed_on())

    @get("/later")
    async def later(m2m: NamedDependency[httpx2.AsyncClient]) -> Response[None]:
        async def call() -> None:
            done.append((await m2m.get("/echo")).status_code)

        return Response(None, background=BackgroundTask(call))

    @websocket("/socket")
    async def socket(socket: LitestarSocket[Any, Any, Any], m2m: NamedDependency[httpx2.AsyncClient]) -> None:
        await socket.accept()
        await socket.send_json((await m2m.get("/echo")).status_code)
        await socket.close()

    plugin = litestar.TokenValetPlugin(configuration, clients=["m2m"])
    with LitestarClient(Litestar([stream, later, socket], plugins=[plugin])) as user:
        assert user.get("/stream").json()["path"] == "/echo"
        assert user.get("/later").status_code == 200
        assert done == [200]
        with user.websocket_connect("/socket") as connection:
            assert connection.receive_json() == 200


def test_a_client_of_fastapi_serves_to_the_end_of_streams_and_background_tasks(configuration: dict[str, Any]) -> None:
    done: list[int] = []
    app = FastAPI(lifespan=fastapi.lifespan(configuration))

    @app.get("/stream")
    async def stream(api: Annotated[httpx2.AsyncClient, Depends(fastapi.client("m2m"))]) -> StreamingResponse:
        async def passed_on() -> AsyncIterator[bytes]:
            async with api.stream("GET", "/echo") as answer:
                async for chunk in answer.aiter_bytes():
                    yield chunk

        return StreamingResponse(passed_on())

    @app.get("/later")
    def later(api: Annotated[httpx2.Client, Depends(fastapi.sync_client("m2m"))], tasks: BackgroundTasks) -> None:
        tasks.add_task(lambda: done.append(api.get("/echo").status_code))

    with TestClient(app) as user:
        assert user.get("/stream").json()["path"] == "/echo"
        assert user.get("/later").status_code == 200
        assert done == [200]


def test_a_worker_of_another_application_makes_no_valet(configuration: dict[str, Any]) -> None:
    app = Celery("records")
    valet = CeleryValet(app, configuration)
    valet._worker_starts(sender=type("Worker", (), {"app": Celery("another")}))
    assert vars(valet)["_valet"] is None
    valet._worker_starts(sender=type("Worker", (), {"app": app}))
    made = valet._valet
    assert made is not None
    told = _readiness(type("State", (), {"app": app}))
    assert set(told["clients"]) == {"m2m", "tenant"}
    valet.close()
    assert is_closed(made)
    assert not is_closed(valet.valet)
    valet.close()
    assert _readiness(type("State", (), {"app": Celery("third")})) == {"error": "this application has no CeleryValet"}


def test_options_and_a_valet_do_not_go_together(configuration: dict[str, Any]) -> None:
    with TokenValet.from_dict(configuration) as valet:
        with pytest.raises(ConfigurationError, match="capacity: give it to the valet"):
            flask.FlaskValet(Flask("one"), valet, capacity=10)
        with pytest.raises(ConfigurationError, match="not from a int"):
            flask.FlaskValet(Flask("one"), 42)  # type: ignore[arg-type]


async def made_later() -> None: ...


@pytest.mark.parametrize(
    ("source", "text"),
    [(made_later, "returned a coroutine, not a TokenValet"), (lambda: None, "returned a NoneType, not a TokenValet")],
    ids=["coroutine", "nothing"],
)
def test_a_host_does_not_start_with_what_is_no_valet(source: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text), TestClient(FastAPI(lifespan=fastapi.lifespan(source))):
        pass


def test_a_host_does_not_start_with_a_valet_that_another_start_has_closed(configuration: dict[str, Any]) -> None:
    app = FastAPI(lifespan=fastapi.lifespan(TokenValet.from_dict(configuration)))
    with TestClient(app):
        pass
    with pytest.raises(ValetClosedError), TestClient(app):
        pass


@pytest.mark.parametrize("name", ["celery", "django", "fastapi", "flask", "litestar", "starlette"])
def test_a_framework_that_is_missing_is_named_with_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [one for one in sys.modules if one.startswith("tokenvalet.hosts")]:
        monkeypatch.delitem(sys.modules, module)
    for module in [one for one in sys.modules if one.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'tokenvalet\[{name}\]'"):
        importlib.import_module(f"tokenvalet.hosts.{name}")
