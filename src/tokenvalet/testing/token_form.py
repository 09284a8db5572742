"""The body of a token request, read strictly: RFC 6749 §3.2 and appendix B.

For development only.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request

from .asgi import header_values, raw_query
from .oauth_error import OAuthError

__all__ = ["CREDENTIALS", "check_repeats", "check_request", "one", "parse_form", "several"]

CREDENTIALS = frozenset({"client_id", "client_secret", "client_assertion", "client_assertion_type", "access_token"})
_REPEATABLE = frozenset({"resource", "audience"})  # RFC 8707 §2, RFC 8693 §2.1


def check_request(request: Request) -> None:
    """Refuse anything but a form that was posted (RFC 6749 §3.2) with no credentials in its URL (§2.3.1)."""
    if request.method != "POST":
        raise OAuthError("invalid_request", "use POST", status=405, headers=[("Allow", "POST")])
    if any(name in CREDENTIALS for name, _ in parse_qsl(raw_query(request), keep_blank_values=True)):
        raise OAuthError("invalid_request", "credentials do not belong in the URL")
    content_types = header_values(request, "content-type")
    media_type = content_types[0].partition(";")[0].strip().lower() if len(content_types) == 1 else ""
    if media_type != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "the content type must be application/x-www-form-urlencoded")


def parse_form(body: bytes) -> dict[str, list[str]]:
    """Return every value of every parameter. Raises OAuthError for what is no UTF-8 form."""
    form: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:  # a parameter without "=", or bytes that are not UTF-8
        raise OAuthError("invalid_request", "the body is not a form in UTF-8") from None
    for name, value in pairs:
        form.setdefault(name, []).append(value)
    return form


def check_repeats(form: dict[str, list[str]]) -> None:
    """Refuse a parameter that came more than once (RFC 6749 §3.2)."""
    for name, values in form.items():
        if len(values) > 1 and name not in _REPEATABLE:
            raise OAuthError("invalid_request", "a parameter is repeated")


def one(form: dict[str, list[str]], name: str) -> str | None:
    """Return the value of a parameter; one without a value counts as left out (RFC 6749 §3.2)."""
    return next((value for value in form.get(name, ()) if value), None)


def several(form: dict[str, list[str]], name: str) -> list[str]:
    """Return the values of a parameter that may be repeated."""
    return [value for value in form.get(name, ()) if value]
