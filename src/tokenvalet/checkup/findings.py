"""What `check` found, one thing at a time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Finding", "Level"]

Level = Literal["good", "odd", "bad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        client: the client's name, or "" for what concerns all.
        subject: what was looked at, in a word or two.
        level: "good"; "odd" for what works and should be looked at; "bad" for what does not work.
        text: what was seen, and for what is not good the remedy.
    """

    client: str
    subject: str
    level: Level
    text: str

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)
