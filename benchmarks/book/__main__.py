"""`python -m benchmarks.book`: the books against each other."""

from __future__ import annotations

import argparse

from benchmarks.book.comparison import compare_books
from benchmarks.book.flow import DEFAULT_SEED


def main() -> None:
    """Read the options, measure, print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.book", description=__doc__)
    parser.add_argument("--operations", type=int, default=300_000, help="operations that are timed (default 300000)")
    parser.add_argument("--turns", type=int, default=5, help="turns of every book, interleaved (default 5)")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of the order flow")
    options = parser.parse_args()

    try:
        print(compare_books(options.operations, options.turns, options.seed))
    except ValueError as reason:
        parser.error(str(reason))


if __name__ == "__main__":
    main()
