"""The whole flow, with every logger at DEBUG: nothing secret is logged, printed, warned of, or told to observers."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import pickle
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator

import httpx2
import pytest
import trio
from hpack import Encoder

from secrecy.stage import METHODS, PARAMETER, QUERY_SECRET, Stage
from secrecy.walker import LogRecords, Plant, found, shown_by_value
from tokenvalet import TokenParameters, TokenValet
from tokenvalet.observe import _FILTERS

PATH = "/api/v1/integration/health-records"


def in_threads(valet: TokenValet) -> None:
    with valet.client("m2m") as api:
        assert api.get(PATH).status_code == 200
        assert api.post("/echo", json={"a": 1}).status_code == 200
        assert api.get(f"/redirect?to={PATH}", follow_redirects=True).status_code == 200
        narrower = TokenParameters(scope="records:read", parameters={"ticket": f"{PARAMETER}-2"})
        assert api.get(PATH, extensions={"tokenvalet": narrower}).status_code == 200


async def _calls(valet: TokenValet) -> None:
    async with valet.async_client("m2m") as api:
        assert (await api.get(PATH)).status_code == 200
        assert (await api.post("/echo", content=b"abc")).status_code == 200


def on_asyncio(valet: TokenValet) -> None:
    asyncio.run(_calls(valet), debug=True)


def on_trio(valet: TokenValet) -> None:
    trio.run(_calls, valet)


def by_hand(valet: TokenValet) -> None:
    token = valet.token("m2m")
    if token.token_type == "DPoP":
        token.proof("GET", "https://api.example.org/records")


WAYS: dict[str, Callable[[TokenValet], None]] = {
    "threads": in_threads,
    "asyncio": on_asyncio,
    "trio": on_trio,
    "by hand": by_hand,
}


@pytest.fixture(autouse=True)
def _other_loggers_are_awake() -> Iterator[None]:
    yield
    logging.getLogger("asyncio").setLevel(logging.NOTSET)


@pytest.mark.standards("S-161", "S-164", "S-165", "S-321")
@pytest.mark.parametrize("dpop", [False, True], ids=["bearer", "dpop"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("way", WAYS)
def test_a_whole_flow_shows_no_secret_anywhere(
    way: str, method: str, dpop: bool, stage: Stage, log: LogRecords, capfd: pytest.CaptureFixture[str]
) -> None:
    stage.auth.require_dpop_nonce = stage.api.require_dpop_nonce = dpop
    with warnings.catch_warnings(record=True) as warned, stage.valet(method, dpop=dpop) as valet:
        warnings.simplefilter("always")
        WAYS[way](valet)
        stage.auth.revoke_all()  # a 401, and a second token
        WAYS[way](valet)
    printed = capfd.readouterr()
    plants = stage.plants()
    names = {plant.name for plant in plants}
    assert "access token 0" in names
    assert not dpop or "a proof" in names
    texts = [
        *log.texts(),
        *shown_by_value("the events", stage.listener.events),
        *((f"the warning {one.message}", f"{one.message} {one.source!r}") for one in warned),
        ("stdout", printed.out),
        ("stderr", printed.err),
    ]
    assert found(plants, texts) == []
    assert {"tokenvalet", "httpcore2"} <= log.names(), "nobody was listened to"
    assert {"token_request", "token_cached"} <= stage.listener.names()


@pytest.mark.standards("S-161", "S-164")
def test_the_query_of_a_call_is_in_no_line_and_no_event_of_ours(stage: Stage, log: LogRecords) -> None:
    with stage.valet("client_secret_basic") as valet, valet.client("m2m") as api:
        api.get(f"/echo?access_token={QUERY_SECRET}")
        stage.auth.revoke_all()
        api.get(f"/echo?access_token={QUERY_SECRET}")
        stage.api.reject_next(2)
        assert api.get(f"/echo?access_token={QUERY_SECRET}").status_code == 401
        with pytest.raises(Exception, match="nothing was sent") as caught:
            api.get(f"https://abroad.example/?sig={QUERY_SECRET}")
    ours = [("our log", line) for line in log.lines()]
    ours += [("the error", str(caught.value)), *shown_by_value("the events", stage.listener.events)]
    assert {"call_sent", "call_retried", "call_rejected", "call_refused"} <= stage.listener.names()
    assert found([Plant.of("the query", QUERY_SECRET)], ours) == []


@pytest.mark.standards("S-161")
def test_over_http2_no_header_field_of_ours_is_in_the_log_of_hpack(stage: Stage, log: LogRecords) -> None:
    with stage.valet("client_secret_basic", dpop=True) as valet:
        token = valet.token("m2m")
        fields = [("authorization", f"DPoP {token.value}"), ("dpop", token.proof("GET", f"{stage.api.origin}/a"))]
        # What h2 does with every request; twice, since the second time the fields are found in the table.
        encoder = Encoder()
        for _ in range(2):
            encoder.encode(fields)
    plants = [*stage.plants(), *(Plant.of(name, value.rpartition(" ")[2]) for name, value in fields)]
    assert found(plants, log.texts()) == []


@pytest.mark.standards("S-161")
def test_without_the_valet_hpack_would_log_what_it_sends() -> None:
    # A test of the test above: should hpack word its lines anew, the filter has to be looked at.
    [(restraint, names)] = [(one, names) for one, names in _FILTERS if "hpack.table" in names]
    for name in names:
        logging.getLogger(name).removeFilter(restraint)
    try:
        with LogRecords() as log:
            Encoder().encode([("authorization", "Bearer planted-access-token")])
        texts = list(log.texts())
    finally:
        for name in names:
            logging.getLogger(name).addFilter(restraint)
    assert found([Plant.of("the token", "planted-access-token")], texts) != []


@pytest.mark.standards("S-160", "S-162")
def test_threads_tasks_and_the_fault_handler_show_no_secret_while_a_renewal_is_under_way(
    stage: Stage, log: LogRecords
) -> None:
    texts: list[tuple[str, str]] = []

    async def look(valet: TokenValet) -> None:
        stage.auth.token_delay = 0.3
        asyncio.get_running_loop().slow_callback_duration = 0.0  # every step is a line in the log
        call = asyncio.create_task(valet.async_token("m2m"))
        async with valet.async_client("m2m") as api:
            other = asyncio.create_task(api.get(PATH))
            while not stage.auth.token_requests:
                await asyncio.sleep(0.005)
            for task in asyncio.all_tasks():
                texts.append(("a task", repr(task)))
            for thread in threading.enumerate():
                texts.append(("a thread", f"{thread!r} {thread.name}"))
            with tempfile.TemporaryFile() as file:
                faulthandler.dump_traceback(file)
                file.seek(0)
                texts.append(("the fault handler", file.read().decode()))
            assert (await call).value
            assert (await other).status_code == 200

    with stage.valet("client_secret_post", dpop=True) as valet:
        asyncio.run(look(valet), debug=True)
    assert any("tokenvalet-" in text for where, text in texts if where == "a thread")
    assert any("asyncio" in record.name for record in log.records)
    assert found(stage.plants(), [*texts, *log.texts()]) == []


@pytest.mark.standards("S-162", "S-160")
def test_a_response_shows_no_token_and_neither_does_its_request(stage: Stage) -> None:
    with stage.valet("client_secret_basic", dpop=True) as valet, valet.client("m2m") as api:
        response = api.get(f"/redirect?to={PATH}", follow_redirects=True)
    assert response.status_code == 200
    texts: list[tuple[str, str]] = []
    for number, one in enumerate([*response.history, response]):
        assert isinstance(one, httpx2.Response)
        for what in (one, one.request):
            texts += shown_by_value(f"{number} {type(what).__name__}", list(what.headers.raw))
            texts += shown_by_value(f"{number} {type(what).__name__}", dict(what.extensions))
        pickled = pickle.dumps(one)
        texts += shown_by_value(f"{number} pickled", pickled)
        texts += shown_by_value(f"{number} unpickled", vars(pickle.loads(pickled).request))
    assert found(stage.plants(), texts) == []
