"""The valet of a Django process, and what views take of it."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
from django.conf import settings
from django.core.signals import setting_changed
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from ...configuration_sources import Settings, settings_from_dict, settings_from_env, settings_from_toml
from ...readiness import PATIENCE_SECONDS
from ...valet import TokenValet
from ..opening import PROBE_HEADERS, open_valet, probe_status

__all__ = ["aclose", "async_client", "client", "made_from_settings", "readiness", "settings_of_valet", "valet"]

SETTING = "TOKENVALET"

_lock = threading.Lock()
_valet: TokenValet | None = None


def made_from_settings() -> TokenValet:
    """Return a valet, as ``settings.TOKENVALET`` says, or variables of the environment where that is not there.

    The setting is a mapping as TOML would give it, the path of a TOML file, relative to ``BASE_DIR`` if there is one, a
    callable that makes a valet, or a valet, which is returned as it is.

    Raises:
        ConfigurationError: with everything that is wrong.
    """
    return open_valet(getattr(settings, SETTING, None), {}, getattr(settings, "BASE_DIR", ""))


def settings_of_valet() -> Settings:
    """Return what ``settings.TOKENVALET`` configures; of a valet that is made by a callable, its clients.

    Raises:
        ConfigurationError: with everything that is wrong.
    """
    source = getattr(settings, SETTING, None)
    if source is None:
        return settings_from_env(os.environ)
    if isinstance(source, Mapping):
        return settings_from_dict(source)
    if isinstance(source, str | os.PathLike):
        return settings_from_toml(Path(getattr(settings, "BASE_DIR", "")) / source, os.environ)
    made = made_from_settings()
    try:
        return Settings(clients={name: made._clients[name].config for name in made._clients.configured()})
    finally:
        if made is not source:
            made.close()


def valet() -> TokenValet:
    """Return the valet of this process. Raises ConfigurationError with everything that is wrong."""
    global _valet
    if _valet is None:
        with _lock:
            if _valet is None:
                _valet = made_from_settings()
    return _valet


def client(name: str | None = None, **options: Any) -> httpx2.Client:
    """Return an `httpx2.Client` for a view, as `TokenValet.client` does: ``with client("m2m") as api``."""
    return valet().client(name, **options)


def async_client(name: str | None = None, **options: Any) -> httpx2.AsyncClient:
    """Return an `httpx2.AsyncClient` for an async view: ``async with async_client("m2m") as api``."""
    return valet().async_client(name, **options)


def readiness(*names: str, patience: float = PATIENCE_SECONDS) -> Callable[[HttpRequest], JsonResponse]:
    """Return a view for probes: 200 if all clients have, or can get, a token, else 503; as JSON, without secrets.

    Args:
        names: which clients; by default all that are configured.
        patience: seconds to wait for first tokens.
    """

    @require_safe
    def tokenvalet_readiness(request: HttpRequest) -> JsonResponse:
        found = valet().readiness(*names, patience=patience)
        return JsonResponse(found.as_dict(), status=probe_status(found), headers=PROBE_HEADERS)

    view: Callable[[HttpRequest], JsonResponse] = tokenvalet_readiness
    return view


async def aclose() -> None:
    """Close the valet of this process, if there is one, from the event loop that has served requests."""
    closing = _taken()
    if closing is not None:
        await closing.aclose()


def _close() -> None:
    closing = _taken()
    if closing is not None:
        closing.close()


def _taken() -> TokenValet | None:
    global _valet
    with _lock:
        taken, _valet = _valet, None
    return taken


def _begin_anew(setting: str, **_: Any) -> None:
    if setting == SETTING:
        _close()


atexit.register(_close)
# Tests change settings: override_settings(TOKENVALET=...).
setting_changed.connect(_begin_anew, dispatch_uid="tokenvalet")
