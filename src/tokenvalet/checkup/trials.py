"""What else the server would have taken: a refused client is tried again with one thing changed at a time.

Each trial is a token request to the same server with the same credential; the first that brings a token is the remedy.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

from ..config import ClientConfig
from ..core.secret import Secret
from ..core.token import Moment
from ..errors import TokenRefusedError, TokenValetError
from ..valet import TokenValet
from .overheard import Overheard

__all__ = ["Remedy", "remedy_for"]

MOST_SCOPES = 8
STRICT_LIFETIME = 10
WORTH_TRYING = 3.0  # seconds that the clock is off


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """The outcome of the trials: how many token requests were made, and what to configure, or "" where none helped."""

    trials: int
    text: str


def remedy_for(name: str, config: ClientConfig, error: TokenRefusedError, overheard: Overheard) -> Remedy:
    """Return what would make the server grant a token, as far as trying can tell. Sends token requests; blocking."""
    if error.error == "invalid_scope" and len(config.scope) > 1:
        return _scopes(name, config)
    made = 0
    offset = overheard.clock_offset() or 0.0
    signs = _has_key(config) or config.auth_method == "client_secret_jwt" or config.dpop
    if signs and abs(offset) >= WORTH_TRYING:
        made += 1
        if _granted(name, config, {}, ahead=offset):
            return Remedy(trials=made, text="set this machine's clock right: with the server's time it grants a token")
    for setting, changes in _changes(config, error, overheard):
        made += 1
        if _granted(name, config, changes):
            return Remedy(trials=made, text=f"with one change the server grants a token: set {setting}")
    return Remedy(trials=made, text="")


def _changes(
    config: ClientConfig, error: TokenRefusedError, overheard: Overheard
) -> Iterator[tuple[str, dict[str, Any]]]:
    said = f"{error.error or ''} {error.error_description or ''}".lower()
    offers_proofs = bool((overheard.metadata(config.issuer) or {}).get("dpop_signing_alg_values_supported"))
    if not config.dpop and ("dpop" in said or (offers_proofs and error.error in ("invalid_request", None))):
        yield "dpop = true", {"dpop": True}
    if error.error == "invalid_target":
        for field in ("resource", "audience"):
            if getattr(config, field):
                yield f"{field} to one that the server knows (none at all was granted)", {field: ()}
    if error.error == "invalid_scope" and config.scope:
        yield "scope to what it offers this client (asked for none, it granted some)", {"scope": ()}
    if error.error not in ("invalid_client", "invalid_request", "unauthorized_client", None):
        return
    if config.client_secret is not None or config.client_secret_file is not None:
        yield from _with_secret(config, overheard)
    elif _has_key(config):
        yield from _with_key(config, overheard)


def _has_key(config: ClientConfig) -> bool:
    return config.private_key is not None or config.private_key_file is not None or config.signer is not None


def _with_secret(config: ClientConfig, overheard: Overheard) -> Iterator[tuple[str, dict[str, Any]]]:
    method = config.auth_method or "client_secret_basic"
    given = config.client_secret.reveal() if isinstance(config.client_secret, Secret) else ""
    if given != given.strip():
        yield "client_secret without the white space around it", {"client_secret": given.strip()}
    if method == "client_secret_jwt":
        yield from _other_audiences(config, overheard)
    if method == "client_secret_basic":
        secret = config.client_secret.reveal() if isinstance(config.client_secret, Secret) else None
        if config.basic_encoding == "form" and (secret is None or quote_plus(secret) != secret):
            yield (
                'basic_encoding = "raw" (the server does not decode as RFC 6749 §2.3.1 says)',
                {"basic_encoding": "raw"},
            )
        elif config.basic_encoding == "raw":
            yield 'basic_encoding = "form"', {"basic_encoding": "form"}
    for other in ("client_secret_basic", "client_secret_post", "client_secret_jwt"):
        if other != method:
            yield f'auth_method = "{other}"', {"auth_method": other}


def _other_audiences(config: ClientConfig, overheard: Overheard) -> Iterator[tuple[str, dict[str, Any]]]:
    asked = [one.url for one in overheard.exchanges if one.method == "POST"]
    usual = config.assertion_audience or config.issuer
    candidates = [config.issuer, *asked[-1:]]
    if config.issuer is not None:
        candidates.append(config.issuer.removesuffix("/") if config.issuer.endswith("/") else f"{config.issuer}/")
    for audience in dict.fromkeys(one for one in candidates if one and one != usual):
        yield f'assertion_audience = "{audience}"', {"assertion_audience": audience}


def _with_key(config: ClientConfig, overheard: Overheard) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from _other_audiences(config, overheard)
    if config.assertion_typ != "JWT":
        yield 'assertion_typ = "JWT"', {"assertion_typ": "JWT"}
    if config.assertion_lifetime > STRICT_LIFETIME:
        yield f"assertion_lifetime = {STRICT_LIFETIME}", {"assertion_lifetime": STRICT_LIFETIME}
    if config.signing_alg is None:
        # Only an RSA key can do otherwise; with others this is a fault, and no request.
        yield 'signing_alg = "RS256"', {"signing_alg": "RS256"}
    if config.key_id is not None:
        yield "key_id to the kid under which the key is registered (none at all was granted)", {"key_id": None}


def _scopes(name: str, config: ClientConfig) -> Remedy:
    """Ask for each scope by itself, to tell those that are refused from the others."""
    refused: list[str] = []
    granted: list[str] = []
    for scope in config.scope[:MOST_SCOPES]:
        (granted if _granted(name, config, {"scope": (scope,), "required_scopes": ()}) else refused).append(scope)
    text = ""
    if refused and granted:
        text = f"refused each by itself: {' '.join(refused)}; granted: {' '.join(granted)}"
    return Remedy(trials=len(refused) + len(granted), text=text)


def _granted(name: str, config: ClientConfig, changes: dict[str, Any], ahead: float = 0.0) -> bool:
    def clock() -> Moment:
        return Moment(time.monotonic(), time.time() + ahead)

    try:
        given = {field: getattr(config, field) for field in config.model_fields_set}
        with TokenValet({name: ClientConfig(**{**given, **changes})}, clock=clock) as valet:
            valet.token(name)
    except TokenValetError:
        return False
    return True
