"""Two versions of the program run one exchange: they are interchangeable until the rules of matching are changed.

The older one is the program as it would be before the newest rules and the newest version of the link.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from tests.integration.cli.program import run
from tests.integration.engine.builds import build
from tests.integration.engine.cluster import BASE, JWT_SECRET, QUOTE, TIMEOUT_S, Cluster, Load, eventually, open_market
from tests.integration.engine.replicas import checkpoint, hand_over, reports, until_state

from rtx.core.commands import CreateMarket, MarketFilters, NewOrder
from rtx.core.rules import LATEST_RULES
from rtx.core.vocabulary import BUY, GTC, LIMIT, SELL, STOP_LOSS
from rtx.engine.snapshotter import EXIT_JOURNAL
from rtx.link.client import EngineClient
from rtx.link.messages import PROTOCOL_VERSION
from rtx.store.replicas import DIVERGED, FOLLOWING, LEADING

OLD_VERSION: Final = "0.0.9"
OLD: Final = {
    "core/rules.py": (f"LATEST_RULES: Final = {LATEST_RULES}", "LATEST_RULES: Final = 1"),
    "link/messages.py": (
        f"PROTOCOL_VERSION: Final = {PROTOCOL_VERSION}",
        f"PROTOCOL_VERSION: Final = {max(1, PROTOCOL_VERSION - 1)}",
    ),
}
LONG_LEASE: Final = {"LEASE_TTL_S": "60", "LEASE_RENEWAL_S": "1"}
ACTIVE: Final = 101
FIRST, SECOND, MAKER, TAKER = 1001, 1002, 1003, 1004

_WORKER: Final = """
import asyncio, json, sys
from rtx.core.commands import Deposit
from rtx.link.client import EngineClient
from rtx.link.handshake import derive_key
from rtx.link.messages import PROTOCOL_VERSION
from rtx.store.connection import create_pool
from rtx.store.lease import LeaseStore

async def main(database_url, secret):
    pool = await create_pool(database_url, application_name="rtx-test-worker")
    async def locate():
        lease = await LeaseStore(pool).read()
        host, _, port = lease.address.rpartition(":")
        return host, int(port)
    client = EngineClient(derive_key(secret), locate)
    client.start()
    print(PROTOCOL_VERSION, flush=True)
    loop = asyncio.get_running_loop()
    rows = {}
    stopping = loop.run_in_executor(None, sys.stdin.readline)
    while not stopping.done():
        name = f"worker-{len(rows)}"
        command = Deposit(1001 + len(rows) % 8, 1, 1, name)
        rows[name] = (await client.submit(command, request_id=name, timeout_s=40.0)).sequence
        if len(rows) % 100 == 0:
            print(len(rows), flush=True)
    await client.stop()
    pool.terminate()
    print(json.dumps(rows), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""
"""An API worker's end of the link: deposits one after the other until a line comes in, and prints where they stand."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The program one version ago."""
    return build(tmp_path / "old", OLD_VERSION, OLD)


async def one_leads_one_follows(cluster: Cluster, old: Path) -> None:
    """Have an old engine (blue) lead and a new one (green) follow it."""
    cluster.start_build(old, "old", COLOUR="blue", CHECKPOINT_COMMANDS="100", **LONG_LEASE)
    await cluster.until_led("old")
    cluster.start_engine("new", COLOUR="green", CHECKPOINT_COMMANDS="100", **LONG_LEASE)
    await until_state(cluster, "new", FOLLOWING)


async def agrees(cluster: Cluster, client: EngineClient, holder: str) -> None:
    """Have the state of this engine compared with the leader's."""
    row = await checkpoint(client, f"checkpoint-{os.urandom(4).hex()}")

    async def has_compared() -> bool:
        return (await reports(cluster))[holder].checkpoint_sequence >= row

    await eventually(has_compared)


async def activate(cluster: Cluster, *options: str) -> tuple[int, str]:
    """Type ``rtx activate-rules 2``; gives the exit code and all that it says."""
    variables = {"DATABASE_URL": cluster.database_url, "JWT_SECRET": JWT_SECRET}
    done = await asyncio.to_thread(run, "activate-rules", "2", *options, variables=variables)
    return done.returncode, done.stdout + done.stderr


async def who_is_worked_first(cluster: Cluster, client: EngineClient, symbol: str) -> int:
    """Two stop orders that the same trades trigger, the one with the farther stop price placed first; gives whose
    order met the better price.
    """
    filters = MarketFilters(maximum_open_orders=0)
    create = CreateMarket(symbol, BASE, QUOTE, 1, 1, filters)
    await client.submit(create, request_id=symbol, timeout_s=TIMEOUT_S)
    market = await cluster.pool.fetchval("SELECT market_id FROM markets WHERE symbol = $1", symbol)

    async def place(account: int, side: int, price: int, quantity: int = 1, **fields: Any) -> None:
        name = f"{symbol}-{account}-{side}-{price}-{fields.get('stop_price', 0)}"
        kind = STOP_LOSS if "stop_price" in fields else LIMIT
        order = NewOrder(account, market, side, kind, GTC, price, quantity, name, **fields)
        await client.submit(order, request_id=name, timeout_s=TIMEOUT_S)

    await place(MAKER, SELL, 100)
    await place(TAKER, BUY, 100)
    for price in (104, 105, 110, 120):
        await place(MAKER, SELL, price)
    await place(FIRST, BUY, 0, stop_price=105)
    await place(SECOND, BUY, 0, stop_price=104)
    await place(TAKER, BUY, 105, 2)
    statement = "SELECT taker_account_id FROM trades WHERE market_id = $1 AND price = 110"
    account: int = await cluster.pool.fetchval(statement, market)
    return account


@pytest.mark.kill
async def test_versions_are_interchangeable_until_the_rules_change(cluster: Cluster, old: Path) -> None:
    await one_leads_one_follows(cluster, old)
    known = await reports(cluster)
    assert (known["old"].version, known["old"].rules_latest) == (OLD_VERSION, 1)
    assert known["new"].version != OLD_VERSION
    assert known["new"].rules_latest == LATEST_RULES
    async with cluster.client() as client:
        await open_market(client)
        load = Load(client, commands=4_000)
        async with load.running():
            for target, holder in (("green", "new"), ("blue", "old"), ("green", "new"), ("blue", "old")):
                await load.answered(300)
                handover = await hand_over(cluster, target)
                assert (handover.state, handover.to_holder) == ("taken", holder), handover.reason
        await agrees(cluster, client, "new")
        assert await who_is_worked_first(cluster, client, "BYTHEOLD") == SECOND
        await hand_over(cluster, "green")
        assert await who_is_worked_first(cluster, client, "BYTHENEW") == SECOND
        await agrees(cluster, client, "old")
        await cluster.check(client, load)


@pytest.mark.kill
async def test_new_rules_begin_at_one_row_and_stop_who_does_not_know_them(cluster: Cluster, old: Path) -> None:
    await one_leads_one_follows(cluster, old)
    async with cluster.client() as client:
        await open_market(client)
        code, said = await activate(cluster)
        assert code == 1
        assert f"the leader old (blue, version {OLD_VERSION}) knows rules up to 1" in said

        await hand_over(cluster, "green")
        await until_state(cluster, "new", LEADING)
        await until_state(cluster, "old", FOLLOWING)
        code, said = await activate(cluster)
        assert code == 1
        assert "1 engine would stop at rules 2:" in said
        assert f"old (blue, version {OLD_VERSION}) knows rules up to 1" in said
        assert await who_is_worked_first(cluster, client, "BYRULESONE") == SECOND

        code, said = await activate(cluster, "--force")
        assert code == 0
        row = await cluster.pool.fetchval("SELECT max(sequence) FROM journal")
        assert f"journal row {row}: every command after it is computed by rules 2" in said
        standby = cluster.engines[0]
        assert await standby.exit_code() == EXIT_JOURNAL
        report = (await reports(cluster))["old"]
        assert (report.state, report.diverged_sequence) == (DIVERGED, row)
        message = f"journal row {row}: it activates rules 2; this program knows rules up to 1: run a newer version"
        assert report.reason == message
        assert await who_is_worked_first(cluster, client, "BYRULESTWO") == FIRST

        again = cluster.start_build(old, "old", COLOUR="blue", **LONG_LEASE)
        assert await again.exit_code() == EXIT_JOURNAL
        refused = await hand_over(cluster, "blue")
        assert refused.state == "refused"
        assert message in refused.reason

        # The new program in the same place takes over, and goes on by the same rules.
        cluster.start_engine("old", COLOUR="blue", **LONG_LEASE)
        await until_state(cluster, "old", FOLLOWING)
        assert (await hand_over(cluster, "blue")).state == "taken"
        assert await who_is_worked_first(cluster, client, "STILLTWO") == FIRST
        assert (await until_state(cluster, "old", LEADING)).rules == 2
        await agrees(cluster, client, "new")


@pytest.mark.kill
async def test_an_old_worker_and_a_new_engine_understand_each_other(cluster: Cluster, old: Path) -> None:
    await one_leads_one_follows(cluster, old)
    async with cluster.client() as client:
        await open_market(client)
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _WORKER,
            cluster.database_url,
            JWT_SECRET,
            env={**os.environ, "PYTHONPATH": str(old)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert worker.stdin is not None
        assert worker.stdout is not None
        async with asyncio.timeout(TIMEOUT_S):
            assert await worker.stdout.readline() == b"%d\n" % max(1, PROTOCOL_VERSION - 1)
            for target in ("green", "blue", "green"):
                await worker.stdout.readline()
                assert (await hand_over(cluster, target)).state == "taken"
            await worker.stdout.readline()
            worker.stdin.write(b"\n")
            said = await worker.stdout.read()
            assert await worker.wait() == 0
        rows: Mapping[str, int] = json.loads(said.splitlines()[-1])
        found = await cluster.pool.fetch(
            "SELECT request_id, sequence FROM journal WHERE request_id LIKE 'worker-%' ORDER BY sequence"
        )
        assert [(row["request_id"], row["sequence"]) for row in found] == list(rows.items())
        epochs = await cluster.pool.fetch("SELECT DISTINCT epoch FROM journal ORDER BY epoch")
        assert [row["epoch"] for row in epochs] == [1, 2, 3, 4]
