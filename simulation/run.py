"""`make simulate`: thirty days of a large fleet, and a hundred small ones of other seeds; prints a table, and judges."""

from __future__ import annotations

import argparse
import concurrent.futures
import gc
import sys
import time
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
    quiet_requests: int
    quiet_lifetimes: float
    peak: int
    waits: int
    failures: int
    handed: int
    broken: tuple[str, ...]
    seconds: float

    @property
    def per_lifetime(self) -> float:
        """Token requests per lifetime, in the time in which nothing is wrong."""
        return self.quiet_requests / self.quiet_lifetimes if self.quiet_lifetimes else 0.0


def play(seed: int, processes: int, days: float, lifetime: int, trouble: float) -> Figures:
    """Play one plan, and return its figures."""
    began = time.perf_counter()
    # There is much that lives long and nothing that leaks: looking for garbage less often is most of a third faster.
    gc.set_threshold(200_000, 50, 50)
    fleet = Fleet(plan_of(seed, processes=processes, days=days, lifetime=lifetime, trouble=trouble))
    fleet.run()
    plan, provider = fleet.plan, fleet.provider
    # Trouble costs further tokens, as it has to: revoked ones are replaced, lost ones got anew.
    bad = [(spell.begin - STORE_PAUSE, spell.end + 120.0) for spell in (*plan.provider, *plan.store, *plan.api)]
    bad += [(moment - 1.0, moment + 60.0) for moment in (*plan.revocations, *plan.losses, *plan.deploys)]
    quiet = [moment for moment in provider.requests if not any(begin <= moment <= end for begin, end in bad)]
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
        quiet_requests=len(quiet),
        quiet_lifetimes=(days * DAY - sum(end - begin for begin, end in bad)) / lifetime,
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
        large = pool.submit(play, options.seed, options.processes, options.days, options.lifetime, 1.0)
        small = [
            pool.submit(play, seed, 10 + seed % 40, 1.0, (300, 3600, 8 * 3600)[seed % 3], 8.0)
            for seed in range(1, options.seeds + 1)
        ]
        runs = [large.result(), *(one.result() for one in small)]
    _print(runs[0], runs[1:])
    broken = [line for run in runs for line in run.broken]
    for line in broken[:20]:
        print(f"BROKEN  {line}")
    missed = runs[0].per_lifetime > MOST_PER_LIFETIME or max(run.peak for run in runs) > MOST_A_SECOND
    return 1 if broken or missed else 0


def _print(large: Figures, small: list[Figures]) -> None:
    rows = [
        ("processes", f"{large.processes:,}", f"{sum(run.processes for run in small):,} in {len(small)} fleets"),
        ("days", f"{large.days:g}", f"{small[0].days:g} each" if small else "-"),
        ("a token lives", f"{large.lifetime:,} s", "300, 3,600 or 28,800 s"),
        ("calls that may change something", f"{large.calls:,}", f"{sum(run.calls for run in small):,}"),
        ("steps", f"{large.steps:,}", f"{sum(run.steps for run in small):,}"),
        ("token requests", f"{large.requests:,}", f"{sum(run.requests for run in small):,}"),
        ("per lifetime, while nothing is wrong", f"{large.per_lifetime:.3f}", "-"),
        (
            "in a second, in and after outages, at most",
            f"{large.peak}",
            f"{max((run.peak for run in small), default=0)}",
        ),
        ("calls that waited", f"{large.waits:,}", f"{sum(run.waits for run in small):,}"),
        ("calls that failed, no token being had", f"{large.failures:,}", f"{sum(run.failures for run in small):,}"),
        ("401s that callers saw", f"{large.handed:,}", f"{sum(run.handed for run in small):,}"),
        ("broken invariants", f"{len(large.broken)}", f"{sum(len(run.broken) for run in small)}"),
        ("seconds of this machine", f"{large.seconds:.0f}", f"{sum(run.seconds for run in small):.0f}"),
    ]
    width = max(len(row[0]) for row in rows)
    for name, first, second in rows:
        print(f"{name:<{width}}  {first:>14}  {second:>22}")


if __name__ == "__main__":
    sys.exit(main())
