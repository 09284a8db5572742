"""``tokenvalet completion``: what a shell needs to complete commands, options and the names of clients."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script with which SHELL completes commands, options and the names of your clients.

    \b
      eval "$(tokenvalet completion bash)"                 in ~/.bashrc
      eval "$(tokenvalet completion zsh)"                  in ~/.zshrc
      tokenvalet completion fish | source                  in ~/.config/fish/config.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    script = made(context.find_root().command, {}, "tokenvalet", "_TOKENVALET_COMPLETE").source()
    # As click has it, fish is shown descriptions up to their first comma.
    click.echo(script.replace('string split "," ', 'string split --max 1 "," '))
