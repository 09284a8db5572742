"""One authorization server and API for all peers, in a process of its own: it takes any credential, and counts.

Over plain HTTP and, for those that insist on it, over TLS. What it is told to be goes to /control.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIRST_STATE: dict[str, Any] = {"delay": 0.0, "lifetime": 3600, "failing": False}


@dataclass(frozen=True)
class Server:
    """The server, from here: its addresses, the file of its authority, and what it is told."""

    http: str
    https: str
    authority: str

    def be(self, **state: Any) -> None:
        """Forget all tokens and counts, and be as `state` says: delay and lifetime in seconds, failing."""
        self._ask("reset", json.dumps({**FIRST_STATE, **state}))

    def become(self, **state: Any) -> None:
        """Change in these ways, and forget nothing."""
        self._ask("become", json.dumps(state))

    def revoke(self) -> None:
        """Take no token any more that was issued so far."""
        self._ask("revoke", "{}")

    def token_requests(self) -> int:
        """Return how many token requests there were since `be`."""
        return int(self._ask("count", "{}"))

    def _ask(self, what: str, body: str) -> str:
        query = urllib.parse.urlencode({"state": body})
        with urllib.request.urlopen(f"{self.http}/control/{what}?{query}", timeout=30) as answer:
            return str(answer.read().decode())


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """Start it in another process."""
    command = [sys.executable, "-m", "peers.server"]
    cwd = Path(__file__).parents[1]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=cwd) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield Server(*json.loads(process.stdout.readline()))
        finally:
            process.stdin.close()


def application() -> Any:
    """Return the ASGI application."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route

    state, valid, serial, counted = dict(FIRST_STATE), set[str](), itertools.count(1), [0]

    async def token(request: Request) -> Response:
        counted[0] += 1
        await request.body()
        await asyncio.sleep(state["delay"])
        if state["failing"]:
            return JSONResponse({"error": "temporarily_unavailable"}, status_code=503)
        value = f"token-{next(serial)}"
        valid.add(value)
        return JSONResponse({"access_token": value, "token_type": "Bearer", "expires_in": state["lifetime"]})

    async def metadata(request: Request) -> Response:
        base = str(request.url).partition("/.well-known/")[0]
        return JSONResponse(
            {"issuer": base, "authorization_endpoint": f"{base}/authorize", "token_endpoint": f"{base}/token"}
        )

    async def api(request: Request) -> Response:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        fine = scheme.lower() == "bearer" and (value in valid or value == "static")
        return JSONResponse([1, 2, 3]) if fine else Response(status_code=401, headers={"WWW-Authenticate": "Bearer"})

    async def control(request: Request) -> Response:
        what, told = request.path_params["what"], json.loads(request.query_params["state"])
        if what in ("reset", "become"):
            state.update(told)
        if what in ("reset", "revoke"):
            valid.clear()
        if what == "reset":
            counted[0] = 0
        return PlainTextResponse(str(counted[0]))

    return Starlette(
        routes=[
            Route("/api", api),
            Route("/control/{what}", control),
            Route("/token", token, methods=["POST"]),
            Route("/{path:path}/token", token, methods=["POST"]),
            Route("/.well-known/openid-configuration", metadata),
            Route("/{path:path}/.well-known/openid-configuration", metadata),
        ]
    )


def main() -> None:
    """Serve until standard input ends."""
    import trustme

    from tokenvalet.testing import serve

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "authority.pem"
        authority.cert_pem.write_to_path(file)
        app = application()
        with serve(app) as plain, serve(app, ssl_context=context) as secured:
            print(json.dumps([plain.url, secured.url, str(file)]), flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main()
