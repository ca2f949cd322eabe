"""`rtx activate-rules`: who would stop is named before anything is journaled."""

from __future__ import annotations

import asyncio

from tests.integration.cli.exchange import PlayedExchange
from tests.integration.cli.program import run
from tests.integration.engine.cluster import JWT_SECRET, Cluster, eventually

from rtx.core.rules import LATEST_RULES
from rtx.store.replicas import LEADING, STOPPED, ReplicaStore

SECRET = {"JWT_SECRET": JWT_SECRET}


async def test_the_leader_journals_it_once(cluster: Cluster) -> None:
    variables = {"DATABASE_URL": cluster.database_url, **SECRET}
    cluster.start_engine("blue-1")
    await cluster.until_led("blue-1")
    replicas = ReplicaStore(cluster.pool)

    async def leads() -> bool:
        return [(report.state, report.rules) for report in await replicas.all()] == [(LEADING, 1)]

    await eventually(leads)
    done = await asyncio.to_thread(run, "activate-rules", "2", variables=variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "journal row 1: every command after it is computed by rules 2\n"

    async def knows() -> bool:
        return [report.rules for report in await replicas.all()] == [2]

    await eventually(knows)
    assert "rules          2\n" in (await asyncio.to_thread(run, "status", variables=variables)).stdout
    again = await asyncio.to_thread(run, "activate-rules", "2", variables=variables)
    assert again.returncode == 1
    assert "rules 2 or newer ones are in force already" in again.stderr
    newer = await asyncio.to_thread(run, "activate-rules", str(LATEST_RULES + 1), "--force", variables=variables)
    assert newer.returncode == 1
    assert f"blue-1 (blue, version 0.1.0) knows rules up to {LATEST_RULES}" in newer.stderr
    assert await cluster.pool.fetchval("SELECT count(*) FROM journal") == 1


async def test_engines_that_would_stop_are_named(exchange: PlayedExchange) -> None:
    await exchange.lead("green-1", "green")
    await exchange.report("blue-1", rules_latest=1)
    await exchange.report("blue-2", rules_latest=1)
    await exchange.report("blue-3", rules_latest=1, seen_s=20.0)
    await exchange.report("blue-4", rules_latest=1, state=STOPPED)
    done = await exchange.run("activate-rules", "2", variables=SECRET)
    assert done.returncode == 1
    assert "2 engines would stop at rules 2:" in done.stderr
    assert "blue-1 (blue, version 0.1.0) knows rules up to 1" in done.stderr
    assert "blue-2" in done.stderr
    assert "blue-3" not in done.stderr
    assert "blue-4" not in done.stderr
    # Told to go on it asks the leader, which nobody plays here.
    forced = await exchange.run("activate-rules", "2", "--force", "--timeout", "0.3", variables=SECRET)
    assert forced.returncode == 1
    assert "no answer from the leader at 127.0.0.1:4001 in 0.3 s" in forced.stderr
    assert "whether it was done is not known" in forced.stderr


async def test_without_a_leader_or_with_one_that_is_too_old_nothing_is_asked_for(exchange: PlayedExchange) -> None:
    nobody = await exchange.run("activate-rules", "2", variables=SECRET)
    assert nobody.returncode == 1
    assert "no engine leads" in nobody.stderr
    assert "`rtx serve`" in nobody.stderr
    acquired = await exchange.lead("blue-1", reports=False)
    await exchange.report("blue-1", state=LEADING, epoch=acquired.epoch, rules_latest=1)
    for force in ((), ("--force",)):
        old = await exchange.run("activate-rules", "2", *force, variables=SECRET)
        assert old.returncode == 1
        assert "the leader blue-1 (blue, version 0.1.0) knows rules up to 1" in old.stderr
        assert "hand over to a version that knows them first" in old.stderr


async def test_the_secret_is_needed_and_not_shown(exchange: PlayedExchange) -> None:
    missing = await exchange.run("activate-rules", "2")
    assert missing.returncode == 2
    assert "JWT_SECRET is not set" in missing.stderr
    short = await exchange.run("activate-rules", "2", variables={"JWT_SECRET": "hunter2"})
    assert short.returncode == 2
    assert "hunter2" not in short.stderr
