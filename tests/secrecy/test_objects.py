"""Whatever there is to take hold of, in public or by following references: no way of showing it shows a secret."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import gc
import io
import json
import pickle
import pprint
import reprlib
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest

import tokenvalet
from secrecy.stage import METHODS, PASSWORD, PROXY_PASSWORD, SECRET, Stage, pem, private_jwk
from secrecy.walker import Plant, found, seen_in, shown_by_value
from tokenvalet import AccessToken, ClientConfig, Secret, TokenParameters, TokenValet

SHOWN: dict[str, Callable[[Any], Any]] = {
    "repr": repr,
    "str": str,
    "format": format,
    "ascii": ascii,
    "an f-string": lambda value: f"{value} {value!r} {value!s}",
    "pprint": pprint.pformat,
    "reprlib": reprlib.repr,
    "in a list": lambda value: repr([value]),
    "vars": lambda value: repr(vars(value)),
    "pprint of vars": lambda value: pprint.pformat(vars(value)),
    "json": lambda value: json.dumps(value, default=str),
    "json of vars": lambda value: json.dumps(vars(value), default=str),
    "print": lambda value: _printed(value),
    "reduce": lambda value: repr(value.__reduce_ex__(4)),
}


def _printed(value: Any) -> str:
    out = io.StringIO()
    print(value, file=out)
    return out.getvalue()


def shown(where: str, value: Any, ways: dict[str, Callable[[Any], Any]] = SHOWN) -> Iterator[tuple[str, str]]:
    """Return all that can be got out of a value by showing it."""
    for name, show in ways.items():
        try:
            yield f"{name} of {where}", show(value)
        except Exception as error:
            yield f"the {type(error).__name__} of {name} of {where}", f"{error!r} {error}"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        try:
            yield f"a pickle of {where}", pickle.dumps(value, protocol).decode("latin-1")
        except Exception as error:
            yield f"the {type(error).__name__} of a pickle of {where}", f"{error!r} {error}"


# By following references --------------------------------------------------------------------------------------------

# Beyond these, references lead out of the valet and into the whole process.
_BOUNDARIES = (types.ModuleType, type, types.FrameType, types.CodeType)


def reachable(root: object) -> list[Any]:
    """Return every object that can be reached from one, but for what belongs to the process as a whole."""
    known: dict[int, Any] = {}
    left = [root]
    while left:
        one = left.pop()
        if id(one) in known or isinstance(one, _BOUNDARIES):
            continue
        known[id(one)] = one
        if isinstance(one, types.FunctionType):
            left += [cell.cell_contents for cell in one.__closure__ or () if _is_filled(cell)]
        else:
            left += gc.get_referents(one)
    return list(known.values())


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def of_ours(root: object) -> list[Any]:
    return [one for one in reachable(root) if type(one).__module__.startswith("tokenvalet") and not _is_of_a_test(one)]


def _is_of_a_test(one: Any) -> bool:
    return type(one).__module__.startswith("tokenvalet.testing")


@pytest.mark.standards("S-160", "S-165", "S-225")
@pytest.mark.parametrize("method", METHODS)
def test_nothing_that_can_be_reached_from_a_valet_shows_a_secret(method: str, stage: Stage) -> None:
    stage.auth.require_dpop_nonce = True
    proxied: dict[str, Any] = {"proxy": f"http://somebody:{PROXY_PASSWORD}@127.0.0.1:1"}
    with stage.valet(method, dpop=True, **proxied) as valet:
        with valet.client("m2m") as api:
            api.get("/echo")
        token = valet.token("m2m", parameters={"ticket": "planted-form-parameter-Hj2c-2"})
        everything = of_ours([valet, token, api])
        plants = [*stage.credentials(), Plant.of("the proxy's password", PROXY_PASSWORD)]
        kinds = {type(one).__name__ for one in everything}
        texts = [text for one in everything for text in shown(type(one).__name__, one)]
    # Those that hold something, so that the walk is known to have come to them.
    assert kinds >= {"AccessToken", "ClientConfig", "Secret", "ProofKey", "Credentials", "NamedClient"}
    assert found(plants, texts) == []


@pytest.mark.standards("S-160")
def test_the_walk_would_find_a_secret_that_shows(stage: Stage) -> None:
    # A test of the test above.
    with stage.valet("client_secret_basic") as valet:
        revealed = [one for one in reachable(valet) if isinstance(one, str)]
    assert seen_in(stage.plants(), shown_by_value("strings", revealed)) >= {"the client secret"}


# In public ----------------------------------------------------------------------------------------------------------


def config(stage: Stage, **more: Any) -> ClientConfig:
    return ClientConfig(**stage.settings("client_secret_basic", **more))


def with_key(stage: Stage) -> ClientConfig:
    return ClientConfig(**stage.settings("private_key_jwt"))


def with_jwk(stage: Stage) -> ClientConfig:
    return ClientConfig(
        **stage.settings("client_secret_post", client_secret=None, auth_method=None, private_key=private_jwk("client"))
    )


def with_callable(stage: Stage) -> ClientConfig:
    asked = functools.partial(lambda secret: secret, SECRET)
    return ClientConfig(**stage.settings("client_secret_post", client_secret=asked))


MODELS: dict[str, Callable[[Stage], ClientConfig]] = {
    "a secret": config,
    "a key": with_key,
    "a JWK": with_jwk,
    "a callable": with_callable,
}
# These show the values as they are kept: form parameters are strings, and a callable of the user's shows what it likes.
BARE = ("vars", "pprint of vars", "json of vars", "reduce", "dict", "getstate")


@pytest.mark.standards("S-160", "S-167")
@pytest.mark.parametrize("name", MODELS)
def test_a_configuration_shows_no_secret_however_it_is_written_down(name: str, stage: Stage) -> None:
    made = MODELS[name](stage)

    class Settings(pydantic.BaseModel):
        client: ClientConfig

    @dataclasses.dataclass
    class Host:
        client: ClientConfig

    ways: dict[str, Callable[[Any], Any]] = {
        **SHOWN,
        "model_dump": lambda value: repr(value.model_dump()),
        "model_dump for JSON": lambda value: json.dumps(value.model_dump(mode="json")),
        "model_dump without defaults": lambda value: repr(value.model_dump(exclude_defaults=True)),
        "model_dump_json": lambda value: value.model_dump_json(indent=1),
        "model_dump_json, round trip": lambda value: value.model_dump_json(round_trip=True),
        "dict": lambda value: repr(dict(value)),
        "a model around it": lambda value: repr(Settings(client=value)) + Settings(client=value).model_dump_json(),
        "a dataclass around it": lambda value: repr(dataclasses.asdict(Host(client=value))),
        "pydantic's json": lambda value: pydantic.TypeAdapter(Any).dump_json(value).decode(),
        "getstate": lambda value: repr(value.__getstate__()),
        "rich": lambda value: repr(list(value.__rich_repr__())),
        "pretty": lambda value: repr(list(value.__pretty__(repr))),
    }
    bare = {way: ways.pop(way) for way in BARE}
    for one in (made, copy.copy(made), copy.deepcopy(made), made.model_copy(), made.model_copy(deep=True)):
        assert found(stage.plants(), shown("the configuration", one, ways)) == []
        if name != "a callable":
            assert found(stage.credentials(), shown("the configuration", one, bare)) == []
        assert one.model_dump()["client_id"] == made.client_id, "and yet it is of some use"


@pytest.mark.standards("S-160")
def test_a_configuration_that_was_copied_still_works(stage: Stage) -> None:
    for made in (copy.copy(config(stage)), copy.deepcopy(config(stage)), config(stage).model_copy(deep=True)):
        with TokenValet(made) as valet:
            assert valet.token().value


@pytest.mark.standards("S-160")
def test_a_secret_that_is_put_into_a_copy_unchecked_is_not_shown_either(stage: Stage) -> None:
    made = config(stage).model_copy(update={"client_secret": SECRET, "private_key": pem("client"), "proxy": PASSWORD})
    texts = [("repr", repr(made)), ("a dump", repr(made.model_dump())), ("JSON", made.model_dump_json())]
    assert found(stage.plants(), texts) == []


@pytest.mark.standards("S-160")
def test_a_schema_of_the_configuration_can_be_had_and_shows_no_default_that_is_secret() -> None:
    from tokenvalet.config import SECRET_FIELDS

    for name in SECRET_FIELDS:
        assert ClientConfig.model_fields[name].default is None
        assert not ClientConfig.model_fields[name].repr


@pytest.mark.standards("S-160", "S-225")
@pytest.mark.parametrize("dpop", [False, True], ids=["bearer", "dpop"])
def test_a_token_shows_its_kind_and_its_client_and_never_itself(dpop: bool, stage: Stage) -> None:
    with stage.valet("client_secret_basic", dpop=dpop) as valet:
        token = valet.token("m2m")
    for one in (token, copy.copy(token), copy.deepcopy(token)):
        assert found(stage.plants(), shown("the token", one)) == []
    assert "m2m" in repr(token)
    assert ("DPoP" if dpop else "Bearer") in repr(token)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="is not pickled"):
            pickle.dumps(token, protocol)
    with pytest.raises(TypeError):
        vars(token)


@pytest.mark.standards("S-160")
def test_parameters_for_one_token_show_their_names_only() -> None:
    planted = Plant.of("the parameter", "planted-form-parameter-Hj2c")
    given = TokenParameters(scope="a", parameters={"ticket": "planted-form-parameter-Hj2c"})
    ways = {name: SHOWN[name] for name in ("repr", "str", "format", "an f-string", "pprint", "in a list", "reprlib")}
    texts = [(name, str(show(given))) for name, show in ways.items()]
    assert found([planted], texts) == []
    assert "ticket" in repr(given)


@pytest.mark.standards("S-160")
@pytest.mark.parametrize("dpop", [False, True], ids=["bearer", "dpop"])
def test_a_call_shows_where_it_goes_and_no_header(dpop: bool, stage: Stage) -> None:
    url = f"{stage.api.origin}/echo?ticket=planted-form-parameter-Hj2c"
    planted = Plant.of("the query", "planted-form-parameter-Hj2c")
    with stage.valet("client_secret_basic", dpop=dpop) as valet:
        call = valet.call("m2m", "GET", url)

        async def one() -> Any:
            made = await valet.async_call("m2m", "GET", url)
            await valet.aclose()
            return made

        for shown_one in (call, asyncio.run(one())):
            texts = list(shown("the call", shown_one))
            assert found([*stage.plants(), planted], texts) == []
            assert f"GET {stage.api.origin}>" in repr(shown_one)
            # By name only: the headers are there to be sent.
            assert found(stage.plants(), [("headers", f"{shown_one.headers!r} {shown_one.headers}")]) == []
            assert "Authorization" in repr(shown_one.headers)
            with pytest.raises(TypeError, match="is not pickled"):
                pickle.dumps(shown_one)


@pytest.mark.standards("S-160")
def test_every_public_class_is_either_without_secrets_or_known_to_this_folder() -> None:
    # A new public class that can hold a secret has to be looked at here first.
    looked_at = {"AccessToken", "ClientConfig", "Secret", "StoreConfig", "TokenParameters", "TokenValet"}
    looked_at |= {"AsyncOneCall", "OneCall"}
    harmless = {"AssertionContext", "ConfigurationFault", "Event", "Moment", "Observer", "Signer"}
    errors = {name for name in tokenvalet.__all__ if name.endswith("Error")}
    assert set(tokenvalet.__all__) == looked_at | harmless | errors | {"__version__"}


@pytest.mark.standards("S-160", "S-165")
def test_a_store_configuration_shows_no_secret(tmp_path: Path) -> None:
    key = "k1:" + "cGxhbnRlZC1zdG9yZS1rZXktcGxhbnRlZC1zdG9yZS0"
    url = "redis://:planted-redis-password-Wx2q@cache:6379/0"
    made = tokenvalet.StoreConfig(url=url, encryption_keys=key)
    ways: dict[str, Callable[[Any], Any]] = {
        **SHOWN,
        "model_dump": lambda value: repr(value.model_dump()),
        "model_dump_json": lambda value: value.model_dump_json(),
        "getstate": lambda value: repr(value.__getstate__()),
    }
    plants = [Plant.of("the key", key.partition(":")[2]), Plant.of("the password", "planted-redis-password-Wx2q")]
    for one in (made, copy.copy(made), copy.deepcopy(made)):
        assert found(plants, shown("the store", one, ways)) == []


@pytest.mark.standards("S-160")
def test_writers_of_objects_that_go_around_pickle_are_handed_nothing(stage: Stage) -> None:
    for secret in (Secret(SECRET), Secret(SECRET.encode())):
        with pytest.raises(TypeError, match="not pickled"):
            secret.__getstate__()
        with pytest.raises(TypeError, match="not pickled"):
            object.__reduce_ex__(secret, 2)
        with pytest.raises(TypeError):
            vars(secret)
        with pytest.raises(TypeError):
            json.dumps(secret)
    with stage.valet("client_secret_basic") as valet:
        assert isinstance(valet.token("m2m"), AccessToken)
        with pytest.raises(TypeError):
            pickle.dumps(valet)
