"""OpenAI's SDK, with the tokens of a valet in the place of an API key."""

from __future__ import annotations

import httpx2
from openai import AsyncOpenAI, OpenAI

from tokenvalet import TokenValet


def without_key(request: httpx2.Request) -> None:
    """Take out what the SDK makes of the key that it insists on: the valet sets this header, and nobody else."""
    request.headers.pop("Authorization", None)


def sdk(valet: TokenValet, name: str = "llm") -> OpenAI:
    http = valet.client(name, customize=without_key)
    return OpenAI(api_key="none", base_url=http.base_url, http_client=http)


def async_sdk(valet: TokenValet, name: str = "llm") -> AsyncOpenAI:
    http = valet.async_client(name, customize=without_key)
    return AsyncOpenAI(api_key="none", base_url=http.base_url, http_client=http)


def ask(openai: OpenAI, question: str) -> str:
    answer = openai.chat.completions.create(model="small", messages=[{"role": "user", "content": question}])
    return answer.choices[0].message.content or ""


async def ask_as_a_stream(openai: AsyncOpenAI, question: str) -> str:
    said = ""
    async with await openai.chat.completions.create(
        model="small", messages=[{"role": "user", "content": question}], stream=True
    ) as answer:
        async for event in answer:
            said += event.choices[0].delta.content or ""
    return said


if __name__ == "__main__":
    with TokenValet.from_toml("tokenvalet.toml") as valet, sdk(valet) as openai:
        print(ask(openai, "What is an access token?"))
