"""`make run` as a person runs it: typed in the repository, and ended with Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.documentation.documents import REPOSITORY

from rtx.cli.instances import Instance, read_instance

# `make test` hands these to whatever runs below it, and this make is to know of none.
_OF_THE_MAKE_ABOVE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARGS", "PYTHONPATH")
_LAST_OF_THE_SUMMARY = "print(exchange.fetch_balance()"


def environment(**variables: str) -> dict[str, str]:
    """What this process has, without what it has from a make above it."""
    return {name: value for name, value in os.environ.items() if name not in _OF_THE_MAKE_ABOVE} | variables


@contextmanager
def made_to_run(command: Sequence[str], ready_file: Path, state_directory: Path) -> Iterator[Instance]:
    """Run until all is up, and at the end of the block press Ctrl-C and expect an end in order."""
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment(XDG_STATE_HOME=str(state_directory)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield _up(process, ready_file)
            os.killpg(process.pid, signal.SIGINT)
            assert process.stdout is not None
            assert "stopped" in process.stdout.read()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)


def _up(process: subprocess.Popen[str], ready_file: Path) -> Instance:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if _LAST_OF_THE_SUMMARY in line:
            instance = read_instance(ready_file)
            assert instance is not None
            return instance
    raise AssertionError(f"it ended before it was up:\n{''.join(said)}")
