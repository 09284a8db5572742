"""Warm calls take the token and the connections of the call before: only as long as both are the ones to take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tokenvalet import TokenValet, ValetClosedError
from tokenvalet.clients.pools import Pool, Warm
from tokenvalet.testing import AuthorizationServer, MovableClock, ProtectedApi

Get = Callable[[], int]


@pytest.fixture
def auth(served: ProtectedApi) -> AuthorizationServer:
    return served.auth


WAYS: dict[str, Callable[[TokenValet], Any]] = {
    "httpx2": lambda valet: valet.client("m2m"),
    "httpx2-asyncio": lambda valet: valet.async_client("m2m"),
    "httpx": lambda valet: httpx.Client(transport=valet.transport("m2m", httpx)),
    "httpx-asyncio": lambda valet: httpx.AsyncClient(transport=valet.transport("m2m", httpx)),
    "requests": lambda valet: valet.requests_session("m2m"),
    "aiohttp": lambda valet: valet.aiohttp_session("m2m"),
    "pyreqwest": lambda valet: valet.pyreqwest_sync_client("m2m"),
}


@pytest.fixture(params=WAYS)
def getter(request: pytest.FixtureRequest, served: ProtectedApi) -> Iterator[Callable[[TokenValet], Get]]:
    """Returns what calls the API with one client of a valet, and returns the status of the answer."""
    make, url = WAYS[request.param], f"{served.origin}/echo"
    with asyncio.Runner() as loop:
        ends: list[Callable[[], object]] = []

        def getter(valet: TokenValet) -> Get:
            if request.param == "aiohttp":
                session = loop.run(made(valet))
                ends.append(lambda: loop.run(session.close()))
                return lambda: loop.run(read(session))
            client = make(valet)
            if request.param.endswith("-asyncio"):
                ends.append(lambda: loop.run(client.aclose()))
                return lambda: loop.run(client.get(url)).status_code
            ends.append(client.close)
            if request.param == "pyreqwest":
                return lambda: client.get("/echo").build().send().status
            return lambda: int(client.get(url).status_code)

        async def made(valet: TokenValet) -> Any:
            return make(valet)

        async def read(session: Any) -> int:
            async with session.get(url) as response:
                await response.read()
                return int(response.status)

        yield getter
        for end in ends:
            end()


def tokens_of(api: ProtectedApi) -> list[str | None]:
    return [call.token_sha256 for call in api.calls]


@pytest.mark.standards("S-204")
@pytest.mark.parametrize(
    ("passed", "jumped"), [(3500.0, 0.0), (0.0, 3500.0), (3500.0, -7100.0)], ids=["both", "slept", "set back"]
)
def test_a_token_that_has_run_out_by_either_clock_is_not_sent(
    getter: Any, make_valet: Any, served: ProtectedApi, auth: AuthorizationServer, passed: float, jumped: float
) -> None:
    clock = MovableClock()
    get = getter(make_valet(surroundings={"clock": clock}))
    assert [get() for _ in range(3)] == [200] * 3
    clock.advance(passed)
    clock.jump(jumped)
    # It is due, so that it is sent once more, while it is renewed.
    assert get() == 200
    (clock.advance if passed else clock.jump)(200.0)
    assert get() == 200
    assert auth.issued == 2
    assert len(set(tokens_of(served)[:-1])) == 1
    assert tokens_of(served)[-1] != tokens_of(served)[0]


REPLACED: dict[str, Callable[[TokenValet], object]] = {
    "thrown away": lambda valet: valet.invalidate("m2m"),
    "renewed": lambda valet: valet.token("m2m", force_renewal=True),
}


@pytest.mark.parametrize("how", REPLACED)
def test_a_token_that_is_not_the_current_one_is_not_sent(
    getter: Any, make_valet: Any, served: ProtectedApi, auth: AuthorizationServer, how: str
) -> None:
    valet = make_valet()
    get = getter(valet)
    assert [get() for _ in range(3)] == [200] * 3
    REPLACED[how](valet)
    assert [get() for _ in range(2)] == [200] * 2
    assert auth.issued == 2
    *former, last, current = tokens_of(served)
    assert last == current
    assert current not in former


def test_whoever_begins_to_listen_is_told_of_every_call_from_then_on(getter: Any, make_valet: Any) -> None:
    valet = make_valet()
    get = getter(valet)
    assert [get() for _ in range(3)] == [200] * 3
    heard: list[str] = []

    def listen(event: Any) -> None:
        heard.append(event.name)

    valet._around.observers.add(listen)
    assert [get() for _ in range(2)] == [200] * 2
    assert heard == ["cache_hit", "call_sent"] * 2
    valet._around.observers.remove(listen)
    assert get() == 200
    assert len(heard) == 4


def test_where_some_tokens_may_have_to_go_the_one_that_is_used_stays(
    getter: Any, make_valet: Any, auth: AuthorizationServer
) -> None:
    valet = make_valet(surroundings={"capacity": 8})
    get = getter(valet)
    assert [get() for _ in range(3)] == [200] * 3
    for number in range(20):
        valet.token("m2m", parameters={"number": str(number)})
        assert get() == 200
    assert auth.issued == 1 + 20


def test_where_others_push_its_token_out_a_new_one_is_asked_for(
    getter: Any, make_valet: Any, auth: AuthorizationServer
) -> None:
    valet = make_valet(surroundings={"capacity": 8})
    get = getter(valet)
    assert [get() for _ in range(3)] == [200] * 3
    for number in range(8):
        valet.token("m2m", parameters={"number": str(number)})
    assert get() == 200
    assert auth.issued == 1 + 8 + 1


def test_a_closed_valet_sends_nothing_more(getter: Any, make_valet: Any, served: ProtectedApi) -> None:
    valet = make_valet()
    get = getter(valet)
    assert [get() for _ in range(3)] == [200] * 3
    valet.close()
    served.reset()
    with pytest.raises(ValetClosedError):
        get()
    assert served.calls == []


def warm_with_a_pool(make_valet: Any) -> Warm:
    valet = make_valet()
    client = valet._named("m2m")
    valet.token("m2m")
    at_hand = valet._renewer.at_hand(client.lasting_ticket())
    pool = Pool(object(), client.identity(), at_hand.monotonic())
    return Warm(at_hand, pool)


def test_a_call_is_counted_in_on_its_pool(make_valet: Any) -> None:
    warm = warm_with_a_pool(make_valet)
    assert warm.enter() is not None
    assert warm.pool is not None
    assert not warm.pool.retire()
    assert warm.enter() is None
    assert warm.pool.leave()


def test_where_the_renewer_is_closed_nothing_is_at_hand(make_valet: Any) -> None:
    valet = make_valet()
    valet.token("m2m")
    at_hand = valet._renewer.at_hand(valet._named("m2m").lasting_ticket())
    assert at_hand.is_current()
    valet._renewer.close()
    assert not at_hand.is_current()


def test_a_call_that_comes_in_while_its_pool_ends_is_counted_out_again(make_valet: Any) -> None:
    warm = warm_with_a_pool(make_valet)
    pool = warm.pool
    assert pool is not None
    # As whoever ends it sees it: retired, and no call on it; our call looked before that.
    assert pool.retire()
    pool._retired = False
    assert warm.enter() is None
    assert pool._calls == []
