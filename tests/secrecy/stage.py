"""A whole flow with secrets planted in every place that one can be, and what all servers were sent, to look for it too."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from secrecy.walker import Plant
from tokenvalet import ClientConfig, Event, TokenValet
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient

__all__ = [
    "METHODS",
    "PARAMETER",
    "PASSWORD",
    "PROXY_PASSWORD",
    "QUERY_SECRET",
    "SECRET",
    "Listener",
    "Stage",
    "pem",
    "private_jwk",
]

# What has to be encoded in a form, in Basic credentials and in JSON, so that every spelling of it is looked for.
SECRET = "planted: client+secret/%&= \u00e9\u4e2d 'Qm7x' of more than thirty-two bytes"
PASSWORD = "planted-key-password-Vw3r"
QUERY_SECRET = "planted-query-secret-Zk8p"
PROXY_PASSWORD = "planted-proxy-password-Yt6m"
PARAMETER = "planted-form-parameter-Hj2c"
SCOPES = ("records:read", "records:write")
WORKLOAD = "system:serviceaccount:records:web"
PLATFORM = "https://kubernetes.default.svc"

METHODS = ("client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "assertion_file")


# Keys ------------------------------------------------------------------------------------------------------------


@functools.cache
def key(name: str) -> ec.EllipticCurvePrivateKey:
    """Return a private key of that name, the same for a whole run."""
    return ec.generate_private_key(ec.SECP256R1())


def pem(name: str, password: str | None = None) -> str:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password.encode())
    return key(name).private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


def private_jwk(name: str) -> dict[str, Any]:
    return dict(ECAlgorithm.to_jwk(key(name), as_dict=True))


def public_jwk(name: str) -> dict[str, Any]:
    return dict(ECAlgorithm.to_jwk(key(name).public_key(), as_dict=True))


def key_plants(name: str) -> list[Plant]:
    """Return what a private key would be known by: its number, its JWK's ``d``, a line of its PEM."""
    number = key(name).private_numbers().private_value
    lines = [line for line in pem(name).splitlines() if "-----" not in line]
    return [
        Plant(
            f"the number of the {name} key", (str(number), f"{number:x}", number.to_bytes(32, "big").decode("latin-1"))
        ),
        Plant.of(f"d of the {name} key", private_jwk(name)["d"]),
        Plant(f"a line of the {name} key", (lines[1],)),
    ]


# The flow --------------------------------------------------------------------------------------------------------


class Listener:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def names(self) -> set[str]:
        return {event.name for event in self.events}


class Stage:
    """An authorization server and an API, and configurations of clients for them that are full of secrets."""

    def __init__(self, auth: AuthorizationServer, api: ProtectedApi, folder: Path) -> None:
        self.auth = auth
        self.api = api
        self.folder = folder
        self.listener = Listener()

    def settings(self, method: str, *, dpop: bool = False, **more: Any) -> dict[str, Any]:
        """Return the settings of a client, which is registered as well; `method` is one of METHODS."""
        client_id = f"records-{method}"
        settings: dict[str, Any] = {
            "issuer": self.auth.issuer,
            "client_id": client_id,
            "base_url": self.api.origin,
            "parameters": {"ticket": PARAMETER},
            "dpop": dpop,
        }
        if dpop:
            settings["dpop_key_file"] = self.file("dpop.pem", pem("dpop"))
        registered: dict[str, Any] = {"client_id": client_id, "auth_method": method, "scopes": SCOPES}
        if method.startswith("client_secret"):
            settings |= {"client_secret": SECRET, "auth_method": method}
            registered["client_secret"] = SECRET
        elif method == "private_key_jwt":
            settings |= {"private_key": pem("client", PASSWORD), "private_key_password": PASSWORD}
            registered["jwks"] = {"keys": [public_jwk("client")]}
        else:
            settings["assertion_file"] = self.file("assertion", self.assertion())
            registered |= {
                "auth_method": "private_key_jwt",
                "jwks": {"keys": [public_jwk("platform")]},
                "assertion_issuer": PLATFORM,
                "assertion_subject": WORKLOAD,
                "assertion_max_lifetime": 3600,
            }
        self.auth.register(RegisteredClient(**registered))
        return settings | more

    def valet(
        self, method: str, *, dpop: bool = False, options: Mapping[str, Any] | None = None, **more: Any
    ) -> TokenValet:
        config = ClientConfig(**self.settings(method, dpop=dpop, **more))
        return TokenValet({"m2m": config}, **{"observers": [self.listener], **(options or {})})

    def assertion(self) -> str:
        """Return what a platform writes into a file for its workload."""
        import jwt

        now = int(self.auth.clock())
        claims = {"iss": PLATFORM, "sub": WORKLOAD, "aud": self.auth.issuer, "iat": now, "exp": now + 1800}
        return jwt.encode(claims, key("platform"), algorithm="ES256")

    def file(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.write_text(content)
        path.chmod(0o600)
        return path

    def credentials(self) -> list[Plant]:
        """Return all plants but the form parameter: it is not shown by us, but it is no credential either."""
        return [plant for plant in self.plants() if plant.name != "the form parameter"]

    def plants(self) -> list[Plant]:
        """Return all that was planted, and all that the servers were sent or gave that is secret."""
        plants = [
            Plant.of("the client secret", SECRET, quote_plus(SECRET), json.dumps(SECRET)[1:-1]),
            Plant.of("the key password", PASSWORD),
            Plant.of("the form parameter", PARAMETER),
            *key_plants("client"),
            *key_plants("dpop"),
            Plant.of("the number of the platform key", private_jwk("platform")["d"]),
        ]
        if (self.folder / "assertion").exists():
            plants.append(Plant.of("the assertion file", (self.folder / "assertion").read_text()))
        for number, token in enumerate(dict.fromkeys(self.auth.issued_tokens)):
            plants.append(Plant.of(f"access token {number}", token))
        for request in self.auth.token_requests:
            plants += [Plant.of("an assertion", one) for one in request.form.get("client_assertion", ())]
            plants += _sent(request.headers)
        for call in self.api.calls:
            plants += _sent(call.headers)
        return list({(plant.name, plant.forms): plant for plant in plants}.values())


def _sent(headers: Iterable[tuple[str, str]]) -> list[Plant]:
    """Return the secrets among header fields as they were sent."""
    plants = []
    for name, value in headers:
        if name == "dpop":
            plants.append(Plant.of("a proof", value))
        elif name == "authorization":
            plants.append(Plant.of("what stood in Authorization", value.partition(" ")[2]))
    return plants
