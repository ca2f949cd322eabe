"""History is read from the replica only while that is as good as the primary, and a bad replica costs nobody much."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import asyncpg
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from rtx.api import history_reads
from rtx.api.history_reads import HistoryReads
from rtx.link.client import EngineTimeoutError
from rtx.store.connection import Database

HASH = b"\x11" * 32
PAUSE_S = 5.0
"""Longer than a bad replica is left alone."""


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Leader:
    """Tells its position when asked, or fails with ``error``."""

    def __init__(self) -> None:
        self.sequence = 10
        self.asked = 0
        self.is_asked = asyncio.Event()
        self.error: Exception | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def position(self) -> int:
        self.asked += 1
        self.is_asked.set()
        sequence = self.sequence
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return sequence


class Replica:
    """A pool and its connection in one: ``sequences`` are the positions it tells, the last one for ever."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.sequences = [10]
        self.hash = HASH
        self.error: Exception | None = None
        self.hangs = False
        self.is_silent = False
        self.is_reached = asyncio.Event()
        self.acquired = 0
        self.happened: list[str] = []

    async def acquire(self, *, timeout: float) -> Replica:  # noqa: ASYNC109 - as asyncpg has it
        self.acquired += 1
        if self.error is not None:
            raise self.error
        return self

    async def release(self, connection: Replica) -> None:
        self.happened.append("given back")

    def terminate(self) -> None:
        self.happened.append("terminated")

    async def fetchrow(self, _query: str) -> tuple[int, bytes]:
        if self.is_silent:
            self.is_reached.set()
            await asyncio.Event().wait()
        self.clock.now_s += 0.01
        sequence = self.sequences.pop(0) if len(self.sequences) > 1 else self.sequences[0]
        return sequence, self.hash

    async def read(self) -> str:
        self.is_reached.set()
        if self.hangs:
            await asyncio.Event().wait()
        return "replica"


class Primary:
    """Has every row."""

    async def fetchval(self, _query: str, _sequence: int) -> bytes:
        return HASH

    async def read(self) -> str:
        return "primary"


class Setting:
    """Everything together; ``read`` says who answered."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.leader = Leader()
        self.replica = Replica(self.clock)
        self.reads = HistoryReads(
            cast("Any", Primary()), cast("Any", self.replica), self.leader.position, monotonic_s=self.clock
        )

    async def read(self, query: Callable[[Database], Awaitable[str]] | None = None) -> str:
        return await self.reads.read(query or (lambda database: cast("Any", database).read()))

    async def until_replica_is_read(self) -> None:
        """Read until the replica answers, and forget what happened to its connections."""
        async with asyncio.timeout(10):
            while True:
                if await self.read() == "replica":
                    break
                await asyncio.sleep(0)
        self.replica.acquired = 0
        self.replica.happened.clear()
        self.replica.is_reached.clear()
        self.leader.asked = 0
        self.leader.is_asked.clear()


@pytest.fixture
async def setting() -> Setting:
    """A replica that is read, until something happens to it."""
    setting = Setting()
    await setting.until_replica_is_read()
    return setting


def counted(source: str) -> float:
    return REGISTRY.get_sample_value("rtx_history_reads_total", {"source": source}) or 0.0


async def test_without_a_replica_the_primary_answers() -> None:
    before = counted("primary")
    reads = HistoryReads(cast("Any", Primary()))
    assert await reads.read(lambda database: cast("Any", database).read()) == "primary"
    assert counted("primary") == before + 1


async def test_a_replica_that_has_every_row_answers(setting: Setting) -> None:
    before = counted("replica"), counted("primary")
    assert await setting.read() == "replica"
    assert (counted("replica"), counted("primary")) == (before[0] + 1, before[1])
    assert setting.replica.happened == ["given back"]


async def test_a_replica_is_waited_for_that_has_the_last_row_in_a_moment(setting: Setting) -> None:
    setting.replica.sequences = [8, 9, 10]
    assert await setting.read() == "replica"


async def test_a_replica_that_is_behind_is_left_alone_for_a_while(setting: Setting) -> None:
    setting.replica.sequences = [9]
    before = counted("primary")
    assert [await setting.read() for _ in range(3)] == ["primary"] * 3
    assert counted("primary") == before + 3
    assert setting.replica.acquired == 1
    # It works, and is only late: its connection is kept.
    assert setting.replica.happened == ["given back"]
    setting.clock.now_s += PAUSE_S
    setting.replica.sequences = [10]
    await setting.until_replica_is_read()


async def test_what_one_worker_of_several_told_a_client_is_waited_for_by_each(setting: Setting) -> None:
    setting.leader.sequence = 11  # by a command that came through another worker
    assert await setting.read() == "primary"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "refused"),
        TimeoutError(),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.InvalidPasswordError("wrong"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_replica_that_is_away_is_left_alone_for_a_while(setting: Setting, error: Exception) -> None:
    setting.replica.error = error
    assert [await setting.read() for _ in range(3)] == ["primary"] * 3
    assert setting.replica.acquired == 1
    setting.clock.now_s += PAUSE_S
    setting.replica.error = None
    await setting.until_replica_is_read()


async def test_nobody_waits_for_a_replica_that_is_tried_again(setting: Setting) -> None:
    setting.replica.error = ConnectionRefusedError(111, "refused")
    await setting.read()
    setting.clock.now_s += PAUSE_S
    setting.replica.error = None
    setting.replica.is_silent = True
    async with asyncio.timeout(10):
        assert [await setting.read() for _ in range(3)] == ["primary"] * 3
        await setting.replica.is_reached.wait()
        assert [await setting.read() for _ in range(3)] == ["primary"] * 3
    assert setting.replica.acquired == 2


async def test_a_query_that_the_replica_cancels_is_answered_by_the_primary(setting: Setting) -> None:
    async def query(database: Database) -> str:
        if cast("Any", database) is setting.replica:
            raise asyncpg.SerializationError("canceling statement due to conflict with recovery")
        return "primary"

    assert await setting.read(query) == "primary"


async def test_the_connection_to_a_replica_that_hangs_is_ended_before_it_is_given_back(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_reads, "_READ_TIMEOUT_S", 0.01)
    setting.replica.hangs = True
    assert [await setting.read() for _ in range(3)] == ["primary"] * 3
    assert setting.replica.happened == ["terminated", "given back"]


async def test_the_connection_of_a_reader_who_left_is_ended(setting: Setting) -> None:
    setting.replica.hangs = True
    reader = asyncio.create_task(setting.read())
    await setting.replica.is_reached.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert setting.replica.happened == ["terminated", "given back"]


async def test_a_mistake_in_a_query_is_not_taken_for_a_bad_replica(setting: Setting) -> None:
    async def query(database: Database) -> str:
        raise KeyError("market")

    with pytest.raises(KeyError):
        await setting.read(query)
    assert await setting.read() == "replica"


async def test_a_database_with_another_journal_is_not_read() -> None:
    setting = Setting()
    setting.replica.hash = b"\x22" * 32
    with capture_logs() as logs:
        async with asyncio.timeout(10):
            while not logs:
                assert await setting.read() == "primary"
                await asyncio.sleep(0)
    assert "DATABASE_REPLICA_URL" in logs[0]["reason"]
    assert await setting.read() == "primary"


@pytest.mark.parametrize("error", [EngineTimeoutError(), TimeoutError()], ids=lambda error: type(error).__name__)
async def test_while_nobody_leads_the_primary_answers(setting: Setting, error: Exception) -> None:
    setting.leader.error = error
    assert await setting.read() == "primary"
    assert setting.replica.acquired == 0
    setting.leader.error = None
    setting.clock.now_s += PAUSE_S
    assert await setting.read() == "replica"


async def test_a_leader_that_does_not_answer_holds_nobody_up(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_reads, "POSITION_TIMEOUT_S", 0.01)
    setting.leader.may_answer.clear()
    assert await setting.read() == "primary"
    setting.leader.may_answer.set()


async def test_readers_share_questions_and_never_the_answer_to_one_asked_before_they_came(setting: Setting) -> None:
    leader = setting.leader
    leader.may_answer.clear()
    early = asyncio.create_task(setting.read())
    await leader.is_asked.wait()
    leader.sequence = 11  # which the replica does not have
    late = [asyncio.create_task(setting.read()) for _ in range(5)]
    await asyncio.sleep(0)
    leader.may_answer.set()
    assert await early == "replica"
    assert await asyncio.gather(*late) == ["primary"] * 5
    assert leader.asked == 2


async def test_the_log_says_when_the_replica_is_left_and_when_it_is_back() -> None:
    setting = Setting()
    with capture_logs() as logs:
        await setting.until_replica_is_read()
        setting.replica.error = ConnectionRefusedError(111, "refused")
        for _ in range(5):
            await setting.read()
            setting.clock.now_s += PAUSE_S
        setting.replica.error = None
        await setting.until_replica_is_read()
    said = [(entry["log_level"], entry["event"]) for entry in logs]
    assert said == [
        ("info", "history is read from the replica"),
        ("warning", "history is read from the primary"),
        ("info", "history is read from the replica"),
    ]
    assert "refused" in logs[1]["reason"]
