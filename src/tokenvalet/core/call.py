"""The dance around one API call: token → send → 401 or nonce → put right, and sent once more.

A generator of steps without I/O, driven by every HTTP library in the same few lines. At most one nonce and one renewal
are spent on a request, whatever the API says; what cannot be put right is handed to the caller as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from ..errors import ProofError, StepUpRequiredError, shown
from .challenge import Challenge, parse_challenges
from .dpop import NonceStore, target_uri, usable_nonce
from .guard import Origin
from .token import AccessToken

__all__ = ["Answer", "Hop", "NeedToken", "Rejected", "Send", "api_call"]


class Hop:
    """One request on its way to an allowed origin; `path` is byte for byte what goes into the request line.

    Each HTTP library has a subclass of its own, which knows whether the body can be sent twice.
    """

    __slots__ = ("method", "origin", "path")

    def __init__(self, method: str, origin: Origin, path: str) -> None:
        self.method = method
        self.origin = origin
        self.path = path

    def replayable(self) -> bool:
        """Whether the body, if there is one, can be sent a second time."""
        raise NotImplementedError


class NeedToken:
    """The flow asks for a token to replace `rejected`; the answer is an `AccessToken`, or None: none may be had."""

    __slots__ = ("rejected",)

    def __init__(self, rejected: AccessToken) -> None:
        self.rejected = rejected


class Rejected:
    """The flow tells that `token` was rejected and cannot be replaced for this request; the answer is ignored."""

    __slots__ = ("token",)

    def __init__(self, token: AccessToken) -> None:
        self.token = token


class Send:
    """The flow asks for the request to be sent with these headers; the answer is an `Answer`.

    `reason` is why it is sent again: ``nonce``, ``renewed``, or empty for the first time.
    """

    __slots__ = ("authorization", "proof", "reason")

    def __init__(self, authorization: bytes, proof: bytes | None, reason: str) -> None:
        self.authorization = authorization
        self.proof = proof
        self.reason = reason


class Answer:
    """What the API answered: the status, and a look-up of all fields of a header name."""

    __slots__ = ("fields", "status")

    def __init__(self, status: int, fields: Callable[[str], list[str]]) -> None:
        self.status = status
        self.fields = fields


Step = Send | NeedToken | Rejected


def api_call(token: AccessToken, hop: Hop, nonces: NonceStore) -> Generator[Step, Any, None]:
    """Send one request with `token`, and put right once what can be put right. The last answer is the caller's.

    A rejected token that is no longer the current one is replaced by that, and, should the API reject it too, by a new one.

    Raises:
        StepUpRequiredError: the API wants a stronger authentication (RFC 9470).
        ProofError: the API takes no proofs of the key's algorithm (RFC 9449 §7.1).
    """
    nonce_put_right = renewed = False
    rejected_at: float | None = None
    reason = ""
    while True:
        key = token.proof_key
        nonce = nonces.get("rs", hop.origin, key.jkt) if key is not None else None
        answer: Answer = yield _send(token, hop, nonce, reason)
        new_nonce = None
        if key is not None:
            new_nonce = usable_nonce(answer.fields("dpop-nonce"))
            if new_nonce is not None:
                nonces.put("rs", hop.origin, key.jkt, new_nonce)
        if answer.status != 401 and (answer.status != 400 or key is None):
            return
        verdict = _verdict(token, parse_challenges(answer.fields("www-authenticate")), answer.status)
        if verdict == "proof":
            if nonce_put_right or new_nonce is None or new_nonce == nonce or not hop.replayable():
                return
            nonce_put_right, reason = True, "nonce"
        elif verdict == "token":
            if renewed:
                return
            if not hop.replayable():
                yield Rejected(token)
                return
            rejected_at = rejected_at if rejected_at is not None else token.now().monotonic
            replacement: AccessToken | None = yield NeedToken(token)
            if replacement is None:
                return
            # One that was there before the API said no may have been revoked together with the first.
            renewed = replacement.obtained >= rejected_at or replacement is token
            token, reason = replacement, "renewed"
        else:
            return


def _send(token: AccessToken, hop: Hop, nonce: str | None, reason: str) -> Send:
    # Apart from the flow, so that no proof is left in the local variables of a frame that an error may show.
    if token.proof_key is None:
        return Send(token.authorization, None, reason)
    proof = token.proof_for(hop.method, target_uri(hop.origin, hop.path), nonce)
    return Send(token.authorization, proof, reason)


def _verdict(token: AccessToken, challenges: tuple[Challenge, ...], status: int) -> str:
    """Return what a 401 is about: ``proof``, ``token``, or ``other`` where a new token would not help.

    A 400 is about nothing but a nonce, which some servers ask for with it.
    """
    scheme = token.token_type.lower()
    ours = [challenge for challenge in challenges if challenge.scheme == scheme]
    if status == 400:
        return "proof" if any(challenge.error == "use_dpop_nonce" for challenge in ours) else "other"
    for challenge in ours:
        if challenge.error == "insufficient_user_authentication":
            raise _step_up(token, challenge)
    errors = {challenge.error for challenge in ours}
    if scheme == "dpop":
        _check_algorithms(token, ours)
        if errors & {"use_dpop_nonce", "invalid_dpop_proof"}:
            return "proof"
    if errors & {"insufficient_scope", "invalid_request"}:
        return "other"
    return "token"


def _step_up(token: AccessToken, challenge: Challenge) -> StepUpRequiredError:
    def parameter(name: str) -> str | None:
        value = challenge.parameters.get(name)
        return _said(token, value, 256) if value is not None else None

    return StepUpRequiredError(
        f"client {token.client!r}: the API asks for a stronger user authentication (RFC 9470), which no new token of "
        "this client can bring",
        acr_values=parameter("acr_values"),
        max_age=parameter("max_age"),
        scope=parameter("scope"),
    )


def _check_algorithms(token: AccessToken, challenges: list[Challenge]) -> None:
    assert token.proof_key is not None
    for challenge in challenges:
        algorithms = challenge.parameters.get("algs", "").split()
        if algorithms and token.proof_key.alg not in algorithms:
            raise ProofError(
                f"client {token.client!r}: the API takes proofs signed with {_said(token, ' '.join(algorithms), 128)}, and "
                f"the proof key signs with {token.proof_key.alg}: configure dpop_key_file and dpop_alg to suit it",
                code="dpop_algorithm_not_accepted",
            )


def _said(token: AccessToken, text: str, longest: int) -> str:
    # An API may quote what it was sent.
    return shown(text.replace(token.value, "[redacted]"), longest)
