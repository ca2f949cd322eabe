"""`rtx dev`: from nothing to trading, through Ctrl-C, and on with the same books."""

import asyncio
import contextlib
import json
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from tests.integration.cli.program import Development, JsonObject, environment, run, snippet_of

from rtx.cli.instances import Instance
from rtx.demo.client import AnsweredError, HttpConnection, TradingClient, UnreachableError

Start = Callable[..., Development]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `rtx dev` on the test's own directory."""
    started: list[Development] = []

    def start(*options: str) -> Development:
        started.append(Development(tmp_path, *options))
        return started[-1]

    yield start
    for development in started:
        development.close()


@asynccontextmanager
async def demo_client(instance: Instance) -> AsyncIterator[TradingClient]:
    async with HttpConnection(instance.api) as connection:
        yield TradingClient(connection, instance.demo.api_key, instance.demo.secret)


async def place_order(instance: Instance) -> int:
    """Leave an order of the demo account in the book; returns its id."""
    async with demo_client(instance) as client:
        order = await client.signed(
            "POST",
            "/api/v3/order",
            symbol="BTCUSDT",
            side="BUY",
            type="LIMIT",
            timeInForce="GTC",
            price="60000",
            quantity="0.5",
        )
        return int(order["orderId"])


async def open_orders(instance: Instance) -> list[int]:
    async with demo_client(instance) as client:
        return [order["orderId"] for order in await client.signed("GET", "/api/v3/openOrders")]


async def test_a_first_run_opens_an_exchange_and_a_second_goes_on_with_its_books(start: Start) -> None:
    development = start("--no-demo")
    first = development.wait_until_ready()

    for ready_file in (development.ready_file, development.data / "ready.json"):
        assert stat.S_IMODE(ready_file.stat().st_mode) == 0o600
        content = json.loads(ready_file.read_text())
        assert content.keys() >= {"api", "metrics", "database_url", "redis_url", "operator", "demo"}
        assert content["operator"].keys() == {"email", "password"}
        assert content["demo"].keys() == {"apiKey", "secret"}
    assert stat.S_IMODE((development.data / "credentials.json").stat().st_mode) == 0o600

    async with HttpConnection(first.api) as connection:
        markets = (await connection.request("GET", "/api/v3/exchangeInfo"))["symbols"]
    assert {market["symbol"] for market in markets} == {"BTCUSDT", "ETHUSDT", "AAPLUSD"}
    funds = {row["asset"]: float(row["free"]) for row in await demo_balances(first)}
    assert all(funds[asset] > 0 for asset in ("USDT", "USD", "BTC", "ETH", "AAPL"))
    with urlopen(first.metrics) as response:  # noqa: ASYNC210 - nothing else runs here
        assert b'rtx_processes{role="engine"} 1.0' in response.read()
    order_id = await place_order(first)
    balances = await demo_balances(first)

    rival = run("dev", "--data", str(development.data), "--port", "0", "--metrics-port", "0")
    assert rival.returncode == 1
    assert f"in use by another run (process {development.process.pid})" in rival.stdout

    below = processes_below(development)
    assert development.interrupt() == 0
    assert "stopped" in development.text
    assert gone(below)
    assert not development.ready_file.exists()
    assert list((development.state_directory / "rtx" / "instances").iterdir()) == []

    again = start("--no-demo")
    second = again.wait_until_ready()
    assert second.demo.api_key == first.demo.api_key
    assert await open_orders(second) == [order_id]
    assert await demo_balances(second) == balances
    assert again.interrupt() == 0


async def test_the_crowd_trades_ccxt_trades_and_nothing_is_lost_when_all_is_killed(start: Start) -> None:
    development = start()
    instance = development.wait_until_ready()
    await until(book_is_open, instance)

    # The snippet that is shown to people, run as they would: an unmodified ccxt in a Python of its own.
    pasted = subprocess.run(  # noqa: ASYNC221 - nothing else runs here
        [sys.executable, "-c", snippet_of(development.text)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "'status': 'closed'" in pasted.stdout

    order_id = await place_order(instance)
    for process in development.backend.processes:
        psutil.Process(process.pid).kill()
    await until(is_ready, instance)
    assert await open_orders(instance) == [order_id]
    await until(book_is_open, instance)

    for server in ("postgres", "valkey-server"):
        oldest_of(processes_below(development), server).kill()
        development.read_until("is back")
    await until(is_ready, instance)
    assert await open_orders(instance) == [order_id]

    below = processes_below(development)
    development.process.kill()
    assert gone(below)
    resumed = start("--no-demo").wait_until_ready()
    assert await open_orders(resumed) == [order_id]


def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("dev", "--data", str(tmp_path / "data"), "--port", str(port), "--metrics-port", "0")
    assert done.returncode == 2
    assert "--port to another port" in done.stdout
    assert not (tmp_path / "data").exists()


async def demo_balances(instance: Instance) -> list[JsonObject]:
    async with demo_client(instance) as client:
        balances: list[JsonObject] = (await client.signed("GET", "/api/v3/account"))["balances"]
        return balances


async def is_ready(instance: Instance) -> bool:
    async with HttpConnection(instance.api) as connection:
        return bool((await connection.request("GET", "/health/ready"))["status"] == "ready")


async def book_is_open(instance: Instance) -> bool:
    async with HttpConnection(instance.api) as connection:
        book = await connection.request("GET", "/api/v3/depth?symbol=BTCUSDT")
        return len(book["bids"]) > 4 and len(book["asks"]) > 4


async def until(condition: Callable[[Instance], Awaitable[bool]], instance: Instance) -> None:
    """Ask until the answer is yes; no answer is no."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(AnsweredError, UnreachableError):
                if await condition(instance):
                    return
            await asyncio.sleep(0.02)


def processes_below(development: Development) -> list[psutil.Process]:
    return psutil.Process(development.process.pid).children(recursive=True)


def oldest_of(processes: list[psutil.Process], name: str) -> psutil.Process:
    """The server itself, not one of the processes that it started."""
    return min((process for process in processes if process.name() == name), key=psutil.Process.create_time)


def gone(processes: list[psutil.Process]) -> bool:
    """Wait for the processes' end; those that nobody is left to take note of (zombies) count as ended."""
    _, alive = psutil.wait_procs(processes, timeout=20)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)
