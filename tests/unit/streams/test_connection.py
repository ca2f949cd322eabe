"""A client's connection: subscribing, asking, and what happens to those who do it too fast or read too slowly."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.unit.streams.simulated_exchange import MARKET
from tests.unit.streams.worker import Worker, make_worker

from rtx.api.streams.connection import StreamLimits


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = await make_worker()
    yield worker
    await worker.feed.close()


async def test_subscribing_listing_and_unsubscribing(worker: Worker) -> None:
    socket = await worker.subscribed("btcusdt@depth@100ms", "btcusdt@trade")
    socket.request("LIST_SUBSCRIPTIONS", request_id=2)
    assert await socket.hear() == {"result": ["btcusdt@depth@100ms", "btcusdt@trade"], "id": 2}
    worker.change()
    worker.tick_a_second()
    assert (await socket.hear())["e"] == "depthUpdate"
    socket.request("UNSUBSCRIBE", ["btcusdt@depth@100ms", "btcusdt@nothing"], request_id=3)
    assert await socket.hear() == {"result": None, "id": 3}
    worker.change()
    worker.tick_a_second()
    socket.request("LIST_SUBSCRIPTIONS", request_id=4)
    assert await socket.hear() == {"result": ["btcusdt@trade"], "id": 4}


async def test_depth_messages_continue_each_other_and_carry_the_checksum(worker: Worker) -> None:
    socket = await worker.subscribed("btcusdt@depth")
    before = worker.exchange.sequence
    worker.change(100, 7)
    worker.change(98, 2)
    worker.tick_a_second()
    first = await socket.hear()
    assert (first["U"], first["u"], first["s"]) == (before + 1, before + 2, "BTCUSDT")
    assert first["b"] == [["1.000000", "0.00007000"], ["0.980000", "0.00002000"]]
    assert (first["a"], first["E"]) == ([], worker.exchange.sequence)
    assert isinstance(first["crc"], int)
    worker.tick_a_second()
    worker.change(100, 0)
    worker.tick_a_second()
    second = await socket.hear()
    assert (second["U"], second["u"]) == (before + 3, before + 3)
    assert second["b"] == [["1.000000", "0.00000000"]]


async def test_streams_with_a_present_state_begin_with_it(worker: Worker) -> None:
    best = {"u": 3, "s": "BTCUSDT", "b": "0.990000", "B": "0.00005000", "a": "1.010000", "A": "0.00005000"}
    socket = await worker.subscribed("btcusdt@bookTicker", "btcusdt@depth5")
    assert await socket.hear() == best
    assert await socket.hear() == {
        "lastUpdateId": 3,
        "bids": [["0.990000", "0.00005000"]],
        "asks": [["1.010000", "0.00005000"]],
    }
    worker.change(98, 1)
    worker.change(100, 1)
    assert await socket.hear() == best | {"u": 5, "b": "1.000000", "B": "0.00001000"}


async def test_trades_and_what_one_order_took_at_one_price(worker: Worker) -> None:
    socket = await worker.subscribed("btcusdt@trade", "btcusdt@aggTrade")
    worker.exchange.trade(101, 2)
    worker.exchange.trade(102, 3)
    worker.commit()
    heard = [await socket.hear() for _ in range(4)]
    assert [(message["e"], message.get("t", message.get("a"))) for message in heard] == [
        ("trade", 1), ("trade", 2), ("aggTrade", 1), ("aggTrade", 2),
    ]  # fmt: skip
    assert heard[0] == {
        "E": 4, "s": "BTCUSDT", "t": 1, "p": "1.010000", "q": "0.00002000", "T": 4, "m": False, "M": True, "e": "trade",
    }  # fmt: skip
    assert heard[3] == {
        "E": 5, "s": "BTCUSDT", "a": 2, "p": "1.020000", "q": "0.00003000", "f": 2, "l": 2, "T": 5, "m": False,
        "M": True, "e": "aggTrade",
    }  # fmt: skip


async def test_combined_messages_name_their_stream(worker: Worker) -> None:
    raw = await worker.subscribed("btcusdt@depth")
    combined = await worker.subscribed("btcusdt@depth", is_combined=True)
    worker.change()
    worker.tick_a_second()
    message = await combined.hear()
    assert message == {"stream": "btcusdt@depth", "data": await raw.hear()}
    combined.request("GET_PROPERTY", ["combined"], request_id=5)
    assert await combined.hear() == {"result": True, "id": 5}
    combined.request("SET_PROPERTY", ["combined", False], request_id=6)
    assert await combined.hear() == {"result": None, "id": 6}
    worker.change()
    worker.tick_a_second()
    assert await combined.hear() == await raw.hear()


@pytest.mark.parametrize("name", ["nothing@trade", "btcusdt@nothing", "btcusdt@depth7", "BTCUSDT@trade"])
async def test_a_stream_that_does_not_exist_is_refused_with_all_that_were_asked_for(worker: Worker, name: str) -> None:
    socket = worker.connect()
    socket.request("SUBSCRIBE", ["btcusdt@trade", name])
    answer = await socket.hear()
    assert (answer["code"], answer["id"]) == (2, 1)
    assert name in answer["msg"]
    socket.request("LIST_SUBSCRIPTIONS")
    assert (await socket.hear())["result"] == []


async def test_a_connection_listens_to_so_many_streams_and_no_more(worker: Worker) -> None:
    socket = await worker.subscribed("btcusdt@trade", "btcusdt@depth", "btcusdt@bookTicker")
    assert (await socket.hear())["u"] == 3
    socket.request("SUBSCRIBE", ["btcusdt@depth5"], request_id=2)
    answer = await socket.hear()
    assert (answer["code"], answer["id"]) == (2, 2)
    socket.request("SUBSCRIBE", ["btcusdt@trade"], request_id=3)
    assert await socket.hear() == {"result": None, "id": 3}


async def test_nonsense_is_answered_and_the_connection_goes_on(worker: Worker) -> None:
    socket = worker.connect()
    socket.say("{")
    assert (await socket.hear())["code"] == 3
    socket.say(b"\xff\xfe")
    assert (await socket.hear())["code"] == 3
    socket.request("LIST_SUBSCRIPTIONS")
    assert await socket.hear() == {"result": [], "id": 1}


async def test_too_many_requests_end_the_connection(worker: Worker) -> None:
    socket = worker.connect(limits=StreamLimits(requests_per_s=5))
    for number in range(6):
        socket.request("LIST_SUBSCRIPTIONS", request_id=number)
    await worker.all_ended()
    assert socket.closed == (1008, "Too many requests")


async def test_a_message_too_big_ends_the_connection(worker: Worker) -> None:
    socket = worker.connect()
    socket.say("x" * 1001)
    await worker.all_ended()
    assert socket.closed == (1009, "Message too big")


async def test_a_client_that_does_not_read_is_dropped_and_nobody_else_notices(worker: Worker) -> None:
    slow = await worker.subscribed("btcusdt@depth")
    quick = await worker.subscribed("btcusdt@depth")
    slow.reading.clear()
    for number in range(60):
        worker.change(quantity=number + 1)
        worker.tick_a_second()
        assert (await quick.hear())["e"] == "depthUpdate"
    await worker.ended(slow)
    quick.disconnect()
    await worker.all_ended()
    assert slow.was_aborted
    assert slow.unheard <= 1
    assert quick.closed is None


async def test_a_client_that_begins_to_read_again_in_time_hears_why_it_is_closed(worker: Worker) -> None:
    slow = await worker.subscribed("btcusdt@depth")
    slow.reading.clear()
    for number in range(25):
        worker.change(quantity=number + 1)
        worker.tick_a_second()
    slow.reading.set()
    await worker.all_ended()
    assert slow.closed == (1008, "Too slow: messages were not read in time")


async def test_an_end_of_the_server_is_announced_behind_what_is_queued(worker: Worker) -> None:
    raw = await worker.subscribed("btcusdt@depth")
    combined = await worker.subscribed("btcusdt@depth", is_combined=True)
    stuck = await worker.subscribed("btcusdt@trade")
    stuck.reading.clear()
    worker.change()
    worker.tick_a_second()
    await worker.hub.announce_shutdown()
    await worker.all_ended()
    assert (await raw.hear())["e"] == "depthUpdate"
    assert await raw.hear() == {"E": 5000, "e": "serverShutdown"}
    assert (await combined.hear())["stream"] == "btcusdt@depth"
    assert await combined.hear() == {"stream": "!serverShutdown", "data": {"E": 5000, "e": "serverShutdown"}}
    assert raw.closed == combined.closed == (1001, "Server shutdown")
    assert stuck.was_aborted


async def test_a_client_that_leaves_leaves_nothing_behind(worker: Worker) -> None:
    socket = await worker.subscribed("btcusdt@depth", "btcusdt@trade")
    view = worker.feed.track(MARKET)
    assert view.book_listeners
    assert view.trade_listeners
    socket.disconnect()
    await worker.all_ended()
    assert not view.book_listeners
    assert not view.trade_listeners
    assert not worker.hub.connections
    worker.change()
    worker.tick_a_second()
    assert socket.unheard == 0
