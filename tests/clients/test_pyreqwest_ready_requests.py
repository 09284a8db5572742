"""pyreqwest: calls that are as ones before are sent as copies of a ready request, and nobody can tell."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from pyreqwest.client import SyncClientBuilder
from pyreqwest.exceptions import ClientClosedError, StatusError
from pyreqwest.http import Url
from pyreqwest.multipart import FormBuilder

from contract.servers import Watched, fields
from tokenvalet import TokenParameters, TokenValet, ValetClosedError
from tokenvalet.clients.pyreqwest_connections import MOST_READY, Ready
from tokenvalet.testing import AuthorizationServer, MovableClock, ProtectedApi, serve

PATH = "/api/v1/integration/health-records"
REJECTED = 'Bearer error="invalid_token"'


@pytest.fixture
def api(served: ProtectedApi) -> ProtectedApi:
    return served


@pytest.fixture
def auth(served: ProtectedApi) -> AuthorizationServer:
    return served.auth


class Blocking:
    """The client that blocks."""

    def client(self, valet: TokenValet, **options: Any) -> Any:
        return valet.pyreqwest_sync_client("m2m", **options)

    def send(self, request: Any) -> Any:
        return request.send()

    def close(self, client: Any) -> None:
        client.close()


class OnALoop:
    """The client for asyncio, from outside of its loop."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner

    def client(self, valet: TokenValet, **options: Any) -> Any:
        return valet.pyreqwest_client("m2m", **options)

    def send(self, request: Any) -> Any:
        async def sent() -> Any:
            return await request.send()

        return self._runner.run(sent())

    def close(self, client: Any) -> None:
        self._runner.run(client.close())


@pytest.fixture(params=["blocking", "asyncio"])
def way(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "blocking":
        yield Blocking()
        return
    with asyncio.Runner() as runner:
        yield OnALoop(runner)


def is_ready(builder: Any) -> bool:
    return isinstance(getattr(builder, "ready", None), Ready)


def warm(way: Any, client: Any, url: str = "/echo") -> None:
    """Call as often as it takes for requests to this address to be copied."""
    for _ in range(3):
        assert way.send(client.get(url).build()).status == 200
    assert is_ready(client.get(url))


def tokens_of(api: ProtectedApi) -> list[str | None]:
    return [call.token_sha256 for call in api.calls]


def test_from_the_third_call_on_they_are_copies(way: Any, make_valet: Any, api: ProtectedApi) -> None:
    client = way.client(make_valet())
    seen = []
    for _ in range(5):
        builder = client.get("/echo")
        seen.append(is_ready(builder))
        assert way.send(builder.build()).status == 200
    # Before the first there is no token, so that its connections are made anew.
    assert seen == [False, False, False, True, True]
    assert is_ready(client.request("GET", "/echo"))
    assert not is_ready(client.get(Url(f"{api.origin}/echo")))
    assert len(set(tokens_of(api))) == 1


def test_what_is_told_to_one_goes_along_with_it_alone(way: Any, make_valet: Any, api: ProtectedApi) -> None:
    client = way.client(make_valet())
    warm(way, client)
    tellings: list[Callable[[Any], Any]] = [
        lambda builder: builder.header("X-Own", "kept"),
        lambda builder: builder.headers({"X-Own": "kept"}),
        lambda builder: builder.query({"own": "kept"}),
        lambda builder: builder.body_text("own: kept"),
        lambda builder: builder.timeout(timedelta(seconds=20)),
        lambda builder: builder.extensions({"tokenvalet": TokenParameters(scope="records:write")}),
        lambda builder: builder.error_for_status(),
    ]
    api.reset()
    for tell in tellings:
        builder = client.get("/echo")
        assert is_ready(builder)
        assert tell(builder) is builder
        assert not is_ready(builder)
        assert way.send(builder.build()).status == 200
        assert way.send(client.get("/echo").build()).status == 200
    told, untold = api.calls[::2], api.calls[1::2]
    assert [fields(call.headers, "x-own") for call in told[:3]] == [["kept"], ["kept"], []]
    assert [fields(call.headers, "x-own") for call in untold] == [[]] * len(tellings)
    assert len({call.token_sha256 for call in untold}) == 1
    assert told[5].token_sha256 != untold[0].token_sha256


TELLINGS: dict[str, Callable[[Any], Any]] = {
    "basic_auth": lambda builder: builder.basic_auth("name", "word"),
    "bearer_auth": lambda builder: builder.bearer_auth("own"),
    "body_bytes": lambda builder: builder.body_bytes(b"own"),
    "body_json": lambda builder: builder.body_json({}),
    "body_stream": lambda builder: builder.body_stream(iter([b"own"])),
    "body_text": lambda builder: builder.body_text("own"),
    "error_for_status": lambda builder: builder.error_for_status(),
    "extensions": lambda builder: builder.extensions({}),
    "form": lambda builder: builder.form({"own": "kept"}),
    "header": lambda builder: builder.header("X-Own", "kept"),
    "headers": lambda builder: builder.headers({"X-Own": "kept"}),
    "multipart": lambda builder: builder.multipart(FormBuilder().text("own", "kept")),
    "query": lambda builder: builder.query({"own": "kept"}),
    "streamed_read_buffer_limit": lambda builder: builder.streamed_read_buffer_limit(1000),
    "timeout": lambda builder: builder.timeout(timedelta(seconds=20)),
    "with_middleware": lambda builder: builder.with_middleware(lambda request, onward: onward.run(request)),
}


def test_told_anything_a_builder_copies_no_more(make_valet: Any) -> None:
    client = make_valet().pyreqwest_sync_client("m2m")
    warm(Blocking(), client)
    plain = SyncClientBuilder().build().get("http://localhost")
    tells = {name for name in dir(plain) if not name.startswith("_") and getattr(plain, name) is not None}
    assert tells - {"build", "build_streamed", "default_streamed_read_buffer_limit"} == set(TELLINGS)
    for name, tell in TELLINGS.items():
        builder = client.get("/echo")
        assert tell(builder) is builder
        assert not is_ready(builder), name
    builder = client.get("/echo")
    with builder.build_streamed() as answer:
        assert answer.status == 200
    assert not is_ready(builder)


def test_a_middleware_and_an_error_for_a_status_are_of_one_request_alone(
    way: Any, make_valet: Any, api: ProtectedApi
) -> None:
    client = way.client(make_valet())
    for _ in range(3):
        assert way.send(client.get("/nowhere").build()).status == 404
    with pytest.raises(StatusError):
        way.send(client.get("/nowhere").error_for_status().build())
    seen: list[str] = []

    def looks(request: Any, onward: Any) -> Any:
        seen.append(request.method)
        return onward.run(request)

    assert way.send(client.get("/nowhere").with_middleware(looks).build()).status == 404
    assert way.send(client.get("/nowhere").build()).status == 404
    assert seen == ["GET"]


@pytest.mark.standards("S-160")
def test_whoever_looks_at_one_sees_no_token_and_changes_no_other(
    way: Any, make_valet: Any, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    client = way.client(make_valet())
    warm(way, client)
    api.reset()
    request = client.get("/echo").build()
    shown = f"{request!r} {dict(request.headers)} {request.method} {request.url} {request.extensions}"
    assert "authorization" not in shown.lower()
    assert not any(token in shown for token in auth.issued_tokens)
    request.headers["X-Own"] = "kept"
    assert way.send(request).status == 200
    assert way.send(client.get("/echo").build()).status == 200
    assert [fields(call.headers, "x-own") for call in api.calls] == [["kept"], []]
    assert [len(fields(call.headers, "authorization")) for call in api.calls] == [1, 1]


def test_each_is_built_once_and_sent_once_as_pyreqwest_has_it(way: Any, make_valet: Any) -> None:
    client = way.client(make_valet())
    warm(way, client)
    for builder in (client.get("/echo"), client.get("/echo?own=kept"), client.post("/echo")):
        was_ready = is_ready(builder)
        request = builder.build()
        again: dict[str, Callable[[Any], Any]] = {
            **TELLINGS,
            "build": lambda told: told.build(),
            "build_streamed": lambda told: told.build_streamed(),
        }
        if was_ready:
            # Builder and request are one object, of which these two are what the request has.
            assert not callable(builder.headers)
            assert not callable(builder.extensions)
            del again["headers"], again["extensions"]
        for tell in again.values():
            with pytest.raises(RuntimeError, match="already built"):
                tell(builder)
        assert way.send(request).status == 200
        with pytest.raises(RuntimeError, match="already sent"):
            way.send(request)
        for tell in again.values():
            with pytest.raises(RuntimeError, match="already built"):
                tell(builder)


def test_before_it_is_built_there_is_no_request(way: Any, make_valet: Any, api: ProtectedApi) -> None:
    client = way.client(make_valet())
    warm(way, client)
    api.reset()
    builder = client.get("/echo")
    assert repr(builder) == f"<{type(builder).__name__}: not built>"
    with pytest.raises(AttributeError):
        way.send(builder)
    for name in ("method", "url", "body"):
        with pytest.raises(AttributeError):
            getattr(builder, name)
    assert callable(builder.headers)
    assert callable(builder.extensions)
    assert api.calls == []
    assert way.send(builder.build()).status == 200
    assert repr(builder) == f"<{type(builder).__name__}: sent>"


# The token


@pytest.mark.standards("S-204")
@pytest.mark.parametrize(
    ("passed", "jumped"), [(3500.0, 0.0), (0.0, 3500.0), (3500.0, -7100.0)], ids=["both", "slept", "set back"]
)
def test_a_token_that_has_run_out_by_either_clock_is_not_sent(
    way: Any, make_valet: Any, api: ProtectedApi, auth: AuthorizationServer, passed: float, jumped: float
) -> None:
    clock = MovableClock()
    valet = make_valet(surroundings={"clock": clock})
    client = way.client(valet)
    warm(way, client)
    waiting = client.get("/echo").build()
    clock.advance(passed)
    clock.jump(jumped)
    # It is due, so that it is sent once more, while it is renewed.
    assert way.send(waiting).status == 200
    (clock.advance if passed else clock.jump)(200.0)
    assert way.send(client.get("/echo").build()).status == 200
    assert auth.issued == 2
    assert len(set(tokens_of(api)[:-1])) == 1
    assert tokens_of(api)[-1] != tokens_of(api)[0]


def test_a_token_that_was_thrown_away_is_not_sent(
    way: Any, make_valet: Any, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    valet = make_valet()
    client = way.client(valet)
    warm(way, client)
    waiting = client.get("/echo").build()
    valet.invalidate("m2m")
    api.reset()
    assert way.send(waiting).status == 200
    assert way.send(client.get("/echo").build()).status == 200
    assert auth.issued == 2
    assert len(set(tokens_of(api))) == 1


@pytest.mark.standards("S-206")
def test_a_rejected_token_is_replaced_once_for_all(
    way: Any, make_valet: Any, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    valet = make_valet()
    client = way.client(valet)
    warm(way, client)
    warm(way, way.client(valet), PATH)
    api.reset()
    auth.revoke_all()
    for _ in range(3):
        assert way.send(client.get("/echo").build()).status == 200
        assert way.send(client.get(PATH).build()).status == 200
    assert [call.status for call in api.calls] == [401, *[200] * 6]
    assert auth.issued == 2


def test_a_token_that_was_renewed_is_sent_in_the_place_of_the_former(
    way: Any, make_valet: Any, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    valet = make_valet()
    client = way.client(valet)
    warm(way, client)
    waiting = client.get("/echo").build()
    valet.token("m2m", force_renewal=True)
    api.reset()
    for request in (waiting, client.get("/echo").build()):
        assert way.send(request).status == 200
    assert auth.issued == 2
    assert len({*tokens_of(api)}) == 1
    sent = fields(api.calls[0].headers, "authorization")
    assert sent == [valet.token("m2m").authorization.decode()]


def test_where_others_push_its_token_out_a_new_one_is_asked_for(
    way: Any, make_valet: Any, auth: AuthorizationServer
) -> None:
    valet = make_valet(surroundings={"capacity": 4})
    client = way.client(valet)
    warm(way, client)
    for number in range(8):
        valet.token("m2m", parameters={"number": str(number)})
    assert way.send(client.get("/echo").build()).status == 200
    assert auth.issued == 10


def test_where_some_tokens_may_have_to_go_the_one_that_is_used_stays(
    way: Any, make_valet: Any, auth: AuthorizationServer
) -> None:
    valet = make_valet(surroundings={"capacity": 4})
    client = way.client(valet)
    for number in range(12):
        valet.token("m2m", parameters={"number": str(number)})
        if number > 3:
            assert way.send(client.get("/echo").build()).status == 200
    assert auth.issued == 12 + 1


def test_everything_is_told_to_whoever_listens(way: Any, make_valet: Any) -> None:
    heard: list[str] = []
    client = way.client(make_valet(surroundings={"observers": [lambda event: heard.append(event.name)]}))
    for _ in range(4):
        assert way.send(client.get("/echo").build()).status == 200
    assert heard.count("call_sent") == 4
    assert heard.count("cache_hit") == 3
    assert not is_ready(client.get("/echo"))


# Requests with a body or a query: they are made with the token, too, and copies of them are sent.


OF_ITS_OWN: dict[str, Callable[[Any], Any]] = {
    "body": lambda client: client.post("/echo").body_json({"own": "kept"}).build(),
    "query": lambda client: client.get("/echo").query({"own": "kept"}).build(),
    "header": lambda client: client.put("/echo").form({"own": "kept"}).header("X-Own", "kept").build(),
}


@pytest.mark.standards("S-206")
@pytest.mark.parametrize("kind", OF_ITS_OWN)
def test_what_is_its_own_is_sent_again_after_a_401(way: Any, make_valet: Any, api: ProtectedApi, kind: str) -> None:
    client = way.client(make_valet())
    warm(way, client)
    api.reset()
    first = way.send(OF_ITS_OWN[kind](client))
    api.reject_next(challenge=REJECTED)
    again = way.send(OF_ITS_OWN[kind](client))
    assert [call.status for call in api.calls] == [200, 401, 200]
    assert [len(fields(call.headers, "authorization")) for call in api.calls] == [1, 1, 1]
    assert len(set(tokens_of(api))) == 2
    assert first.get_header("content-length") == again.get_header("content-length")


@pytest.mark.parametrize("kind", OF_ITS_OWN)
def test_what_is_its_own_goes_along_with_the_current_token_whatever_it_was_made_with(
    way: Any, make_valet: Any, api: ProtectedApi, kind: str
) -> None:
    valet = make_valet()
    client = way.client(valet)
    warm(way, client)
    waiting = OF_ITS_OWN[kind](client)
    valet.token("m2m", force_renewal=True)
    api.reset()
    for request in (waiting, OF_ITS_OWN[kind](client)):
        assert way.send(request).status == 200
    sent = [fields(call.headers, "authorization") for call in api.calls]
    assert sent == [[valet.token("m2m").authorization.decode()]] * 2


@pytest.mark.standards("S-160")
def test_whoever_looks_at_one_with_a_body_sees_no_token(
    way: Any, make_valet: Any, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    client = way.client(make_valet())
    warm(way, client)
    api.reset()
    for build in (client.post("/echo").body_text("own").build, client.get("/echo").query({"own": "kept"}).build):
        request = build()
        shown = f"{request!r} {dict(request.headers)}"
        assert "authorization" not in shown.lower()
        assert not any(token in shown for token in auth.issued_tokens)
        assert way.send(request).status == 200
    assert [len(fields(call.headers, "authorization")) for call in api.calls] == [1, 1]


def test_whoever_begins_to_listen_is_told_of_every_call_from_then_on(way: Any, make_valet: Any) -> None:
    valet = make_valet()
    client = way.client(valet)
    warm(way, client)
    heard: list[str] = []

    def listen(event: Any) -> None:
        heard.append(event.name)

    waiting = client.get("/echo").build()
    valet._around.observers.add(listen)
    for request in (waiting, client.get("/echo").build(), client.post("/echo").body_text("own").build()):
        assert way.send(request).status == 200
    assert heard == ["cache_hit", "call_sent"] * 3
    valet._around.observers.remove(listen)
    assert way.send(client.get("/echo").build()).status == 200
    assert len(heard) == 6


# Clients and connections


def test_they_are_for_clients_alone_that_set_nothing_of_their_own(way: Any, make_valet: Any, api: ProtectedApi) -> None:
    valet = make_valet()
    warm(way, way.client(valet))
    warm(way, way.client(valet), f"{api.origin}/echo")
    others = {
        "headers": {"X-Own": "kept"},
        "timeout": timedelta(seconds=20),
        "error_for_status": True,
        "base_url": f"{api.origin}/echo",
        "customize": lambda request: TokenParameters(scope="records:write"),
    }
    for name, value in others.items():
        api.reset()
        client = way.client(valet, **{name: value})
        for _ in range(4):
            assert not is_ready(client.get("/echo")), name
            way.send(client.get("/echo").build())
        assert {call.path for call in api.calls} == {"/echo/echo" if name == "base_url" else "/echo"}
        assert {tuple(fields(call.headers, "x-own")) for call in api.calls} == {("kept",) if name == "headers" else ()}


@pytest.mark.parametrize("base_url", ["{}/", "{}/api/v1/integration/"])
def test_however_the_base_url_ends(way: Any, make_valet: Any, api: ProtectedApi, base_url: str) -> None:
    client = way.client(make_valet(base_url=base_url.format(api.origin)))
    warm(way, client, PATH if base_url == "{}/" else "health-records")
    assert {call.path for call in api.calls} == {PATH}


def test_another_client_of_the_name_uses_those_that_are_there(way: Any, make_valet: Any, api: ProtectedApi) -> None:
    valet = make_valet()
    warm(way, way.client(valet))
    client = way.client(valet)
    assert way.send(client.get("/echo").build()).status == 200
    assert is_ready(client.get("/echo"))
    assert len(set(tokens_of(api))) == 1


@pytest.mark.standards("S-160")
def test_what_is_asked_in_a_query_is_not_kept(way: Any, make_valet: Any) -> None:
    client = way.client(make_valet())
    warm(way, client)
    for _ in range(4):
        assert way.send(client.get("/echo?patient=planted-in-a-query").build()).status == 200
    connections = client._settings.connections
    assert not is_ready(client.get("/echo?patient=planted-in-a-query"))
    assert list(connections.ready) == ["/echo"]
    assert connections._met == {"/echo"}


def test_of_many_addresses_only_so_many_are_kept(make_valet: Any) -> None:
    client = make_valet().pyreqwest_sync_client("m2m")
    warm(Blocking(), client)
    for number in range(MOST_READY + 10):
        for _ in range(2):
            client.get(f"/records/{number}").build()
    connections = client._settings.connections
    assert 0 < len(connections.ready) <= MOST_READY
    assert len(connections._met) <= MOST_READY
    assert client.get("/echo").build().send().status == 200


def test_a_closed_client_and_a_closed_valet_send_nothing_more(way: Any, make_valet: Any, api: ProtectedApi) -> None:
    valet = make_valet()
    client, other = way.client(valet), way.client(valet)
    for one in (client, other):
        warm(way, one)
    waiting = other.get("/echo").build()
    begun = other.get("/echo")
    way.close(client)
    for ask in (client.get, lambda url: client.request("GET", url)):
        with pytest.raises(ClientClosedError):
            ask("/echo")
    assert way.send(other.get("/echo").build()).status == 200
    valet.close()
    api.reset()
    for build in (lambda: waiting, begun.build, lambda: other.get("/echo").build()):
        with pytest.raises(ValetClosedError):
            way.send(build())
    assert api.calls == []


def test_what_was_begun_over_connections_that_are_gone_goes_over_new_ones(
    way: Any, make_valet: Any, api: ProtectedApi
) -> None:
    clock = MovableClock()
    watched = Watched(api)
    with serve(watched):
        client = way.client(make_valet(surroundings={"clock": clock}))
        warm(way, client)
        opened = len(watched.connections)
        begun, built, told = client.get("/echo"), client.get("/echo").build(), client.get("/echo")
        clock.advance(121.0)
        requests = [client.get("/echo").build(), begun.build(), built, told.header("X-Own", "kept").build()]
        assert [way.send(request).status for request in requests] == [200] * 4
        assert len(watched.connections) == opened + 1
        assert begun.ready.native is None
        warm(way, client)


def test_threads_that_call_at_once_while_the_token_is_revoked_see_no_401(
    make_valet: Any, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    client = make_valet().pyreqwest_sync_client("m2m")
    warm(Blocking(), client)
    statuses: list[int] = []
    begun = threading.Barrier(5)

    def calls() -> None:
        begun.wait(timeout=30)
        for _ in range(60):
            statuses.append(client.get("/echo").build().send().status)

    threads = [threading.Thread(target=calls) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait(timeout=30)
    auth.revoke_all()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 240
    assert auth.issued == 2


def test_an_error_on_the_way_is_the_callers_and_the_next_call_is_as_good_as_any(
    way: Any, make_valet: Any, api: ProtectedApi
) -> None:
    client = way.client(make_valet())
    warm(way, client)
    api.reject_next(challenge=REJECTED)
    assert way.send(client.get("/echo").build()).status == 200
    answers = [way.send(client.get("/status/503").build()).status for _ in range(4)]
    assert len(set(answers)) == 1
    assert answers[0] >= 400
