"""HTTP as the core sees it: values that show no secret."""

from __future__ import annotations

from core.makers import NOW, PLANTED_SECRET, PLANTED_TOKEN
from tokenvalet.core.messages import HttpReply, HttpRequest, Outcome, Transmit

REQUEST = HttpRequest(
    method="POST",
    url="https://login.example.org/oauth/token",
    headers=(("Authorization", f"Basic {PLANTED_SECRET}"),),
    body=f"client_secret={PLANTED_SECRET}".encode(),
    secrets=(PLANTED_SECRET,),
)
REPLY = HttpReply(
    status=200,
    headers=(("dpop-nonce", "one"), ("set-cookie", PLANTED_TOKEN), ("dpop-nonce", "two")),
    body=PLANTED_TOKEN.encode(),
)


def test_a_request_shows_where_it_goes_and_neither_header_nor_body() -> None:
    assert repr(REQUEST) == "<HttpRequest POST https://login.example.org/oauth/token>"
    assert PLANTED_SECRET not in repr(Transmit(request=REQUEST)) + str(REQUEST)


def test_a_reply_shows_its_status_and_size_and_neither_header_nor_body() -> None:
    assert repr(REPLY) == f"<HttpReply 200, {len(PLANTED_TOKEN)} bytes>"
    assert PLANTED_TOKEN not in repr(Outcome(now=NOW, result=REPLY)) + str(REPLY)


def test_the_fields_of_a_reply_are_found_by_name() -> None:
    assert REPLY.fields("dpop-nonce") == ["one", "two"]
    assert REPLY.field("dpop-nonce") == "one"
    assert REPLY.fields("retry-after") == []
    assert REPLY.field("retry-after") is None
