"""Metrics of processes that end: what they counted stays, what they were does not."""

import subprocess
import sys
from pathlib import Path

from prometheus_client import generate_latest

from rtx.observability.metrics import multiprocess_registry, recorded_processes, retire_process

PROGRAM = """
import os
from rtx.observability import metrics
metrics.COMMANDS.inc(5)
metrics.TRADES.labels("BTCUSDT").inc(2)
metrics.COMMIT_DURATION.observe(0.004)
metrics.STREAM_CONNECTIONS.set(3)
print(os.getpid())
"""


def run_process(directory: Path, program: str = PROGRAM) -> int:
    """A process that counts and ends; returns its id."""
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(directory), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True)
    return int(done.stdout)


def exposition(directory: Path) -> set[str]:
    return set(generate_latest(multiprocess_registry(directory)).decode().splitlines())


def test_counts_of_ended_processes_stay_and_their_files_go(tmp_path: Path) -> None:
    processes = [run_process(tmp_path) for _ in range(3)]
    assert recorded_processes(tmp_path) == set(processes)
    assert "rtx_stream_connections 9.0" in exposition(tmp_path)
    for pid in processes:
        retire_process(tmp_path, pid)
    assert recorded_processes(tmp_path) == set()
    after = exposition(tmp_path)
    assert "rtx_commands_total 15.0" in after
    assert 'rtx_trades_total{market="BTCUSDT"} 6.0' in after
    assert "rtx_engine_commit_duration_seconds_count 3.0" in after
    assert not any(line.startswith("rtx_stream_connections ") for line in after)


def test_that_an_engine_diverged_is_said_until_one_follows_again(tmp_path: Path) -> None:
    program = "import os; from rtx.observability import metrics; metrics.ENGINE_DIVERGED.set({}); print(os.getpid())"
    retire_process(tmp_path, run_process(tmp_path, program.format(1)))
    assert "rtx_engine_diverged 1.0" in exposition(tmp_path)
    retire_process(tmp_path, run_process(tmp_path, program.format(0)))
    assert "rtx_engine_diverged 0.0" in exposition(tmp_path)


def test_a_process_that_counted_nothing_can_end_too(tmp_path: Path) -> None:
    retire_process(tmp_path, 12_345)
    assert list(tmp_path.iterdir()) == []
