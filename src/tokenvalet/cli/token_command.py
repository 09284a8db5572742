"""``tokenvalet token``: a token for a shell script, taken from the store where there is one."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import click

from ..core.token import AccessToken
from ..valet import TokenValet
from .configured import CLIENT, CONFIG, configured
from .outcomes import Exit, ended, quiet, told

__all__ = ["asked_for", "asking_options", "token"]


def asking_options(command: Any) -> Any:
    """Add the options that say what the token is asked for with."""
    for option in (
        click.option("--force", is_flag=True, help="Get a new token although there is one that has not expired."),
        click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="A further form field."),
        click.option("--audience", multiple=True, help="The audience, in the place of the configured one."),
        click.option("--resource", multiple=True, help="The resource, in the place of the configured one."),
        click.option("--scope", multiple=True, help="The scope, in the place of the configured one."),
    ):
        command = option(command)
    return command


def asked_for(
    scope: tuple[str, ...], resource: tuple[str, ...], audience: tuple[str, ...], parameters: tuple[str, ...]
) -> dict[str, Any]:
    """Return those options as `TokenParameters` takes them; what was not given is None."""
    fields: dict[str, str] = {}
    for one in parameters:
        name, equals, value = one.partition("=")
        if not (name and equals):
            raise click.BadParameter("should look like NAME=VALUE", param_hint="--parameter")
        fields[name] = value
    return {
        "scope": " ".join(scope) if scope else None,
        "resource": resource or None,
        "audience": audience or None,
        "parameters": fields or None,
    }


@click.command()
@CONFIG
@CLIENT
@asking_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object with the names of RFC 6749 §5.1.")
@click.option("--headers", is_flag=True, help="Print the header lines of a request, as curl -H @- reads them.")
@click.option("--method", "-X", default="GET", show_default=True, help="With --headers and DPoP: the method.")
@click.option("--url", help="With --headers and DPoP: the URL of the request that the proof is for.")
@click.option("--show", is_flag=True, help="Print the token even on a terminal.")
def token(
    config: Path | None,
    client: str,
    scope: tuple[str, ...],
    resource: tuple[str, ...],
    audience: tuple[str, ...],
    parameters: tuple[str, ...],
    force: bool,
    as_json: bool,
    headers: bool,
    method: str,
    url: str | None,
    show: bool,
) -> None:
    """Print an access token of CLIENT, for a script or a pipe.

    On a terminal, where it would stay on the screen, the token itself is shown with --show only. For example:

    \b
      curl -H "Authorization: Bearer $(tokenvalet token m2m)" https://api.example.org/
      tokenvalet token m2m --headers --url https://api.example.org/ | curl -H @- https://api.example.org/
    """
    quiet()
    if url is not None and not re.match(r"https?://[^/]", url, re.IGNORECASE):
        raise click.BadParameter("should be absolute, such as https://api.example.org/records", param_hint="--url")
    with told():
        settings = configured(config)
        asked = asked_for(scope, resource, audience, parameters)
        with TokenValet(settings.clients, store=settings.store) as valet:
            got = valet.token(client, **asked, force_renewal=force)
            if got.token_type == "DPoP" and headers and not url:  # noqa: S105  a type, no password
                raise ended(Exit.USAGE, "a DPoP token needs a proof for its request: say which with --url and --method")
            if sys.stdout.isatty() and not show:
                click.echo(_about(got))
                click.echo("The token itself is printed into a pipe, or with --show.", err=True)
            elif as_json:
                click.echo(json.dumps(_as_json(got), indent=2))
            elif headers:
                click.echo("\n".join(_header_lines(got, method, url)))
            else:
                click.echo(got.value)


def _about(got: AccessToken) -> str:
    scope = got.scope if got.scope is not None else "not told by the server"
    return f"{got.token_type} token of client {got.client}, good for {got.expires_in:.0f} s; scope: {scope}"


def _as_json(got: AccessToken) -> dict[str, object]:
    return {
        "access_token": got.value,
        "token_type": got.token_type,
        "expires_in": int(got.expires_in),
        "expires_at": got.expires_at.isoformat(timespec="seconds"),
        "scope": got.scope,
    }


def _header_lines(got: AccessToken, method: str, url: str | None) -> list[str]:
    lines = [f"Authorization: {got.token_type} {got.value}"]
    if url is not None and got.token_type == "DPoP":  # noqa: S105
        lines.append(f"DPoP: {got.proof(method, url)}")
    return lines
