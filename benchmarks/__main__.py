"""`python -m benchmarks`: everything, as Markdown.

Each figure is a ratio within one run. Orders and pgbench take turns on the same PostgreSQL, so that a slow moment of
the machine falls on both.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from tools.compile_core import CannotCompileError, compile_core

from benchmarks.backend import BackendError, ReadyFile, read_ready_file, started_backend
from benchmarks.book.comparison import compare_books
from benchmarks.book.runner import WrongResultError
from benchmarks.http.accounts import SetupError
from benchmarks.http.load import LoadError, LoadResult
from benchmarks.http.session import describe, open_session
from benchmarks.pgbench import CLIENTS, SCALES, Pgbench, PgbenchError
from benchmarks.replicas import Extent, ReplicasError, measure_replicas

SECTIONS = ("book", "orders", "replicas")


@dataclass(frozen=True, slots=True)
class Turn:
    """One stretch of pgbench at each scale, and the stretch of orders that followed."""

    transactions_per_second: Sequence[float]
    orders: LoadResult

    @property
    def ratios(self) -> list[float]:
        """Accepted orders for one transaction of TPC-B, by scale."""
        return [self.orders.accepted_per_second / rate for rate in self.transactions_per_second]


def main() -> None:
    """Read the options and run the sections asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--ready-file", type=Path, help="use this running backend; by default one is started")
    parser.add_argument("--operations", type=int, default=300_000, help="of the order flow (default 300000)")
    parser.add_argument("--turns", type=int, default=3, help="of everything (default 3)")
    parser.add_argument("--seconds", type=int, default=20, help="of each turn of orders and of pgbench (default 20)")
    parser.add_argument("--connections", type=int, default=64, help="that send orders (default 64)")
    parser.add_argument("--accounts", type=int, default=32, help="fresh accounts that take turns (default 32)")
    parser.add_argument("--handovers", type=int, default=50, help="between replicas (default 50)")
    parser.add_argument("--kills", type=int, default=12, help="of the leading engine (default 12)")
    parser.add_argument("--replica-kills", type=int, default=6, help="of the leader's whole replica (default 6)")
    options = parser.parse_args()
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    sections = options.sections or SECTIONS

    if "book" in sections:
        print("## Order books\n", compare_books(options.operations, options.turns), sep="\n", flush=True)
    if "orders" in sections:
        given = options.ready_file
        print("\n## Orders through HTTP against pgbench\n")
        with contextlib.nullcontext(read_ready_file(given)) if given else own_backend() as ready:
            compare_orders(ready, options.turns, options.seconds, options.connections, options.accounts)
    if "replicas" in sections:
        print("\n## Three replicas\n")
        extent = Extent(
            options.handovers,
            options.kills,
            options.replica_kills,
            options.turns,
            options.seconds,
            options.connections,
            options.accounts,
        )
        measure_replicas(extent, compiled_tree())


def own_backend() -> contextlib.AbstractContextManager[ReadyFile]:
    """Start a backend on the compiled core, or where there is no compiler on plain Python, and say which."""
    return started_backend(compiled_tree())


def compiled_tree() -> Path | None:
    """Compile the core and give its folder, None where there is no compiler, and say which."""
    try:
        tree = compile_core()
    except CannotCompileError as reason:
        print(f"The core is plain Python: {reason}")
        return None
    print("The core is compiled by mypyc.")
    return tree


def compare_orders(ready: ReadyFile, turns: int, seconds: int, connections: int, accounts: int) -> None:
    """Print the table of orders through HTTP against pgbench, and the latency of one connection against a commit."""
    session = open_session(ready, symbol="BTCUSDT", accounts=accounts, middle=Decimal(50_000), seed=1)
    with contextlib.ExitStack() as stack:
        pgbenches = [Pgbench(ready.database_url, scale) for scale in SCALES]
        for pgbench in pgbenches:
            stack.callback(pgbench.remove)
            pgbench.prepare()
        session.warm_up(connections)
        measured = [
            Turn(
                [pgbench.transactions_per_second(seconds) for pgbench in pgbenches],
                session.measure(connections, seconds),
            )
            for _ in range(turns)
        ]
        print_turns(measured, connections, seconds)
        commit_ms = pgbenches[0].commit_latency_ms()
        session.warm_up(1)
        single = session.measure(1, min(seconds, 10))
        single_ms = single.latency_ms(0.5)
        print(
            f"\nOne connection: an order takes {single_ms:.2f} ms (median), a bare one-row commit {commit_ms:.2f} ms:"
        )
        print(f"{single_ms - commit_ms:.2f} ms over it.")


def print_turns(turns: Sequence[Turn], connections: int, seconds: int) -> None:
    """Print one row a turn, and the median ratio."""
    print(f"{connections} connections; pgbench TPC-B, prepared, {CLIENTS} clients; {seconds} s each.\n")
    scales = [f"scale {scale}" for scale in SCALES]
    columns = ["turn", *(f"pgbench {scale}, transactions/s" for scale in scales), "orders/s accepted"]
    columns += [*(f"ratio to {scale}" for scale in scales), "p50 ms", "p99 ms", "refused"]
    print(f"| {' | '.join(columns)} |\n|{'--:|' * len(columns)}")
    for number, turn in enumerate(turns, start=1):
        orders = turn.orders
        cells = [str(number), *(f"{rate:,.0f}" for rate in turn.transactions_per_second)]
        cells += [f"{orders.accepted_per_second:,.0f}", *(f"{ratio:.2f}" for ratio in turn.ratios)]
        cells += [f"{orders.latency_ms(0.5):.2f}", f"{orders.latency_ms(0.99):.2f}", f"{orders.refused.total():,}"]
        print(f"| {' | '.join(cells)} |")
    for position, scale in enumerate(scales):
        print(f"\nMedian ratio to {scale}: {statistics.median(turn.ratios[position] for turn in turns):.2f}.")
    print()
    for turn in turns:
        print(describe(turn.orders), flush=True)


if __name__ == "__main__":
    try:
        main()
    except (BackendError, SetupError, LoadError, PgbenchError, ReplicasError, WrongResultError) as error:
        sys.exit(f"benchmarks: {error}")
