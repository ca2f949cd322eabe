"""A client that comes back goes on from the number it names, hears of everything since, and of nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.unit.streams.fake_websocket import FakeWebSocket
from tests.unit.streams.simulated_exchange import MARKET
from tests.unit.streams.worker import LIMITS, Worker, make_worker

from rtx.api.streams import resumption
from rtx.api.streams.resumption import ResumeRefusedError, Subscription

DEPTH = "btcusdt@depth@100ms"
TRADE = "btcusdt@trade"
AGGREGATE = "btcusdt@aggTrade"


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = await make_worker()
    yield worker
    await worker.feed.close()


def ask(socket: FakeWebSocket, name: str, after: object, request_id: int = 1) -> None:
    socket.request("SUBSCRIBE", [name], request_id, resume={name: after})


async def resumed(worker: Worker, name: str, after: int) -> FakeWebSocket:
    socket = worker.connect()
    ask(socket, name, after)
    assert await socket.hear() == {"result": None, "id": 1}
    return socket


async def refusal(worker: Worker, name: str, after: object) -> dict[str, Any]:
    """Have a resumption refused, and check that the stream was not subscribed to."""
    socket = worker.connect()
    ask(socket, name, after)
    answer: dict[str, Any] = await socket.hear()
    socket.request("LIST_SUBSCRIPTIONS", request_id=2)
    assert await socket.hear() == {"result": [], "id": 2}
    error = answer.pop("error")
    assert answer == {"code": error["code"], "msg": error["msg"], "id": 1}
    return answer


async def test_depth_goes_on_with_the_next_update_id_and_all_prices_touched_since(worker: Worker) -> None:
    held = worker.exchange.sequence
    worker.change(100, 7)
    worker.change(98, 2)
    worker.change(98, 0)
    socket = await resumed(worker, DEPTH, held)
    event = await socket.hear()
    assert (event["U"], event["u"]) == (held + 1, worker.exchange.sequence)
    assert event["b"] == [["1.000000", "0.00007000"], ["0.980000", "0.00000000"]]
    worker.change(97, 1)
    worker.tick_a_second()
    following = await socket.hear()
    assert (following["U"], following["u"]) == (event["u"] + 1, worker.exchange.sequence)


async def test_who_missed_nothing_hears_of_the_next_change_first(worker: Worker) -> None:
    socket = await resumed(worker, DEPTH, worker.exchange.sequence)
    held = worker.exchange.sequence
    worker.change(97, 1)
    worker.tick_a_second()
    event = await socket.hear()
    assert (event["U"], event["u"]) == (held + 1, held + 1)


async def test_a_chain_goes_on_beside_one_that_is_told_at_other_positions(worker: Worker) -> None:
    other = await worker.subscribed(DEPTH)
    start = worker.exchange.sequence
    worker.change(100, 7)
    socket = await resumed(worker, DEPTH, start)
    assert (await socket.hear())["u"] == start + 1
    worker.tick_a_second()
    event = await other.hear()
    assert (event["U"], event["u"]) == (start + 1, start + 1)
    worker.change(100, 8)
    worker.tick_a_second()
    for client in (other, socket):
        event = await client.hear()
        assert (event["U"], event["u"]) == (start + 2, start + 2)


async def test_what_is_not_in_memory_is_looked_up_once_for_all(worker: Worker) -> None:
    held = worker.exchange.sequence
    for price in range(110, 130):
        worker.change(price, 1)
    late = await make_worker(worker.exchange)
    sockets = [late.connect() for _ in range(5)]
    for number, socket in enumerate(sockets):
        ask(socket, DEPTH, held + number)
    for number, socket in enumerate(sockets):
        assert await socket.hear() == {"result": None, "id": 1}
        event = await socket.hear()
        assert event["U"] == held + number + 1
        assert len(event["b"]) >= 20 - number
    assert worker.exchange.lookups == 1
    await late.feed.close()


async def test_from_an_id_that_this_worker_has_not_seen_yet(worker: Worker) -> None:
    worker.exchange.level(True, 100, 7)
    worker.exchange.commit()
    held = worker.exchange.sequence
    socket = await resumed(worker, DEPTH, held)
    worker.change(98, 2)
    worker.tick_a_second()
    event = await socket.hear()
    assert (event["U"], event["b"]) == (held + 1, [["0.980000", "0.00002000"]])


async def test_an_id_from_the_future_is_refused(worker: Worker) -> None:
    newest = worker.exchange.sequence
    answer = await refusal(worker, DEPTH, newest + 1)
    assert answer["code"] == 4
    assert f"the newest is {newest}" in answer["msg"]
    answer = await refusal(worker, TRADE, 1)
    assert answer["code"] == 4
    assert "the newest is 0" in answer["msg"]


async def test_what_is_too_long_ago_is_refused_with_what_to_do(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumption, "JOURNAL_ROWS_MAX", 10)
    monkeypatch.setattr(resumption, "TRADES_MAX", 10)
    for _ in range(11):
        worker.exchange.trade(101, 1)
    worker.commit()
    late = await make_worker(worker.exchange)
    assert "take a snapshot" in (await refusal(late, DEPTH, 1))["msg"]
    assert "/api/v3/historicalTrades" in (await refusal(late, TRADE, 0))["msg"]
    await late.feed.close()


async def test_more_levels_than_a_snapshot_has_are_not_told(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumption, "PRICES_MAX", 5)
    held = worker.exchange.sequence
    for price in range(200, 206):
        worker.change(price, 1)
    assert "take a snapshot" in (await refusal(worker, DEPTH, held))["msg"]


@pytest.mark.parametrize("name", ["btcusdt@bookTicker", "btcusdt@depth5", "btcusdt@kline_1m", "!miniTicker@arr"])
async def test_streams_that_begin_with_what_they_show_are_not_resumed(worker: Worker, name: str) -> None:
    answer = await refusal(worker, name, 1)
    assert answer["code"] == 4
    assert "cannot be resumed" in answer["msg"]


@pytest.mark.parametrize(
    "resume",
    [7, [1], "x", {DEPTH: "1"}, {DEPTH: -1}, {DEPTH: 1.5}, {DEPTH: True}, {DEPTH: None}, {DEPTH: 2**63}, {TRADE: 1}],
)
async def test_a_resume_that_means_nothing_is_refused(worker: Worker, resume: object) -> None:
    socket = worker.connect()
    socket.request("SUBSCRIBE", [DEPTH], resume=resume)
    answer = await socket.hear()
    assert answer["code"] == 2
    assert "resume" in answer["msg"]


async def test_a_stream_that_is_listened_to_already_is_not_resumed(worker: Worker) -> None:
    socket = await worker.subscribed(DEPTH)
    ask(socket, DEPTH, 1, request_id=2)
    answer = await socket.hear()
    assert (answer["code"], answer["id"]) == (2, 2)


async def test_one_refusal_refuses_the_whole_request(worker: Worker) -> None:
    socket = worker.connect()
    resume = {DEPTH: worker.exchange.sequence, TRADE: 99}
    socket.request("SUBSCRIBE", [DEPTH, TRADE], resume=resume)
    assert (await socket.hear())["code"] == 4
    socket.request("LIST_SUBSCRIPTIONS", request_id=2)
    assert (await socket.hear())["result"] == []


async def test_trades_are_told_from_the_next_one_on_and_each_once(worker: Worker) -> None:
    for _ in range(5):
        worker.exchange.trade(101, 1)
        worker.commit()
    # two that are committed, and have not arrived
    for _ in range(2):
        worker.exchange.trade(101, 1)
    worker.exchange.commit()
    socket = await resumed(worker, TRADE, 2)
    assert [(await socket.hear())["t"] for _ in range(3)] == [3, 4, 5]
    worker.exchange.trade(101, 1)
    worker.commit()
    assert [(await socket.hear())["t"] for _ in range(3)] == [6, 7, 8]


async def test_many_missed_trades_do_not_make_a_client_count_as_slow(worker: Worker) -> None:
    for _ in range(3_000):
        worker.exchange.trade(101, 1)
        worker.exchange.commit()
    worker.commit()
    worker.exchange.trade(101, 1)
    worker.commit()
    socket = worker.connect(limits=msgspec.structs.replace(LIMITS, queue_messages_max=1_000, queue_bytes_max=10**6))
    ask(socket, TRADE, 0)
    assert await socket.hear() == {"result": None, "id": 1}
    assert [(await socket.hear())["t"] for _ in range(3_001)] == list(range(1, 3_002))


async def test_aggregated_trades_go_on_after_the_last_trade_of_one(worker: Worker) -> None:
    exchange = worker.exchange
    exchange.order_with_trades(101, [1, 2, 3])
    exchange.order_with_trades(101, [4] * 600)
    exchange.order_with_trades(102, [5, 6])
    worker.commit()
    socket = await resumed(worker, AGGREGATE, 3)
    events = [await socket.hear() for _ in range(2)]
    assert [(event["f"], event["l"], event["q"]) for event in events] == [
        (4, 603, "0.02400000"),
        (604, 605, "0.00011000"),
    ]


async def test_a_trade_that_is_committed_while_the_feed_looks_is_not_lost(worker: Worker) -> None:
    """The feed, which nobody listened to, looks for the newest trade while a client joins."""
    worker.exchange.trade(101, 1)
    worker.commit()
    stream = await worker.hub.find(TRADE, 1000)
    client = FakeSubscriber()
    last_trade_id = worker.exchange.last_trade_id

    async def joined_meanwhile(market_id: int) -> int:
        await worker.hub.resume(stream, 1, client)
        worker.exchange.trade(101, 1)
        worker.exchange.commit()
        return await last_trade_id(market_id)

    worker.exchange.last_trade_id = joined_meanwhile  # type: ignore[method-assign]
    await worker.feed.refresh(worker.feed.track(MARKET))
    assert len(client.heard) == 1
    assert '"t":2' in client.heard[0]


async def test_what_was_forgotten_between_is_not_told_as_if_it_were_whole(worker: Worker) -> None:
    held = worker.exchange.sequence
    stream = await worker.hub.find(DEPTH, 1000)
    await worker.hub.prepare([Subscription(stream, held)])
    worker.feed.track(MARKET).touches.restart(held + 1)
    with pytest.raises(ResumeRefusedError):
        await worker.hub.resume(stream, held, FakeSubscriber())
    assert not stream.has_subscribers


async def test_while_no_engine_leads_what_is_known_is_resumed_and_nothing_else(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumption, "TIMEOUT_S", 0.01)
    held = worker.exchange.sequence
    worker.change(100, 7)
    worker.exchange.crash(is_committed=False, is_late=False)
    socket = await resumed(worker, DEPTH, held)
    assert (await socket.hear())["U"] == held + 1
    answer = await refusal(worker, DEPTH, worker.exchange.sequence + 1)
    assert "at this moment" in answer["msg"]


class FakeSubscriber:
    is_combined = False

    def __init__(self) -> None:
        self.heard: list[str] = []

    def offer(self, text: str) -> None:
        self.heard.append(text)

    async def drained(self) -> None:
        await asyncio.sleep(0)
