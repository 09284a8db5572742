"""``manage.py tokenvalet_check``: what is wrong with the configuration or the server's answer, a sentence each."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from .....checkup.checkup import Checkup
from .....checkup.findings import Finding
from .....checkup.store import store_findings
from .....client_book import unknown_client
from .....errors import ConfigurationError
from ...access import settings_of_valet

__all__ = ["Command"]

_STYLES = {"good": "SUCCESS", "odd": "WARNING", "bad": "ERROR"}


class Command(BaseCommand):
    """As ``tokenvalet check``, for what ``settings.TOKENVALET`` says."""

    help = (
        "Look at the clients of settings.TOKENVALET, by default at all, and at the store; explain every fault. A token "
        "request is made for each client, and what it brings is thrown away. Exit code 0: nothing is wrong; 1: something is."
    )
    requires_system_checks: list[str] = []  # noqa: RUF012  as Django has it; the faults are told here, each once

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument("clients", nargs="*", help="names of clients; by default all")
        parser.add_argument(
            "--offline", action="store_true", help="ask no server: look at the configuration and keys only"
        )
        parser.add_argument(
            "--no-trials", action="store_true", help="do not try a refused client with one thing changed at a time"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Look at the clients. Raises CommandError where something is wrong."""
        # What is found is told here; without a handler, logging would put its warnings between the lines.
        logger, silent = logging.getLogger("tokenvalet"), logging.NullHandler()
        logger.addHandler(silent)
        try:
            wrong = sum(self._told(finding) for finding in self._findings(options))
        finally:
            logger.removeHandler(silent)
        if wrong:
            raise CommandError(f"{wrong} faults" if wrong > 1 else "one fault")
        self.stdout.write(self.style.SUCCESS("nothing is wrong"))

    def _told(self, finding: Finding) -> bool:
        style = getattr(self.style, _STYLES[finding.level])
        where = f"{finding.client}: " if finding.client else ""
        self.stdout.write(style(f"{finding.level:<4} {where}{finding.subject}: {finding.text}"))
        return finding.level == "bad" and finding.subject != "remedy"

    def _findings(self, options: dict[str, Any]) -> Iterator[Finding]:
        try:
            settings = settings_of_valet()
        except ConfigurationError as error:
            if not error.faults:
                raise CommandError(str(error)) from None
            for fault in error.faults:
                yield Finding(client="", subject=fault.place, level="bad", text=fault.message)
            return
        for name in options["clients"] or settings.clients:
            if name not in settings.clients:
                raise CommandError(str(unknown_client(name, settings.clients)))
            checkup = Checkup(
                name=name,
                config=settings.clients[name],
                ask=not options["offline"],
                try_others=not options["no_trials"],
            )
            yield from checkup.findings()
        if settings.store is not None:
            yield from store_findings(settings.store, ask=not options["offline"])
