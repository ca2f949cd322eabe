"""The backend under measurement: one that already runs, or one started here for the length of the run.

Both are known by their ready-file, the JSON that `rtx dev --ready-file FILE` writes when everything is up.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

START_SECONDS_MAX = 180
STOP_SECONDS_MAX = 60


class Operator(msgspec.Struct, frozen=True):
    """The account that may deposit."""

    email: str
    password: str


class ReadyFile(msgspec.Struct, frozen=True):
    """What the measurements need of a ready-file; addresses are URLs."""

    api: str
    database_url: str
    operator: Operator


class BackendError(Exception):
    """The backend did not come up, or its ready-file is not one."""


def read_ready_file(path: Path) -> ReadyFile:
    """Read a ready-file; raises :class:`BackendError` with the path and the reason."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ReadyFile)
    except (OSError, msgspec.DecodeError) as error:
        raise BackendError(f"{path} is no ready-file of `rtx dev`: {error}") from error


def free_port() -> int:
    """A TCP port on the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def started_backend(tree: Path | None) -> Iterator[ReadyFile]:
    """Run `rtx dev --no-demo` on fresh data in a temporary directory, and end it afterwards.

    ``tree`` is the folder of the compiled core to run it with, None for plain Python.
    """
    with tempfile.TemporaryDirectory(prefix="rtx-bench-") as scratch:
        directory = Path(scratch)
        directory.chmod(0o755)  # the embedded servers run as another user when this runs as root
        ready, log = directory / "ready.json", directory / "rtx.log"
        command = [
            *(str(Path(sys.executable).with_name("rtx")), "dev", "--no-demo"),
            *("--data", str(directory / "data")),
            *("--port", str(free_port()), "--metrics-port", str(free_port())),
            *("--ready-file", str(ready)),
        ]
        with log.open("wb") as output:
            environment = {**os.environ, **({"PYTHONPATH": str(tree)} if tree is not None else {})}
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            yield _wait_for_ready_file(process, ready, log)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for_ready_file(process: subprocess.Popen[bytes], ready: Path, log: Path) -> ReadyFile:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if ready.exists():
            with contextlib.suppress(BackendError):  # seen while it is being written
                return read_ready_file(ready)
        if process.poll() is not None:
            break
        time.sleep(0.1)
    tail = log.read_text(errors="replace")[-2000:]
    raise BackendError(f"`rtx dev` was not ready (exit code {process.poll()}); the end of its output:\n{tail}")
