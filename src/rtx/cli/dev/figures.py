"""Reads the few figures for the bottom line out of the backend's metrics."""

from __future__ import annotations

from rtx.cli.dev.console import Figures
from rtx.demo.client import HttpConnection

_NAMES = {
    b"rtx_orders_total": "orders",
    b"rtx_trades_total": "trades",
    b"rtx_http_requests_total": "requests",
    b"rtx_journal_sequence": "journal_sequence",
}


async def read_figures(connection: HttpConnection) -> Figures:
    """Ask once; raises the errors of :class:`HttpConnection`."""
    return parse_figures(await connection.read(""))


def parse_figures(exposition: bytes) -> Figures:
    """Add up the series of each figure in Prometheus' text format."""
    sums = dict.fromkeys(_NAMES.values(), 0.0)
    for line in exposition.splitlines():
        name = line.partition(b" ")[0].partition(b"{")[0]
        figure = _NAMES.get(name)
        if figure is not None:
            sums[figure] += float(line.rpartition(b" ")[2])
    return Figures(**{figure: int(total) for figure, total in sums.items()})
