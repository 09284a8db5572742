"""What can be configured of the store, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, ValidationError

from .config import field_faults
from .configuration_values import File, SecretValue, wrapped_secret
from .core.secret import Secret
from .errors import ConfigurationError, ConfigurationFault
from .files import FileFault, WatchedFile
from .observe import Observers
from .shelf import Shelf
from .stores.protocol import Store, StoreError
from .stores.sealing import Sealer, SealingFault, parse_keys

__all__ = ["STORE_SECRETS", "StoreConfig", "open_shelf", "validate_store"]

PLACES = ("url", "client", "store")
STORE_SECRETS = frozenset({"url", "encryption_keys"})


def _store(value: Any) -> Any:
    if value is not None and not all(hasattr(value, name) for name in ("read", "claim", "write", "release", "close")):
        raise ValueError("should have read, claim, write, release and close, as tokenvalet.stores.Store says")
    return value


class StoreConfig(BaseModel):
    """Where tokens are kept beyond this process, and what they are sealed with.

    Raises:
        ConfigurationError: with all faults, when made with values that cannot work.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True)

    url: SecretValue = Field(default=None, repr=False)
    client: Any = Field(default=None, repr=False)
    store: Annotated[Any, AfterValidator(_store)] = Field(default=None, repr=False)
    encryption_keys: SecretValue = Field(default=None, repr=False)
    encryption_keys_file: File = None
    allow_unsealed_store: StrictBool = False
    prefix: Annotated[str, Field(min_length=1, max_length=128)] = "tokenvalet:"
    timeout: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 1.0

    if not TYPE_CHECKING:

        def __init__(self, /, **values: Any) -> None:
            # Secrets are wrapped before anything can fail, so that no frame of a traceback holds them in clear.
            for name in STORE_SECRETS & values.keys():
                values[name] = wrapped_secret(values[name])
            try:
                super().__init__(**values)
                faults = _cross_faults(self)
            except ValidationError as error:
                faults = field_faults(error, list(StoreConfig.model_fields))
            if faults:
                del values
                raise ConfigurationError(faults=faults)

    def __reduce__(self) -> Any:
        raise TypeError("a store's configuration is not pickled, since it may hold secrets: read it in each process")


def validate_store(values: Mapping[str, Any], place: str) -> tuple[StoreConfig | None, list[ConfigurationFault]]:
    """Return the configuration that `values` describe, or None and everything that is wrong with them."""
    try:
        return StoreConfig(**{str(name): value for name, value in values.items()}), []
    except ConfigurationError as error:
        return None, [
            ConfigurationFault(place=f"{place}.{fault.place}" if fault.place else place, message=fault.message)
            for fault in error.faults
        ]


def _cross_faults(config: StoreConfig) -> list[ConfigurationFault]:
    faults: list[ConfigurationFault] = []
    given = [name for name in PLACES if getattr(config, name) is not None]
    if not given:
        faults.append(ConfigurationFault(place="url", message="is missing: redis://host:6379/0 or file:///a/folder"))
    for second in given[1:]:
        message = f"is a second store beside {given[0]}: remove either"
        faults.append(ConfigurationFault(place=second, message=message))
    if config.encryption_keys is not None and config.encryption_keys_file is not None:
        message = "is given beside encryption_keys: remove either"
        faults.append(ConfigurationFault(place="encryption_keys_file", message=message))
    sealed = config.encryption_keys is not None or config.encryption_keys_file is not None
    if not sealed and not config.allow_unsealed_store:
        message = (
            "is missing: tokens would lie there in clear. Make a key with tokenvalet keys new-store-key, or write out "
            "allow_unsealed_store = true"
        )
        faults.append(ConfigurationFault(place="encryption_keys_file", message=message))
    if sealed and config.allow_unsealed_store:
        message = "contradicts the encryption keys, which are given: remove it"
        faults.append(ConfigurationFault(place="allow_unsealed_store", message=message))
    return faults


def open_shelf(config: StoreConfig, observers: Observers) -> Shelf:
    """Return the store, opened; a server that is not there is no fault, since it may come back.

    Raises:
        ConfigurationError: the URL, the folder, the client or a key cannot be used.
    """
    faults: list[ConfigurationFault] = []
    sealer: Callable[[], Sealer] | None = None
    try:
        sealer = _sealer(config)
    except (SealingFault, FileFault) as fault:
        place = "encryption_keys" if config.encryption_keys is not None else "encryption_keys_file"
        faults.append(ConfigurationFault(place=f"store.{place}", message=str(fault)))
    store: Store | None = None
    try:
        store = _opened(config)
    except StoreError as error:
        place = next(name for name in PLACES if getattr(config, name) is not None)
        faults.append(ConfigurationFault(place=f"store.{place}", message=str(error)))
    if faults or store is None:
        raise ConfigurationError(faults=faults)
    return Shelf(store, sealer, observers)


def _sealer(config: StoreConfig) -> Callable[[], Sealer] | None:
    if config.encryption_keys_file is not None:
        return WatchedFile(config.encryption_keys_file, lambda content: Sealer(parse_keys(content)))
    if config.encryption_keys is not None:
        sealer = Sealer(parse_keys(config.encryption_keys.reveal().encode("utf-8", "surrogateescape")))
        return lambda: sealer
    return None


def _opened(config: StoreConfig) -> Store:
    if config.store is not None:
        store: Store = config.store
        return store
    if config.client is not None:
        from .stores.redis import RedisStore

        return RedisStore(config.client, prefix=config.prefix)
    url: Secret = config.url
    if url.reveal().partition(":")[0].lower() == "file":
        from .stores.file import FileStore

        return FileStore(_folder(url.reveal()))
    from .stores.redis import RedisStore

    return RedisStore.from_url(url.reveal(), prefix=config.prefix, timeout=config.timeout)


def _folder(url: str) -> Path:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.query or parts.fragment:
        raise StoreError("should be file:// and an absolute path, as in file:///var/lib/records/tokens")
    return Path(unquote(parts.path))
