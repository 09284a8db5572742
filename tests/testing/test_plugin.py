"""The pytest plugin, in runs of pytest of its own: cheap where nobody uses it, and right where somebody does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tokenvalet.core.signing import private_pem

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


def run(pytester: pytest.Pytester, test: str, *arguments: str, **outcomes: int) -> pytest.RunResult:
    pytester.makepyfile(test)
    # The plugins of others are left out: asyncio's loops and Hypothesis' profiles are not what is tested.
    names = ("xdist", "xdist.looponfail", "hypothesispytest", "anyio")
    without = [part for name in names for part in ("-p", f"no:{name}")]
    result = pytester.runpytest_subprocess(
        *without, "-p", "no:cacheprovider", "-W", "error", "--strict-markers", *arguments, timeout=60
    )
    result.assert_outcomes(**(outcomes or {"passed": 1}))
    return result


def test_a_run_that_uses_no_fixture_of_ours_imports_nothing_for_it(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import sys

        def test_nothing():
            ours = {name for name in sys.modules if name.startswith("tokenvalet")}
            assert ours == {
                "tokenvalet", "tokenvalet._version", "tokenvalet.errors", "tokenvalet.testing", "tokenvalet.testing.plugin"
            }
            heavy = {"starlette", "joserfc", "uvicorn", "httpx2", "httpx", "requests", "aiohttp", "cryptography", "pydantic"}
            assert not heavy & set(sys.modules)
        """,
    )


def test_a_run_goes_on_where_the_extra_is_not_installed(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import sys

        for name in ("starlette", "joserfc", "uvicorn"):
            sys.modules[name] = None
        """
    )
    result = run(
        pytester,
        """
        def test_of_somebody_else():
            assert True

        def test_of_ours(tokenvalet_server):
            pass
        """,
        passed=1,
        errors=1,
    )
    result.stdout.fnmatch_lines(["*pip install 'tokenvalet?testing?'*"])


def test_the_fixtures_are_a_valet_and_its_servers_without_a_socket(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import socket

        def test_it(tokenvalet_valet, tokenvalet_server, tokenvalet_api, monkeypatch):
            monkeypatch.setattr(socket.socket, "connect", None)
            with tokenvalet_valet.client() as api:
                assert api.get("/api/v1/integration/health-records").status_code == 200
                assert api.get("/echo").status_code == 200
            tokenvalet_server.assert_token_requests(1, client_id="test-client", outcome="issued")
            tokenvalet_api.assert_calls(2, scheme="Bearer", status=200)
        """,
    )


def test_a_marker_sets_the_client_up_for_one_test_or_a_module(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import pytest

        pytestmark = pytest.mark.tokenvalet(name="m2m", scope=["records:read"])

        @pytest.mark.tokenvalet(dpop=True, scope=["records:write"])
        def test_one(tokenvalet_valet, tokenvalet_server):
            assert tokenvalet_valet.token("m2m").token_type == "DPoP"
            tokenvalet_server.assert_token_requests(1, scope="records:write")

        def test_another(tokenvalet_valet, tokenvalet_server):
            assert tokenvalet_valet.token("m2m").token_type == "Bearer"
            tokenvalet_server.assert_token_requests(1, scope="records:read")
        """,
        passed=2,
    )


def test_a_conftest_sets_the_client_up_for_all(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture
        def tokenvalet_settings():
            return {"name": "m2m", "client_id": "records-web", "client_secret": "not-a-secret", "scope": ["a"]}
        """
    )
    run(
        pytester,
        """
        def test_it(tokenvalet_valet, tokenvalet_server):
            assert tokenvalet_valet.token("m2m").scope == "a"
            tokenvalet_server.assert_token_requests(1, client_id="records-web")
        """,
    )


def test_a_client_of_any_method_with_a_secret_or_a_key_is_known_to_the_server(pytester: pytest.Pytester) -> None:
    (pytester.path / "key.pem").write_bytes(private_pem(ec.generate_private_key(ec.SECP256R1())))
    (pytester.path / "secret").write_text("of-a-file\n", encoding="utf-8")
    for name in ("key.pem", "secret"):
        (pytester.path / name).chmod(0o600)
    run(
        pytester,
        """
        import pytest
        from pathlib import Path
        from tokenvalet.core.signing import generate_es256

        LONG = "a-secret-of-more-than-thirty-two-bytes"
        PEM = Path(__file__).with_name("key.pem")
        PASSED = {
            "post": {"client_secret": "a", "auth_method": "client_secret_post"},
            "jwt": {"client_secret": LONG, "auth_method": "client_secret_jwt"},
            "callable": {"client_secret": lambda: "a"},
            "file": {"client_secret_file": str(PEM.with_name("secret"))},
            "raw": {"client_secret": "a:b%20", "basic_encoding": "raw"},
            "key file": {"private_key_file": str(PEM), "key_id": "one"},
            "key": {"private_key": PEM.read_text(), "assertion_audience": "https://aud.example", "assertion_lifetime": 300},
            "signer": {"signer": generate_es256()},
        }

        @pytest.fixture(params=PASSED)
        def tokenvalet_settings(request):
            return {"name": "m2m", "client_id": "records-web", **PASSED[request.param]}

        def test_it(tokenvalet_valet, tokenvalet_server):
            assert tokenvalet_valet.token("m2m").token_type == "Bearer"
            tokenvalet_server.assert_token_requests(1, client_id="records-web", outcome="issued")
        """,
        passed=8,
    )


def test_time_moves_for_the_valet_and_the_servers(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        def test_it(tokenvalet_valet, tokenvalet_server, tokenvalet_clock):
            tokenvalet_valet.token()
            tokenvalet_clock.advance(3000)
            tokenvalet_valet.token()
            tokenvalet_server.assert_token_requests(1)
            tokenvalet_clock.advance(601)
            with tokenvalet_valet.client() as api:
                assert api.get("/echo").status_code == 200
            tokenvalet_server.assert_token_requests(2)
        """,
    )


@pytest.mark.parametrize("how", ["marker", "setting"])
def test_on_a_socket_the_servers_are_reached_by_anybody(pytester: pytest.Pytester, how: str) -> None:
    if how == "setting":
        pytester.makeini("[pytest]\ntokenvalet_socket = true\n")
    run(
        pytester,
        f"""
        import pytest
        import requests

        @pytest.mark.tokenvalet({"socket=True" if how == "marker" else ""})
        def test_it(tokenvalet_valet, tokenvalet_server, tokenvalet_api):
            assert tokenvalet_server.issuer.startswith("http://127.0.0.1:")
            token = tokenvalet_valet.token().value
            with requests.Session() as session:
                session.trust_env = False
                answer = session.get(tokenvalet_api.origin + "/echo", headers={{"Authorization": "Bearer " + token}})
            assert answer.status_code == 200
            with tokenvalet_valet.client() as api:
                assert api.get("/echo").status_code == 200
        """,
    )


def test_a_valet_of_ones_own_is_attached_to_the_network(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        from tokenvalet import TokenValet

        def test_it(tokenvalet_config, tokenvalet_network, tokenvalet_server, tokenvalet_clock):
            with TokenValet(tokenvalet_config, clock=tokenvalet_clock) as valet:
                tokenvalet_network.attach(valet)
                assert valet.token("test").token_type == "Bearer"
            tokenvalet_server.assert_token_requests(1)
        """,
    )


def test_a_failing_assertion_points_at_the_test_and_lists_what_was_seen(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        def test_it(tokenvalet_valet, tokenvalet_server):
            tokenvalet_valet.token(scope="records:write")
            tokenvalet_server.assert_token_requests(1, scope="records:read")
        """,
        failed=1,
    )
    result.stdout.fnmatch_lines(
        [
            ">*tokenvalet_server.assert_token_requests(1, scope=*",
            "E*AssertionError: expected 1 token request with scope='records:read', and 0 of 1 are so:",
            "E*1.*client_id='test-client' by client_secret_basic, scope='records:write' → issued",
        ]
    )
    assert "assertions.py" not in result.stdout.str()
    assert "the-secret-of-a-test" not in result.stdout.str()


def test_a_marker_with_a_value_without_a_name_is_refused_with_a_sentence(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest

        @pytest.mark.tokenvalet("records:read")
        def test_it(tokenvalet_valet):
            pass
        """,
        errors=1,
    )
    result.stdout.fnmatch_lines(["*the marker tokenvalet takes names and values*"])


def test_the_fixtures_are_listed_with_what_they_are_for(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--fixtures", "-p", "no:cacheprovider", timeout=60)
    text = result.stdout.str()
    page = PAGE.read_text(encoding="utf-8")
    names = set(re.findall(r"^(tokenvalet_\w+) ", text, re.MULTILINE))
    assert names == set(re.findall(r"^\| `(tokenvalet_\w+)` \|", page, re.MULTILINE))
    assert len(names) >= 7
    assert "no docstring available" not in "\n".join(re.findall(r"^tokenvalet_\w+ .*\n.*", text, re.MULTILINE))


EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_examples_of_the_page_run_as_they_are_written(pytester: pytest.Pytester) -> None:
    conftests = [text for text in EXAMPLES if text.startswith("# conftest.py")]
    tests = [text for text in EXAMPLES if not text.startswith("# conftest.py")]
    assert len(conftests) == 1
    pytester.makeconftest(conftests[0])
    files = {f"test_{number}": text for number, text in enumerate(tests)}
    pytester.makepyfile(**files)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist", "-W", "error", timeout=120)
    result.assert_outcomes(passed=sum(len(re.findall(r"^(?:async )?def test_", text, re.MULTILINE)) for text in tests))
