"""One book in a process of its own: a turn for each line that comes in, its figure as a line that goes out.

Books that share a process share a heap: whoever comes after one that left it in pieces is slowed by that. And an
interpreter has room for one form of our core, plain or compiled.
"""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks.book.contestants import PEERS
from benchmarks.book.flow import generate_flow
from benchmarks.book.ours import OURS
from benchmarks.book.runner import check, time_once


def main() -> None:
    """Draw the flow, then run one turn for each line."""
    factories = {factory.__name__: factory for factory in (*OURS, *PEERS)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--book", choices=factories, required=True)
    parser.add_argument("--operations", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    flow = generate_flow(options.operations, seed=options.seed)
    for _ in sys.stdin:
        contestant, operations_per_second = time_once(factories[options.book], flow)
        check(contestant, flow)
        print(json.dumps([contestant.name, contestant.report.value, operations_per_second]), flush=True)
        del contestant


if __name__ == "__main__":
    main()
