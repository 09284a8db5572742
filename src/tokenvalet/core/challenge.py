"""Reading WWW-Authenticate (RFC 9110 §11.6.1): several challenges in a field, several fields, every odd spelling.

What is found is attributed to its own scheme, so that an error inside a Bearer challenge never looks like a DPoP one
(RFC 9449 §7.2). The parser is linear and bounded: what a server sends is never worth more than a moment's work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Challenge", "parse_challenges"]

LONGEST_FIELDS = 16 * 1024
MOST_CHALLENGES = 32

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|$))")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_BLANK = re.compile(r"[ \t]*")
_BLANK_OR_COMMA = re.compile(r"[ \t,]*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One challenge.

    Attributes:
        scheme: the authentication scheme in lower case, such as ``dpop``.
        parameters: its parameters, with names in lower case.
    """

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def error(self) -> str | None:
        """The ``error`` parameter (RFC 6750 §3), or None."""
        return self.parameters.get("error")


def parse_challenges(fields: Iterable[str]) -> tuple[Challenge, ...]:
    """Return the challenges in the WWW-Authenticate fields of a response, in their order.

    A challenge that repeats a parameter is left out (RFC 6750 §3); of a field that breaks the grammar, what came before
    the break counts; past 16 KiB or 32 challenges nothing is read.
    """
    found: list[Challenge] = []
    left = LONGEST_FIELDS
    for text in fields:
        if len(text) > left:
            break
        left -= len(text)
        for challenge in _parse_field(text):
            if len(found) == MOST_CHALLENGES:
                return tuple(found)
            found.append(challenge)
    return tuple(found)


def _parse_field(text: str) -> Iterable[Challenge]:
    at = _skip(_BLANK_OR_COMMA, text, 0)
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return
        scheme, at = match.group().lower(), match.end()
        if at < len(text) and text[at] not in " \t,":
            return
        at = _skip(_BLANK, text, at)
        token68 = _TOKEN68.match(text, at)
        if token68 is not None and not _looks_like_scheme(text, at):
            yield Challenge(scheme=scheme)
            at = _skip(_BLANK_OR_COMMA, text, token68.end())
            continue
        parameters, repeated, at, broken = _parse_parameters(text, at)
        if broken:
            return
        if not repeated:
            yield Challenge(scheme=scheme, parameters=parameters)


def _looks_like_scheme(text: str, at: int) -> bool:
    # "Bearer, DPoP …": right behind a scheme stands the comma, and no token68 at all.
    return at >= len(text) or text[at] == ","


def _parse_parameters(text: str, at: int) -> tuple[dict[str, str], bool, int, bool]:
    """Return the parameters from `at` on, whether one was repeated, where they end, and whether the grammar broke."""
    parameters: dict[str, str] = {}
    repeated = False
    while True:
        at = _skip(_BLANK_OR_COMMA, text, at)
        name = _TOKEN.match(text, at)
        if name is None:
            return parameters, repeated, at, at < len(text)
        equals = _EQUALS.match(text, name.end())
        if equals is None:
            return parameters, repeated, at, False
        value, end = _parse_value(text, equals.end())
        if value is None:
            return parameters, repeated, at, True
        after = _skip(_BLANK, text, end)
        if after < len(text) and text[after] != ",":
            return parameters, repeated, at, True
        key = name.group().lower()
        repeated = repeated or key in parameters
        parameters[key] = value
        at = after


def _parse_value(text: str, at: int) -> tuple[str | None, int]:
    quoted = _QUOTED.match(text, at)
    if quoted is not None:
        return _ESCAPE.sub(r"\1", quoted.group(1)), quoted.end()
    token = _TOKEN.match(text, at)
    return (token.group(), token.end()) if token is not None else (None, at)


def _skip(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match is not None else at
