"""The certificate that a client showed in the TLS handshake, and its thumbprint: RFC 8705 §2 and §3.1.

It is read from the ASGI TLS extension (`scope["extensions"]["tls"]["client_cert_chain"]`), which `serving` fills in.

For development only.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Mapping
from typing import Any

from cryptography import x509

__all__ = ["certificate_thumbprint", "has_subject", "peer_certificate", "peer_thumbprint"]


def peer_certificate(scope: Mapping[str, Any]) -> bytes | None:
    """Return the client's certificate as DER, or None where it showed none."""
    tls = (scope.get("extensions") or {}).get("tls") or {}
    chain = tuple(tls.get("client_cert_chain") or ())
    return ssl.PEM_cert_to_DER_cert(chain[0]) if chain else None


def certificate_thumbprint(der: bytes) -> str:
    """Return the x5t#S256 of a certificate (RFC 8705 §3.1): base64url of the SHA-256 of its DER."""
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode("ascii")


def peer_thumbprint(scope: Mapping[str, Any]) -> str | None:
    """Return the x5t#S256 of the client's certificate, or None where it showed none."""
    der = peer_certificate(scope)
    return certificate_thumbprint(der) if der else None


def has_subject(der: bytes, subject: str) -> bool:
    """Tell whether the certificate's subject is this RFC 4514 name (RFC 8705 §2.1.2), comparing names and not text."""
    try:
        return x509.load_der_x509_certificate(der).subject == x509.Name.from_rfc4514_string(subject)
    except ValueError:
        return False
