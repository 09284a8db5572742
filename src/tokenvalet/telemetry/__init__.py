"""Metrics and spans of OpenTelemetry, made of a valet's events: one more listener, there when it is asked for.

    from tokenvalet import TokenValet, telemetry

    valet = TokenValet.from_toml("tokenvalet.toml")
    telemetry.instrument(valet)

Only the API of OpenTelemetry is used: who collects and where it goes is decided where the SDK is set up. Without one, all
of this does nothing. `docs/telemetry.md` lists what is measured. Needs the extra ``opentelemetry``.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..valet import TokenValet

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["instrument"]

_ENDS: weakref.WeakKeyDictionary[TokenValet, Callable[[], None]] = weakref.WeakKeyDictionary()


def instrument(
    valet: TokenValet,
    *,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    clients: Iterable[str] | None = None,
) -> Callable[[], None]:
    """Measure and trace what a valet does, until what this returns is called, or the valet is closed.

    Instrumenting a valet again takes the place of the first time.

    Args:
        valet: whose events are listened to.
        meter_provider: where metrics go; by default to the global one.
        tracer_provider: where spans go; by default to the global one.
        clients: the clients that metrics tell apart; by default those that the valet has now. All others, such as tenants
            that a resolver brings, are counted together as ``_OTHER``, so that they do not become a series each.

    Raises:
        ConfigurationError: the API of OpenTelemetry is not installed.
    """
    try:
        from .metrics import listen
        from .spans import Spans
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "opentelemetry":
            raise
        raise ConfigurationError(
            "OpenTelemetry is not installed, and metrics were asked for: pip install 'tokenvalet[opentelemetry]'",
            code="library_missing",
        ) from None
    former = _ENDS.pop(valet, None)
    if former is not None:
        former()
    observers = valet._around.observers
    names = frozenset(valet._clients.names() if clients is None else clients)
    metrics, spans = listen(valet, meter_provider, names), Spans(tracer_provider)
    observers.add(metrics)
    observers.add(spans)

    def end() -> None:
        for listener in (metrics, spans):
            observers.remove(listener)
        metrics.end()

    _ENDS[valet] = end
    return end
