"""What can be typed after ``tokenvalet``: the commands with their options and help texts."""

from __future__ import annotations

import click

from .. import __version__
from . import MISSING_EXTRA
from .call_command import call
from .check_command import check
from .completion_command import completion
from .keys_command import keys
from .outcomes import Commands, quiet
from .screen import Screen
from .token_command import token
from .trace_command import trace

__all__ = ["commands"]

_PORT = click.IntRange(0, 65535)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
def commands() -> None:
    """Access tokens for programs that call protected APIs."""


@commands.command()
@click.option("--serve", is_flag=True, help="Keep the servers running for you and your own client, until Ctrl-C.")
@click.option("--port", type=_PORT, help="Port of the web host.  [default: 9402 with --serve, else any]")
@click.option("--api-port", type=_PORT, help="Port of the API.  [default: 9401 with --serve, else any]")
@click.option(
    "--auth-port", type=_PORT, help="Port of the authorization server.  [default: 9400 with --serve, else any]"
)
def demo(serve: bool, port: int | None, api_port: int | None, auth_port: int | None) -> None:
    """Show the whole flow on this machine, as it happens.

    An authorization server, an API and a web host are started on loopback. The demo plays the browser, first with Bearer
    tokens and then with DPoP; what it prints comes from the events of the library. At the end the servers' own counters
    are compared with what tokenvalet promises; the exit code is 1 if they differ.
    """
    try:
        from . import demo as the_demo
        from . import demo_serve
        from .demo_stage import Stage
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] == "tokenvalet":
            raise
        click.echo(MISSING_EXTRA, err=True)
        raise click.exceptions.Exit(2) from None
    # The demo prints the same events itself; without a handler, logging would put its warnings between the lines.
    quiet()
    screen = Screen.of_standard_output()
    given, usual = (auth_port, api_port, port), demo_serve.PORTS if serve else (0, 0, 0)
    at_auth, at_api, at_host = (u if g is None else g for g, u in zip(given, usual, strict=True))
    try:
        if serve:
            demo_serve.serve_until_interrupted(screen, at_auth, at_api, at_host)
            return
        kept = the_demo.play(Stage(screen, auth_port=at_auth, api_port=at_api), port=at_host)
    except OSError as fault:
        raise click.ClickException(
            f"a server cannot be started: {fault.strerror or fault}; "
            "name other ports with --auth-port, --api-port and --port"
        ) from None
    raise click.exceptions.Exit(0 if kept else 1)


for command in (check, token, call, keys, trace, completion):
    commands.add_command(command)
