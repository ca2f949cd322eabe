"""The snapshotter runs when it is due, one at a time, is waited for, and its verdict counts."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from rtx.engine.recovery import ReplayDivergedError
from rtx.engine.snapshot_process import SnapshotProcess

TIMEOUT_S = 20.0


class Programs:
    """Makes programs that tell their process id when they have started, and then end as they are told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started: asyncio.Queue[int] = asyncio.Queue()

    def ending(self, ending: str, beginning: str = "pass") -> tuple[str, ...]:
        tell = f"s = socket.socket(socket.AF_UNIX); s.connect({str(self.path)!r}); s.sendall(b'%d\\n' % os.getpid())"
        return (sys.executable, "-c", f"import os, signal, socket, sys, time; {beginning}; {tell}; {ending}")

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.started.put_nowait(int(await reader.readline()))
        writer.close()

    async def next_pid(self) -> int:
        async with asyncio.timeout(TIMEOUT_S):
            return await self.started.get()


@pytest_asyncio.fixture
async def programs(tmp_path: Path) -> AsyncIterator[Programs]:
    made = Programs(tmp_path / "socket")
    server = await asyncio.start_unix_server(made.accept, made.path)
    yield made
    server.close()


async def finished(snapshots: SnapshotProcess) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        await snapshots.wait()


def fail(error: Exception) -> None:
    raise AssertionError(error)


def lives(pid: int) -> bool:
    """Whether the process is there, also as one that nobody has waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_it_starts_when_enough_was_journaled(programs: Programs) -> None:
    snapshots = SnapshotProcess(100, programs.ending("sys.exit(0)"))
    snapshots.start_from(1_000)
    snapshots.start_when_due(1_099, fail)
    await finished(snapshots)
    assert programs.started.empty()
    snapshots.start_when_due(1_100, fail)
    await programs.next_pid()
    await finished(snapshots)
    assert snapshots.sequence == 1_100


async def test_one_runs_at_a_time_and_stopping_ends_it(programs: Programs) -> None:
    snapshots = SnapshotProcess(1, programs.ending("time.sleep(600)"))
    snapshots.start_when_due(1, fail)
    pid = await programs.next_pid()
    snapshots.start_when_due(5, fail)
    assert snapshots.sequence == 1
    await snapshots.stop()
    assert not lives(pid)
    assert programs.started.empty()


async def test_one_that_does_not_listen_is_killed(programs: Programs) -> None:
    deaf = programs.ending("time.sleep(600)", beginning="signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    snapshots = SnapshotProcess(1, deaf, stop_timeout_s=0.05)
    snapshots.start_when_due(1, fail)
    pid = await programs.next_pid()
    await snapshots.stop()
    assert not lives(pid)


async def test_one_that_fails_is_tried_again_later(programs: Programs) -> None:
    snapshots = SnapshotProcess(10, programs.ending("sys.exit(1)"))
    snapshots.start_when_due(10, fail)
    await finished(snapshots)
    snapshots.start_when_due(19, fail)
    snapshots.start_when_due(20, fail)
    await finished(snapshots)
    assert await programs.next_pid() != await programs.next_pid()
    assert programs.started.empty()


async def test_one_that_finds_the_journal_wrong_stops_the_engine(programs: Programs) -> None:
    verdicts: list[Exception] = []
    snapshots = SnapshotProcess(1, programs.ending("sys.exit(3)"))
    snapshots.start_when_due(1, verdicts.append)
    await finished(snapshots)
    assert [type(verdict) for verdict in verdicts] == [ReplayDivergedError]


async def test_one_that_cannot_be_started_changes_nothing(tmp_path: Path) -> None:
    snapshots = SnapshotProcess(1, (str(tmp_path / "nothing"),))
    snapshots.start_when_due(1, fail)
    await finished(snapshots)


async def test_stopping_before_it_was_started_starts_nothing(programs: Programs) -> None:
    snapshots = SnapshotProcess(1, programs.ending("sys.exit(0)"))
    snapshots.start_when_due(1, fail)
    await snapshots.stop()
    await snapshots.stop()
    assert programs.started.empty()
