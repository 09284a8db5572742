"""What is wrong with a store: its settings, and whether it can be used."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from ..errors import ConfigurationError
from ..observe import Event, Observers
from ..store_config import StoreConfig, open_shelf
from .findings import Finding

__all__ = ["store_findings"]


def store_findings(config: StoreConfig, *, ask: bool) -> Iterator[Finding]:
    """Yield what there is to say of a store; `ask` says whether it is to be used."""
    events: list[Event] = []
    try:
        shelf = open_shelf(config, Observers([events.append]))
    except ConfigurationError as error:
        for fault in error.faults:
            yield Finding(client="", subject=fault.place, level="bad", text=fault.message)
        return
    try:
        away = ask and shelf.recall("check", secrets.token_hex(32)).away
    finally:
        shelf.close()
    if away:
        why = next((one.detail for one in events if one.name == "store_away"), "it does not answer")
        text = f"it cannot be used, and each process gets tokens of its own meanwhile: {why}"
        yield Finding(client="", subject="store", level="bad", text=text)
    elif config.allow_unsealed_store:
        text = "tokens are kept in clear, as allow_unsealed_store says"
        yield Finding(client="", subject="store", level="odd", text=text)
    else:
        yield Finding(client="", subject="store", level="good", text="tokens are kept sealed")
