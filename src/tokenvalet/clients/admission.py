"""May this request be sent, and with a token? What the shell of every HTTP library asks before anything goes out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..core.guard import Origin
from ..core.token import TokenParameters
from ..errors import ConfigurationError, OriginError, shown
from ..named_client import NamedClient
from ..observe import Event

__all__ = ["OWN_HEADERS", "Customize", "check_abroad", "checked_parameters", "own_header", "tell", "user_information"]

# Which only this package sets.
OWN_HEADERS = frozenset({"authorization", "dpop"})

# The outgoing request in, as its library has it; what its token is asked for with out.
Customize = Callable[[Any], TokenParameters | None]


def check_abroad(client: NamedClient, origin: Origin, *, redirected: bool, has_body: Callable[[], bool]) -> None:
    """Raise OriginError unless a request may go to this origin, where no token belongs, without one.

    Args:
        redirected: whether the API sent us there; where the caller did, it is refused.
        has_body: whether a body would go along.
    """
    if not redirected:
        client.guard.check(origin)
    if has_body():
        raise OriginError(
            f"client {client.name!r}: the API redirects to {shown(str(origin))}, which is not among "
            "allowed_origins, and the body of the request would go along; it was not sent there",
            code="redirect_abroad_refused",
        )


def checked_parameters(client: NamedClient, parameters: Any) -> TokenParameters | None:
    """Return what a token is asked for with. Raises ConfigurationError where it is nothing of the kind."""
    if parameters is None or isinstance(parameters, TokenParameters):
        return parameters
    if inspect.iscoroutine(parameters):
        parameters.close()
        what = "customize is a plain function, not one with async"
    else:
        what = f"what a token is asked for with is a TokenParameters, not a {type(parameters).__name__}"
    raise ConfigurationError(f"client {client.name!r}: {what}", code="invalid_token_parameters")


def own_header(client: NamedClient, name: str, hint: str = "") -> OriginError:
    """Return the error for a request with a header of its own that only this package sets."""
    return OriginError(
        f"client {client.name!r}: the request has a header {name} of its own, which is what this client is there to set: "
        f"leave it out{hint}, or use an HTTP client without a token",
        code="authorization_header_given",
    )


def user_information(client: NamedClient) -> OriginError:
    """Return the error for an address with a name, or a password, in it."""
    return OriginError(f"client {client.name!r}: a URL with user information (name@host) is not sent a token")


def tell(client: NamedClient, name: str, *, cause: str = "", code: str | None = None, detail: str = "") -> None:
    """Tell the listeners what happened to a request of this client."""
    client.around.observers.tell(Event(name=name, client=client.name, cause=cause, code=code, detail=detail))
