"""Three replicas under load lose engines, hosts, servers and cables: nothing acknowledged is lost, nothing done twice.

`RTX_TEST_FAULT_ROUNDS=N` has every fault happen N times as often.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from tests.faults.backend import LOOPBACK, Place, Servers
from tests.faults.balancer import Balancer
from tests.faults.ccxt_trader import CcxtTrader
from tests.faults.exchange import Exchange, ReachablePostgresql
from tests.faults.judgement import judge
from tests.faults.load import Load, Persistence, trading
from tests.faults.network import NoNamespacesError, RemoteHost, remote_host
from tests.faults.replicas import Replicas, make_members, running_replicas, signal_engine
from tests.faults.venue import open_venue
from tests.faults.verification import Verdict

from rtx.embedded import EmbeddedValkey

pytestmark = pytest.mark.kill

ROUNDS: Final = int(os.environ.get("RTX_TEST_FAULT_ROUNDS", "1"))
CLIENTS: Final = 24
CCXT_CLIENTS: Final = 3
CLIENT_PAUSE_S: Final = 0.02
"""So that the machine has time for the processes that start again, and there is not too much to verify."""

STRETCH: Final = 150
"""So many acknowledged requests are more than can have been under way when something died."""

ENGINE_KILLS: Final = 20 * ROUNDS
REPLICA_KILLS: Final = 2 * ROUNDS
PAUSES: Final = ROUNDS
DATABASE_OUTAGES_S: Final = (1.0, 0.0) * ROUNDS
HANDOVERS: Final = 20 * ROUNDS
HANDOVER_TARGETS: Final = ("replica-2", "replica-1", "green", "replica-1", "replica-3", "blue", "green")
"""Within a colour and between colours, by holder and by colour; the third replica is green."""

HANDOVERS_BY_COMMAND: Final = len(HANDOVER_TARGETS)
VALKEY_KILLS: Final = 2 * ROUNDS
CUTS: Final = ROUNDS


@contextlib.asynccontextmanager
async def trading_everywhere(replicas: Replicas) -> AsyncIterator[Load]:
    """Have clients of several kinds trade on all replicas until the block ends."""
    venue = await open_venue(replicas.addresses, replicas.operator)
    kinds = (Persistence.REPEAT, Persistence.ASK)
    async with contextlib.AsyncExitStack() as stack:
        balancers = [
            await stack.enter_async_context(Balancer(venue.from_home(number)).running())
            for number in range(CCXT_CLIENTS)
        ]
        load = await stack.enter_async_context(
            trading(venue, clients=CLIENTS, persistences=kinds, pause_s=CLIENT_PAUSE_S)
        )
        async with asyncio.TaskGroup() as group:
            for number, balancer in enumerate(balancers):
                group.create_task(CcxtTrader(load, number, balancer).run())
            yield load
            load.stop()


async def judge_replicas(what: str, load: Load, replicas: Replicas, capsys: pytest.CaptureFixture[str]) -> Verdict:
    """Let nothing pass that is lost, doubled or wrong, nor engines whose states differ."""
    row = await replicas.agree()
    return await judge(what, load, replicas.database_url, capsys, f"all engines agree at row {row}")


def times(count: int) -> str:
    """How often, in words."""
    return "once" if count == 1 else f"{count} times"


async def test_leading_engine_killed_again_and_again(replicas: Replicas, capsys: pytest.CaptureFixture[str]) -> None:
    async with trading_everywhere(replicas) as load:
        await load.more(STRETCH)
        for _ in range(ENGINE_KILLS):
            lease = await replicas.lease()
            signal_engine(replicas.holding(lease), signal.SIGKILL)
            await replicas.led_after(lease.epoch)
            await load.more(STRETCH)
    await judge_replicas(f"leading engine killed {times(ENGINE_KILLS)}", load, replicas, capsys)
    assert load.failures == []


async def test_leading_replica_killed_with_all_its_processes(
    replicas: Replicas, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = set()
    async with trading_everywhere(replicas) as load:
        await load.more(STRETCH)
        for _ in range(REPLICA_KILLS):
            lease = await replicas.lease()
            leader = replicas.holding(lease)
            killed.add(leader.address)
            await asyncio.to_thread(leader.kill_everything)
            assert replicas.holding(await replicas.led_after(lease.epoch)) is not leader
            await load.more(STRETCH)
            leader.start()
            await leader.ready()
            await load.more(STRETCH)
    await judge_replicas(f"leading replica killed {times(REPLICA_KILLS)}", load, replicas, capsys)
    assert not load.errors_elsewhere(killed)


async def test_a_leader_that_stood_still_has_no_say_any_more(
    replicas: Replicas, capsys: pytest.CaptureFixture[str]
) -> None:
    async with trading_everywhere(replicas) as load:
        await load.more(STRETCH)
        for _ in range(PAUSES):
            lease = await replicas.lease()
            leader = replicas.holding(lease)
            signal_engine(leader, signal.SIGSTOP)
            try:
                assert replicas.holding(await replicas.led_after(lease.epoch)) is not leader
                await load.more(STRETCH)
            finally:
                signal_engine(leader, signal.SIGCONT)
            # What it had taken before and now tries to write would show as a row of an earlier epoch.
            await load.more(2 * STRETCH)
    await judge_replicas(f"leading engine stood still {times(PAUSES)}", load, replicas, capsys)
    assert load.failures == []


async def test_database_stopped_and_started(
    replicas: Replicas, mortal_postgresql: ReachablePostgresql, capsys: pytest.CaptureFixture[str]
) -> None:
    async with trading_everywhere(replicas) as load:
        await load.more(STRETCH)
        for outage_s in DATABASE_OUTAGES_S:
            await asyncio.to_thread(mortal_postgresql.stop, "immediate")
            await asyncio.sleep(outage_s)
            await asyncio.to_thread(mortal_postgresql.start)
            await load.more(STRETCH)
    await replicas.all_ready()
    await judge_replicas(f"PostgreSQL stopped {times(len(DATABASE_OUTAGES_S))}", load, replicas, capsys)
    assert load.failures == []


async def test_valkey_killed_and_started(
    replicas: Replicas, mortal_valkey: EmbeddedValkey, capsys: pytest.CaptureFixture[str]
) -> None:
    async with trading_everywhere(replicas) as load:
        await load.more(STRETCH)
        for _ in range(VALKEY_KILLS):
            await asyncio.to_thread(mortal_valkey.kill)
            await load.more(STRETCH)
            await asyncio.to_thread(mortal_valkey.start)
            await load.more(STRETCH)
    await judge_replicas(f"Valkey killed {times(VALKEY_KILLS)}", load, replicas, capsys)
    assert load.failures == []


async def test_replicas_ended_one_after_the_other(replicas: Replicas, capsys: pytest.CaptureFixture[str]) -> None:
    async with trading_everywhere(replicas) as load:
        await load.more(STRETCH)
        for member in [*replicas.members] * ROUNDS:
            assert await member.stop() == 0
            await load.more(STRETCH)
            member.start()
            await member.ready()
            await load.more(STRETCH)
    verdict = await judge_replicas(f"each replica ended by SIGTERM {times(ROUNDS)}", load, replicas, capsys)
    assert load.failures == []
    assert verdict.untold == []


# -- in order ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def coloured_replicas(
    exchange: Exchange, mortal_valkey: EmbeddedValkey, tmp_path: Path
) -> AsyncIterator[Replicas]:
    """Two blue replicas, of which the first leads, and a green one."""
    servers = Servers(exchange.database_url, mortal_valkey.redis_url)
    members = make_members(tmp_path, servers, exchange.operator, colours=("blue", "blue", "green"))
    async with running_replicas(members) as replicas:
        yield replicas


async def test_handed_over_between_colours_and_holders(
    coloured_replicas: Replicas, capsys: pytest.CaptureFixture[str]
) -> None:
    replicas = coloured_replicas
    pauses_ms = []
    async with trading_everywhere(replicas) as load:
        await load.more(STRETCH)
        for number, target in enumerate(itertools.islice(itertools.cycle(HANDOVER_TARGETS), HANDOVERS)):
            epoch = (await replicas.lease()).epoch
            # The command takes longer to start than a handover takes.
            by_command = number < HANDOVERS_BY_COMMAND
            await (replicas.command_handover(target) if by_command else replicas.hand_over(target))
            after = await replicas.lease()
            assert after.epoch == epoch + 1
            assert target in (after.colour, replicas.holding(after).name)
            await load.more(STRETCH)
            pause_ms = (await replicas.last_handover()).pause_ms
            assert pause_ms is not None
            pauses_ms.append(pause_ms)
    what = f"{HANDOVERS} planned handovers (pause of the engines at most {max(pauses_ms):.0f} ms)"
    await judge_replicas(what, load, replicas, capsys)
    assert load.failures == []


# -- the network ------------------------------------------------------------------------------------------------------


@pytest.fixture
def host(mortal_postgresql: ReachablePostgresql) -> Iterator[RemoteHost]:
    """Another host, which reaches PostgreSQL over a cable of its own."""
    try:
        with remote_host() as host:
            mortal_postgresql.stop()
            mortal_postgresql.address = host.database.address
            yield host
    except NoNamespacesError as error:
        pytest.skip(str(error))
    finally:
        mortal_postgresql.stop()
        mortal_postgresql.address = ""


@pytest.fixture
async def spread_replicas(
    host: RemoteHost, exchange: Exchange, mortal_valkey: EmbeddedValkey, tmp_path: Path
) -> AsyncIterator[Replicas]:
    """Three replicas of which the first, which leads, runs on the other host."""
    near, far = Place(host.service.address), Place(host.service.far_address, host.launcher)
    valkey_port = urlsplit(mortal_valkey.redis_url).port
    assert valkey_port is not None
    async with Balancer([(LOOPBACK, valkey_port)], host.service.address).running() as door:
        database_url = _moved(exchange.database_url, host.database.address)
        servers = Servers(database_url, _moved(mortal_valkey.redis_url, *door.address))
        members = make_members(tmp_path, servers, exchange.operator, places=(far, near, near))
        async with running_replicas(members) as replicas:
            yield replicas


def _moved(url: str, host: str, port: int | None = None) -> str:
    """The URL at another address."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username or ''}:{parts.password}@{host}:{port or parts.port}").geturl()


async def test_leading_replica_cut_off_from_the_database(
    spread_replicas: Replicas, host: RemoteHost, capsys: pytest.CaptureFixture[str]
) -> None:
    replicas = spread_replicas
    far = replicas.members[0]
    async with trading_everywhere(replicas) as load:
        await load.more(STRETCH)
        for _ in range(CUTS):
            await replicas.hand_over_to(far)
            await load.more(STRETCH)
            epoch = (await replicas.lease()).epoch
            host.database.cut()
            assert replicas.holding(await replicas.led_after(epoch)) is not far
            await load.more(STRETCH)
            host.database.heal()
            await far.ready()
            await load.more(STRETCH)
    await judge_replicas(f"leading replica cut off from PostgreSQL {times(CUTS)}", load, replicas, capsys)
    assert not load.errors_elsewhere({far.address})
