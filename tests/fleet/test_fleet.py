"""Small fleets under a virtual clock: the policy holds, and the simulation would notice if it did not."""

from __future__ import annotations

import pytest

from simulation.fleet import DAY, Fleet, Plan, plan_of
from simulation.run import play
from simulation.world import Spell
from tokenvalet.core.messages import Lease
from tokenvalet.shelf import Shelf


def played(plan: Plan) -> Fleet:
    fleet = Fleet(plan)
    fleet.run()
    return fleet


@pytest.mark.parametrize("seed", range(201, 207))
def test_a_fleet_with_a_great_deal_of_trouble_breaks_nothing(seed: int) -> None:
    fleet = played(plan_of(seed, processes=15, days=0.5, lifetime=(300, 3600, 28800)[seed % 3], trouble=8.0))
    assert fleet.broken == []
    assert fleet.calls >= 2 * 15


def test_the_same_seed_is_the_same_run() -> None:
    figures = [play(7, 20, 0.5, 3600, 8.0) for _ in range(2)]
    assert {(run.calls, run.steps, run.requests, run.failures, run.waits, run.handed) for run in figures} == {
        (
            figures[0].calls,
            figures[0].steps,
            figures[0].requests,
            figures[0].failures,
            figures[0].waits,
            figures[0].handed,
        )
    }
    assert play(8, 20, 0.5, 3600, 8.0).steps != figures[0].steps


@pytest.mark.standards("S-213")
def test_two_hundred_processes_cost_one_token_request_for_each_renewal_and_nobody_waits_after_the_start() -> None:
    fleet = played(Plan(seed=1, processes=200, days=1.0, lifetime=3600))
    # An hour less the window of five minutes, which is up to a quarter wider for the first of so many.
    assert DAY / 3600 <= len(fleet.provider.requests) <= DAY / (3600 - 375) + 1
    assert (fleet.failures, fleet.handed, len(fleet.waits)) == (0, 0, 200)


def test_without_a_store_every_process_costs_as_much_as_a_fleet_with_one() -> None:
    fleet = played(Plan(seed=1, processes=20, days=0.5, lifetime=3600, shared=False))
    assert 20 * 12 <= len(fleet.provider.requests) <= 20 * 15
    assert fleet.broken == []


def test_an_outage_of_an_hour_costs_the_server_no_more_than_two_requests_a_second() -> None:
    outage = Spell(10_000.0, 13_600.0, "unreachable")
    fleet = played(Plan(seed=3, processes=100, days=0.3, lifetime=3600, provider=(outage,)))
    assert fleet.broken == []
    assert fleet.failures > 0
    assert 0 < fleet.provider.peak(outage.begin, outage.end + 60.0, 1.0) <= 2
    # The first that is served comes within one interval of the recovery.
    assert min(moment for moment in fleet.provider.requests if moment >= outage.end) - outage.end < 15.0


def test_a_token_that_is_revoked_everywhere_costs_one_token_request() -> None:
    fleet = played(Plan(seed=4, processes=300, days=0.02, lifetime=3600, revocations=(1000.0,)))
    assert (len(fleet.provider.requests), fleet.handed, fleet.broken) == (2, 0, [])
    assert fleet.rejections > 200


# The simulation itself must be able to fail -----------------------------------------------------------------------


def test_a_policy_that_renews_only_what_has_expired_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenvalet.named_client.renewal_window", lambda lifetime, renew_before, jitter: 0.0)
    fleet = played(Plan(seed=5, processes=10, days=0.2, lifetime=3600))
    assert "a call waits for a renewal that could have been made earlier" in fleet.broken[0]


def test_a_lease_that_keeps_nobody_out_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Shelf.claim

    def granted(self: Shelf, *arguments: object) -> object:
        reply = claim(self, *arguments)  # type: ignore[arg-type]
        object.__setattr__(reply, "lease", Lease.GRANTED)
        return reply

    monkeypatch.setattr(Shelf, "claim", granted)
    fleet = played(Plan(seed=6, processes=50, days=0.2, lifetime=3600))
    assert any("two token requests at once" in line for line in fleet.broken)


def test_failures_that_are_not_remembered_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenvalet.core.sharing.FLEET_PAUSE", 0.0)
    outage = Spell(10_000.0, 10_600.0, "unreachable")
    fleet = played(Plan(seed=7, processes=50, days=0.15, lifetime=300, provider=(outage,)))
    assert any("token requests in a second" in line for line in fleet.broken)
