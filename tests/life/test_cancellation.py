"""A renewal belongs to no caller: who stops waiting changes nothing, for the others or for it (promise 4)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import pytest
import trio

from life.makers import Bench, in_threads, refusal, until
from tokenvalet import AccessToken, TokenRefusedError, TokenRequestError
from tokenvalet.pending import Waiting
from tokenvalet.waiting import wait, wait_async


def waiting_of(bench: Bench) -> Waiting:
    waiting = bench.renewer.get(bench.ticket())
    assert isinstance(waiting, Waiting)
    return waiting


def waiters(bench: Bench, count: int) -> Callable[[], bool]:
    return lambda: len(bench.seen.of("wait")) >= count


@pytest.mark.standards("S-201")
def test_on_asyncio_the_task_that_started_a_renewal_may_be_cancelled() -> None:
    async def main(bench: Bench) -> list[AccessToken]:
        starter = asyncio.create_task(bench.valet.async_token("m2m"))
        await asyncio.to_thread(bench.backchannel.wait_for, 1)
        others = [asyncio.create_task(bench.valet.async_token("m2m")) for _ in range(10)]
        await asyncio.to_thread(until, waiters(bench, 11))
        starter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starter
        bench.backchannel.release()
        return await asyncio.gather(*others)

    with Bench() as bench:
        bench.backchannel.hold()
        assert [token.value for token in asyncio.run(main(bench))] == ["token-0"] * 10
        assert bench.count == 1


@pytest.mark.standards("S-201")
def test_on_trio_the_task_that_started_a_renewal_may_be_cancelled() -> None:
    got: list[AccessToken] = []

    async def other(bench: Bench) -> None:
        got.append(await bench.valet.async_token("m2m"))

    async def main(bench: Bench) -> None:
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_when_begun, bench, scope)
                await bench.valet.async_token("m2m")
            assert scope.cancelled_caught
            for _ in range(10):
                nursery.start_soon(other, bench)
            await trio.to_thread.run_sync(until, waiters(bench, 11))
            bench.backchannel.release()

    async def cancel_when_begun(bench: Bench, scope: trio.CancelScope) -> None:
        await trio.to_thread.run_sync(bench.backchannel.wait_for, 1)
        scope.cancel()

    with Bench() as bench:
        bench.backchannel.hold()
        trio.run(main, bench)
        assert [token.value for token in got] == ["token-0"] * 10
        assert bench.count == 1


@pytest.mark.standards("S-201")
def test_the_thread_that_started_a_renewal_may_give_up() -> None:
    with Bench() as bench:
        bench.backchannel.hold()
        impatient = dataclasses.replace(waiting_of(bench), seconds=0.01)
        with in_threads() as threads:
            threads.start(lambda: bench.valet.token("m2m"), times=10)
            until(waiters(bench, 11))
            with pytest.raises(TokenRequestError) as caught:
                wait(impatient)
            bench.backchannel.release()
        assert caught.value.code == "token_request_timeout"
        assert [token.value for token in threads.values] == ["token-0"] * 10
        assert bench.count == 1


async def cancelled_asyncio(bench: Bench) -> None:
    tasks = [asyncio.create_task(bench.valet.async_token("m2m")) for _ in range(10)]
    await asyncio.to_thread(until, waiters(bench, 10))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def timed_out_asyncio(bench: Bench) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await bench.valet.async_token("m2m")


async def cancelled_trio(bench: Bench) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(bench.valet.async_token, "m2m")
        await trio.to_thread.run_sync(until, waiters(bench, 10))
        nursery.cancel_scope.cancel()


@pytest.mark.standards("S-201")
@pytest.mark.parametrize("all_cancelled", [cancelled_asyncio, timed_out_asyncio, cancelled_trio])
def test_a_renewal_that_nobody_waits_for_any_more_ends_by_itself_and_fills_the_cache(
    all_cancelled: Callable[[Bench], Awaitable[None]],
) -> None:
    with Bench() as bench:
        bench.backchannel.hold()
        if all_cancelled is cancelled_trio:
            trio.run(all_cancelled, bench)
        else:
            asyncio.run(all_cancelled(bench))  # type: ignore[arg-type]
        # The loop is closed by now: the renewal has nobody to tell.
        assert len(bench.renewer._under_way) == 1
        bench.backchannel.release()
        bench.settle()
        assert bench.valet.token("m2m").value == "token-0"
        assert bench.count == 1


def test_an_impatient_waiter_gets_the_remembered_failure() -> None:
    with Bench(refusal()) as bench:
        with pytest.raises(TokenRefusedError):
            bench.valet.token("m2m")
        bench.clock.advance(1)
        bench.backchannel.hold()
        waiting = waiting_of(bench)
        assert 0 < waiting.seconds <= 1
        for error in (outcome(waiting), asyncio.run(async_outcome(waiting)), trio.run(async_outcome, waiting)):
            assert (type(error), getattr(error, "error", None)) == (TokenRefusedError, "invalid_client")


def outcome(waiting: Waiting) -> Exception | None:
    try:
        wait(dataclasses.replace(waiting, seconds=0.0))
    except Exception as error:
        return error
    return None


async def async_outcome(waiting: Waiting) -> Exception | None:
    try:
        await wait_async(dataclasses.replace(waiting, seconds=0.0))
    except Exception as error:
        return error
    return None


def test_cancelling_in_the_moment_of_the_result_loses_nothing() -> None:
    async def main(bench: Bench) -> None:
        for number in range(50):
            task = asyncio.create_task(bench.valet.async_token("m2m", scope=str(number)))
            await asyncio.sleep(0)
            bench.settle()  # the result has come, and the loop has not heard of it yet
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await bench.valet.async_token("m2m", scope=str(number))).value == f"token-{number}"

    with Bench() as bench:
        asyncio.run(main(bench))
        assert bench.count == 50
