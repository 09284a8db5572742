"""A valet on a fake back channel that is instrumented, and readings of what was measured and traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from life.makers import Answer, Bench
from tokenvalet import TokenValet
from tokenvalet.telemetry import instrument

__all__ = ["Instruments", "Measured"]

Attributes = dict[str, Any]


class Instruments:
    """The SDK, in memory."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self._exporter = InMemorySpanExporter()
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def instrument(self, valet: TokenValet, **options: Any) -> Any:
        return instrument(valet, meter_provider=self.meter_provider, tracer_provider=self.tracer_provider, **options)

    def metrics(self) -> dict[str, list[tuple[Attributes, Any]]]:
        """Return every metric with its points: their attributes, and their values or histograms."""
        data = self._reader.get_metrics_data()
        found: dict[str, list[tuple[Attributes, Any]]] = {}
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                assert scope.scope.name == "tokenvalet"
                for metric in scope.metrics:
                    found[metric.name] = [
                        (dict(point.attributes or {}), point.value if isinstance(point, NumberDataPoint) else point)
                        for point in metric.data.data_points
                    ]
        return found

    def value(self, name: str, **attributes: str) -> Any:
        """Return the sum of the points that have these attributes, written with `__` for a dot, and 0 for none.

        Of a histogram, how often something was recorded.
        """
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        points = [value for have, value in self.metrics().get(name, ()) if wanted.items() <= have.items()]
        return sum(point.count if isinstance(point, HistogramDataPoint) else point for point in points)

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """Return the spans that have ended, in the order of their ends."""
        spans: Sequence[ReadableSpan] = self._exporter.get_finished_spans()
        return [span for span in spans if name is None or span.name == name]

    def close(self) -> None:
        self.meter_provider.shutdown()
        self.tracer_provider.shutdown()


class Measured(Bench):
    """A bench whose valet is instrumented. What `seen` has seen was measured before."""

    def __init__(self, answer: Answer | None = None, *, clients: Any = None, **settings: Any) -> None:
        super().__init__(answer, observe=False, **settings)
        self.sdk = Instruments()
        self.end = self.sdk.instrument(self.valet, clients=clients)
        self.valet._around.observers.add(self.seen)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self.sdk.close()
