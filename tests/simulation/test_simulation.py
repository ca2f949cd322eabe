"""Seeds of the whole cluster: whatever goes wrong, every promise of the exchange is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import Final

import pytest
from tests.simulation.faults import KINDS
from tests.simulation.planted import no_fencing
from tests.simulation.runner import main
from tests.simulation.simulation import Result, run

SEEDS: Final = 1_000
SEEDS_PER_TEST: Final = 50

_results: list[Result] = []


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_every_promise_is_kept(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        result = run(seed)
        assert not result.violations, f"python -m tests.simulation --seed {seed} --trace\n{result.violations}"
        _results.append(result)


def test_the_seeds_meet_what_they_are_for() -> None:
    """Runs in which nothing much happens would prove nothing."""
    if len(_results) < 500:
        pytest.skip("only where the seeds ran before")
    outcomes: Counter[str] = Counter()
    for result in _results:
        outcomes.update(result.outcomes)
    assert {kind for result in _results for kind in result.kinds} == set(KINDS)
    assert set(outcomes) == {"applied", "rejected", "conflict", "overloaded", "unknown"}
    assert sum(result.epochs > 1 for result in _results) > len(_results) // 3
    assert sum(result.handovers for result in _results) > 20
    assert sum(result.divergences for result in _results) > 20
    assert sum(result.kills for result in _results) > 100


def test_a_seed_replays_to_the_last_callback() -> None:
    for seed in range(3):
        assert run(seed).fingerprint == run(seed).fingerprint


def test_a_seed_is_the_same_in_another_process() -> None:
    told = []
    for hash_seed in ("1", "2"):
        finished = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", "7", "--trace"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            check=True,
        )
        told.append(finished.stdout)
    assert told[0] == told[1]
    assert b"committed" in told[0]


def test_many_seeds_run_in_processes_of_their_own() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seeds", "30", "--first", "1"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert "30 of 30 seeds, 0 failed" in finished.stdout


def test_a_failing_seed_is_printed_with_what_replays_it(capsys: pytest.CaptureFixture[str]) -> None:
    seed = next(seed for seed in range(200) if run(seed, sabotage=no_fencing).violations)
    arguments = ["--seeds", "1", "--first", str(seed), "--plant", "no_fencing", "--processes", "1"]
    assert main(arguments) == 1
    told = capsys.readouterr().out
    command = f"python -m tests.simulation --seed {seed} --trace --plant no_fencing"
    assert f"seed {seed} fails" in told
    assert command in told
    assert main(command.split()[3:]) == 1
    assert "VIOLATION: " in capsys.readouterr().out
