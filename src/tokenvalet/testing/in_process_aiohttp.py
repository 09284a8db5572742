"""aiohttp on servers of this process: its own protocol over a wire that is a pair of objects, with uvicorn at the other end.

For development only.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import uvicorn
from aiohttp.client_proto import ResponseHandler
from uvicorn.server import ServerState

from .in_process import NoAnswer, Ways
from .serving import Connection

__all__ = ["InProcessConnections"]


class _Wire(asyncio.Transport):
    """One end: what is written to it is read at the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop, scheme: str) -> None:
        super().__init__({"sslcontext": True if scheme == "https" else None, "peername": ("127.0.0.1", 1)})
        self._loop = loop
        self._closing = False
        self.protocol: asyncio.Protocol
        self.other: _Wire

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            self._loop.call_soon(self.other.feed, bytes(data))

    def feed(self, data: bytes) -> None:
        """Hand over what the other end has written."""
        if not self._closing:
            self.protocol.data_received(data)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self.protocol.connection_lost, None)
            self._loop.call_soon(self.other.close)

    abort = close

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        """All that there is fits into memory."""

    def resume_reading(self) -> None:
        """It was never paused."""

    def is_reading(self) -> bool:
        return not self._closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def get_write_buffer_size(self) -> int:
        return 0

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol


class _Connector(aiohttp.BaseConnector):
    allowed_protocol_schema_set = aiohttp.TCPConnector.allowed_protocol_schema_set

    def __init__(self, ways: Ways) -> None:
        super().__init__()
        self._ways = ways

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:
        url = req.url
        try:
            app = self._ways.app_at(str(url.origin()))
        except NoAnswer as reason:
            raise aiohttp.ClientConnectionError(str(reason)) from None
        loop = asyncio.get_running_loop()
        config = uvicorn.Config(
            app, http=Connection, ws="none", lifespan="off", interface="asgi3", log_config=None, access_log=False
        )
        config.load()
        here, there = _Wire(loop, url.scheme), _Wire(loop, url.scheme)
        here.other, there.other = there, here
        here.protocol = client = ResponseHandler(loop)
        there.protocol = Connection(config, ServerState(), {}, loop)
        there.protocol.connection_made(there)
        client.connection_made(here)
        return client


class InProcessConnections:
    """What the valet sends the requests of aiohttp over."""

    proxy = None

    def __init__(self, ways: Ways) -> None:
        self.connector = _Connector(ways)

    async def aclose(self) -> None:
        """Close all connections."""
        await self.connector.close()
