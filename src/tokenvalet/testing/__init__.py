"""An authorization server and a protected API to try things with, in demos and tests: **for development only**.

    from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve

    auth = AuthorizationServer(clients=[RegisteredClient(client_id="records-web", client_secret="not a secret")])
    api = ProtectedApi(auth)
    with serve(auth), serve(api):
        ...                             # auth.issuer and api.origin are URLs on this machine
    assert auth.issued == 1

Both are strict: they refuse what the RFCs tell them to refuse, and they verify with an independent JOSE library, so
that a client which passes here has proved something. They keep everything in memory, they have no limits, and they do
what any caller tells them to; never give them real secrets or a public port.

`docs/testing.md` shows the fixtures of the pytest plugin, which make all this and take it away again. Needs the `testing`
extra.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api_call import ApiCallSeen
    from .authorization_server import AuthorizationServer
    from .client_registry import RegisteredClient
    from .faults import Fault
    from .in_process import InProcessNetwork
    from .movable_clock import MovableClock
    from .protected_api import ProtectedApi
    from .serving import RunningServer, serve
    from .token_exchange import TokenRequestSeen

__all__ = [
    "ApiCallSeen",
    "AuthorizationServer",
    "Fault",
    "InProcessNetwork",
    "MovableClock",
    "ProtectedApi",
    "RegisteredClient",
    "RunningServer",
    "TokenRequestSeen",
    "serve",
]

# Each is imported when it is first used: the pytest plugin is in here too, and is loaded in every run of everybody's tests.
_HOMES = {
    "ApiCallSeen": "api_call",
    "AuthorizationServer": "authorization_server",
    "Fault": "faults",
    "InProcessNetwork": "in_process",
    "MovableClock": "movable_clock",
    "ProtectedApi": "protected_api",
    "RegisteredClient": "client_registry",
    "RunningServer": "serving",
    "TokenRequestSeen": "token_exchange",
    "serve": "serving",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
