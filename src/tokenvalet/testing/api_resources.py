"""What the protected API answers once it has let a request in: some records, an echo, redirects, streams and statuses.

    GET /api/v1/integration/health-records      a short list
    any /echo...                                the request as it came
    any /open...                                the same, and no token is asked for
    any /redirect?to=URL&status=307             a redirect
    any /status/NNN                             that status
    any /stream?chunks=10&size=1024             a body in chunks

For development only: it redirects to wherever it is told to.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from .asgi import header_pairs, raw_path, raw_query

__all__ = ["HEALTH_RECORDS", "resource_response"]

HEALTH_RECORDS = [
    {"id": "hr-1", "patient": "Ada", "kind": "vaccination", "date": "2026-03-02"},
    {"id": "hr-2", "patient": "Grace", "kind": "blood pressure", "date": "2026-04-17"},
    {"id": "hr-3", "patient": "Katherine", "kind": "allergy", "date": "2026-05-21"},
]
"""Records of nobody: the names are those of computing's pioneers."""


def resource_response(request: Request, *, body_length: int, body_sha256: str) -> Response:
    """Answer a request that was let in; `body_length` in bytes, `body_sha256` in hex."""
    path = raw_path(request)
    if path == "/api/v1/integration/health-records":
        if request.method not in ("GET", "HEAD"):
            return JSONResponse({"error": "method_not_allowed"}, status_code=405, headers={"Allow": "GET, HEAD"})
        return JSONResponse(HEALTH_RECORDS)
    if path.startswith(("/echo", "/open")):
        return JSONResponse(
            {
                "method": request.method,
                "path": path,
                "query": raw_query(request),
                "body_length": body_length,
                "body_sha256": body_sha256,
                "headers": [name for name, _ in header_pairs(request)],
            }
        )
    query = {name: values[-1] for name, values in parse_qs(raw_query(request)).items()}
    if path == "/redirect":
        # The location goes out as it was given: Starlette's own redirect would encode it anew.
        return Response(status_code=int(query.get("status", "307")), headers={"Location": query.get("to", "/")})
    if path.startswith("/status/"):
        return Response(status_code=int(path.removeprefix("/status/")))
    if path == "/stream":
        pieces = _pieces(int(query.get("chunks", "10")), int(query.get("size", "1024")))
        return _Streamed(pieces)
    return JSONResponse({"error": "not_found"}, status_code=404)


class _Streamed(Response):
    """A body in chunks. Starlette's own streams need an event loop, and these servers can be called without one."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__(media_type="application/octet-stream")
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _pieces(chunks: int, size: int) -> Iterator[bytes]:
    for number in range(chunks):
        yield bytes([number % 256]) * size
