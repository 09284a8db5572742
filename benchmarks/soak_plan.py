"""What goes wrong during a soak: drawn from a seed beforehand, so that it can be had again."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["MOMENTS", "Trouble", "plan_of"]

# In lifetimes of a token: how long it is from one trouble of a place to the next, and how long one lasts. Zero: a moment.
_PLACES: dict[str, tuple[tuple[str, ...], tuple[float, float], tuple[float, float]]] = {
    "auth": (
        ("unavailable", "overloaded", "dropping", "hanging", "html", "slow", "unreachable"),
        (1.5, 5.0),
        (0.1, 1.2),
    ),
    "api": (("unavailable", "resetting", "unreachable", "slow"), (1.0, 4.0), (0.1, 0.6)),
    "nonces": (("rotated",), (0.4, 1.2), (0.0, 0.0)),
    "Redis": (("killed", "stopped", "emptied"), (0.5, 2.5), (0.1, 2.0)),
    "folder": (("open to others", "read-only", "removed", "spoilt"), (0.5, 2.5), (0.1, 2.0)),
}
# In seconds: a token is replaced before its time at most once in ten, so that one of these need not show before that.
_TOKENS = (("revoked", "rejected"), (16.0, 24.0), (0.5, 2.0))
MOMENTS = frozenset({"rotated", "emptied", "removed", "spoilt", "revoked"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that goes wrong: where, what, when and for how long, in seconds from the start."""

    place: str
    kind: str
    begin: float
    length: float


def plan_of(seed: int, seconds: float, lifetime: float, break_at: float) -> tuple[Trouble, ...]:
    """Return all troubles of a run, in order; none is on at `break_at` and at the end, when things are measured.

    After the break no folder is removed, or nobody would see whether it is swept.
    """
    found = []
    places = {
        name: (kinds, tuple(lifetime * x for x in gaps), tuple(lifetime * x for x in lengths))
        for name, (kinds, gaps, lengths) in _PLACES.items()
    }
    for place, (kinds, gaps, lengths) in {**places, "tokens": _TOKENS}.items():
        rng = random.Random(f"soak {seed} {place}")
        moment = rng.uniform(0.1, 0.5) * gaps[0]
        while moment < seconds:
            kind = rng.choice([kind for kind in kinds if kind != "removed" or moment < break_at])
            length = 0.0 if kind in MOMENTS else rng.uniform(*lengths)
            end = min(moment + length, seconds if moment >= break_at else break_at)
            found.append(Trouble(place, kind, moment, end - moment))
            moment = end + rng.uniform(*gaps)
    return tuple(sorted(found, key=lambda trouble: trouble.begin))
