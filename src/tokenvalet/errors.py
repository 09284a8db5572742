"""Every error that tokenvalet raises, and the texts of others made safe to show.

    TokenValetError
    ├── ConfigurationError      what was configured cannot work; all faults at once, each with its place
    ├── TokenRequestError       no answer from the token endpoint, or a passing one (5xx, 429): try again later
    ├── TokenRefusedError       the authorization server said no (RFC 6749 §5.2, or a bare 401 or 403)
    ├── TokenResponseError      an answer that is no token response and no refusal either
    ├── ProofError              DPoP (RFC 9449) was asked for and cannot be honoured
    ├── OriginError             the token would go where it does not belong
    ├── StepUpRequiredError     the API asks for a stronger authentication (RFC 9470): a new token does not help
    └── ValetClosedError        the valet was closed while, or before, a token was asked for

The ``code`` of an error is stable and meant for programs; its text says what was tried, what came back and what to do
next, and is meant for people. No error holds a token, a secret, an assertion, a proof or a body.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

__all__ = [
    "ConfigurationError",
    "ConfigurationFault",
    "OriginError",
    "ProofError",
    "StepUpRequiredError",
    "TokenRefusedError",
    "TokenRequestError",
    "TokenResponseError",
    "TokenValetError",
    "ValetClosedError",
]


def shown(text: str, limit: int = 256) -> str:
    """Return somebody else's text safe for one line of a log: escaped, and cut after `limit` characters.

    Control characters, line separators and the marks that turn the direction of text become ``\\x0a`` and the like, so
    that a server cannot forge log lines or hide what it says.
    """
    cut = text[:limit]
    safe = "".join(ch if ch.isprintable() else ch.encode("unicode_escape").decode("ascii") for ch in cut)
    return safe + "…" if len(text) > limit else safe


class TokenValetError(Exception):
    """The root of the tree: catch this to catch them all."""

    code: str = "tokenvalet_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    def fresh(self) -> Self:
        """Return a copy without traceback: one remembered error is raised for many callers, on many threads."""
        twin = copy.copy(self)
        twin.__traceback__ = twin.__context__ = twin.__cause__ = None
        return twin


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationFault:
    """One thing that is wrong with a configuration.

    Attributes:
        place: where it stands, such as ``clients.m2m.issuer``.
        message: what is wrong there, and the remedy.
    """

    place: str
    message: str

    def __str__(self) -> str:
        # A place may have a client's name in it, and that may come from a request, as those of tenants do.
        return f"{shown(self.place)}: {self.message}" if self.place else self.message


class ConfigurationError(TokenValetError):
    """What was configured cannot work. `faults` has all of them, each with its place and its remedy."""

    code = "configuration"

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        faults: Iterable[ConfigurationFault] = (),
    ) -> None:
        self.faults: tuple[ConfigurationFault, ...] = tuple(faults)
        if not message and self.faults:
            count = len(self.faults)
            head = "the configuration has a fault" if count == 1 else f"the configuration has {count} faults"
            message = head + ":\n" + "\n".join(f"  {fault}" for fault in self.faults)
        super().__init__(message, code=code)


class TokenRequestError(TokenValetError):
    """No answer from the token endpoint (or the metadata), or one that says: not now.

    Attributes:
        status: the HTTP status, or None where there was no answer.
        retry_after: seconds that the server asked to wait, at most 60, or None.
    """

    code = "token_request_failed"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.retry_after = retry_after


class TokenRefusedError(TokenValetError):
    """The authorization server said no (RFC 6749 §5.2), or answered a bare 401 or 403.

    Attributes:
        error: the OAuth error code such as ``invalid_client``, or None where there was none.
        error_description: the server's text, escaped and cut to 256 characters, or None.
        status: the HTTP status.
    """

    code = "token_refused"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        error: str | None = None,
        error_description: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.error = error
        self.error_description = error_description
        self.status = status


class TokenResponseError(TokenValetError):
    """An answer that is no token response: a redirect, HTML, JSON that breaks RFC 6749 §5.1, metadata that lies.

    Attributes:
        status: the HTTP status, or None.
    """

    code = "invalid_response"

    def __init__(self, message: str, *, code: str | None = None, status: int | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status


class ProofError(TokenValetError):
    """DPoP (RFC 9449) cannot be honoured. The request is not sent as Bearer instead."""

    code = "dpop_failed"


class OriginError(TokenValetError):
    """The token would go to an origin that is not allowed, or over a connection that is not safe."""

    code = "origin_not_allowed"


class StepUpRequiredError(TokenValetError):
    """The API wants the user authenticated in another way (RFC 9470 §3): renewing the token cannot help.

    Attributes:
        acr_values: the authentication context classes that the API asks for, or None.
        max_age: seconds since the user's authentication that the API accepts at most, or None.
        scope: the scope that the API asks for, or None.
    """

    code = "insufficient_user_authentication"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        acr_values: str | None = None,
        max_age: str | None = None,
        scope: str | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.acr_values = acr_values
        self.max_age = max_age
        self.scope = scope


class ValetClosedError(TokenValetError):
    """The valet is closed: make a new one, or close it later."""

    code = "valet_closed"
