"""`rtx handover`: orders, follows what becomes of the order, and takes it back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest_asyncio
from tests.integration.cli.exchange import TIMEOUT_S, PlayedExchange, interrupted, said
from tests.integration.cli.program import Program, run
from tests.integration.engine.cluster import Cluster, eventually

from rtx.store.lease import Release
from rtx.store.replicas import DIVERGED, RECOVERING, STOPPED, ReplicaStore


@pytest_asyncio.fixture
async def led(exchange: PlayedExchange) -> AsyncIterator[PlayedExchange]:
    """blue-1 leads, green-1 follows."""
    await exchange.lead("blue-1")
    await exchange.report("green-1", "green")
    yield exchange


async def conclude(program: Program) -> int:
    """Wait until the command ends by itself."""
    code = await asyncio.to_thread(program.read_to_end)
    program.close()
    return code


async def test_engines_carry_it_out(cluster: Cluster) -> None:
    variables = {"DATABASE_URL": cluster.database_url}
    cluster.start_engine("blue-1", COLOUR="blue")
    await cluster.until_led("blue-1")
    cluster.start_engine("green-1", COLOUR="green")
    cluster.start_engine("green-2", COLOUR="green")
    replicas = ReplicaStore(cluster.pool)

    async def follow() -> bool:
        return [report.state for report in await replicas.all()] == ["leading", "following", "following"]

    await eventually(follow)
    done = await asyncio.to_thread(run, "handover", "--to", "green", variables=variables)
    assert done.returncode == 0, done.stderr
    lease = await cluster.lease()
    assert lease.colour == "green"
    assert done.stdout.startswith(f"{lease.holder} leads: epoch 2, pause ")
    assert "ordered: blue-1 is to hand over to green" in done.stderr
    again = await asyncio.to_thread(run, "handover", "--to", "green", variables=variables)
    assert (again.returncode, again.stdout) == (0, f"green leads already: {lease.holder}, epoch 2\n")
    other = "green-2" if lease.holder == "green-1" else "green-1"
    within = await asyncio.to_thread(run, "handover", "--to", other, variables=variables)
    assert within.returncode == 0, within.stderr
    assert within.stdout.startswith(f"{other} leads: epoch 3")


async def test_who_is_meant_may_be_shortened(led: PlayedExchange) -> None:
    await led.report("host-1/0a0b", "green", seen_s=60.0)
    await led.report("host-1/0c0d", "green", seen_s=60.0)
    await led.report("host-2/0e0f", "green")
    several = await led.run("handover", "--to", "host-1")
    assert several.returncode == 1
    assert "'host-1' begins the names of several engines: host-1/0a0b, host-1/0c0d" in several.stderr
    unknown = await led.run("handover", "--to", "purple")
    assert unknown.returncode == 1
    assert "there is no engine 'purple'" in unknown.stderr
    assert "name a colour (blue or green) or an engine: blue-1, green-1, host-1/0a0b" in unknown.stderr
    leads = await led.run("handover", "--to", "blue-")
    assert (leads.returncode, leads.stdout) == (0, "blue-1 leads already: blue-1, epoch 1\n")
    program = led.start("handover", "--to", "host-")
    await said(program, "host-2/0e0f")
    assert (await led.order()).target == "host-2/0e0f"
    assert await interrupted(program) == 130
    program.close()


async def test_what_cannot_be_is_refused_before_it_is_ordered(led: PlayedExchange) -> None:
    reason = "journal row 7: this program computes other events"
    for fields, expected in (
        ({"state": STOPPED}, "green-1 is stopped"),
        ({"state": RECOVERING}, "green-1 is recovering"),
        ({"state": DIVERGED, "reason": reason}, f"green-1 is diverged ({reason})"),
        ({"seen_s": 20.0}, "green-1 was last heard of 2"),
    ):
        await led.report("green-1", "green", **fields)
        for target in ("green", "green-1"):
            done = await led.run("handover", "--to", target)
            assert done.returncode == 1
            assert expected in done.stderr
            assert "blue-1 goes on leading" in done.stderr
    assert await led.handovers.read(1) is None


async def test_a_refusal_of_the_leader_is_told(led: PlayedExchange) -> None:
    program = led.start("handover", "--to", "green")
    await led.order()
    assert await led.handovers.refuse(1, "green-1 is 20000 rows behind")
    assert await conclude(program) == 1
    assert "refused: green-1 is 20000 rows behind" in program.text
    assert "blue-1 goes on leading" in program.text


async def test_each_step_is_told(led: PlayedExchange) -> None:
    program = led.start("handover", "--to", "green")
    await led.order()
    await said(program, "proving: green compares its state with that of blue-1")
    await led.pool.execute("UPDATE engine_replicas SET checkpoint_sequence = 121 WHERE holder = 'green-1'")
    await said(program, "green-1 has the same state at journal row 121")
    await led.leases.release(1, Release("green-1", 60.0, stopped_s=0.0, handover_id=1))
    await said(program, "blue-1 has let go")
    await led.lead("green-1", "green")
    assert await conclude(program) == 0
    assert "green-1 leads: epoch 2, pause " in program.text


async def test_ctrl_c_withdraws_an_order_that_was_not_begun(led: PlayedExchange) -> None:
    program = led.start("handover", "--to", "green")
    await said(program, "proving")
    assert await interrupted(program) == 128 + signal.SIGINT
    assert "withdrawn: blue-1 goes on" in program.text
    order = await led.order()
    assert (order.state, order.reason) == ("refused", "withdrawn")
    program.close()


async def test_ctrl_c_comes_too_late_once_the_leader_let_go(led: PlayedExchange) -> None:
    program = led.start("handover", "--to", "green")
    await said(program, "proving")
    await led.leases.release(1, Release("green-1", 60.0, stopped_s=0.0, handover_id=1))
    await said(program, "blue-1 has let go")
    program.process.send_signal(signal.SIGINT)
    await said(program, "it is being carried out")
    await led.lead("green-1", "green")
    assert await conclude(program) == 0


async def test_an_order_that_nobody_carries_out_is_withdrawn(led: PlayedExchange) -> None:
    done = await led.run("handover", "--to", "green", "--timeout", "1")
    assert done.returncode == 1
    assert "not carried out in time" in done.stderr
    assert "blue-1 goes on leading" in done.stderr
    assert (await led.order()).state == "refused"


async def test_one_order_waits_at_a_time(led: PlayedExchange) -> None:
    await led.handovers.request("green-1", 60.0)
    done = await led.run("handover", "--to", "green")
    assert done.returncode == 1
    assert "an order to hand over to green-1 waits already; it is void in " in done.stderr


async def test_another_that_takes_over_instead_is_no_success(led: PlayedExchange) -> None:
    program = led.start("handover", "--to", "green")
    await led.order()
    await led.leases.release(1, Release("green-1", 0.0, stopped_s=0.0, handover_id=1))
    await led.lead("blue-2")
    assert await conclude(program) == 1
    assert "green did not take over in its time, so another did: blue-2 leads: epoch 2" in program.text


async def test_without_a_leader_the_one_that_is_meant_takes_the_lease(cluster: Cluster) -> None:
    variables = {"DATABASE_URL": cluster.database_url}
    blue = cluster.start_engine("blue-1", COLOUR="blue")
    await cluster.until_led("blue-1")
    cluster.start_engine("green-1", COLOUR="green")
    assert await blue.terminate() == 0
    replicas = ReplicaStore(cluster.pool)

    async def follows() -> bool:
        return [report.state for report in await replicas.all()] == ["stopped", "following"]

    await eventually(follows)
    assert (await cluster.lease()).holder == "blue-1"
    advice = await asyncio.to_thread(run, "status", variables=variables)
    assert advice.returncode == 1
    assert "`rtx handover --to green`" in advice.stdout
    async with asyncio.timeout(TIMEOUT_S):
        done = await asyncio.to_thread(run, "handover", "--to", "green", variables=variables)
    assert done.returncode == 0, done.stderr
    assert "nobody leads, green is to take over" in done.stderr
    assert done.stdout.startswith("green-1 leads: epoch 2")
