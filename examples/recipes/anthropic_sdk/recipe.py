"""Anthropic's SDK, with the tokens of a valet in the place of an API key."""

from __future__ import annotations

import httpx2
from anthropic import Anthropic, AsyncAnthropic

from tokenvalet import TokenValet


def without_key(request: httpx2.Request) -> None:
    """Take out what the SDK makes of the key that it insists on: the valet sets the header that counts."""
    for name in ("Authorization", "X-Api-Key"):
        request.headers.pop(name, None)


def sdk(valet: TokenValet, name: str = "llm") -> Anthropic:
    http = valet.client(name, customize=without_key)
    return Anthropic(api_key="none", base_url=http.base_url, http_client=http)


def async_sdk(valet: TokenValet, name: str = "llm") -> AsyncAnthropic:
    http = valet.async_client(name, customize=without_key)
    return AsyncAnthropic(api_key="none", base_url=http.base_url, http_client=http)


def ask(anthropic: Anthropic, question: str) -> str:
    answer = anthropic.messages.create(model="small", max_tokens=1000, messages=[{"role": "user", "content": question}])
    return "".join(block.text for block in answer.content if block.type == "text")


async def ask_as_a_stream(anthropic: AsyncAnthropic, question: str) -> str:
    async with anthropic.messages.stream(
        model="small", max_tokens=1000, messages=[{"role": "user", "content": question}]
    ) as answer:
        return "".join([text async for text in answer.text_stream])


if __name__ == "__main__":
    with TokenValet.from_toml("tokenvalet.toml") as valet, sdk(valet) as anthropic:
        print(ask(anthropic, "What is an access token?"))
