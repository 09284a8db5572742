"""The error that the authorization server answers with: RFC 6749 §5.2.

For development only, like everything in `tokenvalet.testing`.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import JSONResponse

__all__ = ["NO_STORE", "OAuthError"]

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""What RFC 6749 §5.1 asks of every response that may hold a token; errors carry it too, as servers do."""


class OAuthError(Exception):
    """A request that the authorization server refuses, with the `error` code of the RFC that refuses it."""

    def __init__(
        self, error: str, description: str, *, status: int = 400, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status
        self.headers = tuple(headers)

    def response(self) -> JSONResponse:
        """Return the JSON answer of RFC 6749 §5.2."""
        answer = JSONResponse(
            {"error": self.error, "error_description": self.description},
            status_code=self.status,
            headers=NO_STORE,
        )
        for name, value in self.headers:
            answer.headers[name] = value
        return answer
