"""Reading what the token endpoint said (RFC 6749 §5): nothing of it is believed before it was checked.

Neither the body nor a part of it goes into an error, except the server's own error code and description, escaped.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote_plus

from ..errors import ProofError, TokenRefusedError, TokenRequestError, TokenResponseError, TokenValetError, shown
from .messages import Failure, HttpReply
from .policy import LONGEST_RETRY_AFTER
from .request import Endpoint, TokenOrder
from .scope import scope_tokens

__all__ = ["Granted", "date_of", "failure_error", "json_object", "read_token_response", "retry_after", "token_fault"]

LONGEST_TOKEN = 32 * 1024
LONGEST_LIFETIME = 24 * 3600.0
PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
MEMBERS_READ = frozenset(
    {"access_token", "token_type", "expires_in", "scope", "error", "error_description"}
    | {"issuer", "token_endpoint", "mtls_endpoint_aliases"}
)
OTHER_TOKEN_TYPES = frozenset({"mac", "n_a", "pop", "basic"})
OTHER_MEDIA_TYPES = frozenset(
    {"text/html", "text/plain", "text/xml", "text/javascript", "application/xml", "application/xhtml+xml"}
    | {"application/jwt", "application/octet-stream", "application/x-www-form-urlencoded", "multipart/form-data"}
)
PASSING_ERRORS = frozenset({"temporarily_unavailable", "server_error", "slow_down"})

_ERROR_CODE = re.compile(r"[\x20\x21\x23-\x5B\x5D-\x7E]{1,128}")
_HEADER_SAFE = re.compile(r"[\x21-\x7E]+")
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_TOKEN_TYPES = {"bearer": "Bearer", "dpop": "DPoP"}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Granted:
    """A token response that holds what it must (RFC 6749 §5.1).

    Attributes:
        lifetime: seconds; 0 means that it serves those who wait for it and is not kept.
        scope: what was granted, or None where neither side named any.
    """

    access_token: str
    token_type: str
    lifetime: float
    scope: str | None


def read_token_response(reply: HttpReply, order: TokenOrder, endpoint: Endpoint, secrets: tuple[str, ...]) -> Granted:
    """Return what was granted.

    Raises:
        TokenRefusedError: the server said no, or granted less than `order.required_scopes`.
        TokenRequestError: the server says that it cannot at the moment.
        ProofError: DPoP was asked for and the token is not bound by it (RFC 9449 §5).
        TokenResponseError: anything else.
    """
    outcome = _read(reply, order, endpoint, secrets)
    if isinstance(outcome, Granted):
        return outcome
    # Raised from here, anew, so that no frame of its traceback has a secret or the answer among its variables.
    del secrets
    raise outcome.fresh()


def _read(
    reply: HttpReply, order: TokenOrder, endpoint: Endpoint, secrets: tuple[str, ...]
) -> Granted | TokenValetError:
    where = f"client {order.client!r}: {endpoint.url}"
    document, fault = json_object(reply)
    if reply.status != 200 or (document is not None and "error" in document):
        return _error_response(reply, document, where, secrets)
    if document is None:
        return TokenResponseError(f"{where} answered 200 with no token response: {fault}", status=200)
    try:
        return _granted(document, order, where)
    except TokenValetError as error:
        return error


def json_object(reply: HttpReply) -> tuple[Mapping[str, Any] | None, str]:
    """Return the JSON object that a reply is, or None and why it is none."""
    media_type = (reply.field("content-type") or "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        # Named only where it is one that is known from elsewhere: it may be anything, what was sent included.
        named = media_type if media_type in OTHER_MEDIA_TYPES else "another" if media_type else "missing"
        return None, f"its Content-Type is {named}, not application/json"
    try:
        document = json.loads(
            reply.body.decode("utf-8"),
            object_pairs_hook=_Object,
            parse_int=_bounded_int,
            parse_constant=_no_constant,
        )
    except UnicodeDecodeError:
        return None, "its body is not UTF-8"
    except ValueError:
        return None, "its body is not JSON"
    except RecursionError:
        return None, "its JSON is nested too deeply"
    if not isinstance(document, _Object):
        return None, "its JSON is not an object"
    aliases = document.get("mtls_endpoint_aliases")
    twice = (document.repeated | (aliases.repeated if isinstance(aliases, _Object) else frozenset())) & MEMBERS_READ
    if twice:
        return None, f"its JSON has the member {min(twice)} more than once"
    return document, ""


class _Object(dict[str, Any]):
    """A JSON object that remembers which of its members stood more than once; json itself takes the last, silently."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(name for name, _ in pairs) if len(self) != len(pairs) else {}
        self.repeated = frozenset(name for name, count in counts.items() if count > 1)


def failure_error(failure: Failure, client: str, url: str) -> TokenValetError:
    """Return the error for a request to `url` that got no complete answer, or one that may not be read."""
    if failure.code == "answer_refused":
        return TokenResponseError(f"client {client!r}: the answer of {url} was not read: {failure.detail}")
    remedy = {
        "unreachable": "is the address right, and is it reachable from here?",
        "timeout": "raise timeout if the server is that slow",
        "tls": "check the certificate, ca_file and certificate_file",
    }.get(failure.code, "try again later")
    return TokenRequestError(
        f"client {client!r}: no answer from {url}: {failure.detail}; {remedy}", code=f"token_request_{failure.code}"
    )


def date_of(reply: HttpReply) -> float | None:
    """Return the Date field of a reply in seconds since the epoch, or None."""
    return _http_date(reply.field("date"))


def _http_date(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
        # HTTP dates are in Greenwich, whether they say so or not (RFC 9110 §5.6.7).
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _bounded_int(digits: str) -> int:
    # int() refuses thousands of digits with an error of its own; a number of that size means no more than "very many".
    return int(digits) if len(digits) <= 18 else -1 if digits.startswith("-") else 10**18


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _granted(document: Mapping[str, Any], order: TokenOrder, where: str) -> Granted:
    token_type = _token_type(document.get("token_type"), order, where)
    access_token = document.get("access_token")
    fault = token_fault(access_token, token_type)
    if fault or not isinstance(access_token, str):
        raise TokenResponseError(f"{where} answered with an access_token that {fault}", status=200)
    scope = document.get("scope")
    if scope is not None and not isinstance(scope, str):
        raise TokenResponseError(f"{where} answered with a scope that is no string", status=200)
    try:
        granted = scope_tokens(scope) if scope is not None else order.scope
    except ValueError:
        raise TokenResponseError(f"{where} answered with a scope that breaks RFC 6749 §3.3", status=200) from None
    missing = order.required_scopes - set(granted)
    if missing:
        raise TokenRefusedError(
            f"{where} did not grant {' '.join(sorted(missing))}, which required_scopes demands: have the scope allowed "
            "for this client, or ask for it",
            code="scope_not_granted",
            status=200,
        )
    return Granted(
        access_token=access_token,
        token_type=token_type,
        lifetime=_lifetime(document.get("expires_in"), order.default_lifetime, where),
        scope=" ".join(granted) if granted or scope is not None else None,
    )


def _token_type(value: object, order: TokenOrder, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise TokenResponseError(f"{where} answered without token_type (RFC 6749 §5.1)", status=200)
    token_type = _TOKEN_TYPES.get(value.lower())
    if token_type is None:
        # Named only where it is one that is known from elsewhere: it may be anything, the token included.
        named = f" ({value.lower()})" if value.lower() in OTHER_TOKEN_TYPES else ""
        raise TokenResponseError(f"{where} issued a token of an unknown type{named}, not Bearer or DPoP", status=200)
    if order.proof_key is not None and token_type != "DPoP":  # noqa: S105  not a password
        raise ProofError(
            f"{where} issued a Bearer token though a DPoP proof was sent; it was thrown away (RFC 9449 §5). Switch "
            "DPoP on for this client at the authorization server, or set dpop = false"
        )
    if order.proof_key is None and token_type == "DPoP":  # noqa: S105  not a password
        raise ProofError(f"{where} issued a DPoP token though no proof was sent: set dpop = true for this client")
    return token_type


def token_fault(value: object, token_type: str) -> str:
    """Return what is wrong with an access token of that type, or nothing. The text shows nothing of it."""
    if not isinstance(value, str) or not value:
        return "is missing, or no string (RFC 6749 §5.1)"
    if len(value) > LONGEST_TOKEN:
        return f"has more than {LONGEST_TOKEN} characters"
    if not _HEADER_SAFE.fullmatch(value) or "," in value:
        return "has characters in it that may not go into a header"
    if token_type == "DPoP" and not _TOKEN68.fullmatch(value):  # noqa: S105  not a password
        return "is not the token68 that the DPoP scheme takes (RFC 9449 §7.1)"
    return ""


def _lifetime(value: object, default: float, where: str) -> float:
    if value is None:
        return default
    seconds: float | None = None
    if isinstance(value, bool):
        pass
    elif isinstance(value, int):
        seconds = float(value)
    elif isinstance(value, float) and math.isfinite(value):
        seconds = float(math.floor(value))
    elif isinstance(value, str) and value.isascii() and value.isdigit():
        seconds = float(_bounded_int(value))
    if seconds is None:
        raise TokenResponseError(f"{where} answered with an expires_in that is no number of seconds", status=200)
    return min(max(seconds, 0.0), LONGEST_LIFETIME)


def _error_response(
    reply: HttpReply, document: Mapping[str, Any] | None, where: str, secrets: tuple[str, ...]
) -> TokenValetError:
    status = reply.status
    error = document.get("error") if document is not None else None
    error = _redacted(error, secrets) if isinstance(error, str) and _ERROR_CODE.fullmatch(error) else None
    description = document.get("error_description") if document is not None else None
    description = shown(_redacted(description, secrets)) if isinstance(description, str) else None
    said = f"{status} {error}" if error is not None else str(status)
    said += f" ({description})" if description else ""
    if status in PASSING_STATUSES or status >= 500 or error in PASSING_ERRORS:
        return TokenRequestError(
            f"{where} answered {said}: it cannot serve at the moment",
            code="token_request_rate_limited" if status == 429 else "token_request_server_error",
            status=status,
            retry_after=retry_after(reply),
        )
    if 300 <= status < 400:
        return TokenResponseError(
            f"{where} answered {status}, a redirect, which is never followed since the client's credentials would go "
            "along: configure the address that it really has",
            code="redirect_refused",
            status=status,
        )
    if error is not None and (status == 200 or 400 <= status < 500):
        return TokenRefusedError(
            f"{where} refused: {said}{_remedy(error)}",
            error=error,
            error_description=description,
            status=status,
        )
    if status in (401, 403):
        return TokenRefusedError(f"{where} refused: {status}, with no OAuth error in it", status=status)
    return TokenResponseError(
        f"{where} answered {status}, with neither a token nor an OAuth error in it", status=status
    )


_REMEDIES = {
    "invalid_client": "check client_id, the credential and auth_method",
    "unauthorized_client": "allow the client credentials grant for this client at the authorization server",
    "unsupported_grant_type": "this endpoint does not know the client credentials grant: is it the right one?",
    "invalid_scope": "check scope against what the server allows for this client",
    "invalid_target": "check resource and audience against what the server knows (RFC 8707 §2)",
    "invalid_dpop_proof": "check the clock of this machine, and that the server knows the proof's algorithm",
    "use_dpop_nonce": "the server asked for a nonce again after it was given the one that it sent",
}


def _remedy(error: str) -> str:
    return f": {_REMEDIES[error]}" if error in _REMEDIES else ""


def _redacted(text: str | None, secrets: tuple[str, ...]) -> str:
    # A server may quote what it was sent.
    safe = text or ""
    for secret in secrets:
        for spelling in {secret, quote_plus(secret, safe="")}:
            if len(secret) >= 4:
                safe = safe.replace(spelling, "[redacted]")
    return safe


def retry_after(reply: HttpReply) -> float | None:
    """Return the seconds that a reply asks to wait (RFC 9110 §10.2.3), at most 60, or None."""
    text = (reply.field("retry-after") or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(_bounded_int(text)), LONGEST_RETRY_AFTER)
    moment = _http_date(text or None)
    sent = date_of(reply)
    if moment is None or sent is None:
        return None
    return min(max(0.0, moment - sent), LONGEST_RETRY_AFTER)
