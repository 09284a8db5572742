"""The authorization server and the API in a process of their own, told by lines on standard input what to do.

So that what is measured does not share an interpreter with what it is measured against.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tokenvalet.testing import AuthorizationServer, Fault, ProtectedApi, RegisteredClient, serve

SECRET = "bench-secret-bench-secret"
CLIENT = "bench"


class Servers:
    """The other process, from here.

    Attributes:
        token_endpoint: its address.
        api: the API's.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.token_endpoint, self.api = self._answer()

    def tell(self, command: str, *arguments: Any) -> Any:
        """Have something done there, and return what came of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def requests(self) -> int:
        """Return how many token requests there were."""
        return int(self.tell("requests"))

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@contextlib.contextmanager
def elsewhere(*, lifetime: int, token_delay: float, dpop: bool = False) -> Iterator[Servers]:
    """Start both servers in another process."""
    command = [sys.executable, __file__, str(lifetime), str(token_delay), str(int(dpop))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Servers(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


FAULTS: dict[str, Callable[[], Fault]] = {
    "unavailable": lambda: Fault.status_only(503),
    "overloaded": lambda: Fault.status_only(429, retry_after=1),
    "dropping": Fault.disconnect,
    "hanging": lambda: Fault.hang(1.0),
    "html": lambda: Fault.html(200),
}


def main() -> None:
    """Serve until standard input ends."""
    lifetime, token_delay, dpop = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3] == "1"
    auth = AuthorizationServer(
        [RegisteredClient(client_id=CLIENT, client_secret=SECRET)],
        access_token_lifetime=lifetime,
        token_delay=token_delay,
        require_dpop_nonce=dpop,
    )
    api = ProtectedApi(auth, require_dpop_nonce=dpop)
    with serve(auth), serve(api):
        print(json.dumps([auth.token_endpoint, api.origin]), flush=True)
        for line in sys.stdin:
            command, *arguments = json.loads(line)
            answer: Any = None
            if command == "requests":
                answer = len(auth.token_requests)
            elif command == "misbehave":
                auth.misbehave(FAULTS[arguments[0]](), times=None)
            elif command == "behave":
                auth.behave()
            elif command == "revoke":
                auth.revoke_all()
            elif command == "rotate_nonces":
                auth.rotate_nonce()
                api.rotate_nonce()
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
