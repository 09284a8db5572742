"""The world around the fleet: one authorization server, one store and one API, each with its bad hours."""

from __future__ import annotations

import bisect
import json
import random
from collections import Counter
from dataclasses import dataclass, field

from simulation.hub import Hub
from tokenvalet.backchannel import Backchannel
from tokenvalet.core.messages import Failure, HttpReply, HttpRequest
from tokenvalet.stores import Entry, Lease, StoreError

__all__ = ["Api", "Provider", "SharedStore", "Spell", "Spells"]


@dataclass(frozen=True, slots=True, order=True)
class Spell:
    """A time in which something is not as it should be, in seconds since the beginning."""

    begin: float
    end: float
    kind: str


class Spells:
    """The bad hours of one server, in order and apart from one another."""

    def __init__(self, spells: list[Spell]) -> None:
        self.all = sorted(spells)
        self._begins = [spell.begin for spell in self.all]

    def at(self, moment: float) -> str:
        """Return what kind of spell it is, or nothing."""
        number = bisect.bisect_right(self._begins, moment) - 1
        return self.all[number].kind if number >= 0 and moment < self.all[number].end else ""

    def touches(self, begin: float, end: float) -> bool:
        """Whether any spell has a part in this time."""
        number = bisect.bisect_right(self._begins, end) - 1
        return number >= 0 and self.all[number].end > begin


@dataclass(slots=True)
class Issued:
    """A token that the authorization server has issued."""

    end: float
    revoked: bool = False


@dataclass(slots=True)
class Provider:
    """The authorization server.

    Attributes:
        requests: the moments of all token requests.
        at_once: the largest number of token requests under way at one time.
    """

    hub: Hub
    rng: random.Random
    spells: Spells
    lifetime: int
    requests: list[float] = field(default_factory=list)
    issued: dict[str, Issued] = field(default_factory=dict)
    doubled: list[float] = field(default_factory=list)
    _under_way: int = 0

    def answer(self, timeout: float) -> HttpReply | Failure:
        """Return the answer to a token request; blocks as long as it takes."""
        self.requests.append(self.hub.now)
        self._under_way += 1
        if self._under_way > 1:
            self.doubled.append(self.hub.now)
        try:
            return self._answer(timeout)
        finally:
            self._under_way -= 1

    def _answer(self, timeout: float) -> HttpReply | Failure:
        kind = self.spells.at(self.hub.now)
        if kind == "unreachable":
            self.hub.sleep(0.002)
            return Failure(code="unreachable", detail="connection refused")
        if kind == "hanging":
            self.hub.sleep(timeout)
            return Failure(code="timeout", detail="no answer")
        self.hub.sleep(self.rng.uniform(0.05, 0.4) if kind != "slow" else self.rng.uniform(2.0, 4.0))
        if kind in ("unavailable", "overloaded"):
            status, wait = (503, "") if kind == "unavailable" else (429, str(self.rng.randint(1, 90)))
            headers = (("content-type", "application/json"), *((("retry-after", wait),) if wait else ()))
            return HttpReply(status=status, headers=headers, body=b"{}")
        if timeout < 0.4:
            return Failure(code="timeout", detail="no answer")
        token = f"token-{len(self.issued)}"
        self.issued[token] = Issued(self.hub.now + self.lifetime)
        body = {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime}
        headers = (("content-type", "application/json"),)
        return HttpReply(status=200, headers=headers, body=json.dumps(body).encode())

    def revoke_all(self) -> None:
        """Have the API reject every token that there is."""
        for issued in self.issued.values():
            issued.revoked = True

    def peak(self, begin: float, end: float, window: float) -> int:
        """Return the largest number of token requests in any `window` seconds of this time."""
        inside = [moment for moment in self.requests if begin <= moment <= end]
        most = first = 0
        for number, moment in enumerate(inside):
            while inside[first] <= moment - window:
                first += 1
            most = max(most, number - first + 1)
        return most


class Line(Backchannel):
    """One process's connection to the authorization server."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def send(self, request: HttpRequest, *, timeout: float, identity: object, proxy: object) -> HttpReply | Failure:
        """Return the answer, or what went wrong."""
        return self._provider.answer(timeout)

    def close(self) -> None: ...

    def after_fork(self) -> None: ...


@dataclass(slots=True)
class SharedStore:
    """What Redis does, with its own clock: values and leases with a time to live."""

    hub: Hub
    rng: random.Random
    spells: Spells
    counts: Counter[str] = field(default_factory=Counter)
    _values: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    _leases: dict[str, tuple[str, float]] = field(default_factory=dict)

    def read(self, key: str) -> Entry | None:
        """Return what is stored."""
        self._travel("read")
        return self._entry(key)

    def claim(self, key: str, owner: str, seconds: float) -> tuple[Lease, Entry | None]:
        """Take or prolong the lease."""
        self._travel("claim")
        holder, end = self._leases.get(key, ("", 0.0))
        if end > self.hub.now and holder != owner:
            return (Lease.PAUSED if holder == "-" else Lease.HELD), self._entry(key)
        self._leases[key] = (owner, self.hub.now + seconds)
        return Lease.GRANTED, self._entry(key)

    def write(self, key: str, value: bytes, seconds: float, owner: str) -> None:
        """Store a value, and give the lease back."""
        self._travel("write")
        self._values[key] = (value, self.hub.now + seconds)
        if self._leases.get(key, ("",))[0] == owner:
            del self._leases[key]

    def release(self, key: str, owner: str, pause: float) -> None:
        """Give the lease back, or leave it to nobody for a while."""
        self._travel("release")
        if self._leases.get(key, ("",))[0] == owner:
            self._leases[key] = ("-", self.hub.now + pause)

    def close(self) -> None: ...

    def lose_everything(self) -> None:
        """What a restart without persistence does."""
        self._values.clear()
        self._leases.clear()

    def _travel(self, what: str) -> None:
        self.counts[what] += 1
        kind = self.spells.at(self.hub.now)
        if kind == "down":
            raise StoreError("connection refused")
        if kind == "hanging":
            self.hub.sleep(1.0)
            raise StoreError("no answer")
        self.hub.sleep(self.rng.uniform(0.0003, 0.002) if kind != "slow" else self.rng.uniform(0.2, 0.8))

    def _entry(self, key: str) -> Entry | None:
        value, end = self._values.get(key, (b"", 0.0))
        return Entry(value, end - self.hub.now) if end > self.hub.now else None


@dataclass(slots=True)
class Api:
    """The API, which looks at every token."""

    hub: Hub
    provider: Provider
    spells: Spells

    def accepts(self, token: str) -> bool:
        """Whether a call with this token is served."""
        issued = self.provider.issued[token]
        return not issued.revoked and self.hub.now < issued.end and self.spells.at(self.hub.now) != "rejecting"
