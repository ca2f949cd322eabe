"""All books against each other: ours as plain Python and compiled, and the peers that are installed."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tools.compile_core import CannotCompileError, compile_core

from benchmarks.book.contestants import PEERS, ContestantFactory
from benchmarks.book.flow import DEFAULT_SEED
from benchmarks.book.ours import OURS
from benchmarks.book.runner import BookProcess, fastest_reporting, markdown, measure, split_by_presence


@dataclass(frozen=True, slots=True)
class Comparison:
    """A Markdown table, and a sentence for each book that could not take part."""

    table: str
    left_out: list[str]

    def __str__(self) -> str:
        return "\n".join([*self.left_out, self.table])


def compare_books(operations: int, turns: int, seed: int = DEFAULT_SEED) -> Comparison:
    """Measure every book that runs here.

    Raises :class:`~benchmarks.book.runner.WrongResultError`, and ``ValueError`` where no peer is installed.
    """
    present, left_out = split_by_presence(PEERS)
    if not present:
        raise ValueError("none of the books to compare with is installed: `make install-bench` installs them")
    contestants: list[tuple[ContestantFactory, Path | None]] = [(factory, None) for factory in (*OURS, *present)]
    try:
        tree = compile_core()
    except CannotCompileError as reason:
        left_out.append(f"left out, our books compiled by mypyc: {reason}")
    else:
        contestants += [(factory, tree) for factory in OURS]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(BookProcess(factory, operations, seed, tree=tree)) for factory, tree in contestants
        ]
        results = measure(processes, turns)
    heading = f"{operations:,} operations, seed {seed}, {turns} turns of each, interleaved.\n\n"
    return Comparison(heading + markdown(results, fastest_reporting(results, present)), left_out)
