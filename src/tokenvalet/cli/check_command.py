"""``tokenvalet check``: everything that is wrong with the configuration or with the server's answer, a sentence each."""

from __future__ import annotations

import json
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..checkup.checkup import Checkup
from ..checkup.findings import Finding
from ..checkup.store import store_findings
from ..client_book import unknown_client
from ..config import SECRET_FIELDS
from ..configuration_sources import Settings
from ..errors import ConfigurationError
from .configured import CLIENTS, CONFIG, configured, source_of
from .outcomes import Exit, quiet, told
from .screen import Screen

__all__ = ["check"]

_MARKS = {"good": "✓", "odd": "!", "bad": "✗"}


@click.command()
@CONFIG
@CLIENTS
@click.option("--offline", is_flag=True, help="Ask no server: look at the configuration, keys and certificates only.")
@click.option("--no-trials", is_flag=True, help="Do not try a refused client with one thing changed at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of findings.")
def check(config: Path | None, clients: tuple[str, ...], offline: bool, no_trials: bool, as_json: bool) -> None:
    """Look at CLIENTS, by default at all, and at the store; explain every fault.

    A token request is made for each client, and what it brings is thrown away; a client that is refused is tried a few
    times more with one thing changed, to find the remedy. Exit code 0: nothing is wrong; 1: something is; 3: the
    configuration cannot be read.
    """
    # What is found is told here; without a handler, logging would put its warnings between the lines.
    quiet()
    screen = Screen.of_standard_output()
    found: list[Finding] = []
    with told():
        try:
            settings = configured(config)
        except ConfigurationError as error:
            if not error.faults:
                raise
            found = [Finding(client="", subject=one.place, level="bad", text=one.message) for one in error.faults]
            _tell(screen, found, as_json, heading="configuration")
            raise click.exceptions.Exit(Exit.CONFIGURATION) from None
        _check_names(settings, clients)
        sections = [("configuration", _file(source_of(config)))]
        for name in clients or settings.clients:
            checkup = Checkup(name=name, config=settings.clients[name], ask=not offline, try_others=not no_trials)
            sections.append((name, checkup.findings()))
        if settings.store is not None:
            sections.append(("store", store_findings(settings.store, ask=not offline)))
        for heading, findings in sections:
            found += _tell(screen, findings, as_json, heading)
    if as_json:
        click.echo(json.dumps([one.as_json() for one in found], indent=2, ensure_ascii=False))
    wrong = sum(one.level == "bad" and one.subject != "remedy" for one in found)
    if not as_json:
        screen.line()
        said = "nothing is wrong" if not wrong else "1 fault" if wrong == 1 else f"{wrong} faults"
        screen.line(said, mood="bad" if wrong else "good", bold=True)
    raise click.exceptions.Exit(Exit.NOT_AS_IT_SHOULD_BE if wrong else Exit.DONE)


def _check_names(settings: Settings, clients: tuple[str, ...]) -> None:
    for name in clients:
        if name not in settings.clients:
            raise unknown_client(name, settings.clients)


def _tell(screen: Screen, findings: Any, as_json: bool, heading: str) -> list[Finding]:
    told_so_far: list[Finding] = []
    for finding in findings:
        if not as_json:
            if not told_so_far:
                screen.heading(heading)
            _show(screen, finding)
        told_so_far.append(finding)
    if as_json and heading == "configuration" and any(one.level == "bad" for one in told_so_far):
        click.echo(json.dumps([one.as_json() for one in told_so_far], indent=2, ensure_ascii=False))
    return told_so_far


def _file(source: Path | None) -> Iterator[Finding]:
    if source is None:
        yield Finding(client="", subject="source", level="good", text="the environment")
        return
    yield Finding(client="", subject="source", level="good", text=str(source))
    document = tomllib.loads(source.read_text(encoding="utf-8"))
    clear = [
        f"clients.{name}.{field}"
        for name, section in document.get("clients", {}).items()
        for field in sorted(SECRET_FIELDS & section.keys())
        if field != "proxy" and isinstance(section[field], str) and "${" not in section[field]
    ]
    if clear:
        others = (
            " and others on this machine can read it" if source.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH) else ""
        )
        text = (
            f"{', '.join(clear)} stands in the file in clear{others}: write ${{VARIABLE}}, or name a file with …_file"
        )
        yield Finding(client="", subject="secrets", level="odd", text=text)


def _show(screen: Screen, finding: Finding) -> None:
    mood = "" if finding.level == "good" else finding.level
    screen.line(f"  {_MARKS[finding.level]} {finding.subject:<14} {finding.text}", mood=mood)
