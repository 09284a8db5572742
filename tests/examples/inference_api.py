"""An API that speaks what the SDKs of OpenAI and Anthropic need, behind the tokens of an authorization server."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tokenvalet.testing import AuthorizationServer

__all__ = ["WORDS", "InferenceApi"]

WORDS = ["A", " token", " is", " a", " word."]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that came: its path, its status, and the credentials that it had."""

    path: str
    status: int
    authorization: list[str]
    key: list[str]


class InferenceApi:
    """Answers every question with the same words, at once or as a stream; says 503 as often as it is told to."""

    def __init__(self, auth: AuthorizationServer) -> None:
        self.auth = auth
        self.asked: list[Asked] = []
        self.busy = 0
        self.origin = ""

    @property
    def app(self) -> ASGIApp:
        return self._respond

    def served_at(self, url: str) -> None:
        self.origin = url

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        response = self._answer(request, json.loads(await request.body()))
        headers = request.headers
        self.asked.append(
            Asked(
                request.url.path,
                response.status_code,
                headers.getlist("authorization"),
                headers.getlist("x-api-key"),
            )
        )
        await response(scope, receive, send)

    def _answer(self, request: Request, question: dict[str, Any]) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            assert scheme == "Bearer"
            self.auth.access_tokens.verify(token, issuer=self.auth.issuer, now=self.auth.clock())
        except Exception:
            challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            return JSONResponse({"error": {"message": "the token is refused"}}, 401, challenge)
        if self.busy:
            self.busy -= 1
            return JSONResponse({"error": {"message": "busy"}}, 503, {"Retry-After-Ms": "1"})
        answer = {"/v1/chat/completions": _chat, "/v1/messages": _message}[request.url.path]
        return answer(bool(question.get("stream")))


def _events(events: Iterable[tuple[str, Any]]) -> Response:
    lines = [f"event: {name}\ndata: {json.dumps(data)}\n\n" if name else f"data: {data}\n\n" for name, data in events]
    return Response("".join(lines), media_type="text/event-stream")


def _chat(is_stream: bool) -> Response:
    about = {"id": "chat-1", "created": 1, "model": "small"}
    if is_stream:
        deltas = [{"index": 0, "delta": {"content": word}, "finish_reason": None} for word in WORDS]
        chunks = [{**about, "object": "chat.completion.chunk", "choices": [delta]} for delta in deltas]
        return _events([*(("", json.dumps(chunk)) for chunk in chunks), ("", "[DONE]")])
    message = {"role": "assistant", "content": "".join(WORDS)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return JSONResponse({**about, "object": "chat.completion", "choices": [choice]})


def _message(is_stream: bool) -> Response:
    usage = {"input_tokens": 1, "output_tokens": 1}
    about: dict[str, Any] = {"id": "msg-1", "type": "message", "role": "assistant", "model": "small", "usage": usage}
    about |= {"stop_reason": None, "stop_sequence": None}
    if not is_stream:
        content = [{"type": "text", "text": "".join(WORDS)}]
        return JSONResponse({**about, "content": content, "stop_reason": "end_turn"})
    events: list[tuple[str, dict[str, Any]]] = [
        ("message_start", {"message": {**about, "content": []}}),
        ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        *(("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": word}}) for word in WORDS),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage}),
        ("message_stop", {}),
    ]
    return _events((name, {"type": name, **data}) for name, data in events)
