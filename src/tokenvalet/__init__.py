"""tokenvalet keeps the access tokens of a program that calls protected APIs.

A service asks for the HTTP client named ``m2m``; every request that it sends carries a valid access token, Bearer or
DPoP, and the business code never sees one. Start with `TokenValet`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .errors import (
    ConfigurationError,
    ConfigurationFault,
    OriginError,
    ProofError,
    StepUpRequiredError,
    TokenRefusedError,
    TokenRequestError,
    TokenResponseError,
    TokenValetError,
    ValetClosedError,
)

if TYPE_CHECKING:
    from .clients.one_call import AsyncOneCall, OneCall
    from .config import AssertionContext, ClientConfig
    from .core.secret import Secret
    from .core.signing import Signer
    from .core.token import AccessToken, Moment, TokenParameters
    from .observe import Event, Observer
    from .store_config import StoreConfig
    from .valet import TokenValet

__all__ = [
    "AccessToken",
    "AssertionContext",
    "AsyncOneCall",
    "ClientConfig",
    "ConfigurationError",
    "ConfigurationFault",
    "Event",
    "Moment",
    "Observer",
    "OneCall",
    "OriginError",
    "ProofError",
    "Secret",
    "Signer",
    "StepUpRequiredError",
    "StoreConfig",
    "TokenParameters",
    "TokenRefusedError",
    "TokenRequestError",
    "TokenResponseError",
    "TokenValet",
    "TokenValetError",
    "ValetClosedError",
    "__version__",
]

# Where the heavier names live: each is imported when it is first used, so that `import tokenvalet` stays light.
_HOMES = {
    "AccessToken": "core.token",
    "AssertionContext": "config",
    "AsyncOneCall": "clients.one_call",
    "ClientConfig": "config",
    "Event": "observe",
    "Moment": "core.token",
    "Observer": "observe",
    "OneCall": "clients.one_call",
    "Secret": "core.secret",
    "Signer": "core.signing",
    "StoreConfig": "store_config",
    "TokenParameters": "core.token",
    "TokenValet": "valet",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
