"""What the core tests share: times, orders, replies, independent judges, and drivers that only move a generator on."""

from __future__ import annotations

import base64
import functools
import json
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import settings
from joserfc import jws as joserfc_jws
from joserfc.jwk import JWKRegistry
from jwcrypto import jwk as jwcrypto_jwk
from jwcrypto import jws as jwcrypto_jws

from tokenvalet.core.authentication import ClientSecretBasic
from tokenvalet.core.call import Answer, Hop, NeedToken, Rejected, Send, api_call
from tokenvalet.core.dpop import NonceStore, ProofKey
from tokenvalet.core.encoding import b64url
from tokenvalet.core.guard import Origin, parse_origin
from tokenvalet.core.messages import Failure, HttpReply, HttpRequest, Outcome, Pause, Transmit
from tokenvalet.core.obtain import ClockCorrection, Obtained, obtain
from tokenvalet.core.request import Endpoint, TokenOrder
from tokenvalet.core.signing import SigningKey, generate_es256
from tokenvalet.core.token import AccessToken, Moment
from tokenvalet.errors import TokenValetError

NOW = Moment(monotonic=5_000.0, wall=1_800_000_000.0)
CLIENT = "m2m"
CLIENT_ID = "records-web"
ISSUER = "https://login.example.org"
ENDPOINT = Endpoint.parse("https://login.example.org/oauth/token")
API = parse_origin("https://api.example.org")
PLANTED_SECRET = "planted-client-secret-planted-client-secret"
PLANTED_TOKEN = "planted.access-token~planted"

# Few examples, the same ones each time, and nothing written to the disk.
modest = settings(max_examples=60, deadline=None, derandomize=True, database=None)
thorough = settings(max_examples=100, deadline=None, derandomize=True, database=None)


# Keys ------------------------------------------------------------------------------------------------------------


@functools.cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@functools.cache
def ec_key(curve: str = "P-256") -> ec.EllipticCurvePrivateKey:
    curves: dict[str, ec.EllipticCurve] = {
        "P-256": ec.SECP256R1(),
        "P-384": ec.SECP384R1(),
        "P-521": ec.SECP521R1(),
        "secp256k1": ec.SECP256K1(),
    }
    return ec.generate_private_key(curves[curve])


@functools.cache
def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


@functools.cache
def signing_key(alg: str, key_id: str | None = None) -> SigningKey:
    """Return a key of the kind that `alg` needs, bound to `alg`."""
    if alg.startswith("ES"):
        return SigningKey(ec_key({"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[alg]), alg=alg, key_id=key_id)
    if alg in ("EdDSA", "Ed25519"):
        return SigningKey(ed25519_key(), alg=alg, key_id=key_id)
    return SigningKey(rsa_key(), alg=alg, key_id=key_id)


def new_proof_key() -> ProofKey:
    return ProofKey(generate_es256())


@functools.cache
def proof_key() -> ProofKey:
    return new_proof_key()


class CheapSigner:
    """A signer that signs nothing, for tests that look at thousands of payloads."""

    alg = "ES256"
    key_id: str | None = None

    def __init__(self, public_jwk: Mapping[str, str] | None = None) -> None:
        self.public_jwk: Mapping[str, str] = signing_key("ES256").public_jwk if public_jwk is None else public_jwk

    def sign(self, data: bytes) -> bytes:
        return bytes(64)


# Judges ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Jwt:
    """A JWT that two independent libraries have verified and read in the same way."""

    header: dict[str, Any]
    claims: dict[str, Any]


def verified(token: str | bytes, key: Mapping[str, str] | bytes, alg: str) -> Jwt:
    """Return what is in a JWT after joserfc and PyJWT have verified it with this key and this algorithm only.

    `key` is a public JWK, or the bytes of an HMAC secret. PyJWT does not know the name Ed25519 (RFC 9864): there
    jwcrypto judges in its place.
    """
    text = token.decode("ascii") if isinstance(token, bytes) else token
    jwk = {"kty": "oct", "k": b64url(key).decode()} if isinstance(key, bytes) else dict(key)
    first = _judged_by_joserfc(text, jwk, alg)
    second = _judged_by_jwcrypto(text, jwk, alg) if alg == "Ed25519" else _judged_by_pyjwt(text, jwk, alg)
    assert first == second
    header, payload = first
    return Jwt(header, json.loads(payload))


def _judged_by_joserfc(text: str, jwk: dict[str, str], alg: str) -> tuple[dict[str, Any], bytes]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "EdDSA is deprecated via RFC 9864", and RS256 is not recommended
        registry = joserfc_jws.JWSRegistry(algorithms=[alg])
        registry.max_header_length = 4096  # an RSA key does not fit into the 512 bytes of old
        judged = joserfc_jws.deserialize_compact(text, JWKRegistry.import_key(dict(jwk)), registry=registry)
    return dict(judged.headers()), bytes(judged.payload or b"")


def _judged_by_pyjwt(text: str, jwk: dict[str, str], alg: str) -> tuple[dict[str, Any], bytes]:
    judged = jwt.PyJWS(algorithms=[alg]).decode_complete(text, jwt.PyJWK(dict(jwk), alg), algorithms=[alg])
    return dict(judged["header"]), bytes(judged["payload"])


def _judged_by_jwcrypto(text: str, jwk: dict[str, str], alg: str) -> tuple[dict[str, Any], bytes]:
    judged = jwcrypto_jws.JWS()
    judged.allowed_algs = [alg]
    judged.deserialize(text, jwcrypto_jwk.JWK(**jwk))
    return dict(judged.jose_header), bytes(judged.payload)


def payload_of(token: str | bytes) -> dict[str, Any]:
    """Return the payload of a JWT unverified, for tests that look at thousands of them."""
    part = (token.encode("ascii") if isinstance(token, str) else token).split(b".")[1]
    payload: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    return payload


def proof_of(proof: str | bytes, alg: str = "ES256", *, jkt: str | None = None) -> Jwt:
    """Return a DPoP proof that the judges have verified with the key in its header, which must be the one of `jkt`."""
    head = (proof.encode("ascii") if isinstance(proof, str) else proof).split(b".")[0]
    jwk = json.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)))["jwk"]
    assert JWKRegistry.import_key(dict(jwk)).thumbprint() == (jkt if jkt is not None else proof_key().jkt)
    return verified(proof, jwk, alg)


def everything_held_by(error: BaseException) -> str:
    """Return all text that an error, and whatever it is chained to, would show to a log, a pickle or a debugger."""
    seen: list[str] = []
    left: list[BaseException] = [error]
    known: set[int] = set()
    while left:
        one = left.pop()
        if id(one) in known:
            continue
        known.add(id(one))
        seen += [str(one), repr(one), repr(one.args), repr(getattr(one, "__notes__", None))]
        seen += [repr(value) for value in vars(one).values()]
        # UnicodeError and JSONDecodeError keep what they could not read in attributes of their own.
        seen += [repr(getattr(one, name, None)) for name in ("object", "doc")]
        left += [other for other in (one.__cause__, one.__context__) if other is not None]
    seen += traceback.format_exception(error)
    return "\n".join(seen)


def locals_of(error: BaseException, package: str = "tokenvalet") -> str:
    """Return the local variables of the library's frames in a traceback, as an error tracker would send them home."""
    return "\n".join(
        f"{frame.f_code.co_name}.{name} = {value!r}"
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__", "")).split(".")[0] == package
        for name, value in frame.f_locals.items()
    )


# The token endpoint ----------------------------------------------------------------------------------------------


def basic(secret: str = PLANTED_SECRET, *, raw: bool = False) -> ClientSecretBasic:
    return ClientSecretBasic(client_id=CLIENT_ID, secret=lambda: secret, raw=raw)


def form_of(request: HttpRequest) -> list[tuple[str, str]]:
    """Return the form fields of a request, in their order."""
    return parse_qsl(request.body.decode("ascii"), strict_parsing=True, keep_blank_values=True)


def order(*, dpop: bool | ProofKey = False, **changes: Any) -> TokenOrder:
    """Return an order for a token: client_secret_basic, scope "records:read", Bearer unless `dpop`."""
    key = dpop if isinstance(dpop, ProofKey) else proof_key() if dpop else None
    plain = TokenOrder(
        client=CLIENT,
        issuer=ISSUER,
        authentication=basic(),
        proof_key=key,
        scope=("records:read",),
        resource=(),
        audience=(),
        parameters=(),
        required_scopes=frozenset(),
        default_lifetime=300.0,
    )
    return replace(plain, **changes)


def http_reply(
    status: int = 200,
    document: object = None,
    *,
    body: bytes | None = None,
    content_type: str | None = "application/json",
    headers: Iterable[tuple[str, str]] = (),
) -> HttpReply:
    """Return a reply with `document` as JSON, or with these very bytes."""
    fields = [("content-type", content_type)] if content_type is not None else []
    content = body if body is not None else json.dumps(document).encode()
    return HttpReply(status=status, headers=(*fields, *headers), body=content)


def token_reply(
    *,
    token: object = PLANTED_TOKEN,
    token_type: object = "Bearer",
    headers: Iterable[tuple[str, str]] = (),
    **members: object,
) -> HttpReply:
    """Return a good token response of an hour; further members are added, and those that are ... left out."""
    document = {"access_token": token, "token_type": token_type, "expires_in": 3600} | members
    return http_reply(document={name: value for name, value in document.items() if value is not ...}, headers=headers)


def refusal(
    error: str, status: int = 400, *, nonce: str | None = None, date: str | None = None, **members: object
) -> HttpReply:
    """Return an error of RFC 6749 §5.2."""
    headers = [("dpop-nonce", nonce)] if nonce is not None else []
    headers += [("date", date)] if date is not None else []
    return http_reply(status, {"error": error} | members, headers=headers)


@dataclass(slots=True)
class Renewal:
    """What became of one `obtain` flow that was driven by hand."""

    requests: list[HttpRequest] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    sent_at: list[Moment] = field(default_factory=list)
    obtained: Obtained | None = None
    error: TokenValetError | None = None

    def proofs(self) -> list[dict[str, Any]]:
        """Return the claims of the DPoP proofs, one per transmission, after the judges have verified them."""
        return [proof_of(value).claims for one in self.requests for name, value in one.headers if name == "DPoP"]

    def forms(self) -> list[dict[str, str]]:
        """Return the form fields, one dictionary per transmission."""
        return [dict(form_of(one)) for one in self.requests]


Reply = HttpReply | Failure
MOST_STEPS = 40


def renew(
    replies: Sequence[Reply] | Callable[[int], Reply],
    wanted: TokenOrder | None = None,
    *,
    nonces: NonceStore | None = None,
    correction: ClockCorrection | None = None,
    attempts: int = 3,
    deadline: float = NOW.monotonic + 10.0,
    jitter: float = 0.0,
    round_trip: float = 0.5,
) -> Renewal:
    """Drive `obtain` to its end: each transmission takes `round_trip` and gets the next reply, the last for ever."""
    run = Renewal()
    now = NOW
    flow = obtain(
        wanted if wanted is not None else order(),
        ENDPOINT,
        nonces if nonces is not None else NonceStore(),
        correction if correction is not None else ClockCorrection(),
        now,
        attempts=attempts,
        deadline=deadline,
        jitter=lambda: jitter,
    )
    try:
        step = next(flow)
        for _ in range(MOST_STEPS):
            result: Reply | None = None
            if isinstance(step, Pause):
                run.pauses.append(step.seconds)
                now = Moment(now.monotonic + step.seconds, now.wall + step.seconds)
            else:
                run.requests.append(step.request)
                run.sent_at.append(now)
                at = len(run.requests) - 1
                result = replies(at) if callable(replies) else replies[min(at, len(replies) - 1)]
                now = Moment(now.monotonic + round_trip, now.wall + round_trip)
            step = flow.send(Outcome(now=now, result=result))
    except StopIteration as end:
        run.obtained = end.value
        return run
    except TokenValetError as error:
        run.error = error
        return run
    raise AssertionError("the flow runs for ever")


def answered(flow: Generator[Transmit, Outcome, Any], replies: Sequence[Reply]) -> tuple[list[HttpRequest], Any]:
    """Drive a flow that only transmits; return its requests and its result. Its errors come through."""
    requests: list[HttpRequest] = []
    waiting = iter(replies)
    try:
        step = next(flow)
        while True:
            requests.append(step.request)
            step = flow.send(Outcome(now=NOW, result=next(waiting)))
    except StopIteration as end:
        return requests, end.value


# The API ---------------------------------------------------------------------------------------------------------


class HandClock:
    """A clock that a test sets by hand."""

    def __init__(self, now: Moment = NOW) -> None:
        self.now = now

    def __call__(self) -> Moment:
        return self.now

    def move(self, *, monotonic: float = 0.0, wall: float = 0.0) -> Moment:
        self.now = Moment(self.now.monotonic + monotonic, self.now.wall + wall)
        return self.now


def access_token(
    value: str = PLANTED_TOKEN,
    *,
    dpop: bool | ProofKey = False,
    lifetime: float = 3600.0,
    window: float = 300.0,
    clock: Callable[[], Moment] | None = None,
    nonces: NonceStore | None = None,
    clock_correction: float = 0.0,
    obtained: Moment = NOW,
) -> AccessToken:
    """Return a token that was asked for at NOW, or when it is said."""
    key = dpop if isinstance(dpop, ProofKey) else proof_key() if dpop else None
    return AccessToken(
        client=CLIENT,
        value=value,
        token_type="DPoP" if key is not None else "Bearer",
        scope="records:read",
        obtained=obtained,
        lifetime=lifetime,
        window=window,
        clock=clock if clock is not None else HandClock(),
        proof_key=key,
        nonces=nonces,
        clock_correction=clock_correction,
    )


def answer(status: int = 200, *challenges: str, nonce: str | Sequence[str] | None = None) -> Answer:
    """Return what an API answered: its WWW-Authenticate and DPoP-Nonce fields."""
    fields: dict[str, list[str]] = {"www-authenticate": list(challenges)}
    if nonce is not None:
        fields["dpop-nonce"] = [nonce] if isinstance(nonce, str) else list(nonce)
    return Answer(status, lambda name: fields.get(name, []))


class HandHop(Hop):
    """A request whose body can, or cannot, be sent twice; counts how often that was asked."""

    def __init__(
        self, *, replayable: bool = True, method: str = "GET", origin: Origin = API, path: str = "/records"
    ) -> None:
        super().__init__(method, origin, path)
        self.can_be_replayed = replayable
        self.asked = 0

    def replayable(self) -> bool:
        self.asked += 1
        return self.can_be_replayed


@dataclass(slots=True)
class Call:
    """What became of one `api_call` flow that was driven by hand."""

    sent: list[Send] = field(default_factory=list)
    rejected: list[AccessToken] = field(default_factory=list)
    given_up: list[AccessToken] = field(default_factory=list)
    error: TokenValetError | None = None

    @property
    def reasons(self) -> list[str]:
        return [one.reason for one in self.sent]

    def proofs(self) -> list[dict[str, Any]]:
        """Return the claims of the DPoP proofs, one per request sent, after the judges have verified them."""
        return [proof_of(one.proof).claims for one in self.sent if one.proof is not None]


def call(
    token: AccessToken,
    answers: Sequence[Answer] | Callable[[int], Answer],
    *,
    replacement: AccessToken | None = None,
    hop: Hop | None = None,
    replayable: bool = True,
    nonces: NonceStore | None = None,
) -> Call:
    """Drive `api_call` to its end: each request gets the next answer, the last one for ever."""
    run = Call()
    flow = api_call(token, hop or HandHop(replayable=replayable), nonces if nonces is not None else NonceStore())
    try:
        step = next(flow)
        for _ in range(MOST_STEPS):
            if isinstance(step, Send):
                at = len(run.sent)
                run.sent.append(step)
                step = flow.send(answers(at) if callable(answers) else answers[min(at, len(answers) - 1)])
            elif isinstance(step, NeedToken):
                run.rejected.append(step.rejected)
                step = flow.send(replacement)
            else:
                assert isinstance(step, Rejected)
                run.given_up.append(step.token)
                step = flow.send(None)
    except StopIteration:
        return run
    except TokenValetError as error:
        run.error = error
        return run
    raise AssertionError("the flow runs for ever")


def numbered(prefix: str) -> Iterator[str]:
    """Return an endless supply of different words."""
    number = 0
    while True:
        number += 1
        yield f"{prefix}-{number}"
