"""Client assertions that somebody else writes: Kubernetes and SPIFFE in a file, anything else by a callable."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from configuration.makers import MonotonicClock, faults_of, key_of, keyed_client, write
from secrecy.walker import LogRecords, Plant, found, shown_by_error
from tokenvalet import AssertionContext, ClientConfig, ConfigurationError, Secret, TokenRefusedError, TokenValet
from tokenvalet.files import LARGEST_FILE
from tokenvalet.testing import AuthorizationServer

PLATFORM = "https://kubernetes.default.svc.cluster.local"
SERVICE_ACCOUNT = "system:serviceaccount:records:web"
SPIFFE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
PLANTED = "eyJwbGFudGVkIjoicGxhbnRlZCJ9.cGxhbnRlZC1wYXlsb2Fk.cGxhbnRlZC1zaWduYXR1cmU"
PLANT = Plant.of("assertion", PLANTED, *PLANTED.split("."))


def projected(auth: AuthorizationServer, **claims: Any) -> str:
    """Return a token as the kubelet writes it into a volume: with its own iss and sub, and without jti."""
    now = int(time.time())
    plain = {"iss": PLATFORM, "sub": SERVICE_ACCOUNT, "aud": auth.issuer, "iat": now, "exp": now + 50}
    kept = {name: value for name, value in (plain | claims).items() if value is not None}
    return jwt.encode(kept, key_of("RSA"), algorithm="RS256", headers={"kid": "platform"})


def own(auth: AuthorizationServer, client_id: str) -> str:
    """Return an assertion that a client of its own making signs elsewhere."""
    return projected(auth, iss=client_id, sub=client_id, jti=secrets.token_hex(8))


@pytest.fixture
def registered(auth: AuthorizationServer, client_id: str) -> str:
    auth.register(
        keyed_client(client_id, "RSA", key_id="platform", assertion_issuer=PLATFORM, assertion_subject=SERVICE_ACCOUNT)
    )
    return client_id


def sent(auth: AuthorizationServer, client_id: str) -> list[str]:
    """Return the assertions that came from a client, in their order."""
    return [one.form["client_assertion"][0] for one in auth.token_requests if one.form.get("client_id") == [client_id]]


# Files -----------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-131")
def test_an_assertion_file_is_read_again_for_every_use(
    auth: AuthorizationServer, registered: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "token", projected(auth) + "\n")
    with TokenValet(ClientConfig(issuer=auth.issuer, client_id=registered, assertion_file=file)) as valet:
        written = []
        for number in range(3):
            content = projected(auth, number=number)
            written.append(content)
            write(file, f"\n  {content}\n\n")
            valet.invalidate()
            assert valet.token().value
    assert sent(auth, registered) == written


@pytest.mark.standards("S-131")
def test_an_assertion_file_is_read_through_the_symlinks_that_kubernetes_moves(
    auth: AuthorizationServer, registered: str, tmp_path: Path
) -> None:
    contents = [projected(auth, number=number) for number in range(2)]
    for number, content in enumerate(contents):
        (tmp_path / f"..{number}").mkdir()
        write(tmp_path / f"..{number}" / "token", content)
    (tmp_path / "..data").symlink_to("..0")
    (tmp_path / "token").symlink_to("..data/token")
    config = ClientConfig(issuer=auth.issuer, client_id=registered, assertion_file=tmp_path / "token")
    with TokenValet(config) as valet:
        valet.token()
        (tmp_path / "..new").symlink_to("..1")
        (tmp_path / "..new").replace(tmp_path / "..data")
        valet.invalidate()
        valet.token()
    assert sent(auth, registered) == contents


BAD_CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n",
    "two parts": PLANTED.rpartition(".")[0].encode(),
    "four parts": f"{PLANTED}.cGxhbnRlZA".encode(),
    "an empty part": f"{PLANTED.rpartition('.')[0]}.".encode(),
    "a blank inside": PLANTED.replace(".", ". ", 1).encode(),
    "two lines": f"{PLANTED}\n{PLANTED}".encode(),
    "a header injected": f"{PLANTED}\r\nX-Planted: 1".encode(),
    "other signs": f"{PLANTED}+/=".encode(),
    "no ASCII": f"{PLANTED}é".encode(),
    "binary": PLANTED.encode() + b"\xff\x00",
    "JSON": b'{"access_token":"' + PLANTED.encode() + b'"}',
    "too large": PLANTED.encode() * (LARGEST_FILE // len(PLANTED) + 1),
}


@pytest.mark.standards("S-131", "S-162")
@pytest.mark.parametrize("name", BAD_CONTENTS)
def test_a_file_that_holds_no_signed_jwt_is_refused_at_the_start_and_nothing_of_it_shown(
    name: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "token", BAD_CONTENTS[name])
    config = ClientConfig(issuer="https://login.example.org", client_id="web", assertion_file=file)
    faults = faults_of(lambda: TokenValet({"m2m": config}), PLANT)
    assert list(faults) == ["clients.m2m.assertion_file"]
    assert str(file) in faults["clients.m2m.assertion_file"]


@pytest.mark.standards("S-131", "S-162")
@pytest.mark.parametrize("name", ["removed", *BAD_CONTENTS])
def test_a_file_that_became_unusable_is_told_nothing_is_sent_and_it_is_read_again_later(
    name: str, auth: AuthorizationServer, registered: str, tmp_path: Path, clock: MonotonicClock
) -> None:
    file = write(tmp_path / "token", projected(auth))
    config = ClientConfig(issuer=auth.issuer, client_id=registered, assertion_file=file)
    with LogRecords() as log, TokenValet(config, clock=clock) as valet:
        valet.token()
        file.unlink() if name == "removed" else write(file, BAD_CONTENTS[name])
        valet.invalidate()
        with pytest.raises(ConfigurationError) as caught:
            valet.token()
        assert caught.value.code == "credential_unavailable"
        assert str(caught.value).startswith(f"assertion_file: {file} ")
        assert len(sent(auth, registered)) == 1
        write(file, projected(auth))
        clock.move(120)
        assert valet.token().value
    assert found([PLANT], [*shown_by_error(caught.value), *log.texts()]) == []


@pytest.mark.standards("S-131", "S-162")
def test_reading_a_bad_file_leaves_nothing_of_it_in_a_variable(tmp_path: Path) -> None:
    from tokenvalet.files import read_assertion

    with pytest.raises(ConfigurationError) as caught:
        read_assertion(write(tmp_path / "token", f"{PLANTED} {PLANTED}"))
    assert found([PLANT], shown_by_error(caught.value)) == []


@pytest.mark.standards("S-134")
def test_a_spiffe_svid_goes_with_its_own_assertion_type(
    auth: AuthorizationServer, client_id: str, tmp_path: Path
) -> None:
    subject = f"spiffe://example.org/{client_id}"
    auth.register(
        keyed_client(
            client_id,
            "RSA",
            key_id="platform",
            assertion_type=SPIFFE,
            assertion_issuer="https://spire.example.org",
            assertion_subject=subject,
        )
    )
    svid = projected(auth, iss="https://spire.example.org", sub=subject)
    file = write(tmp_path / "svid", svid)
    config = ClientConfig(issuer=auth.issuer, client_id=client_id, assertion_file=file, assertion_type=SPIFFE)
    with TokenValet(config) as valet:
        assert valet.token().value
    assert auth.token_requests[-1].form["client_assertion_type"] == [SPIFFE]
    plain = config.model_copy(update={"assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"})
    with TokenValet(plain) as valet, pytest.raises(TokenRefusedError):
        valet.token()


@pytest.mark.standards("S-132", "S-328")
def test_the_platforms_token_goes_to_the_token_endpoint_and_nowhere_else(
    auth: AuthorizationServer, registered: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "token", projected(auth))
    requests: list[Any] = []

    class Recording:
        def __init__(self) -> None:
            from tokenvalet.backchannel import HttpBackchannel

            self._inner = HttpBackchannel()

        def send(self, request: Any, **how: Any) -> Any:
            requests.append(request)
            return self._inner.send(request, **how)

        def close(self) -> None:
            self._inner.close()

        def after_fork(self) -> None: ...

    config = ClientConfig(issuer=auth.issuer, client_id=registered, assertion_file=file)
    with TokenValet(config, backchannel=Recording()) as valet:
        valet.token()
    assert len(requests) == 2
    content = file.read_text().encode()
    for request in requests:
        raw = b"".join([request.body, request.url.encode(), repr(request.headers).encode()])
        assert (content in raw) == (request.url == auth.token_endpoint)


# Callables -------------------------------------------------------------------------------------------------------


@pytest.mark.standards("S-136", "S-018")
@pytest.mark.parametrize("how", ["sync", "async", "bytes", "Secret"])
def test_a_callable_is_asked_for_every_assertion_and_told_whom_it_is_for(
    how: str, auth: AuthorizationServer, client_id: str
) -> None:
    auth.register(keyed_client(client_id, "RSA", key_id="platform"))
    contexts: list[AssertionContext] = []

    def make(context: AssertionContext) -> Any:
        contexts.append(context)
        made = own(auth, client_id)
        return {"bytes": made.encode(), "Secret": Secret(made)}.get(how, made)

    async def make_async(context: AssertionContext) -> Any:
        await asyncio.sleep(0)
        return make(context)

    callable_: Callable[[AssertionContext], Any] = make_async if how == "async" else make
    config = ClientConfig(issuer=auth.issuer, client_id=client_id, assertion=callable_, assertion_lifetime=45)
    with TokenValet(config) as valet:
        valet.token()
        valet.invalidate()
        valet.token()
    assert contexts == [AssertionContext(client_id=client_id, audience=auth.issuer, lifetime=45)] * 2
    assert len(set(sent(auth, client_id))) == 2


def test_the_context_has_the_configured_audience_or_none() -> None:
    from tokenvalet.core.authentication import Draft
    from tokenvalet.credentials import load_credentials

    for more, audience in (
        ({"issuer": "https://a.example"}, "https://a.example"),
        ({"issuer": "https://a.example", "assertion_audience": "https://b.example"}, "https://b.example"),
        ({"token_endpoint": "https://a.example/token"}, None),
    ):
        seen: list[AssertionContext] = []

        def make(context: AssertionContext, seen: list[AssertionContext] = seen) -> str:
            seen.append(context)
            return PLANTED

        credentials, _ = load_credentials(ClientConfig(client_id="web", assertion=make, **more), "")
        assert credentials is not None
        credentials.authentication.apply(Draft(), 0.0)
        assert [one.audience for one in seen] == [audience]


async def _raises(context: AssertionContext) -> str:
    raise RuntimeError(PLANTED)


def _fails(context: AssertionContext) -> str:
    raise RuntimeError(PLANTED)


@pytest.mark.standards("S-136", "S-162")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_fails, "raised RuntimeError"),
        (_raises, "raised RuntimeError"),
        (lambda context: None, "did not return a string"),
        (lambda context: [PLANTED], "did not return a string"),
        (lambda context: {"assertion": PLANTED}, "did not return a string"),
        (lambda: PLANTED, "raised TypeError"),
    ],
)
def test_a_callable_that_fails_or_returns_nonsense_is_told_without_its_values(
    make: Any, said: str, auth: AuthorizationServer, client_id: str
) -> None:
    config = ClientConfig(issuer=auth.issuer, client_id=client_id, assertion=make)
    with LogRecords() as log, TokenValet(config) as valet, pytest.raises(ConfigurationError) as caught:
        valet.token()
    assert caught.value.code == "credential_unavailable"
    assert str(caught.value) == f"assertion: the callable that was configured {said}"
    assert sent(auth, client_id) == []
    assert found([PLANT], [*shown_by_error(caught.value), *log.texts()]) == []
