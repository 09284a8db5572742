"""A sequence diagram in Mermaid, which documentation tools and code hosts draw."""

from __future__ import annotations

import threading

from .live_feed import Arrows

__all__ = ["Diagram"]

MOST_ARROWS = 1000
_PARTICIPANTS = {"cache": "cache", "issuer": "token endpoint", "token endpoint": "token endpoint", "API": "API"}
_CODES = {"#": "#35;", ";": "#59;", "<": "#lt;", ">": "#gt;"}
_IDS = {"cache": "C", "token endpoint": "T", "API": "A"}


class Diagram:
    """The arrows of all clients of a program, in the order in which they came. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, str, str]] = []
        self._times: list[int] = []
        self._clients: list[str] = []
        self._left_out = 0
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """How many arrows there are."""
        return len(self._lines)

    def of_client(self, name: str) -> Arrows:
        """Return what takes the arrows of one client."""
        with self._lock:
            self._clients.append(name)
            return _OfClient(self, f"K{len(self._clients)}")

    def add(self, left: str, right: str, text: str, times: int) -> None:
        """Add an arrow between two participants; the same once more is counted."""
        with self._lock:
            if self._lines and self._lines[-1] == (left, right, text):
                self._times[-1] += times
            elif len(self._lines) >= MOST_ARROWS:
                self._left_out += 1
            else:
                self._lines.append((left, right, text))
                self._times.append(times)

    def text(self) -> str:
        """Return the diagram."""
        with self._lock:
            lines = ["sequenceDiagram"]
            names = [f'client "{name}"' for name in self._clients]
            lines += [f"    participant K{number} as {_plain(name)}" for number, name in enumerate(names, 1)]
            lines += [f"    participant {one} as {name}" for name, one in _IDS.items()]
            for (left, right, text), times in zip(self._lines, self._times, strict=True):
                often = f"{times} × " if times > 1 else ""
                lines.append(f"    {left}->>{right}: {_plain(often + text)}")
            if self._left_out:
                lines.append(f"    Note over A: {self._left_out} further arrows were left out")
            return "\n".join(lines) + "\n"


class _OfClient:
    def __init__(self, diagram: Diagram, client: str) -> None:
        self._diagram = diagram
        self._client = client

    def arrow(self, left: str, right: str, text: str, *, mood: str = "", times: int = 1) -> None:
        ends = [_IDS.get(_PARTICIPANTS.get(one, ""), self._client) for one in (left, right)]
        self._diagram.add(ends[0], ends[1], text, times)


def _plain(text: str) -> str:
    """Return text without what Mermaid reads as its own."""
    printable = "".join(one if one.isprintable() else " " for one in text)
    return "".join(_CODES.get(one, one) for one in printable)
