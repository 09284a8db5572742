"""Closing a valet: whoever waits gets a clear error, and nothing goes on behind its back (promise 11)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import trio

from life.makers import Bench, config, in_threads, tokens, unavailable, until, workers_of
from support.raw_server import RawServer, answer, never_answer
from tokenvalet import AccessToken, TokenValet, ValetClosedError


@pytest.mark.standards("S-209")
def test_closing_in_the_middle_of_a_renewal_tells_everybody_who_waits() -> None:
    async def on_loop(bench: Bench) -> AccessToken:
        return await bench.valet.async_token("m2m")

    with Bench() as bench:
        bench.backchannel.hold()
        with in_threads() as threads:
            threads.start(lambda: bench.valet.token("m2m"), times=8)
            threads.start(lambda: asyncio.run(on_loop(bench)), times=2)
            threads.start(lambda: trio.run(on_loop, bench))
            until(lambda: len(bench.seen.of("wait")) == 11)
            bench.valet.close()
        assert ([type(error) for error in threads.errors], threads.values) == ([ValetClosedError] * 11, [])
        assert {str(error) for error in threads.errors} == {"the valet was closed while a token was being renewed"}


@pytest.mark.standards("S-209")
def test_closing_tells_those_who_wait_behind_a_lane_that_hangs() -> None:
    with Bench() as bench:
        bench.backchannel.hold()
        with in_threads() as threads:
            for number in range(10):
                threads.start(lambda number=number: bench.valet.token("m2m", scope=str(number)))  # type: ignore[misc]
            until(lambda: len(bench.seen.of("wait")) == 10)
            bench.valet.close()
        assert [type(error) for error in threads.errors] == [ValetClosedError] * 10


@pytest.mark.standards("S-209")
def test_closing_ends_those_who_would_take_a_rejected_token_too() -> None:
    with Bench() as bench:
        first = bench.valet.token("m2m")
        bench.backchannel.hold()
        bench.renewer.replace(bench.ticket(), first)
        with in_threads() as threads:
            threads.start(lambda: bench.valet.token("m2m"))
            until(lambda: len(bench.seen.of("wait")) == 3)
            bench.valet.close()
        assert [type(error) for error in threads.errors] == [ValetClosedError]


@pytest.mark.standards("S-209")
def test_a_closed_valet_says_so() -> None:
    with Bench() as bench:
        token = bench.valet.token("m2m")
        ticket = bench.ticket()
        bench.valet.close()
        bench.valet.close()  # once more does no harm
        for ask in (
            lambda: bench.valet.token("m2m"),
            lambda: bench.valet.client("m2m"),
            lambda: bench.renewer.get(ticket),
            lambda: bench.renewer.replace(ticket, token),
            lambda: bench.valet.add_client("other", config()),
            lambda: asyncio.run(bench.valet.async_token("m2m")),
        ):
            with pytest.raises(ValetClosedError, match="closed") as caught:
                ask()
            assert caught.value.code == "valet_closed"
        assert bench.count == 1
        assert bench.backchannel.closed


@pytest.mark.standards("S-208", "S-209")
def test_what_a_renewal_brings_after_the_close_is_neither_kept_nor_told() -> None:
    with Bench() as bench:
        bench.backchannel.hold()
        waiting = bench.renewer.get(bench.ticket())
        bench.backchannel.wait_for(1)
        bench.valet.close()
        bench.backchannel.release()
        until(lambda: bench.workers._threads == 0)
        assert not isinstance(waiting, AccessToken)
        assert isinstance(waiting.future.exception(0), ValetClosedError)
        assert (dict(bench.renewer._entries), bench.seen.of("token_cached")) == ({}, [])


@pytest.mark.standards("S-208")
def test_no_further_attempt_is_made_after_the_close() -> None:
    """The pause between two attempts ends with the valet, and so must the renewal."""
    body = b'{"access_token":"a","token_type":"Bearer","expires_in":60}'
    with RawServer(answer(status="503 Busy")) as server:
        valet = TokenValet({"m2m": config(token_endpoint=server.url)})
        with in_threads() as threads:
            threads.start(lambda: valet.token("m2m"))
            until(lambda: server.requests)
            server.behaviour = answer(body)
            time.sleep(0.1)  # now it pauses, for a quarter of a second at least
            valet.close()
        until(lambda: workers_of(valet)._threads == 0)
        assert [type(error) for error in threads.errors] == [ValetClosedError]
        assert server.connections == 1


@pytest.mark.standards("S-209")
def test_closing_does_not_wait_for_a_server_that_hangs() -> None:
    with RawServer(never_answer) as server:
        valet = TokenValet({"m2m": config(token_endpoint=server.url, timeout=60)})
        with in_threads() as threads:
            threads.start(lambda: valet.token("m2m"))
            until(lambda: server.requests)
            began = time.monotonic()
            valet.close()
        assert [type(error) for error in threads.errors] == [ValetClosedError]
        assert time.monotonic() - began < 5


def test_a_valet_is_closed_by_its_with_block() -> None:
    async def main(valet: TokenValet) -> None:
        async with valet:
            await valet.async_token("m2m")

    for leave in (lambda valet: valet.__exit__(None, None, None), lambda valet: asyncio.run(main(valet))):
        with Bench(tokens()) as bench:
            made: Any = bench.valet
            leave(made)
            with pytest.raises(ValetClosedError):
                made.token("m2m")


def test_a_pause_between_attempts_ends_with_the_valet() -> None:
    with Bench(unavailable(retry_after="8")) as bench:
        with in_threads() as threads:
            threads.start(lambda: bench.valet.token("m2m"))
            bench.backchannel.wait_for(1)
            bench.valet.close()
            until(lambda: bench.workers._threads == 0)
        assert [type(error) for error in threads.errors] == [ValetClosedError]
