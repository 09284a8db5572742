"""What the tests of this folder share: clocks that are moved by hand, a back channel without a network, and watchers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from tokenvalet import AccessToken, ClientConfig, Event, Moment, TokenParameters, TokenValet
from tokenvalet.core.messages import Failure, HttpReply, HttpRequest
from tokenvalet.core.secret import Secret
from tokenvalet.named_client import Ticket
from tokenvalet.pending import Waiting
from tokenvalet.renewal import Renewer
from tokenvalet.tls import TlsIdentity
from tokenvalet.workers import Workers

ENDPOINT = "http://127.0.0.1:1/token"
SECRET = "planted-client-secret-planted"
PATIENCE = 10.0  # seconds that a test waits for a thread before it gives up

Answer = Callable[[HttpRequest], HttpReply | Failure]


def config(**settings: Any) -> ClientConfig:
    return ClientConfig(**{"token_endpoint": ENDPOINT, "client_id": "web", "client_secret": SECRET, **settings})


class Clock:
    """Both clocks; they stand still until a test moves them."""

    def __init__(self) -> None:
        self.now = Moment(50_000.0, 1_800_000_000.0)

    def __call__(self) -> Moment:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now = Moment(self.now.monotonic + seconds, self.now.wall + seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock; also what a suspended machine looks like, whose monotonic clock stood still."""
        self.now = Moment(self.now.monotonic, self.now.wall + seconds)


# Answers ---------------------------------------------------------------------------------------------------------


def reply(document: object, status: int = 200, **headers: str) -> HttpReply:
    fields = (("content-type", "application/json"), *((name.replace("_", "-"), text) for name, text in headers.items()))
    return HttpReply(status=status, headers=fields, body=json.dumps(document).encode())


def tokens(expires_in: float | None = 3600, **members: Any) -> Answer:
    """Answer every request with a token of its own."""
    count = iter(range(1_000_000_000))

    def answer(_: HttpRequest) -> HttpReply:
        document = {"access_token": f"token-{next(count)}", "token_type": "Bearer", "expires_in": expires_in, **members}
        return reply({name: value for name, value in document.items() if value is not None})

    return answer


def refusal(error: str = "invalid_client", status: int = 401) -> Answer:
    return lambda _: reply({"error": error}, status)


def unavailable(**headers: str) -> Answer:
    return lambda _: HttpReply(
        status=503, headers=tuple((name.replace("_", "-"), text) for name, text in headers.items()), body=b""
    )


def unreachable(_: HttpRequest) -> Failure:
    return Failure(code="unreachable", detail="Connection refused")


# The network that is none ----------------------------------------------------------------------------------------


class FakeBackchannel:
    """Answers token requests on the spot, or when `release` lets them go; remembers them all."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer: Answer = answer if answer is not None else tokens()
        self.requests: list[HttpRequest] = []
        self.closed = False
        self._open = threading.Event()
        self._open.set()
        self._arrived = threading.Condition()

    @property
    def count(self) -> int:
        return len(self.requests)

    def send(
        self, request: HttpRequest, *, timeout: float, identity: TlsIdentity | None, proxy: Secret | None
    ) -> HttpReply | Failure:
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
        assert self._open.wait(PATIENCE)
        return self.answer(request)

    def hold(self) -> None:
        """Let requests arrive, and answer none until `release`."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def wait_for(self, count: int) -> None:
        """Wait until so many requests have arrived in all."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.count >= count, PATIENCE), f"{self.count} instead of {count}"

    def scopes(self) -> list[str]:
        return [parse_qs(request.body.decode()).get("scope", [""])[0] for request in self.requests]

    def close(self) -> None:
        self.closed = True

    def after_fork(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self._arrived = threading.Condition()


class Seen:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._told = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._told:
            self.events.append(event)
            self._told.notify_all()

    def of(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]

    def wait_for(self, name: str, count: int = 1) -> None:
        with self._told:
            assert self._told.wait_for(lambda: len(self.of(name)) >= count, PATIENCE), f"{name}: {len(self.of(name))}"


class Bench:
    """One valet on a fake back channel and clock, and what the tests look at."""

    def __init__(self, answer: Answer | None = None, *, observe: bool = True, **settings: Any) -> None:
        self.capacity = settings.pop("capacity", 1000)
        self.clock = Clock()
        self.backchannel = FakeBackchannel(answer)
        self.seen = Seen()
        self.valet = TokenValet(
            {"m2m": config(**settings)},
            clock=self.clock,
            backchannel=self.backchannel,
            observers=[self.seen] if observe else [],
            capacity=self.capacity,
        )

    @property
    def renewer(self) -> Renewer:
        return self.valet._renewer

    @property
    def workers(self) -> Workers:
        return workers_of(self.valet)

    @property
    def count(self) -> int:
        """How many requests went to the token endpoint."""
        return self.backchannel.count

    def ticket(self, **parameters: Any) -> Ticket:
        return self.valet._clients["m2m"].ticket(TokenParameters(**parameters) if parameters else None)

    def settle(self) -> None:
        """Wait until no renewal is under way."""
        until(lambda: not self.renewer._under_way)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.backchannel.release()
        self.valet.close()


def until(true: Callable[[], object]) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.0005)


def token_of(answer: AccessToken | Waiting | None) -> AccessToken:
    """Return the token, after waiting for it where that is what the renewer says."""
    if isinstance(answer, Waiting):
        answer.future.exception(PATIENCE)
        return answer.result()
    assert answer is not None
    return answer


class Outcomes:
    """Runs things in threads and keeps what they returned or raised."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def start(self, function: Callable[[], Any], times: int = 1) -> None:
        def run() -> None:
            try:
                self.values.append(function())
            except BaseException as error:
                self.errors.append(error)

        threads = [threading.Thread(target=run, daemon=True) for _ in range(times)]
        self._threads += threads
        for thread in threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a thread hangs"


@contextmanager
def in_threads() -> Iterator[Outcomes]:
    """Threads that are joined at the end of the block."""
    outcomes = Outcomes()
    yield outcomes
    outcomes.join()


def workers_of(valet: TokenValet) -> Workers:
    """Return the threads of a valet."""
    workers = valet._renewer._workers
    assert isinstance(workers, Workers)
    return workers
