"""Celery: the valet of a worker process. Made when a worker starts, or on first use; closed when the process ends."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Any

import httpx2

from ..errors import ConfigurationError
from ..valet import TokenValet
from .opening import Source, missing, open_valet

try:
    from celery import Celery, signals
    from celery.worker.control import inspect_command
except ModuleNotFoundError as error:
    raise missing(error, "celery") from None

__all__ = ["CeleryValet"]

logger = logging.getLogger("tokenvalet")

_OF_APPS: weakref.WeakKeyDictionary[Any, CeleryValet] = weakref.WeakKeyDictionary()


class CeleryValet:
    """The valet of each process that runs tasks of one Celery application, whatever its pool is.

    Whoever only sends tasks makes none, and needs no secret. A worker does not start with a configuration that has faults.

    Args:
        app: the Celery application.
        source: where the valet comes from: the path of a TOML file, a mapping, a callable that makes one, or None for
            variables of the environment.
        options: those of the constructor of `TokenValet`.
    """

    def __init__(self, app: Celery, source: Source = None, **options: Any) -> None:
        self._app = weakref.ref(app)
        self._source = source
        self._options = options
        self._valet: TokenValet | None = None
        self._lock = threading.Lock()
        _OF_APPS[app] = self
        signals.worker_init.connect(self._worker_starts, weak=False)
        # With prefork this is a child; with other pools the worker is all there is.
        signals.worker_process_shutdown.connect(self._process_ends, weak=False)
        signals.worker_shutdown.connect(self._process_ends, weak=False)

    @property
    def valet(self) -> TokenValet:
        """The valet of this process. Raises ConfigurationError with everything that is wrong."""
        valet = self._valet
        if valet is None:
            with self._lock:
                valet = self._valet
                if valet is None:
                    valet = self._valet = open_valet(self._source, self._options)
        return valet

    def client(self, name: str | None = None, **options: Any) -> httpx2.Client:
        """Return an `httpx2.Client` for a task, as `TokenValet.client` does: ``with valet.client("m2m") as api``."""
        return self.valet.client(name, **options)

    def close(self) -> None:
        """Close the valet of this process, if there is one. The next use makes another."""
        with self._lock:
            valet, self._valet = self._valet, None
        if valet is not None:
            valet.close()

    def _worker_starts(self, sender: Any = None, **_: Any) -> None:
        if getattr(sender, "app", None) is not self._app():
            return
        try:
            # Before the pool forks, which the valet survives: children begin with what it has read.
            self.valet  # noqa: B018
        except ConfigurationError as error:
            # Celery would write down any other exception, and start.
            logger.critical("%s", error)
            raise SystemExit(1) from None

    def _process_ends(self, **_: Any) -> None:
        self.close()


@inspect_command(name="tokenvalet_readiness")  # type: ignore[untyped-decorator]
def _readiness(state: Any, **_: Any) -> dict[str, Any]:
    """Whether each client has, or can get, a token: celery inspect tokenvalet_readiness."""
    of_app = _OF_APPS.get(state.app)
    if of_app is None:
        return {"error": "this application has no CeleryValet"}
    return of_app.valet.readiness().as_dict()
