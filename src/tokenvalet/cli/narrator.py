"""From events to lines: an observer that says what happens inside one valet, while it happens.

What a renewal does is told by a thread of its own, and may come before the caller that began it has told why. Such events
are held back until then, so that every line follows from those above it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from ..observe import Event
from .live_feed import Arrows

__all__ = ["Narrator"]

PATIENCE = 20.0
_OF_A_RENEWAL = frozenset({"renewal_started", "token_request", "token_cached", "renewal_failed"})
# What a caller tells of, too, for each cause of a renewal.
_REASONS = {"missing": "wait", "expired": "wait", "rejected": "wait", "due": "due"}
_MISSES = {"missing": "miss: there is no token yet", "expired": "miss: the token has expired"}
_RETRIES = {
    "nonce": "once more, with the API's nonce in a new proof",
    "renewed": "once more, with the new token",
}


class Line(NamedTuple):
    """One line to be shown: who does what with whom, and how that is to be felt about."""

    left: str
    right: str
    text: str
    mood: str = ""


class Narrator:
    """Tells a screen, or whatever else shows arrows, about one valet with one client.

    Args:
        screen: where to.
        scheme: "Bearer" or "DPoP", as configured.
        outcome: what the authorization server made of the last token request.
    """

    def __init__(self, screen: Arrows, *, scheme: str, outcome: Callable[[], str]) -> None:
        self.counts: Counter[str] = Counter()
        self._screen = screen
        self._token = f"{scheme} ●●●"
        self._proof = " + proof ●●●" if scheme == "DPoP" else ""
        self._outcome = outcome
        self._told = threading.Condition()
        self._reasons: set[str] = set()
        self._held: list[Event] = []
        self._crowd: Counter[Line] | None = None

    def __call__(self, event: Event) -> None:
        """Take an event, from whichever thread."""
        with self._told:
            if event.name == "wait":
                self._reasons.add("wait")
            elif event.name == "cache_hit" and event.cause == "due":
                self._reasons.add("due")
            if event.name in _OF_A_RENEWAL and (self._held or not self._is_explained(event)):
                self._held.append(event)
                return
            self._tell(event)
            if self._held and self._is_explained(self._held[0]):
                held, self._held = self._held, []
                for one in held:
                    self._tell(one)
            self._told.notify_all()

    def say(self, left: str, right: str, text: str) -> None:
        """Tell of what others than the valet do."""
        with self._told:
            self._show(Line(left, right, text))

    @contextmanager
    def crowd(self) -> Iterator[None]:
        """While many do the same at once, say each thing once, with how many times it happened."""
        with self._told:
            self._crowd = Counter()
        try:
            yield
        finally:
            with self._told:
                self._disperse()
                self._crowd = None

    def wait_for(self, name: str, count: int) -> bool:
        """Wait until so many events of a name were told. Returns False if they do not come."""
        with self._told:
            return self._told.wait_for(lambda: self.counts[name] >= count, PATIENCE)

    def _is_explained(self, event: Event) -> bool:
        needed = _REASONS.get(event.cause) if event.name == "renewal_started" else None
        return needed is None or needed in self._reasons

    def _tell(self, event: Event) -> None:
        self.counts[event.name] += 1
        line = self._line(event)
        if line is not None:
            self._show(line)
        if event.name in ("token_cached", "renewal_failed"):
            self._reasons.clear()
            self._disperse()

    def _show(self, line: Line) -> None:
        if self._crowd is not None:
            self._crowd[line] += 1
        else:
            self._screen.arrow(line.left, line.right, line.text, mood=line.mood)

    def _disperse(self) -> None:
        if self._crowd:
            for line, times in self._crowd.items():
                self._screen.arrow(line.left, line.right, line.text, mood=line.mood, times=times)
            self._crowd.clear()

    def _line(self, event: Event) -> Line | None:
        match event.name:
            case "cache_hit" if event.cause == "due":
                return Line("client", "cache", "hit: the token is due, and good to use until it expires", "good")
            case "cache_hit":
                return Line("client", "cache", "hit: a fresh token", "good")
            case "cache_miss":
                return Line("client", "cache", _MISSES.get(event.cause, "miss"))
            case "wait":
                why = ", since the API rejected the token" if event.cause == "rejected" else ""
                return Line("client", "renewal", f"waits for it{why}")
            case "renewal_started":
                # Of all others, whoever waits has told.
                return Line("client", "renewal", "begins, in the background") if event.cause == "due" else None
            case "token_request":
                return self._token_request(event)
            case "token_cached":
                return Line("renewal", "cache", f"{self._token}, good for {event.seconds:.0f} s", "good")
            case "renewal_failed":
                return Line(
                    "renewal", "cache", f"no token: {event.code}; asks again after {event.seconds:.1f} s", "odd"
                )
            case "call_sent":
                what, _, status = event.detail.rpartition(" ")
                return Line("client", "API", f"{what}  {self._token}{self._proof}  {status}", _mood(status))
            case "call_retried":
                return Line("client", "API", _RETRIES.get(event.cause, "once more"))
            case "call_rejected":
                return Line("client", "service", "the 401 is the caller's", "bad")
            case _:
                words = " ".join(word for word in (event.name, event.cause, event.code, event.detail) if word)
                return Line("client", "", words, "odd")

    def _token_request(self, event: Event) -> Line:
        method, _, rest = event.detail.partition(" ")
        url, _, status = rest.partition(" ")
        took = f"  ({1000 * (event.seconds or 0):.0f} ms)"
        path = urlsplit(url).path
        if method == "GET":
            return Line("renewal", "issuer", f"GET {path}  {status}{took}", _mood(status))
        rest = f" {self._outcome()}" if status.startswith("4") else took
        sent = f"POST {path}  client credentials{self._proof}  {status}{rest}"
        return Line("renewal", "token endpoint", sent, _mood(status))


def _mood(status: str) -> str:
    return "good" if status.startswith("2") else "odd"
