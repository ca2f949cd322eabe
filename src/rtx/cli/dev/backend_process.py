"""The backend behind `rtx dev`: the same supervisor as in production, as a child whose log goes to a file."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from typing import Final

from rtx.cli.dev.data_directory import DataDirectory
from rtx.demo.client import AnsweredError, HttpConnection, UnreachableError
from rtx.supervisor.backend import BackendState, read_state

READY_TIMEOUT_S: Final = 300.0
POLL_INTERVAL_S: Final = 0.05
RESTARTS_MAX: Final = 8
"""A process that ended so often before the backend was ever ready will not do better the next time."""

HOST: Final = "127.0.0.1"


class BackendEndedError(Exception):
    """The backend ended although nobody asked it to; the message is the end of its log."""


class BackendProcess:
    """A supervisor and all that it runs."""

    def __init__(self, data: DataDirectory, environment: Mapping[str, str], *, demo: bool) -> None:
        self._data = data
        self._environment = dict(environment)
        self._demo = demo
        self._process: asyncio.subprocess.Process | None = None
        self._lifeline = (-1, -1)
        self._log_start = 0

    @property
    def state(self) -> BackendState | None:
        """What runs, as the supervisor says it; None until it has said so."""
        return read_state(self._data.state_file)

    @property
    def has_ended(self) -> bool:
        """Whether the supervisor is gone."""
        return self._process is not None and self._process.returncode is not None

    async def start(self) -> None:
        """Start the supervisor; it ends when this process does, however that happens."""
        self._lifeline = os.pipe()
        command = [sys.executable, "-m", "rtx.supervisor", "--parent", str(os.getpid())]
        command += ["--lifeline", str(self._lifeline[0]), "--state-file", str(self._data.state_file)]
        command += ["--demo"] if self._demo else []
        with self._data.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *command,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(self._lifeline[0],),
                start_new_session=True,
            )
        os.close(self._lifeline[0])

    async def ready(self) -> BackendState:
        """Wait until orders can be placed; raises :class:`BackendEndedError` when that will not come."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while True:
                    self.check()
                    state = self.state
                    self._check_restarts(state)
                    if state is not None and await _is_ready(f"http://{HOST}:{state.port}"):
                        return state
                    await asyncio.sleep(POLL_INTERVAL_S)
        except TimeoutError:
            raise BackendEndedError(
                f"the backend was not ready after {READY_TIMEOUT_S:.0f} s; its log ends with:\n{self._log_tail()}"
            ) from None

    def check(self) -> None:
        """Raise :class:`BackendEndedError` when the supervisor is gone."""
        if self.has_ended:
            assert self._process is not None
            raise BackendEndedError(
                f"the backend ended with exit code {self._process.returncode}; its log ({self._data.log}) ends with:\n"
                f"{self._log_tail()}"
            )

    def _check_restarts(self, state: BackendState | None) -> None:
        for process in state.processes if state is not None else ():
            if process.restarts >= RESTARTS_MAX:
                raise BackendEndedError(
                    f"{process.role} ended {process.restarts} times; the log ({self._data.log}) ends with:\n"
                    f"{self._log_tail()}"
                )

    def signal(self) -> None:
        """Ask it to end; asked again, it ends at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    async def stop(self) -> None:
        """Ask it to end, and wait for that."""
        self.signal()
        if self._process is not None:
            await self._process.wait()
            os.close(self._lifeline[1])

    def _log_tail(self) -> str:
        return self._data.log_tail(self._log_start)


async def _is_ready(api: str) -> bool:
    async with HttpConnection(api) as connection:
        try:
            await connection.request("GET", "/health/ready")
        except (AnsweredError, UnreachableError):
            return False
    return True
