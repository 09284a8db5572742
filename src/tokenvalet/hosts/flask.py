"""Flask: an extension. The valet belongs to the application, whatever factory made that, and is closed with it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import httpx2

from ..readiness import PATIENCE_SECONDS
from ..valet import TokenValet
from .opening import PROBE_HEADERS, Source, missing, open_valet, probe_status

try:
    from flask import Flask, Response, current_app, jsonify
    from werkzeug.local import LocalProxy
except ModuleNotFoundError as error:
    raise missing(error, "flask") from None

__all__ = ["FlaskValet", "current_valet"]

_NAME = "tokenvalet"


def _of_current_app() -> TokenValet:
    valet = current_app.extensions.get(_NAME)
    if valet is None:
        raise RuntimeError(
            f"the application {current_app.name!r} has no valet: FlaskValet().init_app(app) gives it one"
        )
    assert isinstance(valet, TokenValet)
    return valet


current_valet: TokenValet = LocalProxy(_of_current_app)  # type: ignore[assignment]  # which it stands for
"""The valet of the application that serves the request."""


class FlaskValet:
    """The extension: one for all applications that `init_app` is called for, each with a valet of its own.

    Args:
        app: an application to begin with.
        source: where the valet comes from: the path of a TOML file, relative to the folder of the application, a mapping,
            a callable that makes one, or a valet. By default what the application's configuration has as ``TOKENVALET``,
            and without that variables of the environment.
        options: those of the constructor of `TokenValet`.
    """

    def __init__(self, app: Flask | None = None, source: Source = None, **options: Any) -> None:
        self._source = source
        self._options = options
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Give an application its valet, which is closed when the application goes, or the process ends.

        Raises:
            ConfigurationError: with everything that is wrong.
            RuntimeError: the application has one.
        """
        if _NAME in app.extensions:
            raise RuntimeError(f"the application {app.name!r} has a valet: call init_app once")
        source = self._source if self._source is not None else app.config.get("TOKENVALET")
        valet = app.extensions[_NAME] = open_valet(source, self._options, app.root_path)
        weakref.finalize(app, valet.close)

    def client(self, name: str | None = None, **options: Any) -> httpx2.Client:
        """Return an `httpx2.Client` for a view, as `TokenValet.client` does: ``with valet.client("m2m") as api``."""
        return _of_current_app().client(name, **options)

    def readiness(self, *names: str, patience: float = PATIENCE_SECONDS) -> Callable[[], Response]:
        """Return a view for probes: 200 if all clients have, or can get, a token, else 503; as JSON, without secrets.

        Args:
            names: which clients; by default all that are configured.
            patience: seconds to wait for first tokens.
        """

        def tokenvalet_readiness() -> Response:
            found = _of_current_app().readiness(*names, patience=patience)
            answer = jsonify(found.as_dict())
            answer.status_code = probe_status(found)
            answer.headers.update(PROBE_HEADERS)
            return answer

        return tokenvalet_readiness
