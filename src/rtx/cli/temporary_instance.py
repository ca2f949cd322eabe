"""A backend of `rtx dev` that lives as long as the command that needs it, on data that is thrown away.

``python -m rtx.cli.temporary_instance`` is the child: `rtx`, but ending with its parent however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from rtx.cli.instances import Instance, read_instance
from rtx.supervisor.lifeline import end_with_parent

READY_TIMEOUT_S: Final = 300.0
POLL_INTERVAL_S: Final = 0.05
STOP_TIMEOUT_S: Final = 60.0

_OUTPUT_LINES_SHOWN: Final = 12


class InstanceFailedError(Exception):
    """The backend did not come up; the message says what it said."""


@contextlib.asynccontextmanager
async def temporary_instance() -> AsyncIterator[Instance]:
    """Run ``rtx dev --no-demo`` on free ports until the block ends; raises :class:`InstanceFailedError`."""
    with tempfile.TemporaryDirectory(prefix="rtx-", ignore_cleanup_errors=True) as directory:
        root = Path(directory)
        log, ready_file = root / "output.log", root / "ready.json"
        reader, writer = os.pipe()
        try:
            process = await _start(root / "data", ready_file, log, reader)
        finally:
            os.close(reader)
        try:
            yield await _ready(process, ready_file, log)
        finally:
            await _stop(process)
            os.close(writer)


async def _start(data: Path, ready_file: Path, log: Path, lifeline_fd: int) -> asyncio.subprocess.Process:
    arguments = ["dev", "--no-demo", "--data", str(data), "--port", "0", "--metrics-port", "0"]
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rtx.cli.temporary_instance", str(os.getpid()), str(lifeline_fd)),
            *(*arguments, "--ready-file", str(ready_file)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # In a registry of its own: nobody else is to find and use it.
            env={**os.environ, "XDG_STATE_HOME": str(data.parent)},
            pass_fds=(lifeline_fd,),
            # Ctrl-C in the terminal is for the command alone, which then ends this one.
            start_new_session=True,
        )


async def _ready(process: asyncio.subprocess.Process, ready_file: Path, log: Path) -> Instance:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while (instance := read_instance(ready_file)) is None:
                if process.returncode is not None:
                    raise InstanceFailedError(f"the backend ended while it started:\n{_tail(log)}")
                await asyncio.sleep(POLL_INTERVAL_S)
    except TimeoutError:
        raise InstanceFailedError(f"the backend was not ready after {READY_TIMEOUT_S:.0f} s:\n{_tail(log)}") from None
    return instance


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_OUTPUT_LINES_SHOWN:])


if __name__ == "__main__":
    end_with_parent(int(sys.argv.pop(1)), int(sys.argv.pop(1)), signal.SIGTERM)
    from rtx.cli import main

    main()
