"""One measured session: accounts once, then as many stretches of load as are asked for.

Orders of a stretch are signed before its clock starts. How many are needed is judged by a short warm-up, which also
fills the book; a stretch that uses them up early signs more off the clock.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlsplit

from benchmarks.backend import ReadyFile
from benchmarks.http.accounts import JsonClient, Trader, create_traders
from benchmarks.http.load import LoadResult, drive
from benchmarks.http.orders import MarketRules, read_market_rules, sign_orders

WARM_UP_ORDERS = 5_000
STOCK_MARGIN = 1.3
STOCK_SECONDS_MAX = 25.0
"""A stock is signed at once, so it must be used up well inside the receive window."""

BASE_FUNDING = Decimal(1_000)
QUOTE_FUNDING = Decimal(50_000_000)


@dataclass(slots=True)
class OrderSession:
    """Traders in a market, and how fast the backend took their last orders."""

    address: tuple[str, int]
    host: str
    rules: MarketRules
    traders: Sequence[Trader]
    source: random.Random
    orders_per_second: float = 0.0

    def warm_up(self, connections: int) -> None:
        """Send ``WARM_UP_ORDERS`` off the record, for the rate to expect."""
        result = self._drive(WARM_UP_ORDERS, connections, STOCK_SECONDS_MAX)
        self.orders_per_second = result.answered / result.elapsed_seconds

    def measure(self, connections: int, seconds: float) -> LoadResult:
        """Drive orders for ``seconds`` on the clock; the rate expected is that of the last stretch."""
        total = LoadResult()
        while (remaining := seconds - total.elapsed_seconds) > 0.01 * seconds:
            stock_seconds = min(remaining, STOCK_SECONDS_MAX)
            orders = max(int(self.orders_per_second * stock_seconds * STOCK_MARGIN), connections)
            stretch = self._drive(orders, connections, stock_seconds)
            self.orders_per_second = stretch.answered / stretch.elapsed_seconds
            total.add(stretch)
        return total

    def _drive(self, orders: int, connections: int, seconds: float) -> LoadResult:
        requests = sign_orders(self.rules, self.traders, orders, self.host, self.source)
        return drive(self.address, requests, connections=connections, seconds=seconds)


def open_session(ready: ReadyFile, *, symbol: str, accounts: int, middle: Decimal, seed: int) -> OrderSession:
    """Make and fund the accounts; raises :class:`~benchmarks.http.accounts.SetupError` where the API refuses."""
    address = urlsplit(ready.api)
    with JsonClient(ready.api) as client:
        rules = read_market_rules(client, symbol, middle)
        funding = {rules.base_asset: BASE_FUNDING, rules.quote_asset: QUOTE_FUNDING}
        traders = create_traders(client, ready.operator, accounts, funding)
    return OrderSession(
        (address.hostname or "", address.port or 80), address.netloc, rules, traders, random.Random(seed)
    )


def describe(result: LoadResult) -> str:
    """Rate, latency, refusals and the load's own cost, as lines of text."""
    per_answer_us = result.client_cpu_seconds / max(result.answered, 1) * 1e6
    summary = (
        f"{result.accepted_per_second:,.0f} orders/s accepted; latency p50 {result.latency_ms(0.5):.2f} ms, "
        f"p99 {result.latency_ms(0.99):.2f} ms; {result.accepted:,} of {result.answered:,} accepted in "
        f"{result.elapsed_seconds:.1f} s; the load itself took {per_answer_us:.1f} us of CPU an order"
    )
    refusals = [f"  refused {count:,}: {what}" for what, count in result.refused.most_common()]
    return "\n".join([summary, *refusals])
