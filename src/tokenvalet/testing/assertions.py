"""What a test claims of the requests that a server has seen, and what it is told when that is not so.

For development only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from .api_call import ApiCallSeen
from .token_exchange import TokenRequestSeen

__all__ = ["assert_api_calls", "assert_token_requests"]

MOST_LISTED = 20
_T = TypeVar("_T")


def assert_token_requests(
    seen: Sequence[TokenRequestSeen],
    count: int | None,
    *,
    scope: str | Iterable[str] | None,
    resource: str | None,
    audience: str | None,
    client_id: str | None,
    outcome: str | None,
) -> None:
    """Raise AssertionError unless `count` token requests were as described; None: at least one."""
    __tracebackhide__ = True
    wanted = None if scope is None else _scopes(scope)
    claims = {"resource": resource, "audience": audience}
    described = {
        "scope": None if wanted is None else " ".join(sorted(wanted)),
        **claims,
        "client_id": client_id,
        "outcome": outcome,
    }

    def fits(one: TokenRequestSeen) -> bool:
        return (
            (wanted is None or _scopes(" ".join(one.form.get("scope", ()))) == wanted)
            and all(value is None or value in one.form.get(name, ()) for name, value in claims.items())
            and client_id in (None, one.client_id)
            and outcome in (None, one.outcome)
        )

    _check("token request", seen, count, described, fits, _token_request)


def assert_api_calls(
    seen: Sequence[ApiCallSeen],
    count: int | None,
    *,
    method: str | None,
    path: str | None,
    status: int | None,
    scheme: str | None,
) -> None:
    """Raise AssertionError unless `count` API calls were as described; None: at least one."""
    __tracebackhide__ = True
    described = {"method": method, "path": path, "status": status, "scheme": scheme}

    def fits(one: ApiCallSeen) -> bool:
        return all(value is None or getattr(one, name) == value for name, value in described.items())

    _check("API call", seen, count, described, fits, _api_call)


def _check(
    what: str,
    seen: Sequence[_T],
    count: int | None,
    described: Mapping[str, object],
    fits: Callable[[_T], bool],
    line: Callable[[_T], str],
) -> None:
    __tracebackhide__ = True
    every = list(seen)
    fitting = [fits(one) for one in every]
    number = sum(fitting)
    if number == count or (count is None and number):
        return
    which = ", ".join(f"{name}={value!r}" for name, value in described.items() if value is not None)
    text = f"expected {_number('at least one' if count is None else count, what)}{' with ' + which if which else ''}"
    if which:
        text += f", and {number} of {len(every)} {'is' if number == 1 else 'are'} so"
    else:
        text += f", and there {'was' if number == 1 else 'were'} {number or 'none'}"
    if every:
        lines = [
            f"  {place}. {'✓' if fit and which else ' '} {line(one)}"
            for place, (one, fit) in enumerate(zip(every, fitting, strict=True), 1)
        ]
        left_out = len(lines) - MOST_LISTED
        text += ":\n" + "\n".join(lines[:MOST_LISTED]) + (f"\n  and {left_out} more" if left_out > 0 else "")
    raise AssertionError(text)


def _number(count: int | str, what: str) -> str:
    return f"{count} {what}{'' if count in (1, 'at least one') else 's'}"


def _scopes(scope: str | Iterable[str]) -> frozenset[str]:
    return frozenset(scope.split()) if isinstance(scope, str) else frozenset(scope)


def _token_request(one: TokenRequestSeen) -> str:
    # What was asked for, and no credential: this text ends in the logs of pipelines.
    asked = " ".join(
        f"{name}={' '.join(one.form[name])!r}" for name in ("scope", "resource", "audience") if name in one.form
    )
    who = f"client_id={one.client_id!r} by {one.auth_method}" if one.authenticated else "a client that proved nothing"
    return f"{who}{', ' + asked if asked else ''}{', DPoP' if one.dpop_jkt else ''} → {one.outcome}"


def _api_call(one: ApiCallSeen) -> str:
    # Without the query, which may hold anything.
    return f"{one.method} {one.path} with {one.scheme or 'no token'} → {one.status}"
