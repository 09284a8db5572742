"""Each peer as its own documentation advises to use it: something that makes one call with a token."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .server import Server

__all__ = ["PEERS", "Client", "Peer"]

ID, SECRET = "bench", "bench-secret-bench-secret"
CONNECTIONS = 256


@dataclass
class Client:
    """One client of a peer, with an empty cache.

    Attributes:
        call: makes a call and returns its status; a coroutine function where the peer is asynchronous.
        plain: the same call with a static header, by the same HTTP client.
        close: ends it.
    """

    call: Callable[[], Any]
    plain: Callable[[], Any]
    close: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Peer:
    """One way to get and send tokens.

    Attributes:
        name: as the table has it.
        package: what is imported.
        packages: whose versions the table tells.
        open: makes a client.
        leeway: seconds before the end of a token from which on the peer gets a new one; None: a share of its life.
        is_async: whether `call` is a coroutine function.
    """

    name: str
    package: str
    packages: tuple[str, ...]
    open: Callable[[Server], Client]
    leeway: float | None
    is_async: bool = False


def _closing(*closed: Any) -> Callable[[], None]:
    def close() -> None:
        for one in closed:
            one.close()

    return close


def _valet(server: Server) -> Any:
    from tokenvalet import ClientConfig, StoreConfig, TokenValet

    config = ClientConfig(
        token_endpoint=f"{server.http}/token", client_id=ID, client_secret=SECRET, base_url=server.http
    )
    url = os.environ.get("PEERS_STORE")
    store = StoreConfig(url=url, encryption_keys=os.environ["PEERS_KEY"]) if url else None
    return TokenValet({"m2m": config}, store=store)


def _tokenvalet(server: Server) -> Client:
    import httpx2

    valet = _valet(server)
    client = valet.client("m2m", timeout=30)
    plain = httpx2.Client(base_url=server.http, headers={"Authorization": "Bearer static"}, timeout=30)
    return Client(
        lambda: client.get("/api").status_code,
        lambda: plain.get("/api").status_code,
        _closing(valet, plain),
    )


def _tokenvalet_async(server: Server) -> Client:
    import httpx2

    valet = _valet(server)
    client = valet.async_client("m2m", timeout=30)
    plain = httpx2.AsyncClient(base_url=server.http, headers={"Authorization": "Bearer static"}, timeout=30)

    async def call() -> int:
        return int((await client.get("/api")).status_code)

    async def static() -> int:
        return int((await plain.get("/api")).status_code)

    async def close() -> None:
        await plain.aclose()
        await valet.aclose()

    return Client(call, static, close)


def _authlib(server: Server) -> Client:
    import httpx
    from authlib.integrations.httpx_client import OAuth2Client

    made: Any = OAuth2Client(
        ID, SECRET, token_endpoint=f"{server.http}/token", grant_type="client_credentials", timeout=30
    )
    plain = httpx.Client(headers={"Authorization": "Bearer static"}, timeout=30)

    def call() -> int:
        if made.token is None:
            made.fetch_token()
        return int(made.get(f"{server.http}/api").status_code)

    return Client(call, lambda: plain.get(f"{server.http}/api").status_code, _closing(made, plain))


def _authlib_async(server: Server) -> Client:
    import httpx
    from authlib.integrations.httpx_client import AsyncOAuth2Client

    made: Any = AsyncOAuth2Client(
        ID, SECRET, token_endpoint=f"{server.http}/token", grant_type="client_credentials", timeout=30
    )
    plain = httpx.AsyncClient(headers={"Authorization": "Bearer static"}, timeout=30)

    async def call() -> int:
        if made.token is None:
            await made.fetch_token()
        return int((await made.get(f"{server.http}/api")).status_code)

    async def static() -> int:
        return int((await plain.get(f"{server.http}/api")).status_code)

    async def close() -> None:
        await made.aclose()
        await plain.aclose()

    return Client(call, static, close)


def _session() -> Any:
    import requests

    session = requests.Session()
    session.trust_env = False
    for scheme in ("http://", "https://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS))
    return session


def _with_session(server: Server, client: Any) -> Client:
    plain, url = _session(), f"{server.http}/api"
    static = {"Authorization": "Bearer static"}
    return Client(lambda: client.get(url).status_code, lambda: plain.get(url, headers=static).status_code, plain.close)


def _requests_oauth2client(server: Server) -> Client:
    from requests_oauth2client import OAuth2Client, OAuth2ClientCredentialsAuth

    session = _session()
    made = OAuth2Client(f"{server.http}/token", client_id=ID, client_secret=SECRET, testing=True)
    session.auth = OAuth2ClientCredentialsAuth(made)
    return _with_session(server, session)


def _httpx_auth(server: Server) -> Client:
    import httpx
    from httpx_auth import OAuth2, OAuth2ClientCredentials

    OAuth2.token_cache.clear()
    auth = OAuth2ClientCredentials(f"{server.http}/token", client_id=ID, client_secret=SECRET)
    client = httpx.Client(auth=auth, timeout=30)
    plain = httpx.Client(headers={"Authorization": "Bearer static"}, timeout=30)
    url = f"{server.http}/api"
    return Client(lambda: client.get(url).status_code, lambda: plain.get(url).status_code, _closing(client, plain))


def _msal(server: Server) -> Client:
    from msal import ConfidentialClientApplication

    session, secured, url = _session(), _session(), f"{server.http}/api"
    secured.verify = server.authority
    app = ConfidentialClientApplication(
        ID,
        client_credential=SECRET,
        oidc_authority=f"{server.https}/tenant",
        instance_discovery=False,
        http_client=secured,
    )

    def call() -> int:
        answer = app.acquire_token_for_client(scopes=["records"])
        if "access_token" not in answer:
            return 0
        return int(session.get(url, headers={"Authorization": f"Bearer {answer['access_token']}"}).status_code)

    return Client(call, lambda: session.get(url, headers={"Authorization": "Bearer static"}).status_code, session.close)


def _azure(server: Server) -> Client:
    from azure.identity import ClientSecretCredential

    os.environ["REQUESTS_CA_BUNDLE"] = server.authority
    authority = server.https.removeprefix("https://")
    made = ClientSecretCredential(
        "tenant", ID, SECRET, authority=authority, disable_instance_discovery=True, retry_total=0
    )
    session, url = _session(), f"{server.http}/api"

    def call() -> int:
        token = made.get_token("api://records/.default").token
        return int(session.get(url, headers={"Authorization": f"Bearer {token}"}).status_code)

    return Client(call, lambda: session.get(url, headers={"Authorization": "Bearer static"}).status_code, session.close)


def _google(server: Server) -> Client:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from google.auth.transport.requests import AuthorizedSession
    from google.oauth2 import service_account

    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    info = {
        "client_email": "a@b",
        "private_key": pem.decode(),
        "token_uri": f"{server.http}/token",
        "private_key_id": "1",
    }
    credentials = service_account.Credentials.from_service_account_info(info, scopes=["records"])
    return _with_session(server, AuthorizedSession(credentials))


def _aiohttp(server: Server) -> Client:
    import aiohttp
    from aiohttp_oauth2_client.grant.client_credentials import ClientCredentialsGrant
    from aiohttp_oauth2_client.middleware import OAuth2Middleware

    url, sessions = f"{server.http}/api", list[Any]()

    def session(place: int) -> Any:
        while len(sessions) <= place:
            more: dict[str, Any] = {"headers": {"Authorization": "Bearer static"}}
            if not sessions:
                # Both want a running event loop when they are made.
                grant = ClientCredentialsGrant(token_url=f"{server.http}/token", client_id=ID, client_secret=SECRET)
                more = {"middlewares": (OAuth2Middleware(grant),)}
            sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS), **more))
        return sessions[place]

    async def of(place: int) -> int:
        async with session(place).get(url) as answer:
            await answer.read()
            return int(answer.status)

    async def close() -> None:
        for one in sessions:
            await one.close()

    return Client(lambda: of(0), lambda: of(1), close)


PEERS = (
    Peer("tokenvalet", "tokenvalet", ("tokenvalet", "httpx2"), _tokenvalet, None),
    Peer("tokenvalet, async", "tokenvalet", ("tokenvalet", "httpx2"), _tokenvalet_async, None, is_async=True),
    Peer("Authlib", "authlib.integrations.httpx_client", ("authlib", "httpx"), _authlib, 60),
    Peer(
        "Authlib, async", "authlib.integrations.httpx_client", ("authlib", "httpx"), _authlib_async, 60, is_async=True
    ),
    Peer(
        "requests-oauth2client",
        "requests_oauth2client",
        ("requests-oauth2client", "requests"),
        _requests_oauth2client,
        20,
    ),
    Peer("httpx-auth", "httpx_auth", ("httpx-auth", "httpx"), _httpx_auth, 30),
    Peer("MSAL", "msal", ("msal", "requests"), _msal, 300),
    Peer("azure-identity", "azure.identity", ("azure-identity", "msal"), _azure, 300),
    Peer("google-auth", "google.oauth2.service_account", ("google-auth", "requests"), _google, 225),
    Peer(
        "aiohttp-oauth2-client",
        "aiohttp_oauth2_client.middleware",
        ("aiohttp-oauth2-client", "aiohttp"),
        _aiohttp,
        30,
        is_async=True,
    ),
)
