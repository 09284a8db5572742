"""TLS contexts, for the token endpoint and the API alike, and the certificate that mutual TLS shows (RFC 8705).

Making a context costs tens of milliseconds, so clients with the same settings share one; when the files on disk change, a
new one is made for new connections and, since tokens are bound to certificates, for new tokens.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

import httpcore2

from .config import ClientConfig
from .core.encoding import b64url
from .core.secret import Secret
from .errors import ConfigurationFault
from .files import FileFault, Signature, file_signature, read_file

__all__ = ["TlsContexts", "TlsIdentity"]

logger = logging.getLogger("tokenvalet")

MOST_ROTATIONS = 3  # while one identity is made


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TlsIdentity:
    """How one client speaks TLS, as of now.

    Attributes:
        context: for the token endpoint and the allowed origins.
        bare_context: the same without the client certificate, for redirects abroad.
        certificate_thumbprint: ``x5t#S256`` of the client certificate (RFC 8705 §3.1), or None.
        certificate: that certificate and its key, as they are in their files, for libraries that bring a TLS of their own.
    """

    context: ssl.SSLContext
    bare_context: ssl.SSLContext
    certificate_thumbprint: str | None
    certificate: Secret | None = None


@dataclass(frozen=True, slots=True)
class _Settings:
    ca_file: Path | None
    certificate_file: Path | None
    certificate_key_file: Path | None
    insecure: bool

    def signatures(self) -> tuple[Signature | None, ...]:
        files = (self.ca_file, self.certificate_file, self.certificate_key_file)
        return tuple(file_signature(path) for path in files if path is not None)


class TlsContexts:
    """The identities of all clients of one valet, by their settings."""

    def __init__(self) -> None:
        self._made: dict[_Settings, tuple[tuple[Signature | None, ...], TlsIdentity]] = {}
        self._refused: dict[_Settings, tuple[Signature | None, ...]] = {}
        self._lock = threading.Lock()

    def after_fork(self) -> None:
        """Take a new lock: the old one may have been held when the process forked."""
        self._lock = threading.Lock()

    def identity(self, config: ClientConfig) -> TlsIdentity:
        """Return the identity of a client; made anew when its files have changed and can be used."""
        settings = _Settings(
            config.ca_file, config.certificate_file, config.certificate_key_file, config.allow_insecure_tls
        )
        signatures = settings.signatures()
        made = self._made.get(settings)
        if made is not None and made[0] == signatures:
            return made[1]
        with self._lock:
            made = self._made.get(settings)
            if made is not None and made[0] == signatures:
                return made[1]
            if made is not None and self._refused.get(settings) == signatures:
                return made[1]
            try:
                identity, signatures = _made_of(settings, signatures, config.private_key_password)
            except FileFault as fault:
                if made is None:
                    raise
                self._refused[settings] = signatures
                # A key that does not fit its certificate yet is a rotation half done.
                logger.warning("TLS files have changed and cannot be used (%s); the former ones stay in force", fault)
                return made[1]
            self._made[settings] = (signatures, identity)
            return identity

    def check(self, config: ClientConfig, place: str) -> list[ConfigurationFault]:
        """Return what is wrong with the TLS files of a client, if it names any."""
        if config.ca_file is None and config.certificate_file is None and not config.allow_insecure_tls:
            return []
        try:
            self.identity(config)
        except FileFault as fault:
            field = "ca_file" if str(config.ca_file) in str(fault) else "certificate_file"
            return [ConfigurationFault(place=f"{place}.{field}" if place else field, message=str(fault))]
        return []


def _made_of(
    settings: _Settings, signatures: tuple[Signature | None, ...], password: Secret | None
) -> tuple[TlsIdentity, tuple[Signature | None, ...]]:
    """Return an identity, and the signatures of the files that it was made of."""
    for _ in range(MOST_ROTATIONS):
        identity = _make(settings, password)
        before, signatures = signatures, settings.signatures()
        if signatures == before:
            break
        # They were replaced meanwhile: what was loaded and what the thumbprint was taken of may be two certificates.
    return identity, signatures


def _make(settings: _Settings, password: Secret | None) -> TlsIdentity:
    bare = _context(settings)
    if settings.certificate_file is None:
        return TlsIdentity(context=bare, bare_context=bare, certificate_thumbprint=None)
    context = _context(settings)
    try:
        # A callable for the password, since OpenSSL would otherwise ask for it on the terminal.
        context.load_cert_chain(
            settings.certificate_file, settings.certificate_key_file, (password or Secret("")).reveal
        )
    except (ssl.SSLError, OSError, ValueError):
        raise FileFault(
            f"{settings.certificate_file}: the certificate and its key cannot be read, or do not belong together"
        ) from None
    key_file = settings.certificate_key_file
    content, _ = read_file(settings.certificate_file, private=key_file is None)
    key = read_file(key_file, private=True)[0] if key_file is not None else b""
    return TlsIdentity(
        context=context,
        bare_context=bare,
        certificate_thumbprint=_thumbprint(content, settings.certificate_file),
        certificate=Secret(content + b"\n" + key),
    )


def _context(settings: _Settings) -> ssl.SSLContext:
    if settings.ca_file is not None:
        try:
            context = ssl.create_default_context(cafile=settings.ca_file)
        except (ssl.SSLError, OSError):
            raise FileFault(f"{settings.ca_file}: no certificates of authorities can be read from it") from None
    else:
        context = httpcore2.default_ssl_context()
    if settings.insecure:
        logger.warning("allow_insecure_tls is set: nobody checks whom the token and the credentials are sent to")
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if context.minimum_version < ssl.TLSVersion.TLSv1_2:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _thumbprint(content: bytes, path: Path) -> str:
    begin, end = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
    try:
        pem = content[content.index(begin) : content.index(end) + len(end)].decode("ascii")
        der = ssl.PEM_cert_to_DER_cert(pem)
    except ValueError:
        raise FileFault(f"{path} does not hold a certificate in PEM form") from None
    return b64url(hashlib.sha256(der).digest()).decode("ascii")
