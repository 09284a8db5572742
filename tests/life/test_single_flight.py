"""One renewal per token key, however many coroutines, threads and event loops want it (promise 2)."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from life.makers import PATIENCE, Bench, Clock, Outcomes, config, in_threads, refusal, tokens, until
from tokenvalet import AccessToken, TokenRefusedError, TokenValet
from tokenvalet.core.messages import HttpReply, HttpRequest
from tokenvalet.testing import AuthorizationServer, Fault, RegisteredClient, serve

SCOPES = tuple(f"records:{number}" for number in range(8))


@pytest.fixture
def auth() -> Iterator[AuthorizationServer]:
    """A token endpoint that takes 200 ms, over real sockets."""
    web = RegisteredClient(client_id="web", client_secret="s3cret", scopes=SCOPES)
    server = AuthorizationServer([web], token_delay=0.2)
    with serve(server):
        yield server


@pytest.fixture
def valet(auth: AuthorizationServer) -> Iterator[TokenValet]:
    # The clock stands still, so that a failure stays remembered however slow the machine is.
    settings = config(token_endpoint=auth.token_endpoint, client_secret="s3cret", timeout=15.0)
    with TokenValet({"m2m": settings}, clock=Clock()) as made:
        yield made


async def outcome_of(valet: TokenValet, **parameters: Any) -> Any:
    try:
        return await valet.async_token("m2m", **parameters)
    except TokenRefusedError as error:
        return error


def with_asyncio(valet: TokenValet, tasks: int) -> list[Any]:
    async def main() -> list[Any]:
        return await asyncio.gather(*(outcome_of(valet) for _ in range(tasks)))

    return asyncio.run(main())


def with_trio(valet: TokenValet, tasks: int) -> list[Any]:
    outcomes: list[Any] = []

    async def one() -> None:
        outcomes.append(await outcome_of(valet))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(tasks):
                nursery.start_soon(one)

    trio.run(main)
    return outcomes


def with_threads(valet: TokenValet, threads: int) -> list[Any]:
    with in_threads() as outcomes:
        outcomes.start(lambda: valet.token("m2m"), times=threads)
    return outcomes.values + outcomes.errors


def with_all_at_once(valet: TokenValet, tasks: int) -> list[Any]:
    """64 threads, two event loops of asyncio and one of trio, let go together."""
    ready = threading.Barrier(67)

    async def asyncio_main() -> list[Any]:
        ready.wait(PATIENCE)
        return await asyncio.gather(*(outcome_of(valet) for _ in range(tasks)))

    def trio_thread() -> list[Any]:
        ready.wait(PATIENCE)
        return with_trio(valet, tasks)

    def thread() -> list[Any]:
        ready.wait(PATIENCE)
        return [valet.token("m2m")]

    outcomes = Outcomes()
    outcomes.start(thread, times=64)
    outcomes.start(lambda: asyncio.run(asyncio_main()), times=2)
    outcomes.start(trio_thread)
    outcomes.join()
    return [one for values in outcomes.values for one in values] + outcomes.errors


CROWDS = [
    pytest.param(lambda valet: with_asyncio(valet, 1000), 1000, id="1000 asyncio tasks"),
    pytest.param(lambda valet: with_trio(valet, 1000), 1000, id="1000 trio tasks"),
    pytest.param(lambda valet: with_threads(valet, 64), 64, id="64 threads"),
    pytest.param(lambda valet: with_all_at_once(valet, 300), 964, id="all at once"),
]


@pytest.mark.standards("S-200")
@pytest.mark.parametrize(("crowd", "size"), CROWDS)
def test_a_crowd_with_an_empty_cache_costs_one_token_request(
    auth: AuthorizationServer, valet: TokenValet, crowd: Any, size: int
) -> None:
    outcomes = crowd(valet)
    assert len(auth.token_requests) == 1
    assert (len(outcomes), {type(one) for one in outcomes}, len(set(outcomes))) == (size, {AccessToken}, 1)


@pytest.mark.standards("S-200")
@pytest.mark.parametrize(("crowd", "size"), CROWDS)
def test_a_crowd_gets_one_and_the_same_error(
    auth: AuthorizationServer, valet: TokenValet, crowd: Any, size: int
) -> None:
    auth.misbehave(Fault(status=401, headers=(("content-type", "application/json"),), body=b'{"error":"invalid_client"}',
                         delay=0.2), times=None)  # fmt: skip
    outcomes = crowd(valet)
    assert len(auth.token_requests) == 1
    assert Counter((type(one), one.code, one.error, str(one)) for one in outcomes).most_common() == [
        ((TokenRefusedError, "token_refused", "invalid_client", str(outcomes[0])), size)
    ]
    # Each has one of its own, since a shared one would grow a traceback with every caller.
    assert len({id(one) for one in outcomes}) == size


@pytest.mark.standards("S-182")
def test_other_parameters_are_another_token_and_each_of_them_is_asked_for_once() -> None:
    async def main(valet: TokenValet) -> list[AccessToken]:
        return await asyncio.gather(*(valet.async_token("m2m", scope=scope) for scope in SCOPES * 40))

    with Bench() as bench:
        bench.backchannel.hold()
        threading.Timer(0.05, bench.backchannel.release).start()
        found = asyncio.run(main(bench.valet))
        assert sorted(bench.backchannel.scopes()) == sorted(SCOPES)
        assert len({token.value for token in found}) == len(SCOPES)
        assert all(len({id(token) for token in found[place :: len(SCOPES)]}) == 1 for place in range(len(SCOPES)))


def hanging(url_part: str, release: threading.Event) -> Any:
    """Answer all but the requests to one address, which hang."""
    good = tokens()

    def answer(request: HttpRequest) -> Any:
        if url_part in request.url:
            assert release.wait(PATIENCE)
        return good(request)

    return answer


@pytest.mark.standards("S-212")
def test_an_endpoint_that_hangs_delays_no_other() -> None:
    release = threading.Event()
    with Bench(hanging("hangs", release)) as bench:
        bench.valet.add_client("slow", config(token_endpoint="http://127.0.0.1:1/hangs"))
        with in_threads() as threads:
            for number in range(50):
                threads.start(lambda number=number: bench.valet.token("slow", scope=f"s{number}"))  # type: ignore[misc]
            until(lambda: len(bench.renewer._under_way) == 50)
            assert [bench.valet.token("m2m", scope=scope).token_type for scope in SCOPES] == ["Bearer"] * len(SCOPES)
            assert threads.values == []
            assert sum("hangs" in request.url for request in bench.backchannel.requests) == 4
            release.set()
        assert (len(threads.values), threads.errors) == (50, [])


@pytest.mark.standards("S-212")
def test_many_tenants_of_one_server_that_hangs_delay_no_other_server() -> None:
    release = threading.Event()
    with Bench(hanging(":2/", release)) as bench:
        for number in range(40):
            endpoint = f"http://127.0.0.1:2/tenant-{number}/token"
            bench.valet.add_client(f"tenant-{number}", config(token_endpoint=endpoint, timeout=1.0))
        with in_threads() as threads:
            for number in range(40):
                threads.start(lambda number=number: bench.valet.token(f"tenant-{number}"))  # type: ignore[misc]
            until(lambda: len(bench.renewer._under_way) == 40)
            bench.valet.add_client("other", config(token_endpoint="http://127.0.0.1:3/token"))
            waiting = bench.renewer.get(bench.valet._clients["other"].ticket())
            try:
                assert isinstance(waiting, AccessToken) or waiting.future.result(2).token_type == "Bearer"
            finally:
                release.set()
                bench.settle()


def test_what_a_waiter_gets_is_what_the_next_caller_finds() -> None:
    with Bench() as bench:
        bench.backchannel.hold()
        with in_threads() as threads:
            threads.start(lambda: bench.valet.token("m2m"), times=8)
            bench.backchannel.wait_for(1)
            bench.backchannel.release()
        assert {id(token) for token in threads.values} == {id(bench.valet.token("m2m"))}
        assert bench.count == 1


def test_every_wait_is_told_and_every_renewal_once() -> None:
    with Bench() as bench:
        bench.backchannel.hold()
        with in_threads() as threads:
            threads.start(lambda: bench.valet.token("m2m"), times=8)
            until(lambda: len(bench.seen.of("wait")) == 8)
            bench.backchannel.release()
        names = Counter(event.name for event in bench.seen.events)
        assert names == {"wait": 8, "cache_miss": 1, "renewal_started": 1, "token_request": 1, "token_cached": 1}
        assert {event.cause for event in bench.seen.of("renewal_started")} == {"missing"}


def test_an_answer_that_breaks_the_renewal_leaves_nobody_waiting() -> None:
    def broken(_: HttpRequest) -> HttpReply:
        raise RuntimeError(f"planted {_.body!r}")

    with Bench(broken) as bench:
        with in_threads() as threads:
            threads.start(lambda: bench.valet.token("m2m"), times=4)
        assert {getattr(error, "code", error) for error in threads.errors} == {"renewal_broke"}
        assert "planted" not in "".join(str(error) for error in threads.errors)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
def test_a_callable_that_raises_what_it_should_not_leaves_nobody_waiting(kind: type[BaseException]) -> None:
    def secret() -> str:
        raise kind

    with Bench(client_secret=secret) as bench:
        waiting = bench.renewer.get(bench.ticket())
        assert not isinstance(waiting, AccessToken)
        assert waiting.future.exception(5) is not None
        bench.settle()
        assert bench.workers._threads == 1  # and the thread lives on


def test_a_thread_that_cannot_be_started_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    with Bench() as bench:

        def start(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(Exception, match="thread") as caught:
                bench.valet.token("m2m")
        assert getattr(caught.value, "code", None) == "renewal_broke"
        bench.clock.advance(60)
        assert bench.valet.token("m2m").token_type == "Bearer"


def test_an_error_is_one_of_the_callers_own() -> None:
    with Bench(refusal()) as bench:
        first, second = Outcomes(), Outcomes()
        for outcomes in (first, second):
            outcomes.start(lambda: bench.valet.token("m2m"))
            outcomes.join()
        assert first.errors[0] is not second.errors[0]
        assert first.errors[0].__traceback__ is not second.errors[0].__traceback__
        assert first.errors[0].__context__ is None
        assert second.errors[0].__cause__ is None
