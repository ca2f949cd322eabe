"""What the leader journals of its own accord is done like everybody's commands, and never refused for their number."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.engine.leader import TIMEOUT_S, Leader, Worker

from rtx.core.commands import Checkpoint
from rtx.core.events import CheckpointTaken, decode_events
from rtx.engine.own_commands import OwnCommandFailedError, OwnCommands


async def test_it_waits_behind_a_full_queue() -> None:
    leader, worker = await Leader.start(batch_commands_max=1, queue_commands_max=1), Worker()
    own_commands = OwnCommands(leader.sequencer)
    first, waiting = leader.bid(), leader.bid()
    leader.sequencer.handle(worker, [first])
    commit = await leader.journal.next_commit()
    leader.sequencer.handle(worker, [waiting, leader.bid()])
    checkpoint = asyncio.create_task(own_commands.submit(Checkpoint()))
    leader.journal.holds_commits = False
    commit.go_on()
    async with asyncio.timeout(TIMEOUT_S):
        sequence = await checkpoint
    (event,) = decode_events(leader.journal.rows[sequence].events)
    assert type(event) is CheckpointTaken
    assert leader.recorder.refused_count == 0


async def test_it_fails_with_the_leader() -> None:
    leader = await Leader.start()
    own_commands = OwnCommands(leader.sequencer)
    checkpoint = asyncio.create_task(own_commands.submit(Checkpoint()))
    commit = await leader.journal.next_commit()
    commit.fail(ConnectionError("cut"))
    with pytest.raises(OwnCommandFailedError, match="Checkpoint"):
        await checkpoint
    with pytest.raises(OwnCommandFailedError):
        await own_commands.submit(Checkpoint())
    leader.may_lead = False
    await leader.lead()
    with pytest.raises(OwnCommandFailedError):
        await OwnCommands(leader.sequencer).submit(Checkpoint())
