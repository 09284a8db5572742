"""A gRPC server in process, behind the tokens of an authorization server: over TLS, and without any protobuf."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
import trustme

from tokenvalet.testing import AuthorizationServer
from tokenvalet.testing.jose import InvalidJwt

__all__ = ["GrpcApi", "Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One call that came: its method, its credentials, and whether it was let in."""

    method: str
    authorization: list[str] = field(repr=False)
    proofs: list[str] = field(repr=False)
    let_in: bool


class GrpcApi:
    """Says back what it is sent. `/echo/Unary`, `/echo/Many`, `/echo/Collect` and `/echo/Chat` are its four kinds of calls.

    Attributes:
        challenge: what is said in www-authenticate to those who are not let in.
        rejects_all: whether nobody is.
    """

    def __init__(self, auth: AuthorizationServer, authority: trustme.CA) -> None:
        self.auth = auth
        self.seen: list[Seen] = []
        self.challenge = 'Bearer error="invalid_token"'
        self.rejects_all = False
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self._unary),
            "Many": grpc.unary_stream_rpc_method_handler(self._many),
            "Collect": grpc.stream_unary_rpc_method_handler(self._collect),
            "Chat": grpc.stream_stream_rpc_method_handler(self._chat),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo", handlers),))
        leaf = authority.issue_cert("127.0.0.1")
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        tls = grpc.ssl_server_credentials([(leaf.private_key_pem.bytes(), chain)])
        self.target = f"127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', tls)}"
        self.insecure_target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.stop(0).wait()

    def _unary(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self._check("Unary", context)
        return request

    def _many(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        self._check("Many", context)
        yield from [request] * 3

    def _collect(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        self._check("Collect", context)
        return b"".join(requests)

    def _chat(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        self._check("Chat", context)
        yield from requests

    def _check(self, method: str, context: grpc.ServicerContext) -> None:
        metadata: list[tuple[str, Any]] = list(context.invocation_metadata())
        authorization = [value for key, value in metadata if key == "authorization"]
        proofs = [value for key, value in metadata if key == "dpop"]
        token = authorization[0].partition(" ")[2] if len(authorization) == 1 else ""
        try:
            self.auth.access_tokens.verify(token, issuer=self.auth.issuer, now=self.auth.clock())
            let_in = not self.rejects_all
        except InvalidJwt:
            let_in = False
        self.seen.append(Seen(method, authorization, proofs, let_in))
        if not let_in:
            context.set_trailing_metadata((("www-authenticate", self.challenge),))
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "not with this token")
