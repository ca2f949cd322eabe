"""What `rtx dev` shows: a progress line for the long steps, then where everything is, then what happens.

On a terminal the line moves; anywhere else each step is a line of its own, and nothing is repeated.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from rtx.cli.instances import Instance

REFRESHES_PER_S = 8


@dataclass(frozen=True)
class Figures:
    """What the backend has counted since it started, as its metrics say."""

    orders: int
    trades: int
    requests: int
    journal_sequence: int


class DevConsole:
    """Writes to standard output."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._live: Live | None = None
        self._before: tuple[float, Figures] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Keep the bottom line in place until the block ends."""
        if not self._console.is_terminal:
            yield
            return
        with Live(Text(), console=self._console, refresh_per_second=REFRESHES_PER_S, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def step(self, sentence: str) -> None:
        """Say what is being done now."""
        if self._live is None:
            self._console.print(f"rtx: {sentence}", soft_wrap=True)
        else:
            self._live.update(Spinner("dots", Text(f"{sentence} …", style="dim")))

    def note(self, sentence: str, style: str = "yellow") -> None:
        """Say what happened, to stay on the screen."""
        line = Text(f"{time.strftime('%H:%M:%S')}  {sentence}", style=style)
        self._console.print(line, soft_wrap=True)

    def error(self, sentence: str) -> None:
        """Say what went wrong."""
        self._console.print(Text(f"rtx: {sentence}", style="red"), soft_wrap=True)

    def figures(self, figures: Figures) -> None:
        """Show on the bottom line what goes on."""
        now_s = time.monotonic()
        before, self._before = self._before, (now_s, figures)
        if self._live is None:
            return
        rate = 0.0
        if before is not None and now_s > before[0]:
            rate = max(0.0, (figures.orders - before[1].orders) / (now_s - before[0]))
        self._live.update(
            Spinner(
                "dots",
                Text.assemble(
                    ("running", "green"),
                    f"   {figures.orders:,} orders ({rate:.0f}/s)   {figures.trades:,} trades"
                    f"   {figures.requests:,} requests   journal at {figures.journal_sequence:,}",
                    ("   Ctrl-C stops", "dim"),
                ),
            )
        )

    def summary(self, instance: Instance, *, data: str, log: str, crowd: bool) -> None:
        """Say where everything is, and how to trade."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        rows: list[tuple[str, str]] = [
            ("API", instance.api),
            ("streams", f"{instance.api.replace('http', 'ws', 1)}/ws"),
            ("metrics", instance.metrics),
            ("demo API key", instance.demo.api_key),
            ("demo secret", instance.demo.secret),
            ("operator", f"{instance.operator.email}   password {instance.operator.password}"),
            ("demo traders", "trade on BTCUSDT, ETHUSDT and AAPLUSD" if crowd else "off (--no-demo)"),
            ("data", data),
            ("log", log),
        ]
        for name, value in rows:
            table.add_row(name, value)
        self._print(
            Text(),
            Text("RTX is up.", style="bold green"),
            Padding(table, (1, 0, 1, 2)),
            Text("Trade with ccxt (pip install ccxt):", style="bold"),
            Text(),
        )
        snippet = ccxt_snippet(instance)
        if self._console.is_terminal:
            self._print(Syntax(snippet, "python", theme="ansi_dark", background_color="default", word_wrap=False))
        else:
            self._console.print(snippet, soft_wrap=True, markup=False)
        self._print(Text())

    def _print(self, *parts: RenderableType) -> None:
        self._console.print(Group(*parts))


def ccxt_snippet(instance: Instance) -> str:
    """Python to paste: an unmodified ccxt against this backend."""
    return f"""\
import ccxt

exchange = ccxt.binance({{
    "apiKey": "{instance.demo.api_key}",
    "secret": "{instance.demo.secret}",
    "enableRateLimit": False,
    "options": {{"fetchMarkets": {{"types": ["spot"]}}}},
}})
exchange.urls["api"]["public"] = exchange.urls["api"]["private"] = "{instance.api}/api/v3"
exchange.urls["api"]["sapi"] = "{instance.api}/sapi/v1"

print(exchange.fetch_order_book("BTC/USDT", 5))
print(exchange.create_order("BTC/USDT", "market", "buy", 0.01))
print(exchange.fetch_balance()["BTC"])"""
