"""A dead-man's switch goes off when its time is over, and only time counts in which the leader was there."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec
import pytest
from tests.fakes.leadership import FakeLease, take_lease
from tests.integration.store.trading import ALICE, BOB, START_US, Trading
from tests.simulation.loop import EPOCH_US, SimulatedLoop
from tests.unit.engine.leader import Commit, GatedJournal, Recorder, Worker, bid, new_command_id

from rtx.core.commands import (
    AnyCommand,
    CancelAllAfter,
    ExpireCancelAllAfter,
    ExtendDeadlines,
    decode_command,
    encode_command,
)
from rtx.core.events import CancelAllAfterSet, OrderState, decode_events
from rtx.core.exchange import Exchange
from rtx.core.vocabulary import OrderStatus
from rtx.engine.deadlines import COUNTED_S_MAX, DRIFT_US_MAX, TICK_S, DeadlineWatch, served_until_us
from rtx.engine.own_commands import OwnCommands
from rtx.engine.recovery import recover
from rtx.engine.sequencer import Sequencer, unavailable
from rtx.link.messages import APPLIED, SUBMIT, Request
from rtx.link.server import Connection
from rtx.store.entries import JournalEntry

LATE_S: Final = 0.1
"""So long after its time a switch has gone off, when nothing stands still."""

STANDSTILL_S: Final = COUNTED_S_MAX + 2 * TICK_S
"""The most that counts of one standstill."""

SECOND_US: Final = 1_000_000


class Engine:
    """A leader's sequencer and its watch, as one process of a simulation whose times the test decides."""

    def __init__(self) -> None:
        self.loop = SimulatedLoop("deadlines")  # type: ignore[abstract] # what it lacks, nothing asks for
        self.node = self.loop.add_node("engine", "host", wall_offset_us=START_US - EPOCH_US + SECOND_US)
        self.worker = Worker()
        self.lease = FakeLease(lambda: self.loop.now_s)
        self.journal: GatedJournal
        self.exchange: Exchange
        self.sequencer: Sequencer
        self._numbers = itertools.count(1)
        self._watching: asyncio.Task[None]

    def run(self, story: Callable[[], Awaitable[None]]) -> None:
        """Run a story over an engine that leads on an open market."""

        async def told() -> None:
            self.journal = GatedJournal(self.lease)
            self.journal.holds_commits = False
            epoch = await take_lease(self.lease, "opening", ttl_s=0.0)
            assert epoch is not None
            trading = Trading(epoch)
            trading.open_market()
            await self.journal.commit(trading.take_batch())
            await self.lead(idle_s=0.0, away_s=0.0)
            await story()

        try:
            self.loop.run(told(), until_s=100_000.0)
            assert not self.loop.errors
        finally:
            assert self.loop.dispose() == 0

    async def lead(self, *, idle_s: float, away_s: float, batch_commands_max: int = 512) -> None:
        """Begin a term with what is committed."""
        epoch = await take_lease(self.lease, "engine", ttl_s=0.0)
        assert epoch is not None
        recovered = await recover(self.journal)
        self.exchange = recovered.exchange

        async def begin() -> None:
            watch = DeadlineWatch(
                recovered.exchange,
                self._clock_us,
                self.loop.time,
                served_until_us(recovered.exchange.time_us, idle_s=idle_s, away_s=away_s),
            )
            self.sequencer = Sequencer(
                recovered,
                epoch,
                store=self.journal,
                lookups=self.journal,
                publisher=Recorder(),
                metrics=Recorder(),
                clock_us=watch.exchange_clock_us,
                monotonic_s=self.loop.time,
                may_lead=lambda: True,
                on_failure=lambda error: None,
                queue_commands_max=100,
                batch_commands_max=batch_commands_max,
                on_switch=watch.note,
            )
            self._watching = asyncio.create_task(watch.run(self.sequencer, OwnCommands(self.sequencer)))

        await self.on_engine(begin())

    async def end_term(self) -> None:
        """Stop watching."""
        self._watching.cancel()
        await asyncio.wait({self._watching})

    async def stand_still(self, seconds: float) -> None:
        """Stop the process as SIGSTOP does, and let it go on."""
        self.loop.pause(self.node)
        self.loop.after(self.loop.world, seconds, self.loop.resume, self.node)
        await asyncio.sleep(0)

    async def on_engine(self, coroutine: Coroutine[Any, Any, None]) -> None:
        await self.loop.on_node(self.node, coroutine)

    def send(self, command: AnyCommand) -> Request:
        """Have a request arrive at the engine, as soon as it runs."""
        payload = msgspec.Raw(encode_command(command))
        request = Request(next(self._numbers), SUBMIT, payload, new_command_id(), "request")
        self.loop.after(self.node, 0.0, lambda: self.sequencer.handle(self.worker, [request]))
        return request

    async def ask(self, command: AnyCommand) -> float:
        """Have a command done, and give the time."""
        response = await self.worker.answer(self.send(command))
        assert response.status == APPLIED
        return self.loop.now_s

    async def arm(self, timeout_s: float, account_id: int = ALICE, session: str = "") -> float:
        return await self.ask(CancelAllAfter(account_id, int(timeout_s * SECOND_US), session))

    async def until_expired(self) -> float:
        """Wait until no switch is armed, and give the time."""
        while self.exchange.deadlines:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.001)
        return self.loop.now_s

    def rows(self, kind: type[AnyCommand]) -> list[JournalEntry]:
        """The journaled commands of one kind."""
        return [row for row in self.journal.rows.values() if type(decode_command(row.command)) is kind]

    def extensions_us(self) -> list[int]:
        return [extension.away_us for extension in self._commands(ExtendDeadlines)]

    def expired(self) -> list[tuple[int, str]]:
        return [(expiry.account_id, expiry.session) for expiry in self._commands(ExpireCancelAllAfter)]

    def _commands(self, kind: type[Any]) -> list[Any]:
        return [decode_command(row.command) for row in self.rows(kind)]

    def _clock_us(self) -> int:
        return self.loop.wall_us(self.node)


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_the_orders_of_the_account_are_cancelled_once_when_the_time_is_over(engine: Engine) -> None:
    async def story() -> None:
        for account_id in (ALICE, BOB, ALICE):
            await engine.ask(bid(account_id=account_id))
        armed_s = await engine.arm(5)
        expired_s = await engine.until_expired()
        assert 5 <= expired_s - armed_s <= 5 + LATE_S
        (row,) = engine.rows(ExpireCancelAllAfter)
        assert row.request_id == "engine"
        disarmed, *cancelled = decode_events(row.events)
        assert disarmed == CancelAllAfterSet(ALICE, "", 0)
        assert [type(event) for event in cancelled] == [OrderState, OrderState]
        assert {(event.account_id, event.status) for event in cancelled if isinstance(event, OrderState)} == {
            (ALICE, OrderStatus.CANCELED)
        }
        assert {order.account_id for order in engine.exchange.orders.values()} == {BOB}
        await asyncio.sleep(10)
        assert engine.expired() == [(ALICE, "")]
        assert engine.extensions_us() == []

    engine.run(story)


def test_each_session_has_its_time(engine: Engine) -> None:
    async def story() -> None:
        await engine.arm(2, ALICE, "later")
        await engine.arm(1, BOB)
        await engine.arm(1.5, ALICE, "sooner")
        await engine.until_expired()
        assert engine.expired() == [(BOB, ""), (ALICE, "sooner"), (ALICE, "later")]

    engine.run(story)


def test_setting_it_again_moves_its_time_and_disarming_ends_it(engine: Engine) -> None:
    async def story() -> None:
        await engine.arm(1, BOB)
        for _ in range(20):
            await engine.arm(1)
            await asyncio.sleep(0.9)
            await engine.arm(0, BOB)
        renewed_s = await engine.arm(0.5)
        assert 0.5 <= await engine.until_expired() - renewed_s <= 0.5 + LATE_S
        assert engine.expired() == [(ALICE, "")]

    engine.run(story)


def test_one_that_is_armed_after_long_silence_has_its_whole_time(engine: Engine) -> None:
    async def story() -> None:
        await engine.arm(1)
        await engine.until_expired()
        await asyncio.sleep(50_000)
        armed_s = await engine.arm(1)
        assert 1 <= await engine.until_expired() - armed_s <= 1 + LATE_S
        assert engine.extensions_us() == []

    engine.run(story)


def test_a_renewal_that_waits_in_the_queue_is_not_overtaken(engine: Engine) -> None:
    async def story() -> None:
        await engine.end_term()
        await engine.lead(idle_s=0.0, away_s=0.0, batch_commands_max=1)
        await engine.arm(0.2)
        await asyncio.sleep(0.15)
        engine.journal.holds_commits = True
        engine.send(bid())
        commit = await engine.journal.next_commit()
        engine.send(bid())
        engine.send(CancelAllAfter(ALICE, SECOND_US))
        await asyncio.sleep(0.2)
        engine.journal.holds_commits = False
        commit.go_on()
        expired_s = await engine.until_expired()
        (renewal,) = engine.rows(CancelAllAfter)[1:]
        (expiry,) = engine.rows(ExpireCancelAllAfter)
        (event,) = decode_events(renewal.events)
        assert isinstance(event, CancelAllAfterSet)
        assert decode_command(expiry.command) == ExpireCancelAllAfter(ALICE, "", event.deadline_us)
        assert expired_s > 1.3

    engine.run(story)


def test_a_renewal_that_arrives_while_the_process_is_stopped_is_not_overtaken(engine: Engine) -> None:
    async def story() -> None:
        await engine.arm(1)
        await asyncio.sleep(0.9)
        engine.loop.after(engine.loop.world, 1, engine.send, CancelAllAfter(ALICE, SECOND_US))
        await engine.stand_still(2)
        resumed_s = engine.loop.now_s
        assert await engine.until_expired() >= resumed_s + 1
        assert len(engine.expired()) == 1

    engine.run(story)


def test_time_in_which_the_process_was_stopped_does_not_count(engine: Engine) -> None:
    async def story() -> None:
        armed_s = await engine.arm(2)
        await asyncio.sleep(1)
        await engine.stand_still(60)
        expired_s = await engine.until_expired()
        assert 62 - STANDSTILL_S <= expired_s - armed_s <= 62 + LATE_S
        (extension_us,) = engine.extensions_us()
        assert 60 - STANDSTILL_S <= extension_us / SECOND_US <= 60 + LATE_S

    engine.run(story)


def test_time_in_which_a_commit_hangs_does_not_count(engine: Engine) -> None:
    async def story() -> None:
        armed_s = await engine.arm(2)
        await asyncio.sleep(1)
        engine.journal.holds_commits = True
        engine.send(bid())
        commit: Commit = await engine.journal.next_commit()
        await asyncio.sleep(60)
        engine.journal.holds_commits = False
        commit.go_on()
        expired_s = await engine.until_expired()
        assert 62 - STANDSTILL_S <= expired_s - armed_s <= 62 + LATE_S
        (extension_us,) = engine.extensions_us()
        assert 60 - STANDSTILL_S <= extension_us / SECOND_US <= 60 + LATE_S

    engine.run(story)


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_a_wall_clock_that_is_set_moves_nothing(engine: Engine, jump_s: int) -> None:
    async def story() -> None:
        armed_s = await engine.arm(10)
        await asyncio.sleep(2)
        engine.node.wall_offset_us += jump_s * SECOND_US
        await engine.ask(bid(account_id=BOB))
        expired_s = await engine.until_expired()
        assert 10 <= expired_s - armed_s <= 10 + LATE_S
        # and what the next leader reads is not over before its time either
        armed_s = await engine.arm(10)
        await asyncio.sleep(2)
        engine.node.wall_offset_us -= jump_s * SECOND_US
        await asyncio.sleep(2)
        await engine.ask(bid(account_id=BOB))
        await engine.end_term()
        await engine.lead(idle_s=0.0, away_s=0.0)
        assert await engine.until_expired() - armed_s >= 10

    engine.run(story)


def test_a_wall_clock_that_is_set_just_before_the_leader_dies_moves_nothing(engine: Engine) -> None:
    async def story() -> None:
        armed_s = await engine.arm(10)
        await asyncio.sleep(2)
        engine.node.wall_offset_us += 3600 * SECOND_US
        await engine.ask(bid(account_id=BOB))
        await engine.end_term()
        assert engine.extensions_us() == []
        await engine.lead(idle_s=0.0, away_s=0.0)
        assert await engine.until_expired() - armed_s >= 10

    engine.run(story)


def test_the_exchange_goes_on_by_the_wall_clock_when_the_deadlines_are_extended(engine: Engine) -> None:
    async def story() -> None:
        await engine.arm(10)
        engine.node.wall_offset_us += 3600 * SECOND_US
        while not engine.extensions_us():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.001)
        await engine.ask(bid(account_id=BOB))
        wall_us = engine.loop.wall_us(engine.node)
        assert wall_us - DRIFT_US_MAX <= engine.exchange.time_us <= wall_us

    engine.run(story)


def test_one_that_is_armed_while_deadlines_are_extended_has_its_whole_time_with_the_next_leader(
    engine: Engine,
) -> None:
    async def story() -> None:
        await engine.arm(10)
        engine.journal.holds_commits = True
        engine.node.wall_offset_us += 3600 * SECOND_US
        extension = await engine.journal.next_commit()
        armed = engine.send(CancelAllAfter(BOB, 10 * SECOND_US))
        await asyncio.sleep(0.001)
        extension.go_on()
        engine.journal.holds_commits = False
        assert (await engine.worker.answer(armed)).status == APPLIED
        armed_s = engine.loop.now_s
        await engine.ask(bid(account_id=BOB))
        await engine.end_term()
        assert len(engine.extensions_us()) == 1
        await engine.lead(idle_s=0.0, away_s=0.0)
        while BOB in {account_id for account_id, _ in engine.exchange.deadlines}:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.001)
        assert engine.loop.now_s - armed_s >= 10

    engine.run(story)


def test_deadlines_differ_though_the_wall_clock_was_set_back(engine: Engine) -> None:
    async def story() -> None:
        await engine.arm(10)
        first = engine.exchange.deadlines[ALICE, ""]
        engine.node.wall_offset_us -= 3600 * SECOND_US
        await engine.arm(10)
        second = engine.exchange.deadlines[ALICE, ""]
        await engine.arm(10)
        assert first < second < engine.exchange.deadlines[ALICE, ""]

    engine.run(story)


@pytest.mark.parametrize("skew_s", [0, 3600, -3600])
def test_the_next_leader_goes_on_with_the_time_that_was_left(engine: Engine, skew_s: int) -> None:
    """Whatever its wall clock shows."""

    async def story() -> None:
        await engine.arm(10)
        await asyncio.sleep(4)
        await engine.end_term()
        deadline_us = engine.exchange.deadlines[ALICE, ""]
        await asyncio.sleep(30)
        engine.node.wall_offset_us += skew_s * SECOND_US
        # the row arrived here 34 s ago, and for 30 s of that nobody led
        await engine.lead(idle_s=34.0, away_s=30.0)
        led_s = engine.loop.now_s
        expired_s = await engine.until_expired()
        assert 6 <= expired_s - led_s <= 6 + LATE_S + DRIFT_US_MAX / SECOND_US
        expiry = decode_command(engine.rows(ExpireCancelAllAfter)[0].command)
        assert isinstance(expiry, ExpireCancelAllAfter)
        assert expiry.deadline_us == deadline_us + sum(engine.extensions_us())
        if skew_s >= 0:
            (extension_us,) = engine.extensions_us()
            assert extension_us / SECOND_US == pytest.approx(30 + skew_s, abs=2 * LATE_S)

    engine.run(story)


def test_many_leaders_in_a_row_take_no_time_away(engine: Engine) -> None:
    async def story() -> None:
        armed_s = await engine.arm(10)
        for _ in range(40):
            await asyncio.sleep(0.1)
            await engine.end_term()
            await engine.lead(idle_s=0.1, away_s=0.0)
        assert await engine.until_expired() - armed_s >= 10

    engine.run(story)


def test_a_leader_that_was_not_there_before_takes_no_time_off() -> None:
    """It does not know how long the exchange was there after the newest row."""
    assert served_until_us(5 * SECOND_US, idle_s=0.2, away_s=7.0) <= 5 * SECOND_US
    assert served_until_us(5 * SECOND_US, idle_s=3.0, away_s=1.0) <= 7 * SECOND_US


def test_an_expiry_that_fails_is_tried_again(engine: Engine) -> None:
    async def story() -> None:
        await engine.arm(1)
        take = engine.sequencer.handle_own
        sent_back: list[Request] = []

        def handle_own(connection: Connection, request: Request) -> None:
            if len(sent_back) < 3:
                sent_back.append(request)
                connection.send(unavailable([request]))
            else:
                take(connection, request)

        engine.sequencer.handle_own = handle_own  # type: ignore[method-assign]
        await engine.until_expired()
        assert len(sent_back) == 3
        assert len(engine.expired()) == 1

    engine.run(story)
