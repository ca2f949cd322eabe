"""Run many seeds, in several processes, or one with everything that happens in it."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from tests.simulation.planted import PLANTED
from tests.simulation.simulation import Result, Sabotage, run

CHUNK_SEEDS: Final = 25
VIOLATIONS_SHOWN_MAX: Final = 10
PROGRESS_INTERVAL_S: Final = 2.0

_plants: Final[dict[str, Sabotage]] = {plant.__name__: plant for plant in PLANTED}


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when every run was as it must be."""
    options = _options(arguments)
    if options.seed is not None:
        return _run_one(options.seed, _plants.get(options.plant), print if options.trace else None)
    return _run_many(range(options.first, options.first + options.seeds), options.plant, options.processes)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many seeds to run (1000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1), help="processes to run them in")
    parser.add_argument("--seed", type=int, help="run this one seed and say what it was like")
    parser.add_argument("--trace", action="store_true", help="with --seed: print everything that happens")
    parser.add_argument("--plant", choices=sorted(_plants), help="plant this bug")
    return parser.parse_args(arguments)


def _run_one(seed: int, sabotage: Sabotage | None, sink: Callable[[str], None] | None) -> int:
    result = run(seed, sink=sink, sabotage=sabotage)
    print(f"seed {seed}: {result.simulated_s:.1f} simulated seconds, {result.steps} callbacks, {result.epochs} epochs")
    print(f"what went wrong: {', '.join(result.kinds) or 'nothing'}")
    print(f"answers: {result.outcomes}")
    print(f"fingerprint: {result.fingerprint}")
    for violation in result.violations:
        print(f"VIOLATION: {violation}")
    return 1 if result.violations else 0


def _run_many(seeds: range, plant: str | None, processes: int) -> int:
    chunks = [(range(first, min(first + CHUNK_SEEDS, seeds.stop)), plant) for first in seeds[::CHUNK_SEEDS]]
    started_s = told_s = time.monotonic()
    totals: Counter[str] = Counter()
    failed: list[int] = []
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for results in pool.imap_unordered(_run_chunk, chunks):
            for result in results:
                _count(totals, result)
                if result.violations:
                    failed.append(result.seed)
                    _tell(result, plant)
            if time.monotonic() - told_s >= PROGRESS_INTERVAL_S:
                told_s = time.monotonic()
                _progress(totals, told_s - started_s, len(failed), len(seeds))
    _progress(totals, time.monotonic() - started_s, len(failed), len(seeds))
    print(f"answers: {dict(sorted((name, count) for name, count in totals.items() if not name.startswith('_')))}")
    return 1 if failed else 0


def _run_chunk(chunk: tuple[range, str | None]) -> list[Result]:
    seeds, plant = chunk
    return [run(seed, sabotage=_plants.get(plant or "")) for seed in seeds]


def _count(totals: Counter[str], result: Result) -> None:
    totals.update(result.outcomes)
    totals.update(_seeds=1, _epochs=result.epochs, _rows=result.rows, _seconds=int(result.simulated_s))


def _tell(result: Result, plant: str | None) -> None:
    print(f"seed {result.seed} fails ({', '.join(result.kinds) or 'nothing went wrong'}):")
    for violation in result.violations[:VIOLATIONS_SHOWN_MAX]:
        print(f"  {violation}")
    planted = f" --plant {plant}" if plant else ""
    print(f"  replay it: python -m tests.simulation --seed {result.seed} --trace{planted}", flush=True)


def _progress(totals: Counter[str], elapsed_s: float, failed: int, wanted: int) -> None:
    print(
        f"{totals['_seeds']} of {wanted} seeds, {failed} failed, {totals['_seeds'] / elapsed_s:.1f} seeds/s; "
        f"{totals['_seconds']} simulated seconds, {totals['_epochs']} epochs, {totals['_rows']} journal rows",
        flush=True,
    )
