"""What the clients of pyreqwest have alone: middlewares, forms, connections of one's own, TLS without OpenSSL, forks."""

from __future__ import annotations

import asyncio
import os
import pickle
import ssl
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pyreqwest.client import ClientBuilder, SyncClientBuilder
from pyreqwest.exceptions import ClientClosedError, RedirectError, StatusError
from pyreqwest.http import Url
from pyreqwest.multipart import FormBuilder
from pyreqwest.response import ResponseBuilder

from contract.servers import Recorder, Reply, fields
from support.children import Forked
from tokenvalet import ClientConfig, ConfigurationError, OriginError, TokenParameters, TokenValet
from tokenvalet.testing import AuthorizationServer, ProtectedApi, RegisteredClient, serve

SECRET = "a-secret-of-the-clients"
PATH = "/api/v1/integration/health-records"


@pytest.fixture
def auth() -> Iterator[AuthorizationServer]:
    client = RegisteredClient(client_id="app", client_secret=SECRET, scopes=("records:read", "records:write"))
    server = AuthorizationServer([client])
    with serve(server):
        yield server


@pytest.fixture
def api(auth: AuthorizationServer) -> Iterator[ProtectedApi]:
    server = ProtectedApi(auth)
    with serve(server):
        yield server


@pytest.fixture
def make_valet(auth: AuthorizationServer, api: ProtectedApi) -> Iterator[Callable[..., TokenValet]]:
    made: list[TokenValet] = []

    def make(**settings: Any) -> TokenValet:
        known = {"issuer": auth.issuer, "client_id": "app", "client_secret": SECRET, "base_url": api.origin}
        made.append(TokenValet({"m2m": ClientConfig(**{**known, **settings})}))
        return made[-1]

    yield make
    for valet in made:
        valet.close()


def test_a_ready_client_is_used_as_pyreqwests_own(
    make_valet: Any, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    with make_valet().pyreqwest_sync_client("m2m") as client:
        assert len(client.get(PATH).build().send().json()) == 3
        answer = client.post("/echo").query({"page": "2"}).header("X-Own", "kept").body_json({"a": 1}).build().send()
        with client.get("/stream?chunks=3&size=10").build_streamed() as response:
            assert len(response.body_reader.bytes()) == 30
    assert (answer.status, answer.json()["body_length"]) == (200, 7)
    assert (api.calls[1].query, fields(api.calls[1].headers, "x-own")) == ("page=2", ["kept"])
    assert auth.issued == 1


def test_a_ready_client_for_asyncio_is_used_as_pyreqwests_own(make_valet: Any, auth: AuthorizationServer) -> None:
    async def calls() -> tuple[int, int]:
        valet = make_valet(dpop=True)
        async with valet.pyreqwest_client("m2m") as client:
            records = await (await client.get(PATH).build().send()).json()
            async with client.get("/stream?chunks=3&size=10").build_streamed() as response:
                streamed = await response.body_reader.bytes()
        await valet.aclose()
        return len(records), len(streamed)

    assert asyncio.run(calls()) == (3, 30)
    assert auth.issued == 1


def test_what_is_set_on_a_client_holds_for_all_of_its_requests(make_valet: Any, api: ProtectedApi) -> None:
    client = make_valet().pyreqwest_sync_client(
        headers={"X-Own": "kept", "X-Other": "theirs"},
        error_for_status=True,
        timeout=timedelta(seconds=20),
        customize=lambda request: TokenParameters(scope="records:write") if request.method == "POST" else None,
    )
    client.get("/echo").header("x-other", "mine").build().send()
    client.post("/echo").build().send()
    with pytest.raises(StatusError):
        client.get("/status/418").build().send()
    assert client.get("/status/418").error_for_status(False).build().send().status == 418
    assert [fields(call.headers, "x-own") for call in api.calls] == [["kept"]] * 4
    assert [fields(call.headers, "x-other") for call in api.calls] == [["mine"], *[["theirs"]] * 3]
    assert len({call.token_sha256 for call in api.calls}) == 2


def test_a_request_is_sent_once_and_a_closed_client_sends_none(make_valet: Any, api: ProtectedApi) -> None:
    with make_valet().pyreqwest_sync_client() as client:
        request = client.get("/echo").build()
        request.headers["X-Own"] = "kept"
        request.url = Url(f"{api.origin}/echo/other")
        request.send()
        for again in (request.send, lambda: request.url):
            with pytest.raises(RuntimeError, match="already sent"):
                again()
    with pytest.raises(ClientClosedError):
        client.get("/echo")
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(client)
    assert [(call.path, fields(call.headers, "x-own")) for call in api.calls] == [("/echo/other", ["kept"])]


def test_a_request_that_was_built_before_its_client_was_closed_is_sent_over_shared_connections_only(
    make_valet: Any, api: ProtectedApi
) -> None:
    valet = make_valet()
    shared, own = valet.pyreqwest_sync_client(), valet.pyreqwest_sync_client(builder=SyncClientBuilder())
    early = [one.get("/echo").build() for one in (shared, own)]
    for one in (shared, own):
        one.close()
    assert early[0].send().status == 200
    with pytest.raises(ClientClosedError):
        early[1].send()
    assert len(api.calls) == 1


@pytest.mark.standards("S-071", "S-098")
def test_a_header_of_the_token_is_refused_wherever_it_is_set(make_valet: Any, api: ProtectedApi) -> None:
    client = make_valet().pyreqwest_sync_client()
    client.get("/echo").build().send()

    def into_the_request() -> Any:
        request = client.get("/echo").build()
        request.headers["Authorization"] = "Bearer mine"
        return request

    def by_a_middleware(request: Any, onward: Any) -> Any:
        request.headers["DPoP"] = "mine"
        return onward.run(request)

    for refused in (
        client.get("/echo").bearer_auth("mine").build(),
        client.get("/echo").basic_auth("somebody", "mine").build(),
        client.get("/echo").header("dpop", "mine").build(),
        client.get("/echo").with_middleware(by_a_middleware).build(),
        client.get(f"http://somebody:mine@{api.origin.removeprefix('http://')}/echo").build(),
        into_the_request(),
    ):
        with pytest.raises(OriginError) as raised:
            refused.send()
        assert "mine" not in str(raised.value)
    assert len(api.calls) == 1


# Middlewares


@pytest.mark.standards("S-148", "S-160")
@pytest.mark.parametrize("dpop", [False, True], ids=["bearer", "dpop"])
def test_middlewares_go_around_the_token_and_never_see_it(
    make_valet: Any, api: ProtectedApi, auth: AuthorizationServer, dpop: bool
) -> None:
    seen: list[str] = []

    def around(name: str) -> Any:
        def middleware(request: Any, onward: Any) -> Any:
            request.headers["X-Seen"] = name
            seen.append(f"{name} {dict(request.headers)} {request.repr_full()}")
            response = onward.run(request)
            seen.append(f"{name} {response.status} {dict(request.headers)}")
            return response

        return middleware

    client = make_valet(dpop=dpop).pyreqwest_sync_client(middlewares=[around("client")])
    api.reject_next(challenge=f'{"DPoP" if dpop else "Bearer"} error="invalid_token"')
    answer = client.get(f"{api.origin}/redirect?to=/echo").with_middleware(around("request")).build().send()
    assert answer.status == 200
    assert answer.extensions["tokenvalet.history"] == [307]
    assert [text.split()[0] for text in seen] == ["client", "request", "request", "client"]
    assert not any(token in text for text in seen for token in auth.issued_tokens)
    assert {str(fields(call.headers, "x-seen")) for call in api.calls} == {"['request']"}
    assert len(api.calls) == 3


def test_a_middleware_may_answer_by_itself_or_send_twice(make_valet: Any, api: ProtectedApi) -> None:
    client = make_valet().pyreqwest_sync_client()

    def canned(request: Any, onward: Any) -> Any:
        return ResponseBuilder().status(203).body_text("canned").build_sync()

    def twice(request: Any, onward: Any) -> Any:
        onward.run(request.copy())
        return onward.run(request)

    assert client.get("/echo").with_middleware(canned).build().send().text() == "canned"
    with client.get("/echo").with_middleware(canned).build_streamed() as response:
        assert response.text() == "canned"
    assert api.calls == []
    assert client.get("/echo").with_middleware(twice).build().send().status == 200
    with client.get("/stream?chunks=100&size=10000").with_middleware(twice).build_streamed() as response:
        assert len(response.body_reader.bytes()) == 1_000_000
    assert len(api.calls) == 4


def test_middlewares_of_the_client_for_asyncio_go_around_the_token_too(
    make_valet: Any, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    seen: list[str] = []

    async def middleware(request: Any, onward: Any) -> Any:
        response = await onward.run(request.copy())
        seen.append(f"{dict(request.headers)} {response.status}")
        return response

    async def call() -> int:
        valet = make_valet()
        client = valet.pyreqwest_client(middlewares=[middleware])
        status: int = (await client.get("/echo").build().send()).status
        async with client.get("/stream?chunks=3&size=10").build_streamed() as response:
            assert len(await response.body_reader.bytes()) == 30
        await valet.aclose()
        return status

    assert asyncio.run(call()) == 200
    assert seen == ["{} 200"] * 2
    assert auth.issued == 1


# Bodies


@pytest.mark.standards("S-206")
def test_a_form_is_sent_once_and_the_next_one_has_a_new_token(
    make_valet: Any, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    client = make_valet().pyreqwest_sync_client()
    client.get("/echo").build().send()
    auth.revoke_all()

    def sent() -> Any:
        return client.post("/echo").multipart(FormBuilder().text("more", "yes")).build().send()

    assert sent().status == 401
    assert sent().status == 200
    assert [call.status for call in api.calls] == [200, 401, 200]
    assert api.calls[1].body_length == api.calls[2].body_length > 0
    assert auth.issued == 2


@pytest.mark.standards("S-206")
def test_a_stream_that_can_be_copied_is_sent_again(make_valet: Any, api: ProtectedApi) -> None:
    class Parts:
        def __iter__(self) -> Iterator[bytes]:
            yield b"one "
            yield b"two"

        def __copy__(self) -> Parts:
            return Parts()

    api.reject_next(challenge='Bearer error="invalid_token"')
    answer = make_valet().pyreqwest_sync_client().post("/echo").body_stream(Parts()).build().send()
    assert answer.status == 200
    assert [(call.status, call.body_length) for call in api.calls] == [(401, 7), (200, 7)]


def test_a_redirect_keeps_or_drops_a_body_as_browsers_do(make_valet: Any, api: ProtectedApi) -> None:
    client = make_valet().pyreqwest_sync_client()
    followed = []
    for status in (301, 302, 303, 307, 308):
        for method in ("POST", "PUT", "HEAD"):
            api.calls.clear()
            built = client.request(method, f"/redirect?to=/echo&status={status}")
            built = built.form({"a": "b c"}) if method != "HEAD" else built
            assert built.build().send().status == 200
            followed.append((status, method, api.calls[-1].method, api.calls[-1].body_length))
    assert [one[2:] for one in followed if one[1] == "POST"] == [("GET", 0)] * 3 + [("POST", 5)] * 2
    assert [one[2:] for one in followed if one[1] == "PUT"] == [("PUT", 5)] * 2 + [("GET", 0)] + [("PUT", 5)] * 2
    assert {one[2:] for one in followed if one[1] == "HEAD"} == {("HEAD", 0)}


def test_redirects_without_end_are_given_up(make_valet: Any, api: ProtectedApi) -> None:
    valet = make_valet()
    around = "/redirect?to=" + "%2Fredirect%3Fto%3D%2Fecho"
    assert valet.pyreqwest_sync_client(max_redirects=2).get(around).build().send().status == 200
    with pytest.raises(RedirectError, match="more than 1 redirects"):
        valet.pyreqwest_sync_client(max_redirects=1).get(around).build().send()
    assert valet.pyreqwest_sync_client(follow_redirects=False).get(around).build().send().status == 307


# The token that connections are made with


def worn_by_connections_of(client: Any) -> Any:
    """The token that bare requests of this client are made with from now on."""
    client.get("/echo")
    return client._settings.shell.at_hand.transport.token


@pytest.mark.standards("S-148", "S-160")
def test_the_token_that_connections_are_made_with_is_shown_to_nobody(
    make_valet: Any, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    valet = make_valet()
    client = valet.pyreqwest_sync_client()
    client.get("/echo").build().send()
    assert worn_by_connections_of(client) is valet.token("m2m")
    seen = []

    def looks(request: Any, onward: Any) -> Any:
        seen.append(str(dict(request.headers)))
        return onward.run(request)

    requests = [
        client.get(f"{api.origin}/echo").build(),
        client.get(f"{api.origin}/echo").build_streamed(),
        client.get(f"{api.origin}/echo").header("X-Own", "kept").build(),
        client.post(f"{api.origin}/echo").body_text("body").build(),
        client.get(f"{api.origin}/echo").with_middleware(looks).build(),
        client.get("https://elsewhere.example/").build(),
    ]
    for request in requests:
        seen += [repr(request), str(dict(request.headers))]
    for request in (requests[0], requests[4], client.get(f"{api.origin}/echo").build()):
        request.send()
    assert len(seen) == 13
    assert not any("authorization" in text.lower() for text in seen)
    assert not any(token in text for text in seen for token in auth.issued_tokens)
    assert [call.status for call in api.calls] == [200] * 4


@pytest.mark.standards("S-140")
def test_the_token_that_connections_are_made_with_goes_nowhere_else(make_valet: Any, api: ProtectedApi) -> None:
    client = make_valet().pyreqwest_sync_client()
    client.get("/echo").build().send()
    assert worn_by_connections_of(client) is not None
    foreign = Recorder()
    with serve(foreign):
        answer = client.get(f"{api.origin}/redirect?to={foreign.origin}/there").build().send()
        with client.get(f"{api.origin}/redirect?to={foreign.origin}/there").build_streamed() as streamed:
            assert streamed.status == answer.status == 200
        for url in (f"{foreign.origin}/there", f"http://name:word@{api.origin.removeprefix('http://')}/echo"):
            with pytest.raises(OriginError):
                client.get(url).build().send()
    assert [fields(request.headers, "authorization") for request in foreign.requests] == [[], []]


def test_a_request_is_sent_with_its_own_token_over_connections_that_are_made_with_another(
    make_valet: Any, api: ProtectedApi, auth: AuthorizationServer
) -> None:
    valet = make_valet()
    client = valet.pyreqwest_sync_client()
    client.get("/echo").build().send()
    worn = worn_by_connections_of(client)
    url = f"{api.origin}/echo"
    client.get(url).extensions({"tokenvalet": TokenParameters(scope="records:write")}).build().send()
    api.reject_next(challenge='Bearer error="invalid_token"')
    answers = [client.get(url).timeout(timedelta(seconds=20)).build().send() for _ in range(2)]
    client.post(url).body_json({"a": 1}).build().send()
    client.head(url).build().send()
    assert [answer.status for answer in answers] == [200, 200]
    assert [(call.method, call.path, call.status) for call in api.calls[2:]] == [
        ("GET", "/echo", 401),
        *[("GET", "/echo", 200)] * 2,
        ("POST", "/echo", 200),
        ("HEAD", "/echo", 200),
    ]
    assert all(len(fields(call.headers, "authorization")) == 1 for call in api.calls)
    first, narrowed, rejected, *others = [call.token_sha256 for call in api.calls]
    assert first == rejected
    assert len({first, narrowed, *others}) == auth.issued == 3
    assert worn_by_connections_of(client) is worn
    assert valet.token("m2m") is not worn


def test_connections_that_were_made_before_there_was_a_token_are_made_anew_before_they_are_used(
    make_valet: Any, api: ProtectedApi
) -> None:
    client = make_valet().pyreqwest_sync_client()
    early = client.get("/echo").build()
    assert worn_by_connections_of(client) is None
    early.send()
    worn = worn_by_connections_of(client)
    assert worn is not None
    client.get(f"{api.origin}/echo").build().send()
    assert worn_by_connections_of(client) is worn
    assert len({call.token_sha256 for call in api.calls}) == 1


# Connections


def test_connections_of_ones_own_keep_cookies_where_their_builder_is_told_to(
    make_valet: Any, auth: AuthorizationServer
) -> None:
    scripted, foreign = Recorder(), Recorder()
    with serve(scripted), serve(foreign):
        scripted.answer(Reply(headers=(("set-cookie", "session=planted; Path=/records"),)))
        valet = make_valet(base_url=scripted.origin)
        builder = SyncClientBuilder().default_cookie_store(True).error_for_status(True).max_redirects(5)
        with valet.pyreqwest_sync_client(builder=builder) as client:
            for path in ("/", "/records"):
                assert client.get(path).build().send().status == 200
            scripted.answer(Reply(status=401, headers=(("www-authenticate", 'Bearer error="invalid_token"'),)))
            assert client.get("/records").build().send().status == 200
            scripted.answer(Reply(status=307, headers=(("location", foreign.origin),)))
            assert client.get("/records").build().send().status == 200
    assert [request.fields("cookie") for request in scripted.requests] == [[], *[["session=planted"]] * 4]
    assert [request.is_bare for request in foreign.requests] == [True]
    assert "planted" not in str([request.headers for request in foreign.requests])
    assert auth.issued == 2


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def secure(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_authorities_of_ones_own_are_not_taken_without_saying_that_others_are_trusted_besides(
    make_valet: Any, auth: AuthorizationServer, authority: trustme.CA, ca_file: Path
) -> None:
    with serve(ProtectedApi(auth), ssl_context=secure(authority)) as server:
        valet = make_valet(ca_file=ca_file, base_url=server.url)
        for refused in (valet.pyreqwest_sync_client, valet.pyreqwest_client):
            with pytest.raises(ConfigurationError, match="trust_system_authorities") as raised:
                refused()
            assert raised.value.code == "unfit_client_option"
        client = valet.pyreqwest_sync_client(trust_system_authorities=True)
        assert client.get("/echo").build().send().status == 200


@pytest.mark.standards("S-073", "S-223")
def test_a_server_that_nobody_vouches_for_is_sent_nothing_unless_tls_is_insecure_by_name(
    make_valet: Any, auth: AuthorizationServer, authority: trustme.CA
) -> None:
    api = ProtectedApi(auth)
    with serve(api, ssl_context=secure(authority)) as server:
        with pytest.raises(Exception, match="connection error"):
            make_valet(base_url=server.url).pyreqwest_sync_client().get("/echo").build().send()
        assert api.calls == []
        client = make_valet(base_url=server.url, allow_insecure_tls=True).pyreqwest_sync_client()
        assert client.get("/echo").build().send().status == 200


@pytest.mark.standards("S-122")
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain key", "encrypted key"])
@pytest.mark.parametrize("together", [False, True], ids=["two files", "one file"])
def test_a_client_certificate_is_shown_whatever_its_key_is_kept_in(
    auth: AuthorizationServer, authority: trustme.CA, ca_file: Path, tmp_path: Path, encrypted: bool, together: bool
) -> None:
    leaf = authority.issue_cert("records-web.example", common_name="records-web.example")
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    sealing = serialization.BestAvailableEncryption(b"opens") if encrypted else serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealing)
    certificate, key_file = tmp_path / "client.pem", tmp_path / "client.key"
    certificate.write_bytes((pem if together else b"") + leaf.cert_chain_pems[0].bytes())
    key_file.write_bytes(pem)
    for path in (certificate, key_file):
        path.chmod(0o600)
    subject = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).subject.rfc4514_string()
    context = secure(authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    authority.configure_trust(context)
    bound = AuthorizationServer(
        [RegisteredClient(client_id="app", auth_method="tls_client_auth", certificate_subject=subject)]
    )
    api = ProtectedApi(bound)
    with serve(bound, ssl_context=context), serve(api, ssl_context=context) as server:
        config = ClientConfig(
            token_endpoint=bound.token_endpoint,
            client_id="app",
            certificate_file=certificate,
            certificate_key_file=None if together else key_file,
            private_key_password="opens" if encrypted else None,
            ca_file=ca_file,
            base_url=server.url,
        )
        with TokenValet({"m2m": config}) as valet:
            client = valet.pyreqwest_sync_client(trust_system_authorities=True)
            assert client.get("/echo").build().send().status == 200
    assert api.calls[0].client_cert_thumbprint is not None


# Processes


@pytest.mark.standards("S-203")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_what_was_made_before_a_fork_serves_in_the_child_or_says_why_it_does_not(
    make_valet: Any, api: ProtectedApi
) -> None:
    valet = make_valet()
    client, own = valet.pyreqwest_sync_client(), valet.pyreqwest_sync_client(builder=SyncClientBuilder())
    for one in (client, own):
        assert one.get("/echo").build().send().status == 200
    request = client.get("/echo/before").build()

    def in_the_child() -> str:
        found = [request.send().status, client.get("/echo/after").build().send().status]
        with pytest.raises(ConfigurationError) as raised:
            own.get("/echo").build().send()
        return f"{found} {raised.value.code}"

    assert Forked(in_the_child).result() == "[200, 200] library_does_not_fork"
    assert client.get("/echo").build().send().status == 200
    assert [call.path for call in api.calls] == ["/echo", "/echo", "/echo/before", "/echo/after", "/echo"]


def test_without_pyreqwest_the_error_says_what_to_install(make_valet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.startswith(("pyreqwest", "tokenvalet.clients.pyreqwest_")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyreqwest", None)
    with pytest.raises(ConfigurationError, match=r"tokenvalet\[pyreqwest\]") as raised:
        make_valet().pyreqwest_client()
    assert raised.value.code == "library_missing"


def test_connections_of_ones_own_for_asyncio_end_with_their_client(make_valet: Any, api: ProtectedApi) -> None:
    async def call() -> int:
        valet = make_valet()
        async with valet.pyreqwest_client(builder=ClientBuilder().max_connections(1)) as client:
            statuses = [(await client.get("/echo").build().send()).status for _ in range(3)]
        await valet.aclose()
        return sum(statuses)

    assert asyncio.run(call()) == 600
