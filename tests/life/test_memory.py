"""What is kept is bounded: the least recently used key goes first, and only it (S-190)."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from life.makers import Bench, Clock, config, refusal, token_of, tokens, until
from tokenvalet import AccessToken, TokenParameters, TokenRefusedError
from tokenvalet.named_client import Renewed, Ticket, Wish
from tokenvalet.observe import Observers
from tokenvalet.renewal import Renewer


class Stub:
    """A client whose renewals take no time at all."""

    def __init__(self, clock: Clock) -> None:
        self.name = "m2m"
        self.valid_from = 0
        self.lane = ("server", "lane")
        self.config = SimpleNamespace(timeout=10.0)
        self.clock = clock
        self.renewals = 0

    def renew(self, ticket: Ticket, wish: Wish) -> Renewed:
        self.renewals += 1
        token = AccessToken(
            client=self.name,
            value=ticket.key,
            token_type="Bearer",
            scope=None,
            obtained=self.clock(),
            lifetime=3600.0,
            window=300.0,
            clock=self.clock,
        )
        return Renewed(token=token, from_store=False, forced=False)

    def ticket(self, key: str) -> Ticket:
        return Ticket(key, cast(Any, self), None, None)


class Inline:
    """Workers that do it at once, on the caller's thread: threads would cost more than all that is looked at here."""

    def submit(self, lane: object, job: Callable[[], None]) -> bool:
        job()
        return True

    def close(self) -> None: ...


@pytest.mark.standards("S-190")
def test_a_hundred_thousand_keys_have_a_token_each_and_one_more_costs_the_oldest() -> None:
    stub = Stub(clock := Clock())
    renewer = Renewer(clock, Observers(), capacity=100_000, workers=Inline)
    tickets = [stub.ticket(f"key-{number}") for number in range(100_001)]
    for ticket in tickets[:-1]:
        renewer.get(ticket)
    assert all(cast(AccessToken, renewer.get(ticket)).value == ticket.key for ticket in tickets[:-1])
    assert (stub.renewals, len(renewer._entries)) == (100_000, 100_000)
    renewer.get(tickets[-1])
    assert (stub.renewals, len(renewer._entries)) == (100_001, 100_000)
    assert tickets[0].key not in renewer._entries
    assert tickets[1].key in renewer._entries


@pytest.mark.standards("S-190")
def test_the_least_recently_used_key_goes_first_and_only_it() -> None:
    with Bench(capacity=3) as bench:
        kept = {scope: bench.valet.token("m2m", scope=scope) for scope in "abc"}
        assert bench.valet.token("m2m", scope="a") is kept["a"]  # so that b is now the one used longest ago
        kept["d"] = bench.valet.token("m2m", scope="d")
        assert [bench.valet.token("m2m", scope=scope) is kept[scope] for scope in "acd"] == [True] * 3
        assert bench.count == 4
        assert bench.valet.token("m2m", scope="b") is not kept["b"]
        assert bench.count == 5
        # In the place of a, which was used longest ago of a, c and d.
        assert [bench.valet.token("m2m", scope=scope) is kept[scope] for scope in "cd"] == [True, True]
        assert bench.count == 5


@pytest.mark.standards("S-190")
@pytest.mark.parametrize("capacity", [1, 2])
def test_a_key_whose_renewal_is_under_way_is_not_thrown_out(capacity: int) -> None:
    with Bench(capacity=capacity) as bench:
        bench.backchannel.hold()
        waiting = {scope: bench.renewer.get(bench.ticket(scope=scope)) for scope in "abcd"}
        bench.backchannel.wait_for(4)
        again = {scope: bench.renewer.get(bench.ticket(scope=scope)) for scope in "abcd"}
        assert bench.count == 4
        bench.backchannel.release()
        for scope in "abcd":
            assert token_of(again[scope]) is token_of(waiting[scope])
        bench.settle()
        assert len(bench.renewer._entries) == capacity
        # The ones used last are still there.
        for scope in "abcd"[-capacity:]:
            assert bench.renewer.get(bench.ticket(scope=scope)) is token_of(again[scope])
        assert bench.count == 4


@pytest.mark.standards("S-190")
def test_what_a_new_key_brings_is_kept_although_all_others_are_under_way() -> None:
    with Bench(capacity=1) as bench:
        gate = threading.Event()
        good = tokens()

        def answer(request: Any) -> Any:
            if b"scope=slow" in request.body:
                assert gate.wait(10)
            return good(request)

        bench.backchannel.answer = answer
        slow = bench.renewer.get(bench.ticket(scope="slow"))
        quick = bench.valet.token("m2m", scope="quick")
        assert bench.renewer.get(bench.ticket(scope="quick")) is quick
        assert bench.count == 2
        gate.set()
        token_of(slow)


@pytest.mark.standards("S-190")
def test_keys_that_hang_do_not_keep_those_that_come_and_go() -> None:
    with Bench(capacity=5) as bench:
        gate = threading.Event()
        good = tokens()

        def answer(request: Any) -> Any:
            if b"scope=slow" in request.body:
                assert gate.wait(10)
            return good(request)

        bench.backchannel.answer = answer
        bench.valet.add_client("slow", config(token_endpoint="http://127.0.0.1:2/token"))
        client = bench.valet._clients["slow"]
        for number in range(100):
            bench.renewer.get(client.ticket(TokenParameters(scope=f"slow{number}")))
        for number in range(100):
            bench.valet.token("m2m", scope=str(number))
        assert 100 <= len(bench.renewer._entries) <= 106
        gate.set()
        bench.settle()
        assert len(bench.renewer._entries) == 5


@pytest.mark.standards("S-062", "S-190")
def test_a_failure_is_remembered_although_all_others_are_under_way() -> None:
    with Bench(capacity=1) as bench:
        gate = threading.Event()
        good, bad = tokens(), refusal("invalid_scope", 400)

        def answer(request: Any) -> Any:
            if b"scope=slow" in request.body:
                assert gate.wait(10)
                return good(request)
            return bad(request)

        bench.backchannel.answer = answer
        bench.renewer.get(bench.ticket(scope="slow"))
        for _ in range(5):
            with pytest.raises(TokenRefusedError):
                bench.valet.token("m2m", scope="bad")
        assert bench.count == 2
        gate.set()
        bench.settle()


@pytest.mark.standards("S-190")
def test_the_tickets_of_a_client_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenvalet.named_client.MOST_REMEMBERED_PARAMETERS", 10)
    with Bench() as bench:
        keys = [bench.ticket(scope=str(number)).key for number in range(50)]
        assert len(bench.valet._clients["m2m"]._tickets) == 10
        assert [bench.ticket(scope=str(number)).key for number in range(50)] == keys


@pytest.mark.standards("S-190")
def test_nothing_is_left_of_renewals_that_have_ended() -> None:
    with Bench(capacity=5) as bench:
        for number in range(100):
            bench.valet.token("m2m", scope=str(number))
        bench.settle()
        workers = bench.workers
        until(lambda: not workers._servers)
        assert (workers._servers, list(workers._ready), len(bench.renewer._entries)) == ({}, [], 5)


@pytest.mark.standards("S-190")
def test_many_parameters_from_many_threads_break_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenvalet.named_client.MOST_REMEMBERED_PARAMETERS", 2)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with Bench() as bench:
            errors: list[Exception] = []

            def hammer(name: str) -> None:
                try:
                    for number in range(1500):
                        bench.ticket(scope=f"{name}{number % 7}")
                except Exception as error:
                    errors.append(error)

            threads = [threading.Thread(target=hammer, args=(name,)) for name in "abcd"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert errors == []
    finally:
        sys.setswitchinterval(before)
