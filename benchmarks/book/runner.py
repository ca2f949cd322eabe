"""Drives every book through the same flow, in turns, and compares them.

Turns are interleaved (each book once, then each again) so that a slow moment of the machine falls on all alike; the
figure of a book is the median of its turns. A book that ends with other fills or other resting orders than the flow's
own is wrong, and stops the run.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.book.contestants import Contestant, ContestantFactory, FillReport
from benchmarks.book.flow import OrderFlow


class WrongResultError(Exception):
    """A book did not do what the flow's own matching did."""


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
    """Build a book, fill it, and time the operations; gives the book and the operations per second."""
    contestant = factory()
    contestant.replay(flow.opening)
    gc.collect()
    started = time.perf_counter()
    contestant.replay(flow.operations)
    elapsed_seconds = time.perf_counter() - started
    return contestant, len(flow.operations) / elapsed_seconds


def measure(factories: Sequence[ContestantFactory], flow: OrderFlow, *, turns: int = 5) -> list[BookResult]:
    """Time every book ``turns`` times, interleaved; fastest first. Checks every turn of every book."""
    figures: dict[str, tuple[FillReport, list[float]]] = {}
    for _ in range(turns):
        for factory in factories:
            contestant, operations_per_second = time_once(factory, flow)
            check(contestant, flow)
            figures.setdefault(contestant.name, (contestant.report, []))[1].append(operations_per_second)
            del contestant
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
