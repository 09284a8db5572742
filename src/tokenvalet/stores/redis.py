"""A store in Redis or Valkey, for many hosts: values with a time to live, and leases with an owner and a time-out.

Each step is one script on the server, so that no key is ever without an end and nothing happens between two of its commands.
What life a value has left is what the server says, so that the clocks of the hosts do not matter. Both keys of a token key
are in one slot of a cluster.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from ..core.messages import Lease
from .protocol import Entry, StoreError

__all__ = ["RedisStore"]

DEFAULT_PREFIX = "tokenvalet:"
DEFAULT_TIMEOUT = 1.0
LARGEST_VALUE = 128 * 1024
PAUSED = "-"
# In milliseconds; the lease of a client with the longest timeout that there is, and some more.
LONGEST_LEASE = 600_000

# KEYS: value, lease. A value of another kind, an enormous one, or one that is no ASCII, counts as missing: it is not ours,
# and a client that decodes would fail at it.
_READ = """
local function read(key)
  if redis.call('TYPE', key)['ok'] ~= 'string' then return {false, -1} end
  if redis.call('STRLEN', key) > tonumber(ARGV[1]) then return {false, -1} end
  local value = redis.call('GET', key)
  if string.find(value, '[\\128-\\255]') then return {false, -1} end
  return {value, redis.call('PTTL', key)}
end
"""
# A lease of another kind, or without an end that ours could have, is not ours either: nobody waits for it.
_OWNER = """
local function owner(key, longest)
  if redis.call('TYPE', key)['ok'] ~= 'string' then return false end
  local left = redis.call('PTTL', key)
  if left < 0 or left > longest then return false end
  return redis.call('GET', key)
end
"""
READ = _READ + "return read(KEYS[1])"
CLAIM = (
    _READ
    + _OWNER
    + """
local entry = read(KEYS[1])
local held_by = owner(KEYS[2], tonumber(ARGV[5]))
local state = 'granted'
if held_by == false or held_by == ARGV[2] then
  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
elseif held_by == ARGV[4] then
  state = 'paused'
else
  state = 'held'
end
return {state, entry[1], entry[2]}
"""
)
WRITE = (
    _OWNER
    + """
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if owner(KEYS[2], tonumber(ARGV[4])) == ARGV[3] then redis.call('DEL', KEYS[2]) end
return 1
"""
)
RELEASE = (
    _OWNER
    + """
if owner(KEYS[2], tonumber(ARGV[4])) ~= ARGV[1] then return 0 end
if tonumber(ARGV[2]) > 0 then
  redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[2])
else
  redis.call('DEL', KEYS[2])
end
return 1
"""
)
_LEASES = {b"granted": Lease.GRANTED, b"held": Lease.HELD, b"paused": Lease.PAUSED}


class RedisStore:
    """Values and leases in Redis or Valkey, through a client of redis-py.

    Args:
        client: a `redis.Redis` (also from Sentinel's `master_for`) or `redis.RedisCluster` of your own, with a
            `socket_timeout`; it is never closed here, and `decode_responses` does not matter.
        prefix: what the names of all keys begin with.

    Raises:
        StoreError: the client has no `socket_timeout`, so that a server that hangs would hang renewals.
    """

    def __init__(self, client: Any, *, prefix: str = DEFAULT_PREFIX) -> None:
        if inspect.iscoroutinefunction(getattr(client, "execute_command", None)):
            raise StoreError(
                "this is an asynchronous Redis client: give a redis.Redis, which is used on threads of its own"
            )
        if _socket_timeout(client) is None:
            raise StoreError("the Redis client has no socket_timeout, and a server that hangs would hang every renewal")
        self._prefix = prefix
        self._errors = _errors()
        self._make: Callable[[], Any] = lambda: client
        self._scripts: _Scripts | None = _Scripts(client)
        self._own: Any = None

    @classmethod
    def from_url(cls, url: str, *, prefix: str = DEFAULT_PREFIX, timeout: float = DEFAULT_TIMEOUT) -> RedisStore:
        """Return a store with a client of its own, which connects when it is first used.

        Args:
            url: ``redis://``, ``rediss://`` (TLS, verified), ``unix://``; ``valkey`` in the place of ``redis`` is the same;
                ``redis+cluster://host:port`` and ``redis+sentinel://host:port,host:port/service/db``, also with ``rediss``.
            prefix: what the names of all keys begin with.
            timeout: seconds for connecting, and for each answer.

        Raises:
            StoreError: the URL is none of these, or redis-py is not installed.
        """
        store = cls.__new__(cls)
        store._prefix = prefix
        store._errors = _errors()
        store._make = client_maker(url, timeout)
        store._scripts = store._own = None
        return store

    def read(self, key: str) -> Entry | None:
        """Return what is stored under `key`, or None; one round trip."""
        return _entry(*self._run("read", key, LARGEST_VALUE))

    def claim(self, key: str, owner: str, seconds: float) -> tuple[Lease, Entry | None]:
        """Take or prolong the lease of `key`; one round trip."""
        answer = self._run("claim", key, LARGEST_VALUE, owner, _milliseconds(seconds), PAUSED, LONGEST_LEASE)
        lease = _LEASES.get(_bytes(answer[0])) if len(answer) == 3 else None
        if lease is None:
            raise StoreError("the server answered nonsense to the taking of a lease")
        return lease, _entry(*answer[1:])

    def write(self, key: str, value: bytes, seconds: float, owner: str) -> None:
        """Store `value` for so many seconds, and give the lease back."""
        self._run("write", key, value, _milliseconds(seconds), owner, LONGEST_LEASE)

    def release(self, key: str, owner: str, pause: float) -> None:
        """Give the lease back; for `pause` seconds nobody may have it."""
        self._run("release", key, owner, _milliseconds(pause) if pause > 0 else 0, PAUSED, LONGEST_LEASE)

    def close(self) -> None:
        """Close the client, if it is one of our own."""
        if self._own is not None:
            self._own.close()

    def __repr__(self) -> str:
        return f"<RedisStore with prefix {self._prefix!r}>"

    def _run(self, name: str, key: str, *arguments: Any) -> Any:
        names = [f"{self._prefix}{{{key}}}:token", f"{self._prefix}{{{key}}}:lease"]
        fault = ""
        try:
            if self._scripts is None:
                self._own = self._make()
                self._scripts = _Scripts(self._own)
            answer = getattr(self._scripts, name)(keys=names, args=list(arguments))
        except self._errors as error:
            fault = _explained(error)
        if fault:
            # Raised where no variable has a value in it any more.
            del arguments
            raise StoreError(fault)
        if name in ("read", "claim") and not isinstance(answer, list):
            raise StoreError("the server answered nonsense")
        return answer


class _Scripts:
    """The four scripts, as a client runs them: by their digests, and sent along where the server does not know them."""

    __slots__ = ("claim", "read", "release", "write")

    def __init__(self, client: Any) -> None:
        self.read = client.register_script(READ)
        self.claim = client.register_script(CLAIM)
        self.write = client.register_script(WRITE)
        self.release = client.register_script(RELEASE)


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _bytes(value: Any) -> bytes:
    # A client with decode_responses gives strings; values are base64 or JSON, so that either way nothing is lost.
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def _entry(value: Any = None, left: Any = None, *_: Any) -> Entry | None:
    if value is None or not isinstance(left, int) or left <= 0:
        return None
    return Entry(_bytes(value), left / 1000)


def _socket_timeout(client: Any) -> float | None:
    for place in (getattr(client, "connection_pool", None), getattr(client, "nodes_manager", None)):
        settings = getattr(place, "connection_kwargs", None)
        if isinstance(settings, dict):
            return settings.get("socket_timeout")
    return None


# The library names most kinds of trouble by a class, and takes the server's own word for it away.
_WORDS = {
    "AuthenticationError": "WRONGPASS",
    "AuthorizationError": "WRONGPASS",
    "NoPermissionError": "NOPERM",
    "ReadOnlyError": "READONLY",
    "OutOfMemoryError": "OOM",
    "BusyLoadingError": "LOADING",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
}
_REMEDIES = {
    "NOAUTH": "it wants a password: put one into the url",
    "WRONGPASS": "it refuses the user name or the password",
    "NOPERM": "it does not allow this user the scripts (EVALSHA, EVAL, SCRIPT LOAD) or keys of the store",
    "READONLY": "it is a read-only replica: give the address of the primary",
    "OOM": "it is full: give it more memory, or a policy that evicts keys with a time to live",
    "MISCONF": "it refuses writes since it cannot save to its disk",
    "LOADING": "it is starting",
    "BUSY": "it is held up by a script that somebody runs there",
    "CLUSTERDOWN": "its cluster is down",
    "MASTERDOWN": "its primary is down",
}


def _explained(error: Exception) -> str:
    """Return what happened in our own words: the texts of the library may have arguments of ours in them."""
    kind, text = type(error).__name__, str(error)
    word = _WORDS.get(kind) or text.partition(" ")[0].rstrip(":").upper()
    if word == "WRONGPASS" and (text.startswith("Authentication required") or "HELLO" in text):
        word = "NOAUTH"
    return f"{kind}: {_REMEDIES.get(word, 'is it running, and reachable from here?')}"


def _errors() -> tuple[type[Exception], ...]:
    redis = _redis()
    return (redis.RedisError, redis.exceptions.RedisClusterException, OSError)


def _redis() -> Any:
    try:
        return importlib.import_module("redis")
    except ImportError:
        raise StoreError("a store in Redis needs redis-py: install tokenvalet[redis]") from None


def client_maker(url: str, timeout: float) -> Callable[[], Any]:
    """Return what makes a client for `url`; a cluster is asked for its nodes when that is called, and not before."""
    redis = _redis()
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # Once more at once, for a connection that was closed while it was idle; after that the store counts as away. Not
        # after a time-out: the next would take as long.
        "retry": importlib.import_module("redis.retry").Retry(
            importlib.import_module("redis.backoff").NoBackoff(), 1, supported_errors=(redis.ConnectionError,)
        ),
    }
    kind, separator, rest = url.partition("://")
    scheme, _, topology = kind.replace("valkeys", "rediss").replace("valkey", "redis").partition("+")
    if not separator or scheme not in ("redis", "rediss", "unix") or topology not in ("", "cluster", "sentinel"):
        raise StoreError("should be redis://, rediss://, unix://, redis+cluster://, redis+sentinel:// or file://")
    plain = f"{scheme}://{rest}"
    try:
        if topology == "sentinel":
            client = _from_sentinels(scheme, rest, options)
        else:
            client = _checked(redis.Redis.from_url(plain, **options))
        if topology == "cluster":
            return lambda: redis.RedisCluster.from_url(plain, **options)
    except (ValueError, TypeError):
        raise StoreError("is no address that redis-py can read") from None
    return lambda: client


def _checked(client: Any) -> Any:
    """Return a client; raises TypeError where its URL has a setting that redis-py would refuse when it connects."""
    client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    if not _socket_timeout(client):
        raise TypeError
    return client


def _from_sentinels(scheme: str, rest: str, options: dict[str, Any]) -> Any:
    """Return a client for the primary that the sentinels name; user, password and query are those of the primary."""
    sentinel = importlib.import_module("redis.sentinel")
    rest, _, query = rest.partition("?")
    credentials, at, address = rest.rpartition("@")
    hosts, _, path = address.partition("/")
    service, _, database = path.partition("/")
    if not service:
        raise StoreError("a redis+sentinel:// address ends with the name of the service: host:26379,host:26379/name/0")
    nodes = []
    for host in hosts.split(","):
        parts = urlsplit(f"//{host}")
        nodes.append((parts.hostname, parts.port or 26379))
    # What stands behind the names of the sentinels is as in any other URL, and read by the library itself.
    plain = f"{scheme}://{credentials}{at}primary/{int(database or 0)}?{query}"
    _checked(_redis().Redis.from_url(plain, **options))
    settings = {**options, **importlib.import_module("redis.connection").parse_url(plain)}
    del settings["host"]
    tls = {name: value for name, value in settings.items() if name.startswith("ssl_")}
    if settings.pop("connection_class", None) is not None:
        tls["ssl"] = settings["ssl"] = True
    watchers = sentinel.Sentinel(nodes, sentinel_kwargs={**options, **tls}, **settings)
    return watchers.master_for(unquote(service))
