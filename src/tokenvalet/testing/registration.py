"""What an authorization server has to know of a client, from the settings that the client is configured with.

For development only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import ClientConfig
from ..core.secret import Secret
from ..core.signing import load_private_key
from .client_registry import RegisteredClient

__all__ = ["registered"]


def registered(settings: Mapping[str, Any]) -> RegisteredClient | None:
    """Return the client with its secret or its public key, or None where it has neither: register that one by hand.

    Args:
        settings: those of `ClientConfig`; `issuer` may be left out.

    Raises:
        ConfigurationError: with everything that is wrong with them.
        KeyFault: the private key cannot be read.
    """
    config = ClientConfig(**{"issuer": "https://login.tokenvalet.test", **settings})
    known: dict[str, Any] = {"client_id": config.client_id, "scopes": None}
    secret = _secret(config)
    if secret is not None:
        return RegisteredClient(
            **known,
            client_secret=secret,
            auth_method=config.auth_method or "client_secret_basic",
            basic_encoding=config.basic_encoding,
            **_assertions(config),
        )
    key = _public_key(config)
    if key is not None:
        return RegisteredClient(**known, jwks={"keys": [key]}, auth_method="private_key_jwt", **_assertions(config))
    return None


def _assertions(config: ClientConfig) -> dict[str, Any]:
    return {
        "assertion_audience": config.assertion_audience,
        "assertion_max_lifetime": max(60, config.assertion_lifetime),
    }


def _secret(config: ClientConfig) -> str | None:
    if config.client_secret_file is not None:
        return Path(config.client_secret_file).read_text(encoding="utf-8").strip()
    secret = config.client_secret() if callable(config.client_secret) else config.client_secret
    return secret.reveal() if isinstance(secret, Secret) else secret


def _public_key(config: ClientConfig) -> dict[str, str] | None:
    signer = config.signer
    if signer is None:
        if config.private_key is not None:
            content = config.private_key.reveal().encode("utf-8", "surrogateescape")
        elif config.private_key_file is not None:
            content = Path(config.private_key_file).read_bytes()
        else:
            return None
        password = config.private_key_password
        signer = load_private_key(
            content,
            password=password.reveal().encode("utf-8") if isinstance(password, Secret) else None,
            alg=config.signing_alg,
            key_id=config.key_id,
        )
    kid = {} if signer.key_id is None else {"kid": signer.key_id}
    return {**signer.public_jwk, **kid}
