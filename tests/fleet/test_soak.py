"""A short soak, and the judge of all soaks: it must be able to say no."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stores.redis_server import Unavailable, executable
from tokenvalet import Event, TokenRequestError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LIFETIME = 5.0


def module(name: str) -> Any:
    """Return a module of the benchmarks, which are no package."""
    known = sys.modules.get(name)
    if known is None:
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        known = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(known)
    return known


def soak(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run a soak, after some lines of Python, in a process of its own."""
    script = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n{before}\nimport soak; sys.exit(soak.main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def redis_installed() -> None:
    try:
        executable()
    except Unavailable as reason:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))


@pytest.mark.standards("S-188", "S-213")
def test_in_a_short_soak_no_call_fails_while_a_token_can_be_had_and_everybody_has_one_in_the_end(
    redis_installed: None,
) -> None:
    done = soak("--seconds", "5", "--seed", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "MISS" not in done.stdout
    assert "every caller has a good answer when all is well again: True" in done.stdout


@pytest.mark.usefixtures("redis_installed")
def test_a_soak_of_a_valet_that_replaces_no_rejected_token_ends_with_exit_code_1() -> None:
    broken = "from tokenvalet.renewal import Renewer; Renewer.replace = lambda *_: None"
    done = soak("--seconds", "5", "--seed", "4", before=broken)
    assert done.returncode == 1
    assert "a caller sees a 401, although a token could be had" in done.stdout


# What goes wrong --------------------------------------------------------------------------------------------------


def test_the_troubles_of_a_seed_are_the_same_every_time_and_those_of_another_are_others() -> None:
    plan_of = module("soak_plan").plan_of
    assert plan_of(1, 100, LIFETIME, 20) == plan_of(1, 100, LIFETIME, 20) != plan_of(2, 100, LIFETIME, 20)


def test_all_kinds_of_troubles_come_and_none_is_on_when_things_are_measured() -> None:
    plan = module("soak_plan").plan_of(1, 600, LIFETIME, 120)
    assert len({(trouble.place, trouble.kind) for trouble in plan}) == 21
    for moment in (120, 600):
        assert not [one for one in plan if one.begin < moment < one.begin + one.length]
    assert not [one for one in plan if one.kind == "removed" and one.begin > 120]
    tokens = [one.begin for one in plan if one.place == "tokens"]
    assert all(later - former >= 16 for former, later in itertools.pairwise(tokens))


# The judge --------------------------------------------------------------------------------------------------------


class Court:
    """A judge with a clock of its own, and troubles as a test says."""

    def __init__(self, *spells: tuple[str, str, float, float]) -> None:
        self.now = 0.0
        self.spells = spells
        self.judge = module("soak_judge").Judge(self, lambda: self.now)

    def touches(self, place: str, begin: float, end: float, *, kind: str = "") -> bool:
        return any(
            known == place and kind in ("", what) and since <= end and until >= begin
            for known, what, since, until in self.spells
        )

    def renewal(
        self, name: str, began: float, ended: float, seconds: float, valet: str = "valet", code: str = ""
    ) -> None:
        self.begins(began, valet)
        self.now = ended
        self.judge.listener(valet)(Event(name=name, client="m2m", seconds=seconds, code=code))

    def begins(self, at: float, valet: str = "valet") -> None:
        self.now = at
        self.judge.listener(valet)(Event(name="renewal_started", client="m2m"))

    def fails(self, at: float, valet: str = "valet") -> bool:
        """Whether it is a fault that a call fails then."""
        self.now = at
        before = len(self.judge.broken)
        self.judge.refused(valet, "m2m", at - 0.01, TokenRequestError("no"))
        return len(self.judge.broken) > before

    def hands_401(self, at: float) -> bool:
        """Whether it is a fault that a caller sees a 401 then."""
        self.now = at
        before = len(self.judge.broken)
        assert not self.judge.answered("valet", "m2m", at - 0.01, 401)
        return len(self.judge.broken) > before


def test_a_call_may_fail_from_the_end_of_its_token_to_the_end_of_the_interval_after_a_server_in_trouble() -> None:
    court = Court(("auth", "unavailable", 3.0, 7.0))
    court.renewal("token_cached", 0.0, 0.1, LIFETIME)
    court.renewal("renewal_failed", 4.0, 4.1, 4.0)
    assert court.fails(4.9)
    assert not court.fails(5.1)
    assert not court.fails(8.0)
    assert court.fails(9.0)


def test_a_call_may_not_fail_where_no_server_was_in_trouble() -> None:
    court = Court(("Redis", "killed", 3.0, 7.0), ("api", "slow", 3.0, 7.0))
    court.renewal("renewal_failed", 4.0, 4.1, 4.0)
    assert court.fails(5.0)


def test_a_call_may_fail_while_a_renewal_is_under_way_with_a_server_in_trouble() -> None:
    for kind, fault in (("auth", False), ("Redis", True)):
        court = Court((kind, "hanging", 1.0, 9.0))
        court.begins(2.0)
        assert court.fails(4.0) is fault


def test_a_call_may_fail_since_another_process_met_a_server_in_trouble_a_moment_before() -> None:
    for trouble, fault in (("auth", False), ("Redis", True)):
        court = Court((trouble, "hanging", 1.0, 2.0))
        court.renewal("renewal_failed", 1.5, 2.9, 2.0, valet="Redis 0")
        court.renewal("renewal_failed", 4.0, 4.1, 2.0, valet="Redis 1", code="token_request_failed_elsewhere")
        assert court.fails(5.0, valet="Redis 1") is fault
    court = Court(("auth", "hanging", 1.0, 2.0))
    court.renewal("renewal_failed", 1.5, 2.4, 2.0, valet="Redis 0")
    court.renewal("renewal_failed", 4.0, 4.1, 2.0, valet="Redis 1", code="token_request_failed_elsewhere")
    assert court.fails(5.0, valet="Redis 1")


def test_a_401_may_be_handed_out_while_the_api_rejects_everything_and_after_a_revocation_it_may_not() -> None:
    court = Court(("tokens", "rejected", 1.0, 2.0), ("tokens", "revoked", 20.0, 20.0))
    court.renewal("token_cached", 0.0, 0.1, 600.0)
    assert not court.hands_401(1.5)
    assert court.hands_401(2.5)
    assert court.hands_401(20.0)


def test_a_401_may_be_handed_out_for_ten_seconds_after_a_forced_renewal_that_met_a_server_in_trouble() -> None:
    court = Court(("auth", "unavailable", 1.0, 2.0))
    court.renewal("token_cached", 0.0, 0.1, 600.0)
    court.renewal("renewal_failed", 1.5, 1.6, 1.0)
    assert not court.hands_401(11.0)
    assert court.hands_401(13.0)


def test_the_api_may_break_while_it_is_in_trouble_and_not_otherwise() -> None:
    court = Court(("api", "resetting", 1.0, 2.0))
    court.now = 1.5
    court.judge.broke("valet", "m2m", 1.4, OSError())
    court.judge.answered("valet", "m2m", 1.4, 503)
    assert court.judge.broken == []
    court.now = 5.0
    court.judge.broke("valet", "m2m", 4.9, OSError())
    court.judge.answered("valet", "m2m", 4.9, 503)
    court.judge.answered("valet", "m2m", 4.9, 404)
    assert len(court.judge.broken) == 3


# What is left behind ----------------------------------------------------------------------------------------------


def test_more_than_the_bound_of_anything_is_a_fault() -> None:
    script = f"""
import json, sys
sys.path.insert(0, {str(BENCHMARKS)!r})
from dataclasses import replace
from soak import BOUNDS, Holdings, growth
early = Holdings(traced=1.0, resident=1.0, threads=1, sockets=1, others=1, files=1)
def faults(name, more):
    return [good for _, good in growth(early, replace(early, **{{name: 1 + more}}))].count(False)
print(json.dumps({{name: [faults(name, bound), faults(name, bound + 1)] for name, bound in BOUNDS.values()}}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found.keys() == {"traced", "resident", "threads", "sockets", "others", "files"}
    assert set(map(tuple, found.values())) == {(0, 1)}
