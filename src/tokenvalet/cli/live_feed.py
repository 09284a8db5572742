"""The flow as a list of arrows that grows: what the page of ``demo --serve`` shows, and ``trace`` writes down.

Arrows come from a narrator, whose order makes sense of events of several threads. What is the same as an arrow of the same
crowd is counted there, so that a thousand calls at once are a handful of arrows.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

__all__ = ["LANES", "Arrow", "Arrows", "LiveFeed", "both"]

LANES = ("service", "client", "cache", "token endpoint", "API")
MOST_ARROWS = 500
# Who is on which lane: the page has one for each part of the diagram in the README.
_LANE_OF = {
    "browser": "service",
    "service": "service",
    'client "m2m"': "client",
    "client": "client",
    "renewal": "client",
    "cache": "cache",
    "issuer": "token endpoint",
    "token endpoint": "token endpoint",
    "API": "API",
}


class Arrows(Protocol):
    """Whatever shows arrows, as `Screen` does."""

    def arrow(self, left: str, right: str, text: str, *, mood: str = "", times: int = 1) -> None:
        """Show that `left` does something with `right`, so many times."""
        ...


@dataclass(slots=True)
class Arrow:
    """One arrow.

    Attributes:
        number: from 1, in the order in which they came.
        at: seconds since the feed began.
        left, right: the lanes.
        text: what happens.
        mood: "good", "bad", "odd" or none.
        times: how often.
        headers: the header fields that the server saw, without their secrets.
        version: changes whenever the arrow does.
    """

    number: int
    at: float
    left: str
    right: str
    text: str
    mood: str
    times: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    version: int = 0


class LiveFeed:
    """The arrows of one flow, the youngest few hundred of them. Safe to use from several threads.

    Args:
        headers: returns the header fields, redacted, of the last request that reached a lane.
    """

    def __init__(self, headers: Callable[[str], list[tuple[str, str]]] = lambda lane: []) -> None:
        self._headers = headers
        self._began = time.monotonic()
        self._arrows: deque[Arrow] = deque(maxlen=MOST_ARROWS)
        self._number = self._version = 0
        self._crowd: dict[tuple[str, str, str], Arrow] | None = None
        self._lock = threading.Lock()

    def arrow(self, left: str, right: str, text: str, *, mood: str = "", times: int = 1) -> None:
        """Take an arrow."""
        lanes = _LANE_OF.get(left, "client"), _LANE_OF.get(right, "client")
        sent = lanes[1] in ("API", "token endpoint") and lanes[0] != lanes[1]
        headers = self._headers(lanes[1]) if sent else []
        with self._lock:
            self._version += 1
            known = self._crowd.get((*lanes, text)) if self._crowd is not None else None
            if known is not None:
                known.times += times
                known.version = self._version
                return
            self._number += 1
            at = round(time.monotonic() - self._began, 4)
            made = Arrow(self._number, at, *lanes, text, mood, times, headers, self._version)
            self._arrows.append(made)
            if self._crowd is not None:
                self._crowd[(*lanes, text)] = made

    def begin_crowd(self) -> None:
        """From now on, count what is the same."""
        with self._lock:
            self._crowd = {}

    def end_crowd(self) -> None:
        """From now on, show everything by itself."""
        with self._lock:
            self._crowd = None

    def since(self, version: int) -> tuple[int, list[Mapping[str, Any]]]:
        """Return the version as of now, and the arrows that are new or have changed since `version`."""
        with self._lock:
            return self._version, [asdict(one) for one in self._arrows if one.version > version]


def both(one: Arrows, other: Arrows) -> Arrows:
    """Return something that shows arrows in two places."""
    return _Both(one, other)


class _Both:
    def __init__(self, *targets: Arrows) -> None:
        self._targets = targets

    def arrow(self, left: str, right: str, text: str, *, mood: str = "", times: int = 1) -> None:
        for target in self._targets:
            target.arrow(left, right, text, mood=mood, times=times)
