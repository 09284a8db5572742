"""The Django application, and its system check."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from ...errors import ConfigurationError
from .access import SETTING, made_from_settings

__all__ = ["TokenValetConfig"]

TAG = "tokenvalet"


def check_configuration(**_: Any) -> list[CheckMessage]:
    """Return an error for each fault of the configuration. Reads keys and certificates; asks no server."""
    source = getattr(settings, SETTING, None)
    try:
        made = made_from_settings()
        if made is not source:  # which is in use
            made.close()
        return []
    except ConfigurationError as error:
        faults = [str(fault) for fault in error.faults] or [str(error)]
        return [Error(fault, hint=f"look at settings.{SETTING}", id="tokenvalet.E001") for fault in faults]


class TokenValetConfig(AppConfig):
    """tokenvalet as a Django application."""

    name = "tokenvalet.hosts.django"
    label = "tokenvalet"
    verbose_name = "tokenvalet"

    def ready(self) -> None:
        """Register the check, to run with Django's own: ``manage.py check --tag tokenvalet``."""
        register(check_configuration, TAG)
