"""Whatever fails in whatever order: what was acknowledged is in the journal, once, with the answer that was given."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.integration.store.trading import ALICE
from tests.unit.engine.leader import Leader, Waiting, bid, hopeless

from rtx.core.commands import Deposit
from rtx.core.snapshot import state_hash
from rtx.link.messages import APPLIED, OVERLOADED, REJECTED, UNAVAILABLE, Request, Response

COMMANDS = 150
COPIES_MAX = 3


class Senders:
    """API workers that send each command until it is answered, sometimes twice, sometimes late."""

    def __init__(self, leader: Leader, chance: random.Random) -> None:
        self.leader = leader
        self.chance = chance
        self.answers: dict[bytes, list[Response]] = {}
        self.unanswered: dict[int, Request] = {}
        self.late: list[Request] = []
        self.is_closed = False

    def send(self, responses: list[Response]) -> None:
        for response in responses:
            request = self.unanswered.pop(response.number, None)
            if request is None:
                continue
            if response.status in (UNAVAILABLE, OVERLOADED):
                self.late.append(self.leader.again(request))
            else:
                self.answers.setdefault(request.command_id, []).append(response)

    def new_request(self) -> Request:
        kind = self.chance.random()
        request_hash = b"h" * 32 if self.chance.random() < 0.3 else b""
        if kind < 0.6:
            return self.leader.submit(bid(self.chance.randint(1, 5)), request_hash=request_hash)
        if kind < 0.8:
            return self.leader.submit(Deposit(ALICE, 1, 1, "more"), request_hash=request_hash)
        return self.leader.submit(hopeless(), request_hash=request_hash)

    def step(self, new: bool) -> None:
        """Send one frame of new commands, copies of old ones, and what is to be asked again."""
        requests = [self.new_request() for _ in range(self.chance.randint(1, 4))] if new else []
        requests += [
            self.leader.again(request)
            for request in self.chance.sample(list(self.unanswered.values()), min(len(self.unanswered), 2))
            if self.chance.random() < 0.3
        ]
        while self.late and (not new or self.chance.random() < 0.7):
            requests.append(self.late.pop(self.chance.randrange(len(self.late))))
        self.unanswered |= {request.number: request for request in requests}
        self.leader.sequencer.handle(self, requests)


async def end_something(leader: Leader, chance: random.Random, failures_allowed: bool) -> None:
    """Let one commit or lookup end, well or not."""
    ready: list[asyncio.Queue[Waiting]] = [
        queue  # type: ignore[misc]
        for queue in (leader.journal.commits, leader.journal.lookups)
        if not queue.empty()
    ]
    if ready:
        waiting = chance.choice(ready).get_nowait()
        fate = chance.random()
        if waiting.decision.cancelled():
            pass
        elif not failures_allowed or fate < 0.75:
            waiting.go_on()
        elif fate < 0.85:
            waiting.fail(OSError("lost before"))
        else:
            waiting.do_and_fail(TimeoutError("lost after"))
    for _ in range(chance.randint(1, 6)):
        await asyncio.sleep(0)


async def finish_commits(leader: Leader) -> None:
    """As a takeover does: what was on its way under the old epoch is through, or never will be."""
    while not leader.journal.commits.empty():
        commit = leader.journal.commits.get_nowait()
        commit.go_on()
        await commit.ended.wait()


@pytest.mark.parametrize("seed", range(20))
async def test_acknowledged_commands_are_there_once(seed: int) -> None:
    chance = random.Random(seed)
    leader = await Leader.start(batch_commands_max=4, queue_commands_max=6, remembered_commands_max=12)
    leader.journal.holds_lookups = True
    senders = Senders(leader, chance)
    sent = 0
    while sent < COMMANDS or senders.unanswered or senders.late:
        is_new = sent < COMMANDS
        if is_new or senders.late or chance.random() < 0.3:
            senders.step(new=is_new)
            sent += 1
        await end_something(leader, chance, failures_allowed=is_new)
        if leader.recorder.failures or (is_new and chance.random() < 0.02):
            leader.sequencer.fail(RuntimeError("the lease was lost"))
            await finish_commits(leader)
            leader.recorder.failures.clear()
            await leader.lead()
    await check(leader, senders)


async def check(leader: Leader, senders: Senders) -> None:
    by_command = {}
    for entry in leader.journal.rows.values():
        assert entry.command_id not in by_command
        by_command[entry.command_id] = entry
    applied_count = 0
    for command_id, answers in senders.answers.items():
        if command_id not in by_command:
            assert {answer.status for answer in answers} == {REJECTED}
            continue
        entry = by_command[command_id]
        kept = [answer for answer in answers if answer.time_us]
        assert {(answer.sequence, bytes(answer.payload)) for answer in kept} == {(entry.sequence, entry.events)}
        applied_count += kept[0].status == APPLIED
    assert applied_count > COMMANDS / 2
    journaled = set(by_command) - set(senders.answers)
    assert len(journaled) == 7, "but for the opening of the market nothing is there that nobody asked for"
    assert (leader.sequencer.sequence, state_hash(leader.exchange)) == await leader.recovered_state()
