"""A connection's own dead-man's switch: who may have one, how long it lives, and what each way to end does to it."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
from tests.simulation.loop import SimulatedLoop
from tests.unit.streams.fake_websocket import FakeWebSocket
from tests.unit.streams.keyed_exchange import ALICE, API_KEYS, BOB, KeyedExchange
from tests.unit.streams.worker import LIMITS, Worker, make_worker

from rtx.api import errors
from rtx.api.errors import ApiError
from rtx.api.streams.cancel_on_disconnect import ConnectionSwitch, DisconnectSwitches
from rtx.core.commands import CancelAllAfter
from rtx.core.vocabulary import MOST_SESSIONS
from rtx.link.client import EngineOverloadedError, EngineTimeoutError

GRACE_MS: Final = 9_000
TIMEOUT_S: Final = 5.0


# -- the life of a switch -----------------------------------------------------------------------------------------


class Clocked:
    """An exchange and a worker's switches in a time that the test decides."""

    def __init__(self) -> None:
        self.loop = SimulatedLoop("switches")  # type: ignore[abstract] # what it lacks, nothing asks for
        self.exchange: KeyedExchange
        self.switches: DisconnectSwitches

    def run(self, story: Callable[[], Awaitable[None]]) -> None:
        async def told() -> None:
            self.exchange = KeyedExchange(self.loop.time)
            self.switches = DisconnectSwitches(self.exchange.context())
            await story()

        try:
            self.loop.run(told(), until_s=10_000.0)
            assert not self.loop.errors
        finally:
            assert self.loop.dispose() == 0

    def connected(self) -> ConnectionSwitch:
        return self.switches.of_connection("192.0.2.1", "request")

    async def enabled(self, **parameters: object) -> tuple[ConnectionSwitch, str]:
        """A connection's switch that is armed, and its session."""
        switch = self.connected()
        result = await switch.enable(self.exchange.signed(**{"graceMs": GRACE_MS, **parameters}))  # type: ignore[arg-type]
        return switch, str(result["session"])

    @property
    def timeouts_ms(self) -> list[int]:
        return [command.timeout_us // 1_000 for command in self.exchange.commands]


@pytest.fixture
def clocked() -> Clocked:
    return Clocked()


def test_it_is_renewed_at_a_third_of_the_grace_while_the_connection_lives(clocked: Clocked) -> None:
    async def story() -> None:
        _, session = await clocked.enabled()
        await asyncio.sleep(30.5)
        assert clocked.timeouts_ms == [GRACE_MS] * 11
        assert clocked.exchange.sessions == {session: GRACE_MS}
        assert [command.renews for command in clocked.exchange.commands] == [False] + [True] * 10

    clocked.run(story)


def test_another_grace_takes_the_place_of_the_first(clocked: Clocked) -> None:
    async def story() -> None:
        switch, session = await clocked.enabled()
        again = await switch.enable(clocked.exchange.signed(graceMs=3_000))
        assert again["session"] == session
        await asyncio.sleep(3.5)
        assert clocked.timeouts_ms == [GRACE_MS, 3_000, 3_000, 3_000, 3_000]

    clocked.run(story)


def test_disabling_disarms_it_and_ends_the_renewals(clocked: Clocked) -> None:
    async def story() -> None:
        switch, _ = await clocked.enabled()
        await switch.disable()
        await switch.disable()
        switch.connection_ended(by_exchange=False)
        await asyncio.sleep(30)
        assert clocked.timeouts_ms == [GRACE_MS, 0]
        assert clocked.exchange.sessions == {}

    clocked.run(story)


def test_a_client_that_goes_has_its_orders_cancelled_at_once(clocked: Clocked) -> None:
    async def story() -> None:
        switch, session = await clocked.enabled()
        switch.connection_ended(by_exchange=False)
        await asyncio.sleep(30)
        assert clocked.exchange.commands[1:] == [CancelAllAfter(ALICE, 1, session, renews=True)]

    clocked.run(story)


def test_a_client_that_is_sent_away_has_its_whole_grace_to_come_back(clocked: Clocked) -> None:
    async def story() -> None:
        switch, session = await clocked.enabled()
        await asyncio.sleep(2.9)
        switch.connection_ended(by_exchange=True)
        await clocked.switches.close()
        await asyncio.sleep(30)
        assert clocked.exchange.sessions == {session: GRACE_MS}
        assert clocked.timeouts_ms == [GRACE_MS, GRACE_MS]
        # it comes back, perhaps at another worker
        _, new_session = await clocked.enabled(replaces=session)
        assert list(clocked.exchange.sessions) == [new_session]

    clocked.run(story)


def test_the_answer_says_whether_the_former_switch_was_still_armed(clocked: Clocked) -> None:
    async def story() -> None:
        switch, session = await clocked.enabled()
        again = clocked.connected()
        parameters = clocked.exchange.signed(graceMs=GRACE_MS, replaces=session)
        assert (await again.enable(parameters))["replaced"] is True
        assert (await again.enable(parameters))["replaced"] is False
        switch.connection_ended(by_exchange=True)

    clocked.run(story)


def test_a_connection_that_was_replaced_neither_renews_nor_cancels_and_is_told(clocked: Clocked) -> None:
    """It may be half open for a long time: its client is elsewhere."""

    async def story() -> None:
        gone: list[str] = []
        half_open, session = await clocked.enabled()
        half_open.on_gone = lambda: gone.append("half open")
        late, late_session = await clocked.enabled()
        late.on_gone = lambda: gone.append("late")
        _, newest = await clocked.enabled(replaces=session)
        await clocked.enabled(replaces=late_session)
        late.connection_ended(by_exchange=False)
        await asyncio.sleep(10)
        assert gone == ["half open"]
        half_open.connection_ended(by_exchange=False)
        await asyncio.sleep(10)
        assert newest in clocked.exchange.sessions
        assert not {session, late_session} & clocked.exchange.sessions.keys()
        assert 0 not in clocked.exchange.sessions.values()

    clocked.run(story)


@pytest.mark.parametrize("fault", [EngineTimeoutError(), EngineOverloadedError()])
def test_a_renewal_that_fails_is_tried_again_soon(clocked: Clocked, fault: Exception) -> None:
    async def story() -> None:
        await clocked.enabled()
        clocked.exchange.faults = [fault] * 3
        await asyncio.sleep(4)
        assert clocked.timeouts_ms == [GRACE_MS, GRACE_MS]

    clocked.run(story)


def test_what_may_have_been_armed_under_an_error_is_disarmed(clocked: Clocked) -> None:
    async def story() -> None:
        switch = clocked.connected()
        clocked.exchange.faults = [EngineTimeoutError()]
        with pytest.raises(ApiError) as caught:
            await switch.enable(clocked.exchange.signed(graceMs=GRACE_MS))
        assert caught.value.code == errors.TIMEOUT
        await clocked.switches.close()
        (undone,) = clocked.exchange.commands
        assert (undone.timeout_us, undone.renews) == (0, True)
        switch.connection_ended(by_exchange=False)
        await asyncio.sleep(10)
        assert len(clocked.exchange.commands) == 1

    clocked.run(story)


def test_a_connection_that_ends_before_the_answer_cancels_what_it_armed(clocked: Clocked) -> None:
    async def story() -> None:
        switch = clocked.connected()
        enabling = asyncio.ensure_future(switch.enable(clocked.exchange.signed(graceMs=GRACE_MS)))
        while not clocked.exchange.commands:  # noqa: ASYNC110 - the point is to come before the answer is seen
            await asyncio.sleep(0)
        switch.connection_ended(by_exchange=False)
        await asyncio.wait({enabling})
        await asyncio.sleep(10)
        assert [command.timeout_us for command in clocked.exchange.commands] == [GRACE_MS * 1_000, 1]

    clocked.run(story)


def test_the_end_of_the_worker_does_not_wait_for_an_exchange_that_is_away(clocked: Clocked) -> None:
    async def story() -> None:
        switch, _ = await clocked.enabled()
        clocked.exchange.faults = [EngineTimeoutError()] * 3
        switch.connection_ended(by_exchange=True)
        await clocked.switches.close()
        assert clocked.exchange.faults == []

    clocked.run(story)


# -- who may have one ---------------------------------------------------------------------------------------------


async def refusal(exchange: KeyedExchange, parameters: dict[str, Any]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await DisconnectSwitches(exchange.context()).of_connection("192.0.2.1", "request").enable(parameters)
    return caught.value


@pytest.mark.parametrize(
    ("parameters", "code", "message"),
    [
        ({}, errors.MANDATORY_PARAM_EMPTY_OR_MALFORMED, "'graceMs' was not sent"),
        ({"graceMs": 999}, errors.INVALID_PARAMETER, "'graceMs' must be a whole number from 1000 to 86400000"),
        ({"graceMs": 86_400_001}, errors.INVALID_PARAMETER, "from 1000 to 86400000"),
        ({"graceMs": "soon"}, errors.INVALID_PARAMETER, "'graceMs'"),
        ({"graceMs": "-5000"}, errors.INVALID_PARAMETER, "'graceMs'"),
        ({"graceMs": 5_000, "replaces": ""}, errors.INVALID_PARAMETER, "'replaces' must be the session"),
        ({"graceMs": 5_000, "grace": 1}, errors.UNREAD_PARAMETERS, "Unknown parameter 'grace'; known are apiKey"),
        ({"graceMs": 5_000, "timestamp": 1}, errors.INVALID_TIMESTAMP, "outside of the recvWindow"),
        ({"graceMs": 5_000, "recvWindow": 60_001}, errors.BAD_RECV_WINDOW, "recvWindow"),
        ({"graceMs": 5_000, "apiKey": "x" * 64}, errors.REJECTED_API_KEY, "Invalid API-key"),
        ({"graceMs": 5_000, "apiKey": "ä"}, errors.BAD_API_KEY_FORMAT, "API-key format invalid"),
    ],
)
async def test_what_is_wrong_is_said(parameters: dict[str, Any], code: int, message: str) -> None:
    exchange = KeyedExchange()
    error = await refusal(exchange, exchange.signed(**parameters))
    assert error.code == code
    assert message in error.message
    assert exchange.commands == []


async def test_it_has_to_be_signed_by_a_key_that_may_trade_from_there() -> None:
    exchange = KeyedExchange()
    good = exchange.signed(graceMs=5_000)
    assert (await refusal(exchange, good | {"graceMs": 6_000})).code == errors.INVALID_SIGNATURE
    assert (await refusal(exchange, good | {"signature": "f" * 64})).code == errors.INVALID_SIGNATURE
    assert (await refusal(exchange, good | {"graceMs": 5_000.0})).code == errors.INVALID_PARAMETER
    del good["signature"]
    assert (await refusal(exchange, good)).code == errors.MANDATORY_PARAM_EMPTY_OR_MALFORMED
    exchange.permissions = frozenset({"read"})
    assert (await refusal(exchange, exchange.signed(graceMs=5_000))).code == errors.REJECTED_API_KEY
    exchange.permissions = frozenset({"trade"})
    exchange.ip_allow = (ipaddress.ip_network("198.51.100.0/24"),)
    assert (await refusal(exchange, exchange.signed(graceMs=5_000))).code == errors.REJECTED_API_KEY
    assert exchange.commands == []


async def test_an_account_has_so_many_at_most() -> None:
    exchange = KeyedExchange()
    for number in range(MOST_SESSIONS):
        await exchange.submit(CancelAllAfter(ALICE, 1_000_000, str(number)))
    error = await refusal(exchange, exchange.signed(graceMs=5_000))
    assert error.code == errors.INVALID_PARAMETER
    assert f"has {MOST_SESSIONS} dead-man's switches armed" in error.message


# -- how connections end ------------------------------------------------------------------------------------------


@pytest.fixture
async def worker() -> Any:
    worker = await make_worker()
    yield worker
    await worker.feed.close()


async def enable(worker: Worker, **options: Any) -> tuple[FakeWebSocket, str]:
    """A connection whose switch is armed, and its session."""
    socket = worker.connect(**options)
    say(socket, "cancelOnDisconnect.enable", worker.orders.signed(graceMs=GRACE_MS))
    answer = await socket.hear()
    assert answer["id"] == 1
    result = answer["result"]
    assert result["graceMs"] == GRACE_MS
    assert result["deadline"] == worker.orders.exchange.deadlines[ALICE, result["session"]] // 1_000
    return socket, result["session"]


def say(socket: FakeWebSocket, method: str, params: dict[str, object]) -> None:
    socket.request(method, params)  # type: ignore[arg-type]


async def last_timeout_ms(worker: Worker) -> float:
    """What the end of the connection set."""
    async with asyncio.timeout(TIMEOUT_S):
        while len(worker.orders.commands) < 2:
            worker.orders.changed.clear()
            await worker.orders.changed.wait()
    return worker.orders.commands[-1].timeout_us / 1_000


async def test_it_is_enabled_and_disabled_over_the_socket(worker: Worker) -> None:
    socket, session = await enable(worker)
    assert set(worker.orders.sessions) == {session}
    say(socket, "cancelOnDisconnect.disable", {})
    assert await socket.hear() == {"result": None, "id": 1}
    assert worker.orders.sessions == {}


async def test_errors_come_as_answers(worker: Worker) -> None:
    socket = worker.connect()
    say(socket, "cancelOnDisconnect.enable", worker.orders.signed(graceMs=1) | {"signature": "0" * 64})
    error = {"code": errors.INVALID_SIGNATURE, "msg": "Signature for this request is not valid."}
    assert await socket.hear() == {**error, "error": error, "id": 1}
    socket.request("cancelOnDisconnect.enable", ["not", "named"])
    assert "params must be an object" in (await socket.hear())["msg"]


async def test_one_connection_is_for_one_account(worker: Worker) -> None:
    socket, _ = await enable(worker)
    say(socket, "cancelOnDisconnect.enable", worker.orders.signed(BOB, graceMs=GRACE_MS))
    assert "another account" in (await socket.hear())["msg"]
    assert API_KEYS[BOB] not in str(worker.orders.exchange.deadlines)
    assert [account_id for account_id, _ in worker.orders.exchange.deadlines] == [ALICE]


async def test_a_client_that_closes_is_gone(worker: Worker) -> None:
    socket, _ = await enable(worker)
    socket.disconnect()
    assert await last_timeout_ms(worker) == 0.001


async def test_a_client_that_does_not_read_is_gone(worker: Worker) -> None:
    socket, _ = await enable(worker)
    socket.request("SUBSCRIBE", ["btcusdt@trade"])
    assert await socket.hear() == {"result": None, "id": 1}
    socket.reading.clear()
    while socket.closed is None and not socket.was_aborted:
        worker.exchange.trade(101, 1)
        worker.commit()
        await asyncio.sleep(0)
    assert await last_timeout_ms(worker) == 0.001


async def test_a_client_that_asks_too_much_is_gone(worker: Worker) -> None:
    socket, _ = await enable(worker)
    socket.say("x" * (LIMITS.request_bytes_max + 1))
    assert await last_timeout_ms(worker) == 0.001
    await worker.ended(socket)
    assert socket.closed is not None
    assert socket.closed[0] == 1009


async def test_a_worker_that_drains_leaves_the_grace(worker: Worker) -> None:
    socket, _ = await enable(worker)
    await worker.hub.announce_shutdown()
    assert (await socket.hear())["e"] == "serverShutdown"
    assert await last_timeout_ms(worker) == GRACE_MS
    await worker.ended(socket)
    assert socket.closed is not None
    assert socket.closed[0] == 1001


async def test_a_client_that_leaves_as_it_was_told_to_has_its_grace(worker: Worker) -> None:
    socket, _ = await enable(worker)
    socket.reading.clear()
    closing = asyncio.create_task(worker.hub.announce_shutdown())
    await asyncio.sleep(0)
    socket.disconnect()
    await closing
    assert await last_timeout_ms(worker) == GRACE_MS


async def test_a_connection_whose_task_is_cancelled_leaves_the_grace(worker: Worker) -> None:
    """As the server does with connections that do not end in time when it stops."""
    socket, _ = await enable(worker)
    worker.cancel(socket)
    assert await last_timeout_ms(worker) == GRACE_MS


async def test_a_client_whose_switch_is_gone_is_told(worker: Worker) -> None:
    socket = worker.connect()
    say(socket, "cancelOnDisconnect.enable", worker.orders.signed(graceMs=1_000))
    session = (await socket.hear())["result"]["session"]
    # it went off: renewals had not arrived in time
    await worker.orders.submit(CancelAllAfter(ALICE, 0, session))
    async with asyncio.timeout(TIMEOUT_S):
        await worker.ended(socket)
    assert socket.closed == (1008, "Cancel on disconnect has gone off, or was replaced by another connection")
    assert worker.orders.sessions == {}
