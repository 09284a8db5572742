"""What it costs: the warm path, a proof, making a client, importing the package."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

import httpx2
import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc.jwk import ECKey

from tokenvalet import TokenValet
from tokenvalet.backchannel import Backchannel
from tokenvalet.core.dpop import ProofKey
from tokenvalet.core.messages import HttpReply, HttpRequest
from tokenvalet.core.secret import Secret
from tokenvalet.core.signing import SigningKey
from tokenvalet.tls import TlsIdentity

ROUNDS = 41
IMPORT_ROUNDS = 15
URL = "https://api.example.org/api/v1/integration/health-records"

Line = tuple[str, bool]


def run() -> Iterator[Line]:
    """Yield each figure, and whether it is within its bound."""
    yield from _warm_path()
    yield from _proof()
    yield from _making_a_client()
    yield from _import()


class _Canned(Backchannel):
    """Answers every token request at once, without a network."""

    def send(
        self, request: HttpRequest, *, timeout: float, identity: TlsIdentity | None, proxy: Secret | None
    ) -> HttpReply:
        body = b'{"access_token":"' + b"t" * 900 + b'","token_type":"Bearer","expires_in":3600}'
        return HttpReply(status=200, headers=(("content-type", "application/json"),), body=body)

    def close(self) -> None:
        pass

    def after_fork(self) -> None:
        pass


class _Nowhere(httpx2.BaseTransport):
    """Takes a request and hands back one response, so that nothing but the shell is measured."""

    response = httpx2.Response(200, stream=httpx2.ByteStream(b""))

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return self.response


def _valet(changes: Mapping[str, Any] = MappingProxyType({})) -> TokenValet:
    settings = {
        "token_endpoint": "https://login.example.org/token",
        "client_id": "bench",
        "client_secret": "bench-secret",
        "base_url": "https://api.example.org",
        **changes,
    }
    return TokenValet.from_dict({"clients": {"m2m": settings}}, backchannel=_Canned())


def _smallest(functions: dict[str, Callable[[], object]], *, times: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the microseconds of one call of each function: the smallest of `rounds` rounds, taken in turns."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            began = time.perf_counter()
            for _ in range(times):
                function()
            best[name] = min(best[name], (time.perf_counter() - began) / times * 1e6)
    return best


def _warm_path() -> Iterator[Line]:
    with _valet() as valet:
        valet.token("m2m")
        client, renewer = valet._clients["m2m"], valet._renewer
        nowhere = _Nowhere()
        valet._pools.through = lambda library: SimpleNamespace(__name__="httpx2", HTTPTransport=lambda **_: nowhere)
        transport = valet.transport("m2m")
        request = httpx2.Client().build_request("GET", URL)

        def core() -> bytes:
            token = renewer.get(client.ticket())
            return token.authorization  # type: ignore[union-attr]

        def copy() -> object:
            headers = [*request.headers.raw, (b"Authorization", b"Bearer x")]
            return httpx2.Request(
                request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
            )

        found = _smallest(
            {
                "core": core,
                "bare": lambda: nowhere.handle_request(request),
                "step": lambda: transport.handle_request(request),
                "copy": copy,
            },
            times=1000,
        )
    step = found["step"] - found["bare"]
    yield f"warm: look-up, age and header value: {found['core']:.2f} µs (bound: 2)", found["core"] <= 2
    yield (
        f"warm: the whole transport step, Bearer: {step:.2f} µs (bound: 15); copying a request by its constructor "
        f"alone: {found['copy']:.2f} µs",
        step <= 15,
    )


def _proof() -> Iterator[Line]:
    key = ec.generate_private_key(ec.SECP256R1())
    signing = SigningKey(key)
    proof_key = ProofKey(signing)
    algorithm = ec.ECDSA(hashes.SHA256())
    sample = proof_key.proof("GET", URL, iat=1_800_000_000, ath="a" * 43, nonce="n" * 22)
    signed = sample.rsplit(b".", 1)[0]
    header = {"typ": "dpop+jwt", "jwk": dict(signing.public_jwk)}
    claims = {"jti": "0" * 32, "iat": 1_800_000_000, "htm": "GET", "htu": URL, "ath": "a" * 43, "nonce": "n" * 22}
    jose_key = ECKey.import_key(key)
    found = _smallest(
        {
            "raw": lambda: key.sign(signed, algorithm),
            "ours": lambda: proof_key.proof("GET", URL, iat=1_800_000_000, ath="a" * 43, nonce="n" * 22),
            "pyjwt": lambda: jwt.encode(claims, key, algorithm="ES256", headers=header),
            "joserfc": lambda: jws.serialize_compact({"alg": "ES256", **header}, sample, jose_key),
        },
        times=20,
        rounds=300,
    )
    ratio = found["ours"] / found["raw"]
    yield (
        f"a DPoP proof: {ratio:.2f} times one raw ES256 signature of the same key (bound: 1.35); PyJWT "
        f"{found['pyjwt'] / found['raw']:.2f}, joserfc {found['joserfc'] / found['raw']:.2f}",
        ratio <= 1.35,
    )


def _making_a_client() -> Iterator[Line]:
    ready = httpx2.HTTPTransport()
    with _valet() as valet:

        def ours() -> None:
            with valet.client("m2m"):
                pass

        def plain() -> None:
            with httpx2.Client(transport=_Nowhere(), base_url="https://api.example.org"):
                pass

        found = _smallest({"ours": ours, "plain": plain}, times=200)
        fresh = _smallest({"fresh": lambda: httpx2.Client().close()}, times=1, rounds=9)["fresh"]
    ready.close()
    ratio = found["ours"] / found["plain"]
    yield (
        f"with valet.client(...): {ratio:.2f} times an httpx2.Client on a ready transport, {found['plain']:.0f} µs "
        f"(bound: 2); a fresh httpx2.Client(): {fresh / found['plain']:.0f} times",
        ratio <= 2,
    )


def _import() -> Iterator[Line]:
    alone, both = [], []
    for _ in range(IMPORT_ROUNDS):
        alone.append(_seconds("import httpx2"))
        both.append(_seconds("import httpx2, tokenvalet"))
    ratio = min(both) / min(alone)
    yield f"import httpx2, tokenvalet: {ratio:.2f} times import httpx2 (bound: 1.20)", ratio <= 1.2


def _seconds(statement: str) -> float:
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)
