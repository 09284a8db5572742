"""From events to metrics: counts that cost a call next to nothing, histograms of what takes time, two gauges.

What is counted is kept here and read when somebody collects, so that no lock of an exporter is on the way of a call.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation, get_meter

from .._version import __version__
from ..core.token import Moment
from ..observe import Event
from ..surroundings import Clock
from ..valet import TokenValet

__all__ = ["COUNTERS", "DURATIONS", "GAUGES", "OTHER", "OUTCOMES", "Listener", "listen"]

OTHER = "_OTHER"  # as the semantic conventions call what is not told apart
CLIENT, CAUSE, ERROR = "tokenvalet.client", "tokenvalet.cause", "error.type"
OUTCOME = "tokenvalet.renewal.outcome"
REJECTED = ("api", "401")


class Described(NamedTuple):
    """One instrument: its unit, what it measures, and its attributes in the order of their values here."""

    unit: str
    text: str
    attributes: tuple[str, ...]


COUNTERS = {
    "tokenvalet.cache.hits": Described("{hit}", "Tokens that were used at once", (CLIENT, "tokenvalet.token.age")),
    "tokenvalet.cache.misses": Described("{miss}", "Calls that found no token that could be used", (CLIENT, CAUSE)),
    "tokenvalet.waits": Described("{wait}", "Calls that waited for a renewal", (CLIENT, CAUSE)),
    "tokenvalet.renewals": Described("{renewal}", "Renewals that ended", (CLIENT, CAUSE, OUTCOME, ERROR)),
    "tokenvalet.retries": Described(
        "{retry}", "Requests that were sent once more", (CLIENT, "tokenvalet.retry.of", CAUSE)
    ),
    "tokenvalet.refusals": Described("{refusal}", "Calls that were refused", (CLIENT, "tokenvalet.refused.by", ERROR)),
    "tokenvalet.endpoint.changes": Described("{change}", "Token endpoints that moved to another origin", (CLIENT,)),
    "tokenvalet.store.troubles": Described("{trouble}", "Troubles of the store", ("tokenvalet.store.trouble",)),
}
DURATIONS = {
    "tokenvalet.renewal.duration": Described("s", "What renewals took", (CLIENT, CAUSE, OUTCOME)),
    "http.client.request.duration": Described(
        "s",
        "What requests to token endpoints and for metadata took",
        (
            CLIENT,
            "http.request.method",
            "server.address",
            "server.port",
            "http.response.status_code",
            ERROR,
        ),
    ),
}
GAUGES = {
    "tokenvalet.token.remaining_lifetime": Described("s", "The life left of the token that was got last", (CLIENT,)),
    "tokenvalet.store.away": Described("{store}", "Stores that are away", ()),
}
BUCKETS = {
    "tokenvalet.renewal.duration": (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 7.5, 10, 15, 30, 60),
    # As the semantic conventions for HTTP advise.
    "http.client.request.duration": (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
}
OUTCOMES = {"token_cached": "issued", "store_hit": "shared", "renewal_failed": "failed", "renewal_left": "left"}

Values = tuple[Any, ...]


class Count:
    """A number that many threads raise without a lock: counting up is one step of `itertools.count`, and so is reading."""

    __slots__ = ("_readings", "add")

    def __init__(self) -> None:
        self._readings = 0
        self.add: Callable[[], int] = itertools.count().__next__

    def value(self) -> int:
        """Return how often `add` was called. By one thread at a time."""
        value = self.add() - self._readings
        self._readings += 1
        return value


class Metrics:
    """The instruments of one meter, and what they show: of all valets that were instrumented with the same provider."""

    def __init__(self, meter: Meter) -> None:
        self.counts: dict[str, dict[Values, Count]] = {name: {} for name in COUNTERS}
        self.listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        self._reading = threading.Lock()
        self._histograms: dict[str, Histogram] = {}
        for name, one in COUNTERS.items():
            meter.create_observable_counter(name, [self._counter(name)], unit=one.unit, description=one.text)
        for name, one in DURATIONS.items():
            self._histograms[name] = meter.create_histogram(
                name, unit=one.unit, description=one.text, explicit_bucket_boundaries_advisory=BUCKETS[name]
            )
        for name, read in (
            ("tokenvalet.token.remaining_lifetime", self._lifetimes),
            ("tokenvalet.store.away", self._stores),
        ):
            meter.create_observable_gauge(name, [read], unit=GAUGES[name].unit, description=GAUGES[name].text)

    def add(self, name: str, *values: Any) -> None:
        """Count one more."""
        count = self.counts[name].get(values)
        if count is None:
            count = self.begin(name, *values)
        count.add()

    def begin(self, name: str, *values: Any) -> Count:
        """Show a count although nothing was counted yet. Returns it."""
        return self.counts[name].setdefault(values, Count())

    def record(self, name: str, seconds: float, *values: Any) -> None:
        """Record what something took."""
        self._histograms[name].record(seconds, _attributes(DURATIONS[name], values))

    def after_fork(self) -> None:
        """Take a new lock: the old one may have been held when the process forked."""
        self._reading = threading.Lock()

    def _counter(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(options: CallbackOptions) -> list[Observation]:
            with self._reading:
                counts = [(values, count.value()) for values, count in list(self.counts[name].items())]
            return [Observation(value, _attributes(COUNTERS[name], values)) for values, value in counts]

        return read

    def _lifetimes(self, options: CallbackOptions) -> Iterator[Observation]:
        left: dict[str, float] = {}
        for listener in list(self.listeners):
            for client, seconds in listener.lifetimes():
                left[client] = min(seconds, left.get(client, seconds))
        for client, seconds in left.items():
            yield Observation(seconds, {CLIENT: client})

    def _stores(self, options: CallbackOptions) -> Iterator[Observation]:
        stores = [one.store_away for one in list(self.listeners) if one.is_alive() and one.has_store]
        if stores:
            yield Observation(sum(stores))


class Listener:
    """What is measured of one valet.

    Args:
        metrics: where it is counted.
        valet: whose events these are; held weakly, so that measuring it does not keep it.
        names: the clients that are told apart.
    """

    ignores = frozenset({"call_sent", "renewal_started"})

    def __init__(self, metrics: Metrics, valet: TokenValet, names: frozenset[str]) -> None:
        self.store_away = False
        self.has_store = valet._around.shelf is not None
        self._metrics = metrics
        self._valet = weakref.ref(valet)
        self._clock: Clock = valet._around.clock
        self._names = names
        self._hits = metrics.counts["tokenvalet.cache.hits"]
        self._ends: dict[str, Moment] = {}
        self._ended = False
        # Prometheus sees no increase in a count that begins with one: what is rare and to be alerted on begins with nought.
        for client in (*names, OTHER):
            metrics.begin("tokenvalet.endpoint.changes", client)
            metrics.begin("tokenvalet.refusals", client, *REJECTED)
        if self.has_store:
            for trouble in ("away", "value_refused"):
                metrics.begin("tokenvalet.store.troubles", trouble)
        metrics.listeners.add(self)

    def __call__(self, event: Event) -> None:
        """Measure what an event tells."""
        name = event.name
        client = event.client if event.client in self._names else OTHER
        if name == "cache_hit":
            count = self._hits.get((client, event.cause or "fresh"))
            if count is not None:
                count.add()
                return
        self._measure(name, client, event)

    def end(self) -> None:
        """Show nothing of this valet's any more but what was counted."""
        self._ended = True

    def is_alive(self) -> bool:
        """Whether there is still a valet to tell of."""
        valet = self._valet()
        return not self._ended and valet is not None and not valet._closed

    def lifetimes(self) -> Iterator[tuple[str, float]]:
        """Yield the clients that are told apart, each with the life left of the token that it got last."""
        if not self.is_alive():
            return
        now = self._clock()
        for client, end in list(self._ends.items()):
            yield client, max(0.0, min(end.monotonic - now.monotonic, end.wall - now.wall))

    def _measure(self, name: str, client: str, event: Event) -> None:
        metrics, cause, code = self._metrics, event.cause, event.code
        match name:
            case "cache_hit":
                metrics.add("tokenvalet.cache.hits", client, cause or "fresh")
            case "cache_miss":
                metrics.add("tokenvalet.cache.misses", client, cause)
            case "wait":
                metrics.add("tokenvalet.waits", client, cause)
            case "token_request":
                self._token_request(client, event)
            case "token_cached" | "store_hit" | "renewal_failed" | "renewal_left":
                outcome = OUTCOMES[name]
                metrics.add("tokenvalet.renewals", client, cause, outcome, code)
                metrics.record("tokenvalet.renewal.duration", event.duration or 0.0, client, cause, outcome)
                if name in ("token_cached", "store_hit") and event.seconds is not None and client != OTHER:
                    now = self._clock()
                    self._ends[client] = Moment(now.monotonic + event.seconds, now.wall + event.seconds)
            case "call_retried":
                metrics.add("tokenvalet.retries", client, "call", cause)
            case "call_refused":
                metrics.add("tokenvalet.refusals", client, "tokenvalet", code)
            case "call_rejected":
                metrics.add("tokenvalet.refusals", client, *REJECTED)
            case "endpoint_changed":
                metrics.add("tokenvalet.endpoint.changes", client)
            case "store_away":
                self.store_away = True
                metrics.add("tokenvalet.store.troubles", "away")
            case "store_back":
                self.store_away = False
            case "store_value_refused":
                metrics.add("tokenvalet.store.troubles", "value_refused")

    def _token_request(self, client: str, event: Event) -> None:
        if event.cause:
            self._metrics.add("tokenvalet.retries", client, "token_request", event.cause)
        # The servers of those who are not told apart are not told apart either.
        host, port = server(event) if client != OTHER else (None, None)
        self._metrics.record(
            "http.client.request.duration",
            event.duration or 0.0,
            client,
            event.method,
            host,
            port,
            event.status,
            error_type(event),
        )


def server(event: Event) -> tuple[str, int]:
    """Return host and port, the host without brackets."""
    host, _, port = event.server.rpartition(":")
    return host.strip("[]"), int(port)


def error_type(event: Event) -> str | None:
    """Return the status of an answer that is an error, or the code of why there is none (as for HTTP spans)."""
    if event.status is None:
        return event.code
    return str(event.status) if event.status >= 400 else None


def _attributes(described: Described, values: Values) -> dict[str, Any]:
    return {name: value for name, value in zip(described.attributes, values, strict=True) if value not in (None, "")}


_METRICS: weakref.WeakKeyDictionary[MeterProvider, Metrics] = weakref.WeakKeyDictionary()
_OF_THE_GLOBAL_PROVIDER: list[Metrics] = []
_MAKING = threading.Lock()


def listen(valet: TokenValet, provider: MeterProvider | None, names: frozenset[str]) -> Listener:
    """Return what measures a valet: the instruments are made once for each provider."""
    with _MAKING:
        if provider is not None:
            metrics = _METRICS.get(provider)
            if metrics is None:
                metrics = _METRICS[provider] = Metrics(get_meter("tokenvalet", __version__, provider))
        else:
            if not _OF_THE_GLOBAL_PROVIDER:
                _OF_THE_GLOBAL_PROVIDER.append(Metrics(get_meter("tokenvalet", __version__)))
            metrics = _OF_THE_GLOBAL_PROVIDER[0]
    return Listener(metrics, valet, names)


def _after_fork_in_child() -> None:
    global _MAKING
    _MAKING = threading.Lock()
    for metrics in [*_METRICS.values(), *_OF_THE_GLOBAL_PROVIDER]:
        metrics.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
