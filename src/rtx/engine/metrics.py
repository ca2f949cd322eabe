"""The engine's figures, told once a batch so that they cost next to nothing an order."""

from __future__ import annotations

from rtx.core.events import MarketCreated, OrderState, Trade
from rtx.core.rejections import Reason
from rtx.engine.batch import OpenBatch
from rtx.observability import metrics


class EngineMetrics:
    """Counts for Prometheus; label children are looked up once."""

    def __init__(self) -> None:
        self._symbols: dict[int, str] = {}

    def name_market(self, market_id: int, symbol: str) -> None:
        """Say which symbol a market's series carry."""
        self._symbols[market_id] = symbol

    def batch_committed(self, batch: OpenBatch, commit_s: float, queued: int) -> None:
        entries = batch.entries
        metrics.BATCH_COMMANDS.observe(len(entries))
        metrics.COMMIT_DURATION.observe(commit_s)
        metrics.COMMANDS.inc(len(entries))
        metrics.JOURNAL_SEQUENCE.set(entries[-1].sequence)
        metrics.QUEUE_DEPTH.set(queued)
        orders: dict[int, int] = {}
        trades: dict[int, int] = {}
        for events in batch.events:
            for event in events:
                if type(event) is Trade:
                    trades[event.market_id] = trades.get(event.market_id, 0) + 1
                elif type(event) is OrderState and event.is_new:
                    orders[event.market_id] = orders.get(event.market_id, 0) + 1
                elif type(event) is MarketCreated:
                    self.name_market(event.market_id, event.symbol)
        for counter, counts in ((metrics.ORDERS, orders), (metrics.TRADES, trades)):
            for market_id, count in counts.items():
                counter.labels(self._symbols.get(market_id, str(market_id))).inc(count)

    def command_rejected(self, reason: int) -> None:
        metrics.ORDER_REJECTIONS.labels(Reason(reason).name).inc()

    def command_refused(self) -> None:
        metrics.QUEUE_REFUSALS.inc()
