"""From events to spans: one for each renewal, and below it one for each request to the authorization server.

A renewal belongs to no caller, so its span has no parent: it has links to the spans of those who waited for it, and each
of those has an event that says that it waited. No trace context is sent along: the server is somebody else's.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TracerProvider,
    get_current_span,
    get_tracer,
    set_span_in_context,
)

from .._version import __version__
from ..errors import shown
from ..observe import Event
from .metrics import CAUSE, CLIENT, ERROR, OUTCOME, OUTCOMES, error_type, server

__all__ = ["Spans"]

MOST_LINKS = 128  # as many as SDKs keep
MOST_UNDER_WAY = 4096
LONGEST_NAME = 128


class _UnderWay:
    """A renewal that has been waited for, or has begun."""

    __slots__ = ("linked", "span", "waiting")

    def __init__(self) -> None:
        self.span: Span | None = None
        self.waiting: list[SpanContext] = []
        self.linked = 0


class Spans:
    """The spans of one valet's renewals."""

    ignores = frozenset({"cache_hit", "cache_miss", "call_sent"})

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = get_tracer("tokenvalet", __version__, provider)
        self._under_way: dict[int, _UnderWay] = {}

    def __call__(self, event: Event) -> None:
        """Begin, link or end what an event tells of."""
        if event.renewal is None:
            return
        match event.name:
            case "wait":
                self._wait(event, event.renewal)
            case "renewal_started":
                self._begin(event, event.renewal)
            case "token_request":
                self._request(event, event.renewal)
            case "token_cached" | "store_hit" | "renewal_failed" | "renewal_left":
                self._end(event, event.renewal)

    def _wait(self, event: Event, number: int) -> None:
        current = get_current_span()
        context = current.get_span_context()
        if not context.is_valid:
            return
        current.add_event("tokenvalet.wait", _common(event))
        one = self._known(number)
        one.linked += 1
        if one.linked > MOST_LINKS:
            return
        if one.span is None:
            one.waiting.append(context)
        else:
            one.span.add_link(context)

    def _begin(self, event: Event, number: int) -> Span:
        one = self._known(number)
        one.span = self._tracer.start_span(
            "tokenvalet.renewal",
            # Where threads inherit the context of whoever started them, that is still not the parent.
            context=Context(),
            attributes=_common(event),
            links=[Link(context) for context in one.waiting],
        )
        return one.span

    def _request(self, event: Event, number: int) -> None:
        one = self._under_way.get(number)
        if one is None or one.span is None:
            return
        host, port = server(event)
        attributes: dict[str, Any] = {
            CLIENT: shown(event.client, LONGEST_NAME),
            "http.request.method": event.method,
            "server.address": host,
            "server.port": port,
        }
        if event.cause:
            attributes[CAUSE] = event.cause
        if event.status is not None:
            attributes["http.response.status_code"] = event.status
        # Told when it is over: the span begins when the request did.
        end = time.time_ns()
        span = self._tracer.start_span(
            event.method,
            context=set_span_in_context(one.span, Context()),
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=end - int((event.duration or 0.0) * 1e9),
        )
        _fail(span, error_type(event))
        span.end(end)

    def _end(self, event: Event, number: int) -> None:
        # One that no thread could be found for has ended without having begun.
        one = self._under_way.get(number)
        span = one.span if one is not None and one.span is not None else self._begin(event, number)
        self._under_way.pop(number, None)
        span.set_attribute(OUTCOME, OUTCOMES[event.name])
        if event.name in ("token_cached", "store_hit") and event.seconds is not None:
            span.set_attribute("tokenvalet.token.lifetime", event.seconds)
        _fail(span, event.code)
        span.end()

    def _known(self, number: int) -> _UnderWay:
        one = self._under_way.get(number)
        if one is None:
            # Those that were waited for in the moment they ended stay, and in a forked child those of the parent.
            if len(self._under_way) >= MOST_UNDER_WAY:
                with contextlib.suppress(RuntimeError, StopIteration):  # another thread made room
                    self._under_way.pop(next(iter(self._under_way)), None)
            one = self._under_way.setdefault(number, _UnderWay())
        return one


def _common(event: Event) -> dict[str, Any]:
    return {CLIENT: shown(event.client, LONGEST_NAME), CAUSE: event.cause}


def _fail(span: Span, code: str | None) -> None:
    if code is not None:
        span.set_attribute(ERROR, code)
        span.set_status(StatusCode.ERROR, code)
