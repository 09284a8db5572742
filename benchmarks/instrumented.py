"""What it costs a call that somebody measures it: hits and whole transport steps, with and without OpenTelemetry."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from costs import URL, Line, _Nowhere, _smallest, _valet
from tokenvalet import TokenValet, telemetry


def run() -> Iterator[Line]:
    """Yield each figure, and whether it is within its bound."""
    meters, tracers = MeterProvider([InMemoryMetricReader()]), TracerProvider()
    counter = meters.get_meter("bench").create_counter("hits")
    with _valet() as plain, _valet() as measured:
        telemetry.instrument(measured, meter_provider=meters, tracer_provider=tracers)
        found = _smallest(
            {
                "hit": _hit(plain),
                "measured hit": _hit(measured),
                "step": _step(plain),
                "measured step": _step(measured),
                "counter": lambda: counter.add(1, {"tokenvalet.client": "m2m", "tokenvalet.token.age": "fresh"}),
            },
            times=1000,
        )
    hit, step = found["measured hit"] - found["hit"], found["measured step"] - found["step"]
    yield (
        f"a hit that is counted: {hit:.2f} µs more than one that nobody listens to (bound: 5); a counter of the SDK alone: "
        f"{found['counter']:.2f} µs",
        hit <= 5,
    )
    yield f"a whole transport step that is measured: {step:.2f} µs more (bound: 8)", step <= 8


def _hit(valet: TokenValet) -> Callable[[], object]:
    valet.token("m2m")
    client, renewer = valet._clients["m2m"], valet._renewer
    return lambda: renewer.get(client.ticket())


def _step(valet: TokenValet) -> Callable[[], object]:
    transport = valet.transport("m2m", inner=_Nowhere())
    request = httpx2.Client().build_request("GET", URL)
    return lambda: transport.handle_request(request)
