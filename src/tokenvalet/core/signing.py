"""Keys and signatures: the one room inside the core that touches `cryptography`.

A key is loaded once from PEM, encrypted PEM, PKCS#12 or a JWK (RFC 7517), checked, and bound to one algorithm
(RFC 7518, RFC 8037, RFC 9864) for its whole life. What leaves the room is a `Signer`: the algorithm's name, the public
JWK and signatures in JOSE form. The private key stays inside.

Signing is done here and not by a JOSE library since a DPoP proof is made for every request that is sent, and the
general libraries cost two to three times the signature itself (`make bench` prints the ratios).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from .encoding import b64url, b64url_decode, compact_json

__all__ = [
    "ASYMMETRIC_ALGORITHMS",
    "HmacSigner",
    "KeyFault",
    "Signer",
    "SigningKey",
    "generate_es256",
    "load_private_key",
    "private_pem",
    "sign_jwt",
    "thumbprint",
]

_HASHES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}
_CURVES: dict[str, tuple[str, str, int]] = {
    # cryptography's name: crv (RFC 7518 §6.2.1.1), alg (§3.4), bytes of one coordinate
    "secp256r1": ("P-256", "ES256", 32),
    "secp384r1": ("P-384", "ES384", 48),
    "secp521r1": ("P-521", "ES512", 66),
}
_RSA_ALGORITHMS = ("PS256", "PS384", "PS512", "RS256")
_OKP_ALGORITHMS = ("EdDSA", "Ed25519")
ASYMMETRIC_ALGORITHMS = ("ES256", "ES384", "ES512", *_RSA_ALGORITHMS, *_OKP_ALGORITHMS)
SMALLEST_RSA_BITS = 2048
SMALLEST_HMAC_BYTES = 32


class KeyFault(ValueError):
    """A key that cannot be used. The text says why and what to do, and shows nothing of the key."""


@runtime_checkable
class Signer(Protocol):
    """Whatever can sign a JWT: a key of ours, or one that lives in a KMS, an HSM or a token.

    Attributes:
        alg: the JOSE name of the algorithm, such as ``ES256``.
        public_jwk: the public key as a JWK, without ``alg``, ``use`` and ``kid``; empty for a symmetric key.
        key_id: the ``kid``, or None.
    """

    @property
    def alg(self) -> str: ...

    @property
    def public_jwk(self) -> Mapping[str, str]: ...

    @property
    def key_id(self) -> str | None: ...

    def sign(self, data: bytes) -> bytes:
        """Return the signature of `data` in the form of RFC 7518 §3 (r || s for ES256, not DER)."""
        ...


_PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


class SigningKey:
    """A private key and the one algorithm that it signs with; `sign` returns a signature of bytes in JOSE form."""

    __slots__ = ("alg", "key_id", "public_jwk", "sign")

    sign: Callable[[bytes], bytes]

    def __init__(self, key: _PrivateKey, *, alg: str | None = None, key_id: str | None = None) -> None:
        self.public_jwk: Mapping[str, str]
        if isinstance(key, ec.EllipticCurvePrivateKey):
            self.alg, self.public_jwk, self.sign = _ec_parts(key, alg)
        elif isinstance(key, rsa.RSAPrivateKey):
            self.alg, self.public_jwk, self.sign = _rsa_parts(key, alg)
        else:
            self.alg, self.public_jwk, self.sign = _okp_parts(key, alg)
        self.key_id = key_id

    def __repr__(self) -> str:
        return f"<SigningKey {self.alg} kid={self.key_id!r}>"

    def __reduce__(self) -> Any:
        raise TypeError("a private key is not pickled: hand over the file's path or the PEM instead")


class HmacSigner:
    """The client secret as a signing key, for client_secret_jwt (OpenID Connect Core §9, RFC 7518 §3.2)."""

    __slots__ = ("_digest", "_secret", "alg", "key_id", "public_jwk")

    def __init__(self, secret: bytes, *, alg: str = "HS256") -> None:
        if alg not in ("HS256", "HS384", "HS512"):
            raise KeyFault(f"client_secret_jwt signs with HS256, HS384 or HS512, not with {alg}")
        needed = int(alg[2:]) // 8
        if len(secret) < needed:
            raise KeyFault(
                f"{alg} needs a client secret of at least {needed} bytes (RFC 7518 §3.2), this one has "
                f"{len(secret)}: have a longer one made by the authorization server, or use client_secret_basic"
            )
        self._secret = secret
        self._digest = f"sha{alg[2:]}"
        self.alg = alg
        self.key_id: str | None = None
        self.public_jwk: Mapping[str, str] = {}

    def sign(self, data: bytes) -> bytes:
        """Return the HMAC of `data`."""
        return hmac.digest(self._secret, data, self._digest)

    def __repr__(self) -> str:
        return f"<HmacSigner {self.alg}>"

    def __reduce__(self) -> Any:
        raise TypeError("a client secret is not pickled")


def sign_jwt(signer: Signer, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """Return a JWT in compact form (RFC 7515 §7.1); ``alg`` and ``kid`` come from the signer."""
    full: dict[str, Any] = {"alg": signer.alg, **header}
    if signer.key_id is not None:
        full["kid"] = signer.key_id
    signing_input = b64url(compact_json(full)) + b"." + b64url(compact_json(claims))
    return (signing_input + b"." + b64url(signer.sign(signing_input))).decode("ascii")


def thumbprint(public_jwk: Mapping[str, str]) -> str:
    """Return the SHA-256 thumbprint of a public JWK in base64url (RFC 7638)."""
    required = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n"), "OKP": ("crv", "kty", "x")}
    members = {name: public_jwk[name] for name in required[public_jwk["kty"]]}
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    return b64url(hashlib.sha256(canonical).digest()).decode("ascii")


def generate_es256() -> SigningKey:
    """Return a new P-256 key, for a DPoP proof key that lives as long as the process."""
    return SigningKey(ec.generate_private_key(ec.SECP256R1()))


def private_pem(key: _PrivateKey) -> bytes:
    """Return `key` as unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_private_key(
    data: bytes, *, password: bytes | None = None, alg: str | None = None, key_id: str | None = None
) -> SigningKey:
    """Return the signing key in `data`: PEM, encrypted PEM, PKCS#12 or one private JWK.

    Args:
        data: the bytes of the file.
        password: for encrypted PEM and PKCS#12.
        alg: the JOSE algorithm; by default the one of the key's kind (PS256 for RSA, EdDSA for Ed25519).
        key_id: the ``kid``; by default the one of the JWK, if it has one.

    Raises:
        KeyFault: the key cannot be read, is of a kind that we do not sign with, is too weak, or contradicts `alg`.
    """
    stripped = data.lstrip()
    if stripped.startswith(b"{"):
        return _from_jwk(stripped, alg=alg, key_id=key_id)
    if b"-----BEGIN" in data:
        return SigningKey(_from_pem(data, password), alg=alg, key_id=key_id)
    return SigningKey(_from_pkcs12(data, password), alg=alg, key_id=key_id)


def _from_pem(data: bytes, password: bytes | None) -> _PrivateKey:
    if b"PRIVATE KEY" not in data:
        kind = "a certificate" if b"CERTIFICATE" in data else "a public key" if b"PUBLIC KEY" in data else "no key"
        raise KeyFault(f"this PEM holds {kind}; a private key is needed to sign")
    # The texts of these exceptions are kept out on purpose: they may quote what they could not parse.
    try:
        key = serialization.load_pem_private_key(data, password)
    except TypeError:
        if password is None:
            raise KeyFault("this PEM is encrypted: give private_key_password as well") from None
        raise KeyFault("this PEM is not encrypted: leave private_key_password out") from None
    except (ValueError, UnsupportedAlgorithm):
        hint = "; is the password right?" if password is not None else ""
        raise KeyFault(f"this PEM cannot be read{hint}") from None
    return _of_known_kind(key)


def _from_pkcs12(data: bytes, password: bytes | None) -> _PrivateKey:
    try:
        key, _, _ = pkcs12.load_key_and_certificates(data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFault(
            "this is neither PEM, nor a JWK, nor PKCS#12 that opens with the given private_key_password"
        ) from None
    if key is None:
        raise KeyFault("this PKCS#12 file holds no private key")
    return _of_known_kind(key)


def _of_known_kind(key: object) -> _PrivateKey:
    if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        return key
    kind = type(key).__name__.removesuffix("PrivateKey").lstrip("_")
    raise KeyFault(f"{kind} keys are not used here: make a P-256, an Ed25519 or an RSA key")


def _from_jwk(data: bytes, *, alg: str | None, key_id: str | None) -> SigningKey:
    try:
        jwk = json.loads(data)
    except (ValueError, RecursionError):
        jwk = None
    if jwk is None:  # outside the handler, since the exception holds the whole document
        raise KeyFault("this starts like a JWK and is no JSON")
    if not isinstance(jwk, dict):
        raise KeyFault("a JWK is a JSON object (RFC 7517 §4)")
    if "keys" in jwk:
        raise KeyFault("this is a set of keys (JWKS): give the one private JWK that is meant")
    if jwk.get("kty") == "oct":
        raise KeyFault("this JWK is a symmetric key (kty oct): it belongs into client_secret, not here")
    if "d" not in jwk:
        raise KeyFault("this JWK is a public key, without d; a private key is needed to sign")
    if jwk.get("use", "sig") != "sig":
        raise KeyFault("this JWK says use other than sig: it is not for signing")
    operations = jwk.get("key_ops", ["sign"])
    if not isinstance(operations, list) or "sign" not in operations:
        raise KeyFault("this JWK has key_ops without sign: it is not for signing")
    stated = jwk.get("alg")
    if not isinstance(stated, str | None) or not isinstance(jwk.get("kid"), str | None):
        raise KeyFault("alg and kid of a JWK are strings (RFC 7517 §4)")
    if alg is not None and stated is not None and {alg, stated} != {"EdDSA", "Ed25519"} and alg != stated:
        raise KeyFault("signing_alg and the alg inside the JWK contradict each other: leave one out")
    try:
        key = _private_from_jwk(jwk)
    except KeyFault:
        raise
    except (KeyError, ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
        raise KeyFault("this JWK is incomplete, or its numbers do not form a key") from None
    kid = key_id if key_id is not None else jwk.get("kid")
    return SigningKey(key, alg=alg or stated, key_id=kid)


def _private_from_jwk(jwk: Mapping[str, Any]) -> _PrivateKey:
    def number(name: str) -> int:
        return int.from_bytes(b64url_decode(jwk[name]), "big")

    if jwk["kty"] == "EC":
        curves: dict[str, ec.EllipticCurve] = {
            "P-256": ec.SECP256R1(),
            "P-384": ec.SECP384R1(),
            "P-521": ec.SECP521R1(),
        }
        if jwk["crv"] not in curves:
            raise KeyFault("this JWK is on a curve other than P-256, P-384 and P-521")
        public = ec.EllipticCurvePublicNumbers(number("x"), number("y"), curves[jwk["crv"]])
        return ec.EllipticCurvePrivateNumbers(number("d"), public).private_key()
    if jwk["kty"] == "RSA":
        n, e, d = number("n"), number("e"), number("d")
        p, q = (number("p"), number("q")) if "p" in jwk else rsa.rsa_recover_prime_factors(n, e, d)
        return rsa.RSAPrivateNumbers(
            p=p,
            q=q,
            d=d,
            dmp1=rsa.rsa_crt_dmp1(d, p),
            dmq1=rsa.rsa_crt_dmq1(d, q),
            iqmp=rsa.rsa_crt_iqmp(p, q),
            public_numbers=rsa.RSAPublicNumbers(e, n),
        ).private_key()
    if jwk["kty"] == "OKP" and jwk["crv"] == "Ed25519":
        key = ed25519.Ed25519PrivateKey.from_private_bytes(b64url_decode(jwk["d"]))
        if key.public_key().public_bytes_raw() != b64url_decode(jwk["x"]):
            raise KeyFault("the public half of this JWK does not belong to its private half")
        return key
    raise KeyFault("this JWK is of a kind that is not used here: make a P-256, an Ed25519 or an RSA key")


_Parts = tuple[str, Mapping[str, str], Callable[[bytes], bytes]]


def _ec_parts(key: ec.EllipticCurvePrivateKey, alg: str | None) -> _Parts:
    if key.curve.name not in _CURVES:
        raise KeyFault(f"the curve {key.curve.name} is not used here: make a P-256, P-384 or P-521 key")
    crv, own_alg, size = _CURVES[key.curve.name]
    _same(alg, (own_alg,), f"an EC key on {crv}")
    numbers = key.public_key().public_numbers()
    jwk = {
        "kty": "EC",
        "crv": crv,
        "x": b64url(numbers.x.to_bytes(size, "big")).decode(),
        "y": b64url(numbers.y.to_bytes(size, "big")).decode(),
    }
    algorithm, sign_der = ec.ECDSA(_HASHES[own_alg[2:]]()), key.sign

    def sign(data: bytes) -> bytes:
        # DER is SEQUENCE { INTEGER r, INTEGER s }; JOSE wants both as fixed-width numbers (RFC 7518 §3.4).
        der = sign_der(data, algorithm)
        at = 3 if der[1] < 0x80 else 4
        end_of_r = at + 1 + der[at]
        r, s = der[at + 1 : end_of_r], der[end_of_r + 2 :]
        return r[-size:].rjust(size, b"\0") + s[-size:].rjust(size, b"\0")

    return own_alg, jwk, sign


def _rsa_parts(key: rsa.RSAPrivateKey, alg: str | None) -> _Parts:
    if key.key_size < SMALLEST_RSA_BITS:
        raise KeyFault(f"this RSA key has {key.key_size} bits; at least {SMALLEST_RSA_BITS} are needed (RFC 7518 §3.3)")
    chosen = alg or "PS256"
    _same(alg, _RSA_ALGORITHMS, "an RSA key")
    numbers = key.public_key().public_numbers()
    jwk = {
        "kty": "RSA",
        "n": b64url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")).decode(),
        "e": b64url(numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8, "big")).decode(),
    }
    digest = _HASHES[chosen[2:]]()
    scheme: padding.AsymmetricPadding = (
        padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)
        if chosen.startswith("PS")
        else padding.PKCS1v15()
    )
    return chosen, jwk, lambda data: key.sign(data, scheme, digest)


def _okp_parts(key: ed25519.Ed25519PrivateKey, alg: str | None) -> _Parts:
    _same(alg, _OKP_ALGORITHMS, "an Ed25519 key")
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64url(key.public_key().public_bytes_raw()).decode()}
    return alg or "EdDSA", jwk, key.sign


def _same(alg: str | None, fitting: tuple[str, ...], kind: str) -> None:
    if alg is not None and alg not in fitting:
        raise KeyFault(f"{kind} signs with {' or '.join(fitting)}, not with {shown_alg(alg)}")


def shown_alg(alg: str) -> str:
    """Return an algorithm's name, or a word for it where it is none that is known."""
    return alg if alg in ASYMMETRIC_ALGORITHMS or alg in ("HS256", "HS384", "HS512", "none") else "that algorithm"
