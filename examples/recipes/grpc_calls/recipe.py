"""gRPC: every call carries the token of a valet as its call credentials, and a rejected one is replaced.

gRPC sends call credentials over TLS only. A unary call whose token was rejected is made once more; a stream is not, but
the next call has a new token. Why there is no token is in the details of the RpcError.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from tokenvalet import OneCall, TokenValet, TokenValetError


class OneCallCredentials(grpc.AuthMetadataPlugin):
    """The credentials of one call. gRPC asks for them on a thread of their own, so waiting there blocks nobody."""

    def __init__(self, valet: TokenValet, name: str | None, repeatable: bool) -> None:
        self._valet = valet
        self._name = name
        self._repeatable = repeatable
        self._call: OneCall | None = None
        self._again = False

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        try:
            if not self._again:
                self._call = None
                url = f"{context.service_url}/{context.method_name}"
                self._call = self._valet.call(self._name, "POST", url, repeatable=self._repeatable)
            assert self._call is not None
            self._again = False
            callback([(name.lower(), value) for name, value in self._call.headers.items()], None)
        except TokenValetError as error:
            callback((), error)

    def answered(self, code: grpc.StatusCode, metadata: Any) -> bool:
        """Tell how the call ended. Returns whether to make it once more; waits while a rejected token is replaced."""
        if self._call is not None:
            status = 401 if code is grpc.StatusCode.UNAUTHENTICATED else 200
            self._again = self._call.answered(status, tuple(metadata or ()))
        return self._again


def with_credentials(details: Any, credentials: OneCallCredentials) -> Any:
    return details._replace(credentials=grpc.metadata_call_credentials(credentials))


def told(credentials: OneCallCredentials, code: grpc.StatusCode, metadata: Any) -> None:
    """Tell how a call ended that is not made again: what the API said is the caller's, and there is nothing to wait for."""
    with contextlib.suppress(TokenValetError):
        credentials.answered(code, metadata)


class ValetInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """For `grpc.intercept_channel`. A call that is made with ``future()`` has its answer when that returns."""

    def __init__(self, valet: TokenValet, name: str | None = None) -> None:
        self._valet = valet
        self._name = name

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        credentials = OneCallCredentials(self._valet, self._name, repeatable=True)
        details = with_credentials(details, credentials)
        while True:
            answer = continuation(details, request)
            if not credentials.answered(answer.code(), answer.trailing_metadata()):
                return answer

    def _once(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        credentials = OneCallCredentials(self._valet, self._name, repeatable=False)
        answer = continuation(with_credentials(details, credentials), request)

        answer.add_done_callback(lambda done: told(credentials, done.code(), done.trailing_metadata()))
        return answer

    intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = _once


class _Aio:
    def __init__(self, valet: TokenValet, name: str | None) -> None:
        self._valet = valet
        self._name = name

    async def _repeated(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        credentials = OneCallCredentials(self._valet, self._name, repeatable=True)
        details = with_credentials(details, credentials)
        while True:
            answer = await continuation(details, request)
            code, metadata = await answer.code(), await answer.trailing_metadata()
            # Away from the event loop, for it waits while a rejected token is replaced.
            if code is grpc.StatusCode.OK or not await asyncio.to_thread(credentials.answered, code, metadata):
                return answer

    async def _once(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        credentials = OneCallCredentials(self._valet, self._name, repeatable=False)
        answer = await continuation(with_credentials(details, credentials), requests)
        told(credentials, await answer.code(), await answer.trailing_metadata())
        return answer

    async def _streamed(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        credentials = OneCallCredentials(self._valet, self._name, repeatable=False)
        return _watched(credentials, await continuation(with_credentials(details, credentials), request))


async def _watched(credentials: OneCallCredentials, answer: Any) -> AsyncIterator[Any]:
    try:
        async for message in answer:
            yield message
    except grpc.aio.AioRpcError as error:
        told(credentials, error.code(), error.trailing_metadata())
        raise


class _AioUnaryUnary(_Aio, grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary = _Aio._repeated


class _AioUnaryStream(_Aio, grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream = _Aio._streamed


class _AioStreamUnary(_Aio, grpc.aio.StreamUnaryClientInterceptor):
    intercept_stream_unary = _Aio._once


class _AioStreamStream(_Aio, grpc.aio.StreamStreamClientInterceptor):
    intercept_stream_stream = _Aio._streamed


AIO_KINDS = (_AioUnaryUnary, _AioUnaryStream, _AioStreamUnary, _AioStreamStream)


def channel(valet: TokenValet, target: str, tls: grpc.ChannelCredentials, name: str | None = None) -> grpc.Channel:
    return grpc.intercept_channel(grpc.secure_channel(target, tls), ValetInterceptor(valet, name))


def aio_channel(
    valet: TokenValet, target: str, tls: grpc.ChannelCredentials, name: str | None = None
) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(target, tls, interceptors=[kind(valet, name) for kind in AIO_KINDS])


if __name__ == "__main__":
    with (
        TokenValet.from_toml("tokenvalet.toml") as valet,
        channel(valet, "api.example.org:443", grpc.ssl_channel_credentials()) as api,
    ):
        print(api.unary_unary("/records.Records/List")(b""))
