"""Lines for people: headings, remarks and arrows from one part of the flow to another, in colour where there is any.

Plain where standard output is no terminal or NO_COLOR is set, and in ASCII where its encoding has no arrows. Lines of
several threads come out whole, one after the other.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Self

import click

__all__ = ["WIDTH", "Screen"]

WIDTH = 98
_ARROW = "─▶"
_ASCII = str.maketrans({"─": "-", "▶": ">", "●": "*", "×": "x", "…": "...", "✓": "ok", "✗": "NO", "–": "-", "·": "-"})
_MOODS = {"good": "green", "bad": "red", "odd": "yellow"}


class Screen:
    """Where the demo is seen.

    Args:
        write: takes one line.
        colour: whether lines are coloured.
        ascii_only: whether only ASCII can be shown.
    """

    def __init__(self, write: Callable[[str], None], *, colour: bool = False, ascii_only: bool = False) -> None:
        self._write = write
        self._colour = colour
        self._ascii_only = ascii_only
        self._lock = threading.Lock()

    @classmethod
    def of_standard_output(cls) -> Self:
        """Return a screen on standard output, as that and the environment would have it."""
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        try:
            (_ARROW + "●×…✓✗").encode(sys.stdout.encoding or "ascii")
            ascii_only = False
        except UnicodeEncodeError:
            ascii_only = True

        def write(line: str) -> None:
            try:
                click.echo(line, color=colour)
            except BrokenPipeError:  # as of `tokenvalet demo | head`: go on, for nobody
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

        return cls(write, colour=colour, ascii_only=ascii_only)

    def line(self, text: str = "", *, mood: str = "", bold: bool = False) -> None:
        """Show a line. mood: "good", "bad", "odd", "dim" or none."""
        self._show(self._styled(text, mood, bold))

    def heading(self, text: str) -> None:
        """Show what comes now, after an empty line."""
        self._show("")
        self._show(self._styled(text, "", bold=True))

    def remark(self, text: str) -> None:
        """Show what is done to the servers or the clocks, rather than what the library does."""
        self._show(self._styled(f"  … {text}", "odd"))

    def arrow(self, left: str, right: str, text: str, *, mood: str = "", times: int = 1) -> None:
        """Show that `left` does something with `right`, so many times."""
        often = f"{times} × " if times > 1 else ""
        head = self._styled(f"  {left:<7} {_ARROW} {right:<14}", "dim")
        self._show(f"{head}  {self._styled(often + text, mood)}")

    def _styled(self, text: str, mood: str, bold: bool = False) -> str:
        if not self._colour or not (mood or bold):
            return text
        return click.style(text, fg=_MOODS.get(mood), dim=True if mood == "dim" else None, bold=bold or None)

    def _show(self, line: str) -> None:
        with self._lock:
            self._write(line.translate(_ASCII) if self._ascii_only else line)
