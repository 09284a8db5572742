"""A fleet, thirty days of it, and what must never happen, looked for at every step."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, field

from simulation.hub import Hub
from simulation.process import TIMEOUT, Process
from simulation.world import Api, Provider, SharedStore, Spell, Spells
from tokenvalet.core.policy import LONGEST_RETRY_AFTER
from tokenvalet.core.token import AccessToken
from tokenvalet.errors import TokenValetError
from tokenvalet.tls import TlsContexts

__all__ = ["Fleet", "Plan", "plan_of"]

DAY = 86_400.0
LONGEST_INTERVAL = 15.0
STORE_PAUSE = 31.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is made of, as drawn from its seed."""

    seed: int
    processes: int
    days: float
    lifetime: int
    provider: tuple[Spell, ...] = ()
    store: tuple[Spell, ...] = ()
    api: tuple[Spell, ...] = ()
    revocations: tuple[float, ...] = ()
    losses: tuple[float, ...] = ()
    deploys: tuple[float, ...] = ()
    jumps: int = 0
    shared: bool = True


def plan_of(
    seed: int, *, processes: int, days: float, lifetime: int, shared: bool = True, trouble: float = 1.0
) -> Plan:
    """Return a plan; `trouble` is how much more goes wrong than in an ordinary month."""
    rng = random.Random(f"plan {seed}")
    end = days * DAY
    months = days / 30 * trouble

    def spells(number: float, kinds: tuple[str, ...], longest: float) -> tuple[Spell, ...]:
        found: list[Spell] = []
        for _ in range(round(number)):
            begin = rng.uniform(0.0, end)
            length = min(longest, rng.lognormvariate(4.6, 1.3))
            if all(begin > other.end + 300 or begin + length + 300 < other.begin for other in found):
                found.append(Spell(begin, begin + length, rng.choice(kinds)))
        return tuple(sorted(found))

    def moments(number: float) -> tuple[float, ...]:
        return tuple(sorted(rng.uniform(0.0, end) for _ in range(round(number))))

    deploys = moments(6 * months)
    return Plan(
        seed=seed,
        processes=processes,
        days=days,
        lifetime=lifetime,
        provider=spells(30 * months, ("unreachable", "hanging", "unavailable", "overloaded", "slow"), 3600.0),
        store=spells(15 * months, ("down", "hanging", "slow"), 1800.0),
        api=spells(3 * months, ("rejecting",), 180.0),
        revocations=moments(4 * months),
        # Some deploys meet a store that has just lost everything.
        losses=tuple(sorted((*moments(4 * months), *(moment - 0.5 for moment in deploys[::3])))),
        deploys=deploys,
        jumps=round(processes * months * 0.05),
        shared=shared,
    )


@dataclass(slots=True)
class Fleet:
    """A run of a plan.

    Attributes:
        broken: what must not happen and did, a sentence each.
    """

    plan: Plan
    hub: Hub = field(default_factory=Hub)
    calls: int = 0
    rejections: int = 0
    waits: list[float] = field(default_factory=list)
    failures: int = 0
    handed: int = 0
    broken: list[str] = field(default_factory=list)
    tls: TlsContexts = field(default_factory=TlsContexts)
    spread: float = 5.0
    pace: float = 1.0
    rng: random.Random = field(init=False)
    provider: Provider = field(init=False)
    store: SharedStore = field(init=False)
    api: Api = field(init=False)
    processes: list[Process] = field(init=False)

    def __post_init__(self) -> None:
        plan = self.plan
        self.rng = random.Random(f"run {plan.seed}")
        self.provider = Provider(self.hub, self.rng, Spells(list(plan.provider)), plan.lifetime)
        self.store = SharedStore(self.hub, self.rng, Spells(list(plan.store)))
        self.api = Api(self.hub, self.provider, Spells(list(plan.api)))
        self.processes = []

    @property
    def shared(self) -> bool:
        """Whether the processes share a store."""
        return self.plan.shared

    def run(self) -> None:
        """Play the plan from its beginning to its end."""
        log = logging.getLogger("tokenvalet")
        level = log.level
        log.setLevel(logging.CRITICAL + 1)
        try:
            self._play()
        finally:
            log.setLevel(level)
        self._judge()

    def _play(self) -> None:
        plan, hub, rng = self.plan, self.hub, self.rng
        self._deploy()
        for moment in plan.deploys:
            hub.at(moment, self._deploy)
        for moment in plan.losses:
            hub.at(moment, self.store.lose_everything)
        for moment in plan.revocations:
            hub.at(moment, self._revoke)
        for spell in plan.api:
            hub.at(spell.begin, self._all_call_soon)
        for _ in range(plan.jumps):
            hub.at(rng.uniform(0.0, plan.days * DAY), self._jump)
        hub.run(plan.days * DAY)

    def _deploy(self) -> None:
        for process in self.processes:
            process.alive = False
        rng = self.rng
        self.processes = [
            Process(self, drift=rng.gauss(0.0, 30e-6), skew=rng.gauss(0.0, 2.0)) for _ in range(self.plan.processes)
        ]

    def _revoke(self) -> None:
        self.provider.revoke_all()
        self._all_call_soon()

    def _all_call_soon(self) -> None:
        for process in self.processes:
            process.call_at(self.hub.now + self.rng.expovariate(1.0 / self.pace))

    def _jump(self) -> None:
        process = self.rng.choice(self.processes)
        process.skew += self.rng.choice((-1, 1)) * self.rng.uniform(1.0, 7200.0)
        process.jumped = self.hub.now
        process.call_at(self.hub.now + self.rng.expovariate(1.0 / self.pace))

    # What must never happen -----------------------------------------------------------------------------------------

    def waited(self, process: Process, former: AccessToken | None) -> None:
        """Judge that a call has to wait: there is no token, or it has expired in spite of all."""
        if former is None:
            return
        now = process.clock()
        if not former.is_expired(now):
            self._break("a call waits although there is a token that has not expired")
        if self.hub.now - process.jumped < 60.0:
            return
        window = former.end.monotonic - former.due.monotonic
        if not self.provider.spells.touches(self.hub.now - window - 60.0, self.hub.now):
            self._break("a call waits for a renewal that could have been made earlier")

    def failed(self, process: Process, error: TokenValetError, former: AccessToken | None) -> None:
        """Judge that a call got an error instead of a token."""
        self.failures += 1
        if former is not None and not former.is_expired(process.clock()):
            self._break(f"a call fails with {error.code} although there is a token that has not expired")
        kind = self.provider.spells
        lag = LONGEST_INTERVAL + 2 * TIMEOUT
        if not kind.touches(self.hub.now - lag, self.hub.now) and not (
            "429" in str(error) and kind.touches(self.hub.now - LONGEST_RETRY_AFTER - lag, self.hub.now)
        ):
            self._break(f"a call fails with {error.code} although the authorization server serves")

    def handed_401(self, process: Process) -> None:
        """Judge that a caller sees a 401."""
        self.handed += 1
        now = self.hub.now
        if self.api.spells.touches(now - 12.0, now) or self.provider.spells.touches(now - 40.0, now):
            return
        self._break("a caller sees a 401 although a new token could be had")

    def _break(self, what: str) -> None:
        if len(self.broken) < 100:
            self.broken.append(f"seed {self.plan.seed}, day {self.hub.now / DAY:.4f}: {what}")

    def _judge(self) -> None:
        provider, store = self.provider, self.store.spells
        if not self.shared:
            return
        for moment in provider.doubled:
            if store.touches(moment - STORE_PAUSE, moment) or provider.spells.at(moment) == "hanging":
                continue
            if any(0.0 <= moment - loss < 1.0 for loss in (*self.plan.losses, *self.plan.deploys)):
                continue
            if provider.spells.touches(moment - TIMEOUT, moment):
                continue
            self._break(f"two token requests at once at {moment:.1f} s, with a store that works")
        for spell in self.plan.provider:
            if store.touches(spell.begin - STORE_PAUSE, spell.end + 60.0):
                continue
            peak = provider.peak(spell.begin, spell.end + 60.0, 1.0)
            if peak > 2:
                self._break(
                    f"{peak} token requests in a second in or after {spell.kind} of {spell.end - spell.begin:.0f} s"
                )
        for spell in self.plan.api:
            if store.touches(spell.begin - STORE_PAUSE, spell.end) or provider.spells.touches(
                spell.begin - 60.0, spell.end
            ):
                continue
            peak = provider.peak(spell.begin, spell.end, 10.0)
            if peak > 3:
                self._break(f"{peak} token requests in ten seconds of an API that rejects everything")
