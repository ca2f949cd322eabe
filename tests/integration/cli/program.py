"""Runs the `rtx` program the way a person does, and reads what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from rtx.cli.instances import Instance, read_instance
from rtx.supervisor.backend import BackendState, read_state

COMMAND = [sys.executable, "-c", "from rtx.cli import main; main()"]
PASSED_ON = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "COVERAGE_PROCESS_START")


def environment(**variables: str) -> dict[str, str]:
    """A small environment, without the settings and the terminal of whoever runs the tests."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return passed | {"PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"} | variables


def run(
    *arguments: str, stdin: str = "", variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        env=environment(**(variables or {})),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Program:
    """A command that keeps running, such as `rtx dev`."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.said: list[str] = []

    def read_until(self, *wanted: str) -> None:
        """Read on until a line has this in it; of several each on a line of its own, in any order."""
        assert self.process.stdout is not None
        missing = list(wanted)
        for line in self.process.stdout:
            self.said.append(line)
            missing = [text for text in missing if text not in line]
            if not missing:
                return
        raise AssertionError(f"it ended with {self.process.wait()} and without saying {wanted!r}:\n{self.text}")

    def interrupt(self) -> int:
        """Send what Ctrl-C sends, and wait for the end; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.read_to_end()

    def read_to_end(self) -> int:
        """Read until all that it started is gone; returns the exit code."""
        assert self.process.stdout is not None
        self.said.extend(self.process.stdout)
        return self.process.wait(timeout=30)

    def close(self) -> None:
        """End it if it still runs, and everything below it."""
        if self.process.poll() is None:
            below = psutil.Process(self.process.pid).children(recursive=True)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
            psutil.wait_procs(below, timeout=10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def text(self) -> str:
        """All it said so far."""
        return "".join(self.said)


class Development(Program):
    """`rtx dev` on a data directory of the test."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.ready_file = directory / "ready.json"
        self.state_directory = directory / "state"
        self.data = directory / "data"
        super().__init__(
            "dev",
            "--data",
            str(self.data),
            "--port",
            "0",
            "--metrics-port",
            "0",
            "--api-workers",
            "1",
            "--ready-file",
            str(self.ready_file),
            *options,
            XDG_STATE_HOME=str(self.state_directory),
        )

    def wait_until_ready(self) -> Instance:
        """Wait until all is up, and return what the ready file says."""
        self.read_until("print(exchange.fetch_balance()")
        instance = read_instance(self.ready_file)
        assert instance is not None
        return instance

    @property
    def backend(self) -> BackendState:
        """What the supervisor runs."""
        state = read_state(self.data / "run" / "backend.json")
        assert state is not None
        return state


def snippet_of(text: str) -> str:
    """The Python that `rtx dev` shows for pasting."""
    lines = text.splitlines()
    first = lines.index("import ccxt")
    last = next(number for number, line in enumerate(lines) if "fetch_balance" in line)
    return "\n".join(lines[first : last + 1])


JsonObject = dict[str, Any]
