"""Django: the setting ``TOKENVALET``, clients for views, a view for probes, a system check and a command.

Add ``tokenvalet.hosts.django`` to ``INSTALLED_APPS``. The valet is made on first use, and closed when the process ends.
"""

from __future__ import annotations

from ..opening import missing

try:
    import django  # noqa: F401
except ModuleNotFoundError as error:
    raise missing(error, "django") from None

from .access import async_client, client, readiness, valet

__all__ = ["async_client", "client", "readiness", "valet"]
