"""The authorization server and the API of a soak, in a process of their own, and all that can be wrong with them."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from servers import FAULTS, Servers
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve
from tokenvalet.testing.faults import DROP_CONNECTION
from tokenvalet.testing.serving import RunningServer

__all__ = ["SECRET", "SLOW", "Stage", "stage"]

SECRET = "soak-secret-soak-secret"
SLOW = 0.4


class Stage(Servers):
    """The other process, from here; see `Servers`."""

    def counts(self) -> dict[str, int]:
        """Return how many tokens each client was issued; under "requests", how often a token was asked for in all."""
        return dict(self.tell("counts"))


@contextlib.contextmanager
def stage(clients: list[str], lifetime: int) -> Iterator[Stage]:
    """Start both servers in another process, for clients with these identifiers."""
    command = [sys.executable, __file__, str(lifetime), *clients]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Stage(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


class Gate:
    """The API behind a proxy that has moods."""

    def __init__(self, api: ProtectedApi) -> None:
        self.api = api
        self.mood = ""

    @property
    def app(self) -> ASGIApp:
        return self._pass

    def served_at(self, url: str) -> None:
        self.api.served_at(url)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.mood == "unavailable":
            await Response(status_code=503)(scope, receive, send)
        elif scope["type"] == "http" and self.mood == "resetting":
            scope["extensions"][DROP_CONNECTION]()
            while (await receive())["type"] != "http.disconnect":
                pass
        else:
            await self.api.app(scope, receive, send)


class Troupe:
    """The servers, in their own process."""

    def __init__(self, clients: list[str], lifetime: int) -> None:
        registered = [RegisteredClient(client_id=client, client_secret=SECRET) for client in clients]
        self.auth = AuthorizationServer(registered, access_token_lifetime=lifetime, require_dpop_nonce=True)
        self.gate = Gate(ProtectedApi(self.auth, require_dpop_nonce=True))

    def play(self) -> None:
        """Serve until standard input ends."""
        with serve(self.auth) as auth_server, serve(self.gate) as api_server:
            self._print([self.auth.token_endpoint, self.gate.api.origin])
            for line in sys.stdin:
                command, *arguments = json.loads(line)
                self.gate.api.calls.clear()
                answer: Any = None
                if command == "counts":
                    seen = self.auth.token_requests
                    answer = Counter(one.client_id for one in seen if one.outcome == "issued")
                    answer["requests"] = len(seen)
                else:
                    place, kind = arguments
                    self._trouble(place, kind, command == "begin", auth_server, api_server)
                self._print(answer)

    def _print(self, answer: Any) -> None:
        print(json.dumps(answer), flush=True)

    def _trouble(self, place: str, kind: str, on: bool, auth_server: RunningServer, api_server: RunningServer) -> None:
        api = self.gate.api
        if kind == "unreachable":
            server = auth_server if place == "auth" else api_server
            (server.stop if on else server.start)()
        elif kind == "revoked":
            self.auth.revoke_all()
        elif kind == "rejected":
            api.reject_all = 'Bearer error="invalid_token"' if on else None
        elif kind == "rotated":
            # As servers do it: what an answer brought a moment ago is not refused yet.
            for nonces in (self.auth._nonces, api._nonces):
                nonces.rotate(keep_previous=True)
        elif place == "auth" and kind == "slow":
            self.auth.token_delay = SLOW if on else 0.0
        elif place == "auth" and on:
            self.auth.misbehave(FAULTS[kind](), times=None)
        elif place == "auth":
            self.auth.behave()
        elif kind == "slow":
            api.delay = SLOW if on else 0.0
        else:
            self.gate.mood = kind if on else ""


if __name__ == "__main__":
    # Callers leave in the middle of a body here, which asyncio would warn of.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    Troupe(sys.argv[2:], int(sys.argv[1])).play()
