"""Django under ASGI: the valet lives as long as the server. Django itself leaves the messages of that (lifespan) alone."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from ...errors import ConfigurationError
from . import access

__all__ = ["lifespan"]

Application = Callable[[Any, Any, Any], Awaitable[None]]


def lifespan(application: Application) -> Application:
    """Return an ASGI application that opens the valet when the server starts, and closes it when the server ends.

    A server does not start with a configuration that has faults. With one that does not speak of its life (Daphne) the
    valet is made on first use.

    Args:
        application: what answers requests: ``get_asgi_application()``, or what is around it.
    """

    async def tokenvalet_lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        else:
            await application(scope, receive, send)

    return tokenvalet_lifespan


async def _live(receive: Any, send: Any) -> None:
    await receive()
    try:
        access.valet()
    except ConfigurationError as error:
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        return
    except BaseException:
        # Servers show nothing else of it.
        await send({"type": "lifespan.startup.failed", "message": traceback.format_exc()})
        raise
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await access.aclose()
    await send({"type": "lifespan.shutdown.complete"})
