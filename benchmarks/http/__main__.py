"""`python -m benchmarks.http`: orders a second through the public API of a running backend."""

from __future__ import annotations

import argparse
import sys
from decimal import Decimal
from pathlib import Path

import msgspec

from benchmarks.backend import BackendError, read_ready_file
from benchmarks.http.accounts import SetupError
from benchmarks.http.load import LoadError
from benchmarks.http.session import describe, open_session


def main() -> None:
    """Read the options, make the accounts, drive the load, print the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http", description=__doc__)
    parser.add_argument("--ready-file", type=Path, required=True, help="as written by `rtx dev --ready-file FILE`")
    parser.add_argument("--api", help="another address than the ready-file's, http://HOST:PORT")
    parser.add_argument("--connections", type=int, default=64, help="each with one order under way (default 64)")
    parser.add_argument("--seconds", type=float, default=20.0, help="on the clock (default 20)")
    parser.add_argument("--accounts", type=int, default=32, help="fresh accounts that take turns (default 32)")
    parser.add_argument("--symbol", default="BTCUSDT")
    parser.add_argument("--middle", type=Decimal, default=Decimal(50_000), help="price where nothing traded yet")
    parser.add_argument("--seed", type=int, default=1, help="of the orders")
    options = parser.parse_args()

    ready = read_ready_file(options.ready_file)
    if options.api:
        ready = msgspec.structs.replace(ready, api=options.api)
    session = open_session(
        ready, symbol=options.symbol, accounts=options.accounts, middle=options.middle, seed=options.seed
    )
    session.warm_up(options.connections)
    print(describe(session.measure(options.connections, options.seconds)))


if __name__ == "__main__":
    try:
        main()
    except (BackendError, SetupError, LoadError) as error:
        sys.exit(f"benchmarks.http: {error}")
