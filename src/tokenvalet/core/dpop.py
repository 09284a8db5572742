"""DPoP (RFC 9449): proof keys, proofs and nonces.

A proof is made for every request that is sent, so the parts that do not change are made once: the header with the key,
and the method and address as JSON. Per proof remain the jti, the time, and the signature.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from binascii import b2a_base64
from collections import OrderedDict
from os import urandom
from typing import Any

from ..errors import ProofError
from .encoding import b64url, compact_json
from .guard import Origin
from .signing import Signer, thumbprint

__all__ = ["NonceStore", "ProofKey", "access_token_hash", "target_uri", "usable_nonce"]

MOST_TARGETS = 512
MOST_NONCES = 1000
LONGEST_NONCE = 512

# base64url in two calls of C, where `urlsafe_b64encode` takes two of Python besides.
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_NQCHAR = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class ProofKey:
    """The key pair that tokens are bound to, and the maker of proofs for it.

    Attributes:
        jkt: the thumbprint of the public key (RFC 7638), as the authorization server puts it into ``cnf``.
        alg: the algorithm of the proofs.
    """

    __slots__ = ("_prefix", "_sign", "_targets", "alg", "jkt")

    def __init__(self, signer: Signer) -> None:
        jwk = dict(signer.public_jwk)
        if not jwk or _PRIVATE_MEMBERS & jwk.keys():
            raise ProofError("a DPoP proof key needs a public JWK, and only its public half (RFC 9449 §4.2)")
        self.alg = signer.alg
        self.jkt = thumbprint(jwk)
        self._sign = signer.sign
        self._prefix = b64url(compact_json({"typ": "dpop+jwt", "alg": signer.alg, "jwk": jwk})) + b"."
        self._targets: OrderedDict[tuple[str, str], str] = OrderedDict()

    def proof(self, htm: str, htu: str, *, iat: int, ath: str | None = None, nonce: str | None = None) -> bytes:
        """Return a new proof as a compact JWT.

        Args:
            htm: the method as it goes onto the wire.
            htu: the target URI, without query and fragment, as `target_uri` makes it.
            iat: the time in whole seconds since the epoch.
            ath: the hash of the access token; None at the token endpoint.
            nonce: the server's nonce, checked by `usable_nonce`, or None.
        """
        fragment = self._targets.get((htm, htu)) or self._target(htm, htu)
        # The jti is hex, ath base64url and the nonce NQCHAR: none of them can need JSON escaping.
        payload = f'{{"jti":"{urandom(16).hex()}","iat":{iat},{fragment}'
        if ath is not None:
            payload += f',"ath":"{ath}"'
        if nonce is not None:
            payload += f',"nonce":"{nonce}"'
        encoded = b2a_base64(f"{payload}}}".encode(), newline=False).translate(_URL_SAFE, b"=")
        signing_input = self._prefix + encoded
        signature = b2a_base64(self._sign(signing_input), newline=False).translate(_URL_SAFE, b"=")
        return b"%b.%b" % (signing_input, signature)

    def _target(self, htm: str, htu: str) -> str:
        fragment = f'"htm":{json.dumps(htm)},"htu":{json.dumps(htu)}'
        if len(self._targets) >= MOST_TARGETS:
            with contextlib.suppress(KeyError):  # another thread emptied it first
                self._targets.popitem(last=False)
        self._targets[htm, htu] = fragment
        return fragment

    def __repr__(self) -> str:
        return f"<ProofKey {self.alg} jkt={self.jkt}>"

    def __reduce__(self) -> Any:
        raise TypeError("a proof key is not pickled: configure dpop_key_file in both processes instead")


def access_token_hash(access_token: str) -> str:
    """Return ``ath``: the SHA-256 of the token in base64url (RFC 9449 §4.2)."""
    return b64url(hashlib.sha256(access_token.encode("ascii")).digest()).decode("ascii")


def target_uri(origin: Origin, path: str) -> str:
    """Return ``htu`` (RFC 9449 §4.2): the address without query and fragment, its path byte for byte as on the wire."""
    return f"{origin}{path or '/'}"


def usable_nonce(fields: list[str]) -> str | None:
    """Return the nonce in a response's DPoP-Nonce fields, or None.

    More than one field, a malformed value and one of over 512 characters count as none (RFC 9449 §8).
    """
    if len(fields) != 1 or len(fields[0]) > LONGEST_NONCE or not _NQCHAR.fullmatch(fields[0]):
        return None
    return fields[0]


class NonceStore:
    """The latest nonce of every server, apart for the role it plays: ``as`` (token endpoint) or ``rs`` (API).

    Bounded: the least recently changed go first. A lost nonce costs one more round trip and nothing else (RFC 9449 §8).
    """

    __slots__ = ("_nonces",)

    def __init__(self) -> None:
        self._nonces: OrderedDict[tuple[str, Origin, str], str] = OrderedDict()

    def get(self, role: str, origin: Origin, jkt: str) -> str | None:
        """Return the nonce to use there with that key, or None."""
        return self._nonces.get((role, origin, jkt))

    def put(self, role: str, origin: Origin, jkt: str, nonce: str) -> None:
        """Keep a nonce that a response of `origin` carried."""
        key = (role, origin, jkt)
        if self._nonces.get(key) == nonce:
            return
        self._nonces.pop(key, None)
        self._nonces[key] = nonce
        while len(self._nonces) > MOST_NONCES:
            with contextlib.suppress(KeyError):
                self._nonces.popitem(last=False)
