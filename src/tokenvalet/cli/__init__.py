"""The command line, ``tokenvalet``: its door, which can also say what is missing.

The commands are in `commands`, which needs the `cli` extra; this room needs nothing.
"""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["MISSING_EXTRA", "main"]

MISSING_EXTRA = "The command line needs more than the library does: pip install 'tokenvalet[cli]'"


def main() -> NoReturn:
    """Run the command line. Ends the process: 0 for success, 1 for what went wrong, 2 for what cannot be asked."""
    try:
        import click  # noqa: F401  its own absence, and no fault inside the commands, is what the sentence is about
    except ModuleNotFoundError:
        sys.stderr.write(f"{MISSING_EXTRA}\n")
        sys.exit(2)
    from .commands import commands

    commands(prog_name="tokenvalet")
    sys.exit(0)
