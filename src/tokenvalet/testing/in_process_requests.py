"""requests on servers of this process: connections that are none.

For development only.
"""

from __future__ import annotations

import io
from http.client import responses
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPHeaderDict, HTTPResponse

from .in_process import NoAnswer, Ways

__all__ = ["InProcessConnections"]


class InProcessConnections:
    """What the valet sends the requests of requests over."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self._adapter = HTTPAdapter()

    def handle(self, request: requests.PreparedRequest, stream: bool, timeout: Any) -> requests.Response:
        """Send one request, and return its answer."""
        headers = [(_bytes(name), _bytes(value)) for name, value in request.headers.items()]
        read = timeout[1] if isinstance(timeout, tuple) else timeout
        try:
            answer = self._ways.send(request.method or "GET", request.url or "", headers, _body(request.body), read)
        except NoAnswer as reason:
            kind = requests.ReadTimeout if reason.code == "timeout" else requests.ConnectionError
            raise kind(str(reason), request=request) from None
        fields = HTTPHeaderDict()
        for name, value in answer.headers:
            fields.add(name.decode("latin-1"), value.decode("latin-1"))
        raw = HTTPResponse(
            body=io.BytesIO(answer.body),
            headers=fields,
            status=answer.status,
            reason=responses.get(answer.status, ""),
            preload_content=False,
            request_method=request.method,
            request_url=request.url,
        )
        response = self._adapter.build_response(request, raw)
        if not stream:
            response.content  # noqa: B018  which reads it
        return response

    def close(self) -> None:
        """There is nothing to close."""
        self._adapter.close()


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def _body(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes | bytearray):
        return bytes(body)
    return b"".join(_bytes(piece) for piece in body)
