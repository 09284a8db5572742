"""One process of the fleet: the code of tokenvalet, and a caller that calls without end.

A call that finds a fresh token changes nothing, so only those are played that may: the first after a token is due, after a
retry may begin, after a renewal has ended, after an API has begun to reject. They come a moment later, as calls do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import greenlet  # type: ignore[import-untyped]

from simulation.world import Line
from tokenvalet.config import ClientConfig
from tokenvalet.core.call import Answer, Hop, NeedToken, Send, api_call
from tokenvalet.core.dpop import NonceStore
from tokenvalet.core.guard import parse_origin
from tokenvalet.core.token import AccessToken, Moment
from tokenvalet.credentials import load_credentials
from tokenvalet.directory import Directory
from tokenvalet.errors import TokenValetError
from tokenvalet.named_client import NamedClient
from tokenvalet.observe import Observers
from tokenvalet.pending import Waiting
from tokenvalet.renewal import Renewer
from tokenvalet.shelf import Shelf
from tokenvalet.stores import Entry, Lease, Store
from tokenvalet.surroundings import Surroundings
from tokenvalet.workers import Job
from tokenvalet.workers import Lane as WorkLane

if TYPE_CHECKING:
    from simulation.fleet import Fleet

__all__ = ["Process"]

EPOCH = 1_800_000_000.0
TIMEOUT = 10.0
CONFIG = ClientConfig(
    token_endpoint="https://login.example.org/token",  # noqa: S106  an address
    client_id="fleet",
    client_secret="simulated",  # noqa: S106  there is nobody to know it
    timeout=TIMEOUT,
)


class _Hop(Hop):
    __slots__ = ()

    def replayable(self) -> bool:
        return True


HOP = _Hop("GET", parse_origin("https://api.example.org"), "/records")
CREDENTIALS = load_credentials(CONFIG, "clients.m2m")[0]


class _Stopping:
    """The event that ends pauses, in virtual time: it never comes."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def wait(self, seconds: float) -> bool:
        self._process.sleep(seconds)
        return False

    def is_set(self) -> bool:
        return False


class _Workers:
    """As many threads as there is work, in virtual time."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def submit(self, lane: WorkLane, job: Job) -> bool:
        self._process.fleet.hub.spawn(job)
        return True

    def close(self) -> None: ...


class _OwnConnection:
    """This process's connection to the store; it ends with the process."""

    def __init__(self, process: Process, store: Store) -> None:
        self._process = process
        self._store = store

    def read(self, key: str) -> Entry | None:
        entry = self._store.read(key)
        self._process.end_if_dead()
        return entry

    def claim(self, key: str, owner: str, seconds: float) -> tuple[Lease, Entry | None]:
        answer = self._store.claim(key, owner, seconds)
        self._process.end_if_dead()
        return answer

    def write(self, key: str, value: bytes, seconds: float, owner: str) -> None:
        self._store.write(key, value, seconds, owner)
        self._process.end_if_dead()

    def release(self, key: str, owner: str, pause: float) -> None:
        self._store.release(key, owner, pause)
        self._process.end_if_dead()

    def close(self) -> None: ...


class _OwnLine(Line):
    def __init__(self, process: Process) -> None:
        super().__init__(process.fleet.provider)
        self._process = process

    def send(self, request: Any, *, timeout: float, identity: object, proxy: object) -> Any:
        result = super().send(request, timeout=timeout, identity=identity, proxy=proxy)
        self._process.end_if_dead()
        return result


class Process:
    """A process, from its start to the next deploy."""

    def __init__(self, fleet: Fleet, *, drift: float, skew: float) -> None:
        self.fleet = fleet
        self.alive = True
        self._born = fleet.hub.now
        self._rate = 1.0 + drift
        self.skew = skew
        self.jumped = float("-inf")
        self.rejected_since: float | None = None
        self._call = 0
        self._nonces = NonceStore()
        observers = Observers()
        random = fleet.rng.random
        shelf = None
        if fleet.shared:
            shelf = Shelf(
                _OwnConnection(self, fleet.store), None, observers, clock=lambda: self.clock().monotonic, jitter=random
            )
        around = Surroundings(
            clock=self.clock,
            backchannel=_OwnLine(self),
            directory=Directory(observers),
            tls=fleet.tls,
            nonces=self._nonces,
            observers=observers,
            stopping=cast(Any, _Stopping(self)),
            shelf=shelf,
            jitter=random,
            stopwatch=lambda: self.clock().monotonic,
        )
        assert CREDENTIALS is not None
        client = NamedClient("m2m", CONFIG, CREDENTIALS, around)
        self._renewer = Renewer(self.clock, observers, capacity=4, jitter=random, workers=lambda: _Workers(self))
        self._ticket = client.ticket()
        self.call_at(fleet.hub.now + fleet.rng.uniform(0.0, fleet.spread))

    def clock(self) -> Moment:
        """Return what this process's clocks show."""
        now = self.fleet.hub.now
        return Moment((now - self._born) * self._rate + 100.0, EPOCH + now * self._rate + self.skew)

    def sleep(self, seconds: float) -> None:
        """Block what is running in this process."""
        self.fleet.hub.sleep(seconds / self._rate)
        self.end_if_dead()

    def end_if_dead(self) -> None:
        """End what is running, if this process has been killed meanwhile."""
        if not self.alive:
            raise greenlet.GreenletExit

    def call_at(self, moment: float) -> None:
        """Have the next call that matters at this moment, and not when it was to be before."""
        self._call += 1
        number = self._call
        self.fleet.hub.at(moment, lambda: self._make_call() if self.alive and number == self._call else None)

    def _make_call(self) -> None:
        fleet = self.fleet
        fleet.calls += 1
        entry = self._renewer._entries.get(self._ticket.key)
        former = entry.token if entry is not None else None
        try:
            got = self._renewer.get(self._ticket)
        except TokenValetError as error:
            self._failed(error, former)
            return
        if isinstance(got, AccessToken):
            self._use(got)
            return
        fleet.waited(self, former)
        fleet.hub.spawn(lambda: self._wait_and_use(got))

    def _wait_and_use(self, waiting: Waiting) -> None:
        began = self.fleet.hub.now
        token = self._outcome(waiting)
        self.fleet.waits.append(self.fleet.hub.now - began)
        if token is not None and self.alive:
            self._use(token)

    def _outcome(self, waiting: Waiting) -> AccessToken | None:
        if not waiting.future.done():
            self.fleet.hub.wait(waiting.future, waiting.seconds / self._rate)
        try:
            return waiting.result()
        except TokenValetError as error:
            if self.alive:
                self._failed(error, None)
            return None

    def _use(self, token: AccessToken) -> None:
        if self.fleet.api.accepts(token.value):
            self.rejected_since = None
            self._go_on(token)
        else:
            self.fleet.hub.spawn(lambda: self._dance(token))

    def _dance(self, token: AccessToken) -> None:
        """Play a call that the API rejects, with the flow that every HTTP library is driven by."""
        fleet = self.fleet
        fleet.rejections += 1
        flow = api_call(token, HOP, self._nonces)
        step: Any = next(flow)
        try:
            while True:
                if isinstance(step, Send):
                    fleet.hub.sleep(fleet.rng.uniform(0.001, 0.02))
                    self.end_if_dead()
                    served = fleet.api.accepts(step.authorization.decode().removeprefix("Bearer "))
                    step = flow.send(Answer(200 if served else 401, lambda name: []))
                else:
                    step = flow.send(self._replacement(step))
        except StopIteration:
            pass
        if served:
            entry = self._renewer._entries.get(self._ticket.key)
            self._go_on(entry.token if entry is not None and entry.token is not None else token)
            return
        fleet.handed_401(self)
        self.call_at(fleet.hub.now + fleet.rng.uniform(30.0, 90.0) * fleet.pace)

    def _replacement(self, step: NeedToken) -> AccessToken | None:
        try:
            got = self._renewer.replace(self._ticket, step.rejected)
            if isinstance(got, Waiting):
                if not got.future.done():
                    self.fleet.hub.wait(got.future, got.seconds / self._rate)
                    self.end_if_dead()
                got = got.result()
        except TokenValetError:
            return None
        return got

    def _failed(self, error: TokenValetError, former: AccessToken | None) -> None:
        fleet = self.fleet
        fleet.failed(self, error, former)
        entry = self._renewer._entries.get(self._ticket.key)
        pause = max(0.0, entry.retry_at - self.clock().monotonic) if entry is not None else 0.0
        self.call_at(fleet.hub.now + pause / self._rate + self._gap())

    def _go_on(self, token: AccessToken) -> None:
        hub, now = self.fleet.hub, self.clock()
        entry = self._renewer._entries.get(self._ticket.key)
        if token.is_fresh(now):
            left = min(token.due.monotonic - now.monotonic, token.due.wall - now.wall)
        else:
            left = max(entry.retry_at - now.monotonic, 0.0) if entry is not None else 0.0
            left = min(left, token.seconds_left(now))
        self.call_at(hub.now + left / self._rate + self._gap())

    def _gap(self) -> float:
        return self.fleet.rng.expovariate(1.0 / self.fleet.pace)
