"""What a valet hands out for each HTTP library, as its methods say; a library is imported when it is asked for."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from ..errors import ConfigurationError

__all__ = ["check_client_options", "check_httpx", "shell_of"]

# What a client's configuration decides, or what would let requests go past the token.
_NOT_FOR_A_CLIENT = {
    "auth": "the client sets the Authorization header itself",
    "verify": "configure ca_file, or allow_insecure_tls",
    "cert": "configure certificate_file",
    "proxy": "configure proxy",
    "proxy_auth": "configure proxy",
    "mounts": "hand over transport= to have it wrapped",
    "trust_env": "configure proxy = environment",
    "http1": "hand over transport= to have it wrapped",
    "http2": "hand over transport= to have it wrapped",
    "limits": "hand over transport= to have it wrapped",
    "connector": "make a session of your own with valet.aiohttp_middleware()",
    "connector_owner": "make a session of your own with valet.aiohttp_middleware()",
    "middlewares": "make a session of your own with valet.aiohttp_middleware()",
    "request_class": "make a session of your own with valet.aiohttp_middleware()",
}


def check_client_options(options: dict[str, Any], called: str = "client") -> None:
    """Raise ConfigurationError for an option that an HTTP client of a valet cannot be given."""
    for option in _NOT_FOR_A_CLIENT.keys() & options.keys():
        raise ConfigurationError(
            f"{called}(): {option}= cannot be given here: {_NOT_FOR_A_CLIENT[option]}", code="unfit_client_option"
        )


def check_httpx(library: ModuleType) -> None:
    """Raise ConfigurationError unless this is httpx2 or httpx."""
    if not all(hasattr(library, needed) for needed in ("BaseTransport", "AsyncBaseTransport", "Request", "Headers")):
        raise ConfigurationError("transport: library is the module httpx2 or httpx", code="unknown_library")


def shell_of(library: str, room: str = "shell") -> Any:
    """Return the room of a library that is no dependency. Raises ConfigurationError where the library is not installed."""
    try:
        return importlib.import_module(f".{library}_{room}", __package__)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != library:
            raise
        raise ConfigurationError(
            f"{library} is not installed, and a client for it was asked for: pip install 'tokenvalet[{library}]'",
            code="library_missing",
        ) from None
