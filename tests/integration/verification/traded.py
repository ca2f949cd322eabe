"""A database in which everything was traded that can be traded, with snapshots, journaled refusals and two leaders."""

from __future__ import annotations

import hashlib
import random

from tests.fakes.leadership import take_lease
from tests.integration.store.trading import START_US, Trading
from tests.property.generator import ACCOUNTS, CommandGenerator, opening_commands
from tests.reference.exchange import ReferenceExchange

from rtx.core import snapshot
from rtx.core.commands import SetAccountFeeTier, SetFeeTier
from rtx.core.rejections import RejectedError
from rtx.engine.recovery import rejected_events
from rtx.store.connection import connect_engine
from rtx.store.journal import JournalStore, Snapshot
from rtx.store.lease import LeaseStore
from rtx.store.migrate import upgrade

LONGEST_PAUSE_US = 20 * 60 * 1_000_000
"""Between two commands, so that candles of all intervals begin and end."""


async def trade(database_url: str, command_count: int, *, seed: str = "traded", snapshots: int = 4) -> Trading:
    """Migrate the database and fill it with the journal of random commands and all that comes of it."""
    upgrade(database_url)
    connection = await connect_engine(database_url)
    try:
        epoch = await take_lease(LeaseStore(connection), ttl_s=0.0)
        assert epoch is not None
        trading = Trading(epoch)
        store = JournalStore(connection)
        chance = random.Random(seed)
        reference = ReferenceExchange()
        generator = CommandGenerator(seed, reference)
        # What chance may leave out.
        opening = [*opening_commands(), SetFeeTier(1, 100, 200), SetAccountFeeTier(ACCOUNTS[0], 1)]
        kept = {command_count * number // snapshots for number in range(1, snapshots)}
        trading.time_us = START_US
        for number in range(command_count):
            command = opening[number] if number < len(opening) else generator.next()
            trading.time_us += chance.choice((0, 1, 1_000_000, LONGEST_PAUSE_US))
            reference.apply(command, trading.time_us + 1)
            try:
                trading.apply(command)
            except RejectedError as error:
                if chance.random() < 0.1:
                    trading.journal(command, rejected_events(error))
            if number == command_count // 2:
                await commit(store, trading)
                renewed = await take_lease(LeaseStore(connection), "another")
                assert renewed is not None
                trading.epoch = renewed
            elif number in kept or chance.random() < 0.05:
                await commit(store, trading)
            if number in kept:
                state = snapshot.dump(trading.exchange)
                await store.save_snapshot(
                    Snapshot(trading.sequence, trading.hash, hashlib.sha256(state).digest(), state)
                )
        await commit(store, trading)
        return trading
    finally:
        await connection.close()


async def commit(store: JournalStore, trading: Trading) -> None:
    """Commit what was applied since the last time, if anything was."""
    if trading.entries:
        await store.commit(trading.take_batch())
