"""``tokenvalet trace``: run a program, and write the flow of its tokens and calls as a Mermaid sequence diagram."""

from __future__ import annotations

import runpy
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..observe import Event, observed_everywhere
from .mermaid import Diagram
from .narrator import Narrator
from .outcomes import Exit, ended

__all__ = ["trace"]

_OURS = frozenset({__file__, runpy.__file__, runpy.run_path.__code__.co_filename})


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-o", "--output", type=click.Path(path_type=Path), default="flow.mmd", show_default=True)
@click.option("-m", "--module", "is_module", is_flag=True, help="PROGRAM is a module, as for python -m.")
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def trace(output: Path, is_module: bool, program: str, arguments: tuple[str, ...]) -> None:
    """Run PROGRAM, a Python script, and write what its clients do as a Mermaid sequence diagram.

    Nothing of the program has to be changed, and no token or secret is written. What other processes do that it starts is
    not seen. For example: tokenvalet trace --output flow.mmd nightly_import.py --since yesterday
    """
    if not is_module and not Path(program).is_file():
        raise ended(Exit.USAGE, f"there is no script {program}: name one, or a module with -m")
    diagram = Diagram()
    narrators = _Narrators(diagram)
    sys.argv = [program, *arguments]
    sys.path.insert(0, str(Path.cwd() if is_module else Path(program).resolve().parent))
    try:
        with observed_everywhere(narrators):
            run: Callable[..., Any] = runpy.run_module if is_module else runpy.run_path
            run(program, run_name="__main__", **({"alter_sys": True} if is_module else {}))
    except Exception as error:  # noqa: BLE001  whatever the program raises
        # As Python tells it, without the frames that are ours.
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename in _OURS:
            frames = frames.tb_next
        traceback.print_exception(type(error), error, frames)
        raise click.exceptions.Exit(Exit.NOT_AS_IT_SHOULD_BE) from None
    finally:
        # Whatever became of the program: how it went wrong is what one wants to see.
        try:
            output.write_text(diagram.text(), encoding="utf-8")
            click.echo(f"tokenvalet: {diagram.count} arrows are in {output}", err=True)
        except OSError as error:
            click.echo(f"tokenvalet: {output} cannot be written: {error.strerror}", err=True)


class _Narrators:
    """One narrator for each client, since each tells the steps of one flow in an order that makes sense."""

    def __init__(self, diagram: Diagram) -> None:
        self._diagram = diagram
        self._narrators: dict[str, Narrator] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            narrator = self._narrators.get(event.client)
            if narrator is None:
                narrator = Narrator(self._diagram.of_client(event.client), scheme="token", outcome=lambda: "")
                self._narrators[event.client] = narrator
        narrator(event)
