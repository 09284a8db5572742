"""`make simulate`: a calm month and an ordinary one of a large fleet, and a hundred bad days of small ones.

Prints a table, and judges: the exit code is 1 where an invariant is broken or a bound is missed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from simulation.fleet import DAY, STORE_PAUSE, Fleet, plan_of

__all__ = ["Figures", "main", "play"]

MOST_PER_LIFETIME = 1.05
MOST_A_SECOND = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one run came to."""

    seed: int
    processes: int
    days: float
    lifetime: int
    calls: int
    steps: int
    requests: int
    peak: int
    waits: int
    failures: int
    handed: int
    broken: tuple[str, ...]
    seconds: float

    @property
    def per_lifetime(self) -> float:
        """Token requests per lifetime."""
        return self.requests * self.lifetime / (self.days * DAY)


def play(seed: int, processes: int, days: float, lifetime: int, trouble: float) -> Figures:
    """Play one plan, and return its figures."""
    began = time.perf_counter()
    # There is much that lives long and nothing that leaks: looking for garbage less often is most of a third faster.
    gc.set_threshold(200_000, 50, 50)
    fleet = Fleet(plan_of(seed, processes=processes, days=days, lifetime=lifetime, trouble=trouble))
    fleet.run()
    plan, provider = fleet.plan, fleet.provider
    peaks = [
        provider.peak(spell.begin, spell.end + 60.0, 1.0)
        for spell in plan.provider
        if not fleet.store.spells.touches(spell.begin - STORE_PAUSE, spell.end + 60.0)
    ]
    return Figures(
        seed=seed,
        processes=processes,
        days=days,
        lifetime=lifetime,
        calls=fleet.calls,
        steps=fleet.hub.steps,
        requests=len(provider.requests),
        peak=max(peaks, default=0),
        waits=len(fleet.waits),
        failures=fleet.failures,
        handed=fleet.handed,
        broken=tuple(fleet.broken),
        seconds=time.perf_counter() - began,
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns 1 where something is broken or a bound is missed."""
    parser = argparse.ArgumentParser(prog="simulate", description=__doc__)
    parser.add_argument("--processes", type=int, default=10_000)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--lifetime", type=int, default=24 * 3600, help="of a token, in seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=100, help="how many small fleets")
    options = parser.parse_args(arguments)
    with concurrent.futures.ProcessPoolExecutor() as pool:
        size = (options.processes, options.days, options.lifetime)
        ordinary = pool.submit(play, options.seed, *size, 1.0)
        calm = pool.submit(play, options.seed, *size, 0.0)
        bad = [
            pool.submit(play, seed, 10 + seed % 40, 0.25, (300, 3600, 8 * 3600)[seed % 3], 24.0)
            for seed in range(1, options.seeds + 1)
        ]
        runs = [calm.result(), ordinary.result(), *(one.result() for one in bad)]
    _print(runs[0], runs[1], runs[2:])
    broken = [line for run in runs for line in run.broken]
    for line in broken[:20]:
        print(f"BROKEN  {line}")
    missed = runs[0].per_lifetime > MOST_PER_LIFETIME or max(run.peak for run in runs) > MOST_A_SECOND
    return 1 if broken or missed else 0


def _print(calm: Figures, ordinary: Figures, bad: list[Figures]) -> None:
    def row(name: str, of_one: Callable[[Figures], str], of_many: str) -> tuple[str, str, str, str]:
        return name, of_one(calm), of_one(ordinary), of_many

    def number(name: str, field: str) -> tuple[str, str, str, str]:
        return row(name, lambda run: f"{getattr(run, field):,}", f"{sum(getattr(run, field) for run in bad):,}")

    rows = [
        ("", "a calm month", "an ordinary month", f"{len(bad)} bad days"),
        row("processes", lambda run: f"{run.processes:,}", "10 to 49 each"),
        row("days", lambda run: f"{run.days:g}", "a quarter each"),
        row("a token lives", lambda run: f"{run.lifetime:,} s", "300, 3,600 or 28,800 s"),
        number("calls that may change something", "calls"),
        number("steps", "steps"),
        number("token requests", "requests"),
        row("token requests per lifetime", lambda run: f"{run.per_lifetime:.3f}", "-"),
        row(
            "in a second, in and after outages",
            lambda run: f"{run.peak}",
            f"{max((run.peak for run in bad), default=0)}",
        ),
        number("calls that waited", "waits"),
        number("calls that failed, no token to be had", "failures"),
        number("401s that callers saw", "handed"),
        row("broken invariants", lambda run: f"{len(run.broken)}", f"{sum(len(run.broken) for run in bad)}"),
        row("seconds of this machine", lambda run: f"{run.seconds:.0f}", f"{sum(run.seconds for run in bad):.0f}"),
    ]
    widths = [max(len(cells[column]) for cells in rows) for column in range(4)]
    for name, *cells in rows:
        print(
            f"{name:<{widths[0]}}",
            *(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)),
            sep="  ",
        )


if __name__ == "__main__":
    sys.exit(main())
