"""A worker that ends: whoever is about to ask is answered, and told to go elsewhere."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
import uvicorn
from tests.integration.api.test_order_entry import Served, http, order_form
from tests.integration.api.venue import Venue

from rtx.api.order_entry_protocol import OrderEntryProtocol

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_requests_that_cross_with_the_end_are_answered(venue: Venue) -> None:
    config = uvicorn.Config(
        cast("Any", venue.backend.application),
        host="127.0.0.1",
        port=0,
        lifespan="off",
        log_level="error",
        http=OrderEntryProtocol,
        ws="none",
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    symbol = await venue.market()
    trader = await venue.trader({"USDT": 1_000})
    served = Served(venue, server.servers[0].sockets[0].getsockname()[1])
    ordering, asking, silent = [await served.connect() for _ in range(3)]
    ping = http(trader, "GET", "/api/v3/ping")
    for connection in (ordering, asking, silent):
        _, headers, _ = await connection.ask(ping)
        assert "connection" not in headers
    order = http(trader, "POST", "/api/v3/order", order_form(trader, symbol))
    await ordering.ask(order)

    # It says goodbye to its connections, and then waits for them.
    shutdown = asyncio.create_task(server.shutdown())
    await asyncio.sleep(0)

    for connection, request in ((ordering, order), (asking, ping)):
        status, headers, _ = await connection.ask(request)
        assert (status, headers["connection"]) == (200, "close")
        assert await connection.reader.read() == b""
    assert await silent.reader.read() == b""
    await shutdown
    await served.close()
