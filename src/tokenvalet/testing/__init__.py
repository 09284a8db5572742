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

Needs the `testing` extra.
"""

from __future__ import annotations

from .api_call import ApiCallSeen
from .authorization_server import AuthorizationServer
from .client_registry import RegisteredClient
from .faults import Fault
from .protected_api import ProtectedApi
from .serving import RunningServer, serve
from .token_exchange import TokenRequestSeen

__all__ = [
    "ApiCallSeen",
    "AuthorizationServer",
    "Fault",
    "ProtectedApi",
    "RegisteredClient",
    "RunningServer",
    "TokenRequestSeen",
    "serve",
]
