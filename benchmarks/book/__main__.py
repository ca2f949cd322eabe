"""`python -m benchmarks.book`: the books against each other."""

from __future__ import annotations

import argparse

from benchmarks.book.contestants import PEERS
from benchmarks.book.flow import generate_flow
from benchmarks.book.ours import OURS
from benchmarks.book.runner import fastest_reporting, markdown, measure, split_by_presence


def main() -> None:
    """Read the options, measure, print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.book", description=__doc__)
    parser.add_argument("--operations", type=int, default=300_000, help="operations that are timed (default 300000)")
    parser.add_argument("--turns", type=int, default=5, help="turns of every book, interleaved (default 5)")
    parser.add_argument("--seed", type=int, default=20_240_607, help="of the order flow")
    options = parser.parse_args()

    flow = generate_flow(options.operations, seed=options.seed)
    present, missing = split_by_presence(PEERS)
    if not present:
        parser.error("none of the books is installed: `make install-bench` installs them")
    print(*missing, sep="\n")
    results = measure([*OURS, *present], flow, turns=options.turns)
    print(f"{len(flow.operations):,} operations, {len(flow.fills):,} fills, seed {flow.seed}, {options.turns} turns\n")
    print(markdown(results, fastest_reporting(results, present)))


if __name__ == "__main__":
    main()
