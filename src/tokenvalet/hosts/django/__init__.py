"""Django: the setting ``TOKENVALET``, clients for views, a view for probes, a system check and a command.

Add ``tokenvalet.hosts.django`` to ``INSTALLED_APPS``. The valet is made on first use, and closed when the process ends: use
it in ``wsgi.py``, and `lifespan` in ``asgi.py``, so that a server does not start with a configuration that has faults.
"""

from __future__ import annotations

from ..opening import missing

try:
    import django  # noqa: F401
except ModuleNotFoundError as error:
    raise missing(error, "django") from None

from .access import async_client, client, readiness, valet
from .asgi import lifespan

__all__ = ["async_client", "client", "lifespan", "readiness", "valet"]
