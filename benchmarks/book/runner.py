"""Drives every book through the same flow, in turns, and compares them.

Every book has a process of its own. Turns are interleaved (each book once, then each again) so that a slow moment of
the machine falls on all alike; the figure of a book is the median of its turns. A book that ends with other fills or
other resting orders than the flow's own is wrong, and stops the run.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from benchmarks.book.contestants import Contestant, ContestantFactory, FillReport
from benchmarks.book.flow import OrderFlow

ROOT: Final = Path(__file__).parents[2]


class WrongResultError(Exception):
    """A book did not do what the flow's own matching did."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one book."""

    name: str
    report: FillReport
    operations_per_second: float


@dataclass(frozen=True, slots=True)
class BookResult:
    """Operations per second of one book, one figure a turn."""

    name: str
    report: FillReport
    operations_per_second: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the turns, in operations per second."""
        return statistics.median(self.operations_per_second)


def check(contestant: Contestant, flow: OrderFlow) -> None:
    """Raise :class:`WrongResultError` where the book's fills or what rests differ from the flow's own."""
    fills = contestant.fills()
    if fills is not None and tuple(fills) != flow.fills:
        raise WrongResultError(f"{contestant.name}: its {len(fills)} fills are not the {len(flow.fills)} expected")
    resting = contestant.resting()
    if resting is not None and resting != flow.resting:
        raise WrongResultError(f"{contestant.name}: {resting} rests, expected {flow.resting}")


def split_by_presence(factories: Sequence[ContestantFactory]) -> tuple[list[ContestantFactory], list[str]]:
    """The books that can be built here, and a sentence for each that is not installed."""
    present: list[ContestantFactory] = []
    missing: list[str] = []
    for factory in factories:
        try:
            factory()
        except ModuleNotFoundError as error:
            missing.append(f"left out, not installed (`make install-bench` does): {error.name}")
        else:
            present.append(factory)
    return present, missing


def time_once(factory: ContestantFactory, flow: OrderFlow) -> tuple[Contestant, float]:
    """Build a book, fill it, and time the operations; gives the book and the operations per second.

    The time is the process's on its core: the books wait for nothing, and what else runs on the machine is left out.
    """
    contestant = factory()
    contestant.replay(contestant.prepare(flow.opening))
    operations = contestant.prepare(flow.operations)
    gc.collect()
    started = time.process_time()
    contestant.replay(operations)
    elapsed_seconds = time.process_time() - started
    return contestant, len(flow.operations) / elapsed_seconds


class BookProcess:
    """A process of its own for one book; ``tree`` goes first on its PYTHONPATH."""

    def __init__(self, factory: ContestantFactory, operations: int, seed: int, *, tree: Path | None = None) -> None:
        path = [str(folder) for folder in (tree, ROOT) if folder is not None]
        arguments = ["--book", factory.__name__, "--operations", str(operations), "--seed", str(seed)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.book.worker", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def turn(self) -> Turn:
        """Let the book have one turn; raises :class:`WrongResultError` when its process gave up."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print("turn", file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise WrongResultError("a book's process ended; why is above")
        name, report, operations_per_second = json.loads(answer)
        return Turn(name, FillReport(report), operations_per_second)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Closing standard input ends its loop.
        self._process.communicate()


def measure(processes: Sequence[BookProcess], turns: int) -> list[BookResult]:
    """Let every book have ``turns`` turns, interleaved; fastest first. The first turn of all warms up: not counted."""
    figures: dict[str, tuple[FillReport, list[float]]] = {}
    for index in range(turns + 1):
        for process in processes:
            turn = process.turn()
            if index:
                figures.setdefault(turn.name, (turn.report, []))[1].append(turn.operations_per_second)
    results = [BookResult(name, report, tuple(turns_of)) for name, (report, turns_of) in figures.items()]
    return sorted(results, key=lambda result: result.median, reverse=True)


def fastest_reporting(results: Sequence[BookResult], among: Sequence[ContestantFactory]) -> BookResult:
    """The fastest of the books in ``among`` that reports every fill; raises ``ValueError`` if none does."""
    names = {factory().name for factory in among}
    reporting = [result for result in results if result.name in names and result.report is FillReport.EVERY_FILL]
    return max(reporting, key=lambda result: result.median)


def markdown(results: Sequence[BookResult], baseline: BookResult) -> str:
    """A Markdown table; ratios are of medians, to ``baseline``."""
    lines = [
        "| book | reports | operations/s, median | slowest to fastest turn | ratio |",
        "|---|---|--:|--:|--:|",
    ]
    lines += [
        f"| {result.name} | {result.report.value} | {result.median:,.0f} "
        f"| {min(result.operations_per_second):,.0f} to {max(result.operations_per_second):,.0f} "
        f"| {result.median / baseline.median:.2f} |"
        for result in results
    ]
    return "\n".join(lines)
