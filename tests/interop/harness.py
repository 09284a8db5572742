"""The machinery of this room: makes the keys, registers the clients, starts the Node process, asks it what it saw.

`start` gives a `Provider`: oidc-provider as the authorization server (plain HTTP on loopback, and TLS with client
certificates), and an API that verifies tokens and DPoP proofs with oauth4webapi. All keys, secrets and certificates are
made here at run time; they reach the process over its stdin, which is also its life line: when it closes, the process
ends, so that a killed test run leaves no orphan.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx2
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

__all__ = [
    "AUDIT",
    "AUDIT_EVENTS",
    "BEARER",
    "DPOP",
    "HEALTH_RECORDS",
    "METHODS",
    "RECORDS",
    "Counters",
    "Material",
    "Provider",
    "Unavailable",
    "install",
    "scenario",
    "start",
]

ROOM = Path(__file__).parent
OLDEST_NODE = 20

RECORDS = "https://api.example.org/records"
AUDIT = "https://api.example.org/audit"
HEALTH_RECORDS = "/api/v1/integration/health-records"
AUDIT_EVENTS = "/api/v1/integration/audit-events"
RESOURCES: Mapping[str, Mapping[str, str | int]] = {
    # The first is the default. Path and `moved` are the API's, the rest is for the authorization server.
    RECORDS: {
        "path": "health-records",
        "moved": "moved",
        "read": "records:read",
        "scope": "records:read records:write",
        "lifetime": 3600,
    },
    AUDIT: {
        "path": "audit-events",
        "moved": "moved",
        "read": "audit:read",
        "scope": "audit:read",
        "lifetime": 600,
    },
}

BEARER, DPOP = "bearer", "dpop"
METHODS = (
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt/ES256",
    "private_key_jwt/PS256",
    "private_key_jwt/EdDSA",
    "tls_client_auth",
    "self_signed_tls_client_auth",
)

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def scenario(method: str, token: str) -> str:
    """Return the name of a client in `Provider.clients`, such as ``private_key_jwt/ES256 dpop``."""
    return f"{method} {token}"


class Unavailable(Exception):
    """What this room needs is not on this machine: Node.js, npm, or the packages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What both servers saw since the last `Provider.reset`."""

    token_requests: int
    token_statuses: Mapping[str, int]
    token_errors: Mapping[str, int]
    metadata_requests: int
    api_requests: int
    api_statuses: Mapping[str, int]
    api_errors: Mapping[str, int]

    @property
    def tokens_issued(self) -> int:
        """How many token requests were answered with a token."""
        return self.token_statuses.get("200", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Both servers as the tests see them.

    Attributes:
        issuer: the issuer, on plain HTTP; its metadata names the endpoints for mutual TLS as aliases.
        mtls_issuer: the origin of these; not an issuer identifier.
        api_url: the origin of the API, on plain HTTP.
        api_mtls_url: the same API over TLS, where it sees the client's certificate.
        ca_file: the CA of both TLS listeners' certificates.
        clients: scenario → the settings of one client, as they would stand in tokenvalet.toml.
        certificates: the client certificates by name: file with the certificate, file with the key.
        process: the Node process with both servers in it.
    """

    issuer: str
    mtls_issuer: str
    api_url: str
    api_mtls_url: str
    ca_file: str
    clients: Mapping[str, Mapping[str, Any]] = field(repr=False)
    certificates: Mapping[str, tuple[str, str]]
    process: subprocess.Popen[str] = field(repr=False)
    _control: httpx2.Client = field(repr=False)

    @property
    def token_endpoint(self) -> str:
        return f"{self.issuer}/token"

    @property
    def mtls_token_endpoint(self) -> str:
        return f"{self.mtls_issuer}/token"

    @property
    def revocation_endpoint(self) -> str:
        return f"{self.issuer}/token/revocation"

    def settings(self, name: str, **changes: Any) -> dict[str, Any]:
        """Return a copy of a client's settings with `changes`; a change to None leaves the setting out."""
        merged = {**self.clients[name], **changes}
        return {key: value for key, value in merged.items() if value is not None}

    def counters(self) -> Counters:
        return Counters(**self._ask("counters"))

    def reset(self) -> None:
        """Set the counters to zero and require nonces at both ends again."""
        self._ask("reset")

    def rotate_nonces(self, *, grace: bool = False) -> None:
        """Give out new DPoP nonces at both ends, and take no older ones.

        With `grace`, only the API's change, and the last one is still taken: the new one comes along with the next 200.
        """
        self._ask("rotate-nonces", grace=grace)

    def require_nonces(self, *, authorization_server: bool, api: bool) -> None:
        self._ask("require-nonces", authorization_server=authorization_server, api=api)

    def revoke_all(self) -> int:
        """Make the API reject every token that was issued until now; return how many that are."""
        count: int = self._ask("revoke-all")["revoked"]
        return count

    def _ask(self, action: str, **what: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._control.post(f"/{action}", json=what).raise_for_status().json()
        return answer


class Material:
    """Keys and certificates of one run, and the registrations and settings of the clients that use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.foreign_ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.server = self.ca.issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.ECDSA)
        self.certificates: dict[str, tuple[str, str]] = {}
        self.registrations: list[dict[str, Any]] = []
        self.clients: dict[str, dict[str, Any]] = {}
        self.ca_file = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)

        issued = [
            self._write_certificate("registered", self.ca.issue_cert("m2m.example.org")),
            self._write_certificate("of-another-name", self.ca.issue_cert("other.example.org")),
            self._write_certificate("of-another-ca", self.foreign_ca.issue_cert("m2m.example.org")),
        ]
        # Self-signed in the sense of RFC 8705 §2.2 is any certificate whose key was registered: no chain is looked at.
        self_signed = [
            self._write_certificate("self-signed", trustme.CA().issue_cert("m2m.example.org")),
            self._write_certificate("self-signed-by-another", trustme.CA().issue_cert("m2m.example.org")),
        ]
        for token in (BEARER, DPOP):
            self._add_secret_clients(token)
            self._add_key_clients(token)
            self._add_certificate_clients(token, issued[0], self_signed[0])

    def servers_part(self) -> dict[str, Any]:
        """Return what the Node process is to know: nothing of the clients' private keys."""
        return {
            "clients": self.registrations,
            "resources": RESOURCES,
            "tls": {
                "key": self.server.private_key_pem.bytes().decode(),
                "certificate": "".join(blob.bytes().decode() for blob in self.server.cert_chain_pems),
                "client_ca": self.ca.cert_pem.bytes().decode(),
            },
        }

    def _add(
        self,
        method: str,
        token: str,
        *,
        client_id: str | None = None,
        registration: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> None:
        name = scenario(method, token)
        client_id = client_id or name.replace("/", "-").replace(" ", "-").replace("_", "-")
        auth_method = method.partition("/")[0]
        self.registrations.append(
            {
                "client_id": client_id,
                "token_endpoint_auth_method": auth_method,
                "scope": "records:read audit:read",
                "dpop_bound_access_tokens": token == DPOP,
                **registration,
            }
        )
        self.clients[name] = {
            "client_id": client_id,
            "auth_method": auth_method,
            "scope": ["records:read"],
            "resource": RECORDS,
            "dpop": token == DPOP,
            **settings,
        }

    def _add_secret_clients(self, token: str) -> None:
        for method in ("client_secret_basic", "client_secret_post"):
            secret = secrets.token_urlsafe(32)
            self._add(method, token, registration={"client_secret": secret}, settings={"client_secret": secret})

        secret = secrets.token_urlsafe(48)
        self._add(
            "client_secret_jwt",
            token,
            registration={"client_secret": secret, "token_endpoint_auth_signing_alg": "HS256"},
            settings={"client_secret": secret},
        )

        # Every character here means something to Basic, to forms or to percent-encoding (RFC 6749 §2.3.1).
        secret = f"{secrets.token_urlsafe(16)} a:b+c%25&d=e/f?g~"
        self._add(
            "client_secret_basic/awkward",
            token,
            client_id=f"records web:{token} 100%+",
            registration={"client_secret": secret},
            settings={"client_secret": secret},
        )

    def _add_key_clients(self, token: str) -> None:
        keys: dict[str, PrivateKey] = {
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "PS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "EdDSA": ed25519.Ed25519PrivateKey.generate(),
            "Ed25519": ed25519.Ed25519PrivateKey.generate(),  # RFC 9864's name for the same
        }
        for alg, key in keys.items():
            jwk = {**_public_jwk(key), "use": "sig", "alg": alg, "kid": f"{alg}-{token}"}
            pem = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ).decode()
            self._add(
                f"private_key_jwt/{alg}",
                token,
                registration={"jwks": {"keys": [jwk]}, "token_endpoint_auth_signing_alg": alg},
                settings={"private_key": pem, "key_id": jwk["kid"], "signing_alg": alg},
            )

    def _add_certificate_clients(self, token: str, issued: trustme.LeafCert, self_signed: trustme.LeafCert) -> None:
        # A client is bound in one way: oidc-provider lets either be required, and not both.
        bound = {"tls_client_certificate_bound_access_tokens": token == BEARER}
        for method, name, registration in (
            ("tls_client_auth", "registered", {"tls_client_auth_san_dns": "m2m.example.org"}),
            ("self_signed_tls_client_auth", "self-signed", {"jwks": {"keys": [_certificate_jwk(self_signed)]}}),
        ):
            certificate, key = self.certificates[name]
            self._add(
                method,
                token,
                registration={**registration, **bound},
                settings={"certificate_file": certificate, "certificate_key_file": key},
            )

    def _write_certificate(self, name: str, leaf: trustme.LeafCert) -> trustme.LeafCert:
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        leaf.cert_chain_pems[0].write_to_path(str(certificate))
        leaf.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
        self.certificates[name] = (str(certificate), str(key))
        return leaf


def _public_jwk(key: PrivateKey) -> dict[str, Any]:
    jwk: dict[str, Any]
    match key:
        case ec.EllipticCurvePrivateKey():
            jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case rsa.RSAPrivateKey():
            jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
            jwk.pop("key_ops", None)
        case ed25519.Ed25519PrivateKey():
            jwk = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return jwk


def _certificate_jwk(leaf: trustme.LeafCert) -> dict[str, Any]:
    certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    public_key = certificate.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    jwk: dict[str, Any] = ECAlgorithm.to_jwk(public_key, as_dict=True)
    der = certificate.public_bytes(serialization.Encoding.DER)
    return {**jwk, "x5c": [base64.b64encode(der).decode()]}


def install() -> str:
    """Return the path of node, with the packages of package-lock.json installed beside this file.

    Raises:
        Unavailable: Node.js or npm is not there, is too old, or npm cannot install.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        missing = " and ".join(name for name, path in (("node", node), ("npm", npm)) if path is None)
        raise Unavailable(f"Node.js is needed here; not on the PATH: {missing}")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").partition(".")[0]) < OLDEST_NODE:
        raise Unavailable(f"Node.js {OLDEST_NODE} or newer is needed here, and node is {version}")
    with _alone():
        if not _installed():
            done = subprocess.run(
                [npm, "ci", "--ignore-scripts"], cwd=ROOM, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise Unavailable(f"npm ci failed in {ROOM.name}: {done.stderr.strip()[-500:]}")
    return node


def _installed() -> bool:
    """Tell whether npm's own record of what it installed is there, and not older than the lock file."""
    record = ROOM / "node_modules" / ".package-lock.json"
    return record.exists() and record.stat().st_mtime >= (ROOM / "package-lock.json").stat().st_mtime


@contextmanager
def _alone() -> Iterator[None]:
    """Hold a lock among the processes of pytest-xdist, so that one of them runs npm."""
    try:
        import fcntl
    except ImportError:  # Windows: one process at a time is up to the caller there
        yield
        return
    name = f"tokenvalet-interop-{os.getuid()}-{ROOM.stat().st_ino}.lock"
    with open(Path(tempfile.gettempdir()) / name, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def start(node: str, folder: Path) -> Iterator[Provider]:
    """Run both servers with keys and certificates made in `folder`, and stop them at the end."""
    material = Material(folder)
    log_path = folder / "node.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [node, str(ROOM / "main.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # Not this machine's: proxies, NODE_OPTIONS and DEBUG would all change what is tested.
            env={name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ},
        )
    with process:
        try:
            where = _say_and_hear(process, material.servers_part())
            if where is None:
                said = log_path.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the Node process did not start (exit {process.poll()}):\n{said}")
            with httpx2.Client(base_url=where["control"], trust_env=False) as control:
                yield _provider(material, where, process, control)
        finally:
            process.terminate()


def _say_and_hear(process: subprocess.Popen[str], config: Mapping[str, Any]) -> dict[str, str] | None:
    stdin, stdout = _pipes(process)
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    try:
        stdin.write(json.dumps(config) + "\n")
        stdin.flush()
        line = stdout.readline()
    except BrokenPipeError:
        line = ""
    finally:
        watchdog.cancel()
        watchdog.join()
    where: dict[str, str] | None = json.loads(line) if line else None
    return where


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _provider(
    material: Material, where: Mapping[str, str], process: subprocess.Popen[str], control: httpx2.Client
) -> Provider:
    clients = {}
    for name, settings in material.clients.items():
        base_url = where["api_mtls"] if "certificate_file" in settings else where["api"]
        clients[name] = {
            "issuer": where["issuer"],
            "base_url": base_url,
            "ca_file": material.ca_file,
            **settings,
        }
    return Provider(
        issuer=where["issuer"],
        mtls_issuer=where["mtls_issuer"],
        api_url=where["api"],
        api_mtls_url=where["api_mtls"],
        ca_file=material.ca_file,
        clients=clients,
        certificates=material.certificates,
        process=process,
        _control=control,
    )
