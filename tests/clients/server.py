"""`rtx serve` as a process of its own, and the accounts that trade there, all made through the public API."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from rtx.demo.client import AccountClient, AnsweredError, HttpConnection, UnreachableError
from rtx.supervisor.backend import BackendState, read_state

JWT_SECRET: Final = "a secret that only the tests of the clients know"
OPERATOR_EMAIL: Final = "operator@example.com"
PASSWORD: Final = "correct horse battery staple"
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0
READINESS_INTERVAL_S: Final = 0.05

FEE_RATE: Final = "0.001"

LIMITS: Final[Mapping[str, object]] = {
    "minPrice": "0.01",
    "maxPrice": "1000000",
    "minQty": "0.001",
    "maxQty": "9000",
    "minNotional": "5",
    "bidMultiplierUp": "5",
    "bidMultiplierDown": "0.2",
    "askMultiplierUp": "5",
    "askMultiplierDown": "0.2",
    "maxNumOrders": 20,
}

MARKETS: Final[tuple[Mapping[str, object], ...]] = (
    {
        "symbol": "BTCUSDT",
        "baseAsset": "BTC",
        "quoteAsset": "USDT",
        "tickSize": "0.01",
        "stepSize": "0.00001",
        **LIMITS,
    },
    {"symbol": "ETHUSDT", "baseAsset": "ETH", "quoteAsset": "USDT", "tickSize": "0.01", "stepSize": "0.0001", **LIMITS},
    {
        "symbol": "SOLUSDT",
        "baseAsset": "SOL",
        "quoteAsset": "USDT",
        "tickSize": "0.01",
        "stepSize": "0.001",
        "maxNumOrders": 100_000,
    },
    {
        "symbol": "DOTUSDT",
        "baseAsset": "DOT",
        "quoteAsset": "USDT",
        "tickSize": "0.01",
        "stepSize": "0.01",
        "status": "HALT",
    },
)
"""BTCUSDT and ETHUSDT are for tests that clean up behind themselves, SOLUSDT is for traffic in great numbers, and
nobody can trade on DOTUSDT.
"""

# The program `rtx`, in a process that ends when the one that started it does, however that ends.
_RTX: Final = (
    "import signal, sys;"
    "from rtx.supervisor.lifeline import end_with_parent;"
    "end_with_parent(int(sys.argv.pop(1)), how=signal.SIGTERM);"
    "from rtx.cli import main;"
    "main()"
)

_JSON: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Account:
    """A user with an API key."""

    user_id: int
    api_key: str
    secret: str = field(repr=False)


class Server:
    """A running backend, reached as anybody would reach it."""

    def __init__(self, state: BackendState) -> None:
        self.port = state.port
        self.engine_port = state.engine_port
        self.url = f"http://127.0.0.1:{state.port}"
        self.websocket_url = f"ws://127.0.0.1:{state.port}"
        self._numbers = itertools.count(1)

    def account(self, amounts: Mapping[str, str], permissions: tuple[str, ...] = ("read", "trade")) -> Account:
        """Register a user, deposit ``amounts`` of assets, and make an API key; not inside of an event loop."""
        return asyncio.run(self.open_account(amounts, permissions))

    def operator(self, method: str, path: str, content: Mapping[str, object] | None = None) -> Any:
        """Call an endpoint for operators; not inside of an event loop."""
        return asyncio.run(self.ask_operator(method, path, content))

    async def open_account(
        self, amounts: Mapping[str, str], permissions: tuple[str, ...] = ("read", "trade")
    ) -> Account:
        """Register a user, deposit ``amounts`` of assets, and make an API key."""
        email = f"trader{next(self._numbers)}@example.com"
        credentials = msgspec.json.encode({"email": email, "password": PASSWORD})
        async with HttpConnection(self.url) as connection:
            registered = await connection.request("POST", "/api/v1/auth/register", content=credentials, headers=_JSON)
            user_id = registered["userId"]
            operator = AccountClient(connection, OPERATOR_EMAIL, PASSWORD)
            for asset, amount in amounts.items():
                deposit = {"userId": user_id, "asset": asset, "amount": amount, "reference": f"{email} {asset}"}
                await operator.call("POST", "/api/v1/admin/deposits", deposit)
            wanted = {"label": "clients", "permissions": list(permissions), "ipAllow": []}
            key = await AccountClient(connection, email, PASSWORD).call("POST", "/api/v1/api-keys", wanted)
        return Account(user_id, key["apiKey"], key["secretKey"])

    async def ask_operator(self, method: str, path: str, content: Mapping[str, object] | None = None) -> Any:
        """Call an endpoint for operators."""
        async with HttpConnection(self.url) as connection:
            return await AccountClient(connection, OPERATOR_EMAIL, PASSWORD).call(method, path, content)

    async def prepare(self) -> None:
        """Open the markets and set the fees."""
        async with HttpConnection(self.url) as connection:
            operator = AccountClient(connection, OPERATOR_EMAIL, PASSWORD)
            for market in MARKETS:
                await operator.call("POST", "/api/v1/admin/markets", market)
            fees = {"makerRate": FEE_RATE, "takerRate": FEE_RATE}
            await operator.call("PUT", "/api/v1/admin/fee-tiers/0", fees)


@contextlib.contextmanager
def serving(database_url: str, redis_url: str, directory: Path) -> Iterator[Server]:
    """Migrate, make an operator and run `rtx serve` until the block ends; its books must reconcile at the end."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "JWT_SECRET": JWT_SECRET,
        "RTX_HOST": "127.0.0.1",
        "RTX_PORT": "0",
        "RTX_METRICS_HOST": "127.0.0.1",
        "RTX_METRICS_PORT": "0",
        "RTX_API_WORKERS": "1",
        "RTX_OPERATOR_PASSWORD": PASSWORD,
    }
    _run_to_end(environment, "migrate")
    _run_to_end(environment, "operator", "create", "--email", OPERATOR_EMAIL)
    state_path, log_path = directory / "state.json", directory / "serve.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            _command("serve", "--state-file", str(state_path)),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            server = Server(_ready_state(process, state_path, log_path))
            asyncio.run(server.prepare())
            yield server
            report = server.operator("GET", "/api/v1/admin/reconciliation")
            assert report["clean"], report["findings"]
        finally:
            code = _stop(process)
    assert code == 0, f"rtx serve ended with {code}:\n{_end_of(log_path)}"


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", _RTX, str(os.getpid()), *arguments]


def _run_to_end(environment: Mapping[str, str], *arguments: str) -> None:
    done = subprocess.run(
        _command(*arguments),
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"rtx {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}"


def _ready_state(process: subprocess.Popen[bytes], state_path: Path, log_path: Path) -> BackendState:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        assert process.poll() is None, f"rtx serve ended with {process.returncode}:\n{_end_of(log_path)}"
        state = read_state(state_path)
        if state is not None and asyncio.run(_is_ready(state.port)):
            return state
        time.sleep(READINESS_INTERVAL_S)
    raise AssertionError(f"rtx serve was not ready after {START_TIMEOUT_S:.0f} s:\n{_end_of(log_path)}")


async def _is_ready(port: int) -> bool:
    async with HttpConnection(f"http://127.0.0.1:{port}") as connection:
        try:
            await connection.request("GET", "/health/ready")
        except (AnsweredError, UnreachableError):
            return False
    return True


def _stop(process: subprocess.Popen[bytes]) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _end_of(path: Path) -> str:
    return path.read_text(errors="replace")[-4000:]
