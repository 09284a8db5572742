"""Where secrets come from: text, bytes, pydantic's types, callables and files that somebody rotates; against the server."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretBytes, SecretStr

from configuration.makers import PASSWORD, MonotonicClock, key_plants, keyed_client, pem, write
from secrecy.walker import LogRecords, Plant, found, shown_by_error, shown_by_value
from tokenvalet import AccessToken, ClientConfig, ConfigurationError, Secret, TokenRequestError, TokenValet
from tokenvalet.testing import AuthorizationServer, RegisteredClient

OLD = "planted-old-secret-planted-old-secret-planted"
NEW = "planted-new-secret-planted-new-secret-planted"
LONG_ENOUGH_TO_BACK_OFF = 120.0


async def later() -> str:
    await asyncio.sleep(0)
    return OLD


class Vault:
    """A callable object; it shows what it holds, as careless ones do."""

    def __call__(self) -> str:
        return OLD

    def __repr__(self) -> str:
        return f"Vault({OLD})"


FORMS: dict[str, Any] = {
    "str": OLD,
    "bytes": OLD.encode(),
    "SecretStr": SecretStr(OLD),
    "SecretBytes": SecretBytes(OLD.encode()),
    "Secret": Secret(OLD),
    "callable": lambda: OLD,
    "callable of bytes": OLD.encode,
    "callable of SecretStr": lambda: SecretStr(OLD),
    "callable of SecretBytes": lambda: SecretBytes(OLD.encode()),
    "callable of Secret": lambda: Secret(OLD),
    "async callable": later,
    "callable of a coroutine": lambda: later(),
    "object": Vault(),
}


def client(auth: AuthorizationServer, client_id: str, secret: Any, method: str, **more: Any) -> ClientConfig:
    return ClientConfig(
        token_endpoint=auth.token_endpoint,
        client_id=client_id,
        client_secret=secret,
        auth_method=method,
        assertion_audience=auth.issuer,
        **more,
    )


def register(auth: AuthorizationServer, client_id: str, secret: str, method: Any = "client_secret_basic") -> None:
    auth.register(RegisteredClient(client_id=client_id, client_secret=secret, auth_method=method))


@pytest.mark.standards("S-167", "S-136")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "client_secret_jwt"])
def test_a_client_secret_may_come_in_many_forms(
    form: str, method: str, auth: AuthorizationServer, client_id: str
) -> None:
    register(auth, client_id, OLD, method)
    config = client(auth, client_id, FORMS[form], method)
    with TokenValet(config) as valet:
        assert valet.token().value
    texts = [*shown_by_value("model_dump", config.model_dump()), *shown_by_value("json", config.model_dump_json())]
    if form != "object":  # what an object shows of itself is up to it; it is not shown by ours
        texts += shown_by_value("vars", vars(config))
    texts += shown_by_value("config", config)
    assert found([Plant.of("secret", OLD)], texts) == []


@pytest.mark.standards("S-167")
@pytest.mark.parametrize("secret", [PASSWORD, PASSWORD.encode(), SecretStr(PASSWORD), SecretBytes(PASSWORD.encode())])
def test_a_key_and_its_password_may_come_in_many_forms(secret: Any, auth: AuthorizationServer, client_id: str) -> None:
    auth.register(keyed_client(client_id, "P-256"))
    text = pem("P-256", PASSWORD)
    key = (
        text.encode()
        if isinstance(secret, bytes)
        else type(secret)(text.encode() if isinstance(secret, SecretBytes) else text)
    )
    config = ClientConfig(issuer=auth.issuer, client_id=client_id, private_key=key, private_key_password=secret)
    with TokenValet(config) as valet:
        assert valet.token().value


@pytest.mark.standards("S-167")
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "client_secret_jwt"])
def test_a_secret_that_is_rotated_on_disk_is_seen_without_a_restart(
    method: str, auth: AuthorizationServer, client_id: str, tmp_path: Path
) -> None:
    register(auth, client_id, OLD, method)
    file = write(tmp_path / "secret", f"\n {OLD}\r\n")
    config = client(auth, client_id, None, method, client_secret_file=file)
    with TokenValet(config) as valet:
        first = valet.token()
        register(auth, client_id, NEW, method)
        write(file, NEW)
        valet.invalidate()
        assert valet.token().value != first.value


@pytest.mark.standards("S-167", "S-123")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b"\xff\xfe planted-half", "is not UTF-8"),
        (b"short", "at least 32 bytes"),
    ],
    ids=["removed", "empty", "no UTF-8", "too short"],
)
def test_a_secret_file_that_became_unusable_leaves_the_former_in_force_and_is_warned_of_once(
    content: bytes | None,
    reason: str,
    auth: AuthorizationServer,
    client_id: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    register(auth, client_id, OLD, "client_secret_jwt")
    file = write(tmp_path / "secret", OLD)
    config = client(auth, client_id, None, "client_secret_jwt", client_secret_file=file)
    with TokenValet(config) as valet:
        valet.token()
        file.unlink() if content is None else write(file, content)
        for _ in range(3):
            valet.invalidate()
            assert valet.token().value
        warned = [one.getMessage() for one in caplog.records if "stays in force" in one.getMessage()]
        assert len(warned) == 1
        assert reason in warned[0]
        assert "planted" not in warned[0]
        register(auth, client_id, NEW, "client_secret_jwt")
        write(file, NEW)
        valet.invalidate()
        assert valet.token().value


@pytest.mark.standards("S-123", "S-222")
def test_a_private_key_that_is_rotated_on_disk_is_seen_and_half_a_rotation_is_not(
    auth: AuthorizationServer, client_id: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    auth.register(keyed_client(client_id, "P-256", "Ed25519"))
    file = write(tmp_path / "key", pem("P-256"))
    with TokenValet(ClientConfig(issuer=auth.issuer, client_id=client_id, private_key_file=file)) as valet:
        valet.token()
        write(file, pem("Ed25519")[:60])
        valet.invalidate()
        valet.token()
        assert "stays in force" in caplog.text
        write(file, pem("Ed25519"))
        valet.invalidate()
        valet.token()
    used = [(one.assertion_header or {})["alg"] for one in auth.token_requests if one.client_id == client_id]
    assert used == ["ES256", "ES256", "EdDSA"]
    assert found(key_plants("Ed25519"), [("the log", caplog.text)]) == []


@pytest.mark.standards("S-136")
def test_a_callable_is_asked_again_for_every_use(auth: AuthorizationServer, client_id: str) -> None:
    register(auth, client_id, OLD)
    asked = []

    def vault() -> str:
        asked.append(threading.current_thread())
        return OLD if len(asked) == 1 else NEW

    with TokenValet(client(auth, client_id, vault, "client_secret_basic")) as valet:
        assert not asked
        valet.token()
        register(auth, client_id, NEW)
        valet.invalidate()
        valet.token()
    assert len(asked) == 2
    assert threading.main_thread() not in asked


# Callables that do not deliver -----------------------------------------------------------------------------------


async def cancelled() -> str:
    raise asyncio.CancelledError(OLD)


async def never() -> str:
    await asyncio.Event().wait()
    raise AssertionError


async def raising() -> str:
    raise KeyError(OLD)


def leaving() -> str:
    sys.exit(OLD)


def fails_with(error: BaseException) -> Callable[[], str]:
    def ask() -> str:
        raise error

    return ask


NO_DELIVERY: dict[str, tuple[Callable[..., Any], str]] = {
    "raises": (fails_with(ValueError(f"no {OLD}")), "raised ValueError"),
    "raises cancelled": (fails_with(CancelledError()), "raised CancelledError"),
    "raises what a print shows": (
        fails_with(UnicodeDecodeError("utf-8", OLD.encode(), 0, 1, OLD)),
        "raised UnicodeDecodeError",
    ),
    "leaves the program": (leaving, "raised SystemExit"),
    "interrupts": (fails_with(KeyboardInterrupt(OLD)), "raised KeyboardInterrupt"),
    "async, raises": (raising, "raised KeyError"),
    "async, is cancelled": (cancelled, "raised CancelledError"),
    "async, never ends": (never, "raised TimeoutError"),
    "returns None": (lambda: None, "did not return a string"),
    "returns nothing": (lambda: "", "did not return a string"),
    "returns a number": (lambda: 12345678, "did not return a string"),
    "returns a list": (lambda: [OLD], "did not return a string"),
    "returns itself": (lambda: raising, "did not return a string"),
    "returns other bytes": (lambda: OLD.encode() + b"\xff", "did not return a string"),
    "returns an empty secret": (lambda: Secret(""), "did not return a string"),
    "takes something": (lambda wanted: wanted, "raised TypeError"),
}


@pytest.mark.standards("S-136", "S-162")
@pytest.mark.parametrize("name", NO_DELIVERY)
def test_a_callable_that_does_not_deliver_is_told_without_its_values_and_asked_again_later(
    name: str, auth: AuthorizationServer, client_id: str, clock: MonotonicClock
) -> None:
    register(auth, client_id, OLD)
    bad, said = NO_DELIVERY[name]
    source: list[Callable[..., Any]] = [bad]
    plants = [Plant.of("secret", OLD), Plant("number", ("12345678",))]
    config = client(auth, client_id, lambda: source[0](), "client_secret_basic", timeout=0.25)
    before = len(auth.token_requests)
    with LogRecords() as log, TokenValet(config, clock=clock) as valet:
        with pytest.raises(ConfigurationError) as caught:
            valet.token()
        assert caught.value.code == "credential_unavailable"
        assert str(caught.value) == f"client_secret: the callable that was configured {said}"
        assert found(plants, shown_by_error(caught.value)) == []
        assert len(auth.token_requests) == before
        source[0] = lambda: OLD
        clock.move(LONG_ENOUGH_TO_BACK_OFF)
        assert valet.token().value
    assert found(plants, log.texts()) == []


@pytest.mark.standards("S-136", "S-307")
def test_a_callable_that_returns_too_short_a_secret_to_sign_with_is_told(
    auth: AuthorizationServer, client_id: str
) -> None:
    config = client(auth, client_id, lambda: "planted-short", "client_secret_jwt")
    with TokenValet(config) as valet, pytest.raises(ConfigurationError, match="at least 32 bytes") as caught:
        valet.token()
    assert caught.value.code == "credential_unavailable"
    assert found([Plant.of("secret", "planted-short")], shown_by_error(caught.value)) == []


@pytest.mark.standards("S-136")
def test_a_callable_that_hangs_does_not_hang_who_waits_for_the_token(auth: AuthorizationServer, client_id: str) -> None:
    let_go = threading.Event()

    def hang() -> str:
        let_go.wait(30)
        return OLD

    with TokenValet(client(auth, client_id, hang, "client_secret_basic", timeout=0.1)) as valet:
        try:
            with pytest.raises(TokenRequestError) as caught:
                valet.token()
        finally:
            let_go.set()
    assert caught.value.code == "token_request_timeout"


@pytest.mark.standards("S-136")
def test_a_callable_may_use_another_client_of_a_valet(auth: AuthorizationServer, client_id: str) -> None:
    register(auth, client_id, OLD)
    register(auth, f"{client_id}-vault", OLD)
    used: list[AccessToken] = []
    with TokenValet(name_of(auth, f"{client_id}-vault")) as vault:

        def ask() -> str:
            used.append(vault.token())
            return OLD

        with TokenValet(client(auth, client_id, ask, "client_secret_basic")) as valet:
            assert valet.token().value
    assert len(used) == 1


def name_of(auth: AuthorizationServer, client_id: str) -> ClientConfig:
    return client(auth, client_id, OLD, "client_secret_basic", name=client_id)


@pytest.mark.standards("S-136")
def test_an_async_callable_works_for_a_caller_on_an_event_loop(auth: AuthorizationServer, client_id: str) -> None:
    register(auth, client_id, OLD)

    async def main() -> str:
        async with TokenValet(client(auth, client_id, later, "client_secret_basic")) as valet:
            return (await valet.async_token()).value

    assert asyncio.run(main())
