"""A load balancer for clients that know one address only: it passes bytes on to the first target that takes them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from tests.faults.backend import LOOPBACK
from tests.faults.exchange_client import Address

READ_BYTES = 65_536


class Balancer:
    """Listens at ``host``. ``target`` is where the newest connection went."""

    def __init__(self, targets: Sequence[Address], host: str = LOOPBACK) -> None:
        self.target = targets[0]
        self._targets = targets
        self._host = host
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> Address:
        """Where clients find it."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return host, port

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Balancer]:
        """Listen until the block ends."""
        self._server = await asyncio.start_server(self._serve, self._host, 0)
        async with self._server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for target in self._targets:
                try:
                    onward = await asyncio.open_connection(*target)
                except OSError:
                    continue
                self.target = target
                await asyncio.gather(_pass_on(reader, onward[1]), _pass_on(onward[0], writer))
                return
        finally:
            writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass everything on, the end too."""
    try:
        with contextlib.suppress(OSError):
            while content := await reader.read(READ_BYTES):
                writer.write(content)
                await writer.drain()
    finally:
        writer.close()
