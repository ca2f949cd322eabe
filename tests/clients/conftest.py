"""One running backend for all tests of this directory, and two funded traders with ccxt."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import ccxt
import pytest
from tests.clients.ccxt_exchange import exchange_of
from tests.clients.server import Account, Server, serving

from rtx.embedded import EmbeddedValkey

FUNDS = {"USDT": "10000000", "BTC": "1000", "ETH": "10000"}
SYMBOLS = ("BTC/USDT", "ETH/USDT")


@pytest.fixture(scope="session")
def server(create_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running `rtx serve` with markets; on a Valkey of its own, where no other backend publishes the same markets."""
    directory = tmp_path_factory.mktemp("clients")
    with EmbeddedValkey(directory / "valkey") as valkey, serving(create_database(), valkey.redis_url, directory) as up:
        yield up


@pytest.fixture(scope="session")
def maker_account(server: Server) -> Account:
    """Whose orders wait in the book."""
    return server.account(FUNDS)


@pytest.fixture(scope="session")
def taker_account(server: Server) -> Account:
    """Whose orders meet them."""
    return server.account(FUNDS)


@pytest.fixture(scope="session")
def maker_exchange(server: Server, maker_account: Account) -> Any:
    """The maker's ccxt, which knows the markets."""
    exchange = exchange_of(server, maker_account)
    exchange.load_markets()
    return exchange


@pytest.fixture(scope="session")
def taker_exchange(server: Server, taker_account: Account) -> Any:
    """The taker's ccxt, which knows the markets."""
    exchange = exchange_of(server, taker_account)
    exchange.load_markets()
    return exchange


@pytest.fixture
def maker(maker_exchange: Any) -> Iterator[Any]:
    """The maker's ccxt, for a test that may leave orders behind."""
    yield maker_exchange
    _cancel_all(maker_exchange)


@pytest.fixture
def taker(taker_exchange: Any) -> Iterator[Any]:
    """The taker's ccxt, for a test that may leave orders behind."""
    yield taker_exchange
    _cancel_all(taker_exchange)


def _cancel_all(exchange: Any) -> None:
    for symbol in SYMBOLS:
        with contextlib.suppress(ccxt.OrderNotFound):
            exchange.cancel_all_orders(symbol)
