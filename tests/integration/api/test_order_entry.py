"""The short way for orders answers over a real connection exactly as the long way does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, cast
from urllib.parse import urlencode

import pytest
import pytest_asyncio
import uvicorn
from tests.integration.api.venue import Trader, Venue, now_ms

from rtx.api.order_entry_protocol import OrderEntryProtocol
from rtx.link.client import EngineTimeoutError
from rtx.link.messages import Response

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Connection:
    """A connection to the backend, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Read the next answer: status, headers, JSON content."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        content = await self.reader.readexactly(int(headers["content-length"]))
        return int(first.split()[1]), headers, json.loads(content)

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], Any]:
        self.writer.write(request)
        return await self.answer()


class Served:
    """A backend behind a socket."""

    def __init__(self, venue: Venue, port: int) -> None:
        self.venue = venue
        self.port = port
        self.connections: list[Connection] = []

    async def connect(self) -> Connection:
        connection = Connection(*await asyncio.open_connection("127.0.0.1", self.port))
        self.connections.append(connection)
        return connection

    async def close(self) -> None:
        """Close all connections."""
        while self.connections:
            writer = self.connections.pop().writer
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def port(venue: Venue) -> AsyncIterator[int]:
    """Where the backend is served."""
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
    yield server.servers[0].sockets[0].getsockname()[1]
    await server.shutdown()


@pytest_asyncio.fixture(loop_scope="module")
async def served(venue: Venue, port: int) -> AsyncIterator[Served]:
    backend = Served(venue, port)
    yield backend
    await backend.close()


def order_form(trader: Trader, symbol: str, **changes: str) -> bytes:
    return signed_form(trader, {"symbol": symbol} | changes)


def signed_form(trader: Trader, changes: dict[str, str]) -> bytes:
    """An order with these changes; a ``signature`` among them stands instead of the right one."""
    order = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "1"}
    parameters = order | {"timestamp": str(now_ms())} | changes
    given = parameters.pop("signature", None)
    form = urlencode(parameters)
    return f"{form}&signature={given or trader.sign(form)}".encode()


def http(trader: Trader, method: str, target: str, body: bytes = b"", *, version: str = "1.1", **headers: str) -> bytes:
    sent = {"host": "rtx", "x-mbx-apikey": trader.api_key, "content-length": str(len(body))}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"{method} {target} HTTP/{version}\r\n{lines}\r\n".encode() + body


async def trader_with_a_cached_key(served: Served) -> Trader:
    trader = await served.venue.trader({"USDT": 1000})
    await trader.get("/api/v3/account")
    assert served.venue.backend.context.api_keys.kept(trader.api_key) is not None
    return trader


async def test_orders_are_placed_and_cancelled(served: Served) -> None:
    symbol = await served.venue.market()
    trader = await trader_with_a_cached_key(served)
    connection = await served.connect()
    status, headers, placed = await connection.ask(
        http(trader, "POST", "/api/v3/order", order_form(trader, symbol), x_request_id="short-way")
    )
    assert (status, placed["status"], placed["symbol"]) == (200, "NEW", symbol)
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"] == "short-way"

    form = urlencode({"symbol": symbol, "orderId": placed["orderId"], "timestamp": now_ms()})
    target = f"/api/v3/order?{form}&signature={trader.sign(form)}"
    status, _, cancelled = await connection.ask(http(trader, "DELETE", target))
    assert (status, cancelled["status"]) == (200, "CANCELED")
    status, _, refused = await connection.ask(http(trader, "DELETE", target))
    assert (status, refused) == (400, {"code": -2011, "msg": "Unknown order sent."})


@pytest.mark.parametrize(
    "changes",
    [
        {"price": "0.001"},
        {"price": "NaN"},
        {"side": "HOLD"},
        {"quantity": "100000"},
        {"colour": "red"},
        {"symbol": "NOSUCHUSDT"},
        {"newClientOrderId": "a b"},
        {"newOrderRespType": "SOME"},
        {"recvWindow": "70000"},
        {"signature": "0" * 64},
        {"timestamp": "1"},
    ],
)
async def test_refusals_are_the_same_both_ways(served: Served, changes: dict[str, str]) -> None:
    symbol = await served.venue.market()
    trader = await trader_with_a_cached_key(served)
    form = signed_form(trader, {"symbol": symbol} | changes)
    connection = await served.connect()
    status, headers, short = await connection.ask(http(trader, "POST", "/api/v3/order", form))
    long = await trader.send("POST", "/api/v3/order", form.decode(), in_body=True)
    assert (status, short) == (long.status, long.json)
    assert status == 400
    assert headers["x-request-id"]


async def test_an_order_that_got_no_answer_is_told_the_same_both_ways(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Binance Spot API, rest-api.md, "General API Information" and errors.md, -1007."""
    symbol = await served.venue.market()
    trader = await trader_with_a_cached_key(served)

    def begin(*_arguments: object, **_more: object) -> asyncio.Future[Response]:
        response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        response.set_exception(EngineTimeoutError())
        return response

    monkeypatch.setattr(served.venue.backend.link, "begin", begin)
    form = order_form(trader, symbol)
    connection = await served.connect()
    status, _, short = await connection.ask(http(trader, "POST", "/api/v3/order", form))
    long = await trader.send("POST", "/api/v3/order", form.decode(), in_body=True)
    assert (status, short) == (long.status, long.json)
    assert status == 504
    assert short == {
        "code": -1007,
        "msg": "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
    }


@pytest.mark.parametrize("api_key", ["", "k" * 64])
async def test_keys_are_refused_the_same_both_ways(served: Served, api_key: str) -> None:
    trader = Trader(served.venue.public, 0, api_key, "s")
    form = order_form(trader, "BTCUSDT")
    connection = await served.connect()
    status, _, short = await connection.ask(http(trader, "POST", "/api/v3/order", form))
    long = await trader.send("POST", "/api/v3/order", form.decode(), in_body=True)
    assert (status, short) == (long.status, long.json)
    assert status == 401


async def test_what_is_not_at_hand_is_fetched(served: Served) -> None:
    trader = await served.venue.trader({"USDT": 1000})
    symbol = await served.venue.market()
    assert served.venue.backend.context.api_keys.kept(trader.api_key) is None
    connection = await served.connect()
    for _ in range(2):
        status, _, placed = await connection.ask(http(trader, "POST", "/api/v3/order", order_form(trader, symbol)))
        assert (status, placed["status"]) == (200, "NEW")


async def test_requests_in_one_piece_are_answered_in_their_order(served: Served) -> None:
    symbol = await served.venue.market()
    trader = await trader_with_a_cached_key(served)
    connection = await served.connect()
    names = [f"order-{number}" for number in range(5)]
    requests = [
        http(trader, "POST", "/api/v3/order", order_form(trader, symbol, newClientOrderId=name)) for name in names
    ]
    requests.insert(2, http(trader, "GET", "/api/v3/ping"))
    connection.writer.write(b"".join(requests))
    answers = [(await connection.answer())[2].get("clientOrderId") for _ in requests]
    assert answers == [*names[:2], None, *names[2:]]


async def test_a_request_in_many_pieces(served: Served) -> None:
    symbol = await served.venue.market()
    trader = await trader_with_a_cached_key(served)
    connection = await served.connect()
    request = http(trader, "POST", "/api/v3/order", order_form(trader, symbol))
    for start in range(0, len(request), 40):
        connection.writer.write(request[start : start + 40])
        await connection.writer.drain()
        await asyncio.sleep(0)
    assert (await connection.answer())[0] == 200


@pytest.mark.parametrize(
    ("version", "headers"), [("1.1", {"connection": "close"}), ("1.0", {}), ("1.1", {"expect": "100-continue"})]
)
async def test_other_manners_of_http(served: Served, version: str, headers: dict[str, str]) -> None:
    symbol = await served.venue.market()
    trader = await trader_with_a_cached_key(served)
    connection = await served.connect()
    form = order_form(trader, symbol)
    connection.writer.write(http(trader, "POST", "/api/v3/order", form, version=version, **headers))
    if "expect" in headers:
        assert (await connection.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    status, answered, _ = await connection.answer()
    assert status == 200
    if "expect" not in headers:
        assert answered["connection"] == "close"
        assert await connection.reader.read() == b""


async def test_a_body_that_is_too_large(served: Served) -> None:
    trader = await trader_with_a_cached_key(served)
    connection = await served.connect()
    status, _, refused = await connection.ask(http(trader, "POST", "/api/v3/order", b"x" * 1_000_000))
    assert (status, refused["code"]) == (413, -9002)
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    connection = await served.connect()
    head = http(trader, "POST", "/api/v3/order", transfer_encoding="chunked").replace(b"content-length: 0\r\n", b"")
    status, _, refused = await connection.ask(head + chunk * 20 + b"0\r\n\r\n")
    assert (status, refused["code"]) == (413, -9002)


async def test_who_hangs_up_has_ordered_all_the_same(served: Served) -> None:
    symbol = await served.venue.market()
    trader = await trader_with_a_cached_key(served)
    connection = await served.connect()
    connection.writer.write(http(trader, "POST", "/api/v3/order", order_form(trader, symbol, newClientOrderId="gone")))
    await connection.writer.drain()
    connection.writer.close()
    await connection.writer.wait_closed()
    other = await served.connect()
    # What comes after it through the engine finds it done.
    await other.ask(http(trader, "POST", "/api/v3/order", order_form(trader, symbol)))
    found = await trader.get("/api/v3/order", symbol=symbol, origClientOrderId="gone")
    assert found.json["status"] == "NEW"


async def test_a_repeated_order_gets_the_same_bytes_both_ways(served: Served) -> None:
    symbol = await served.venue.market()
    trader = await trader_with_a_cached_key(served)
    connection = await served.connect()
    form = order_form(trader, symbol)
    status, _, short = await connection.ask(http(trader, "POST", "/api/v3/order", form, idempotency_key="the-same"))
    long = await trader.send(
        "POST", "/api/v3/order", form.decode(), in_body=True, headers={"Idempotency-Key": "the-same"}
    )
    assert (status, short) == (200, long.json)
