"""A whole backend as processes of its own, as an operator starts it: `rtx serve` on given servers, or `rtx dev`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import psutil
from tests.faults.exchange_client import Address, HttpConnection, NoAnswerError, NotSentError
from tests.faults.venue import Operator

from rtx.supervisor.backend import BackendState, read_state

START_TIMEOUT_S: Final = 60.0
END_TIMEOUT_S: Final = 40.0
POLL_INTERVAL_S: Final = 0.02
API_WORKERS: Final = 2
LOOPBACK: Final = "127.0.0.1"
JWT_SECRET: Final = "the secret of the tests, which is long enough for everything"
OFTEN: Final = {"RTX_SNAPSHOT_COMMANDS": "400", "RTX_CHECKPOINT_COMMANDS": "300"}
"""Snapshots are made, and recovered from, and states compared while the faults happen."""

_LAUNCH: Final = """
import os, signal, sys
from rtx.supervisor.lifeline import end_with_parent
end_with_parent(int(sys.argv[1]), how=signal.SIGTERM)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Becomes the program that the second argument names, to end when the process of the first does."""


class BackendProcess(ABC):
    """A backend that can be started, killed and started again on the same data."""

    def __init__(self, directory: Path, host: str = LOOPBACK) -> None:
        self.address: Address = (host, free_port())
        self._metrics_port = free_port()
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def operator(self) -> Operator:
        """Who may do everything; known once the backend is ready."""

    @property
    @abstractmethod
    def database_url(self) -> str:
        """Where everything is kept; known once the backend is ready."""

    @property
    @abstractmethod
    def state_file(self) -> Path:
        """Where the supervisor says what runs."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The command line after the program's name."""

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """What is set for the program in addition."""

    @property
    def launcher(self) -> Sequence[str]:
        """A command line that becomes the one after it, if it is to run somewhere else."""
        return ()

    @property
    def log(self) -> Path:
        """What the program wrote."""
        return self._directory / "backend.log"

    @property
    def state(self) -> BackendState:
        """What runs now, as the supervisor says."""
        state = read_state(self.state_file)
        assert state is not None
        return state

    def process_id(self, role: str) -> int:
        """The process that has the role."""
        return next(process.pid for process in self.state.processes if process.role == role)

    def start(self) -> None:
        """Start it, to end with this process however that ends; returns at once."""
        self.state_file.unlink(missing_ok=True)
        program = str(Path(sys.executable).with_name("rtx"))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.launcher, sys.executable, "-c", _LAUNCH, str(os.getpid()), program, *self.command()],
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def ready(self) -> None:
        """Wait until the backend says that it serves."""
        with contextlib.closing(HttpConnection(self.address)) as connection:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await self._is_ready(connection):  # noqa: ASYNC110 - other processes set no event
                    await asyncio.sleep(POLL_INTERVAL_S)

    async def _is_ready(self, connection: HttpConnection) -> bool:
        self.check()
        try:
            answer = await connection.request("GET", "/health/ready")
        except (NotSentError, NoAnswerError):
            return False
        return answer.status == 200 and read_state(self.state_file) is not None

    @property
    def is_running(self) -> bool:
        """Whether the program lives."""
        return self._process is not None and self._process.poll() is None

    def check(self) -> None:
        """Fail when the program has ended."""
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()[-2000:]

    async def stop(self) -> int:
        """Ask it to end, and give the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self._process.wait, END_TIMEOUT_S)

    def processes(self) -> list[psutil.Process]:
        """The program and all that it started."""
        assert self._process is not None
        program = psutil.Process(self._process.pid)
        return [program, *program.children(recursive=True)]

    def kill_everything(self) -> None:
        """End the program and all that it started at one moment, as a power cut does."""
        processes = self.processes()
        # None of them may see another one die, so all stand still first.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
        assert self._process is not None
        self._process.wait(END_TIMEOUT_S)
        _, alive = psutil.wait_procs(processes[1:], END_TIMEOUT_S)
        assert not alive

    async def end(self) -> None:
        """Leave nothing running, whatever state it is in."""
        if not self.is_running:
            return
        try:
            await self.stop()
        except subprocess.TimeoutExpired:
            self.kill_everything()


@dataclass(frozen=True)
class Place:
    """Where a backend runs: the address that it serves at, and what turns into a program that is to run there."""

    host: str = LOOPBACK
    launcher: Sequence[str] = ()


HERE: Final = Place()


@dataclass(frozen=True)
class Servers:
    """PostgreSQL and Valkey as a backend reaches them."""

    database_url: str
    redis_url: str


class ServeProcess(BackendProcess):
    """`rtx serve` on servers that the test runs; ``name`` is the engine's in the lease."""

    def __init__(
        self,
        directory: Path,
        servers: Servers,
        operator: Operator,
        *,
        name: str = "alone",
        colour: str = "blue",
        api_workers: int = API_WORKERS,
        place: Place = HERE,
        settings: Mapping[str, str] = OFTEN,
    ) -> None:
        """``settings``: environment variables besides those that follow from the other arguments."""
        super().__init__(directory, place.host)
        self.name = name
        self.colour = colour
        self._servers = servers
        self._operator = operator
        self._api_workers = api_workers
        self._launcher = place.launcher
        self._settings = settings

    @property
    def operator(self) -> Operator:
        return self._operator

    @property
    def database_url(self) -> str:
        return self._servers.database_url

    @property
    def state_file(self) -> Path:
        return self._directory / "state.json"

    @property
    def launcher(self) -> Sequence[str]:
        return self._launcher

    def command(self) -> Sequence[str]:
        return ["serve", "--state-file", str(self.state_file)]

    def environment(self) -> dict[str, str]:
        host, port = self.address
        return {
            "DATABASE_URL": self._servers.database_url,
            "REDIS_URL": self._servers.redis_url,
            "JWT_SECRET": JWT_SECRET,
            "RTX_HOST": host,
            "RTX_PORT": str(port),
            "RTX_METRICS_HOST": host,
            "RTX_METRICS_PORT": str(self._metrics_port),
            "RTX_API_WORKERS": str(self._api_workers),
            "RTX_ENGINE_HOST": host,
            "RTX_ENGINE_HOLDER": self.name,
            "RTX_COLOUR": self.colour,
            **self._settings,
        }


class _ReadyFile(msgspec.Struct):
    database_url: str
    operator: dict[str, str]


class DevProcess(BackendProcess):
    """`rtx dev` with the servers that it runs itself."""

    @property
    def operator(self) -> Operator:
        return Operator(**self._ready_file.operator)

    @property
    def database_url(self) -> str:
        return self._ready_file.database_url

    @property
    def state_file(self) -> Path:
        return self._data / "run" / "backend.json"

    def command(self) -> Sequence[str]:
        ports = ["--port", str(self.address[1]), "--metrics-port", str(self._metrics_port)]
        return ["dev", "--no-demo", "--data", str(self._data), "--ready-file", str(self._ready_path), *ports]

    def environment(self) -> dict[str, str]:
        return {"XDG_STATE_HOME": str(self._directory / "state"), "RTX_API_WORKERS": str(API_WORKERS), **OFTEN}

    def start(self) -> None:
        self._ready_path.unlink(missing_ok=True)
        super().start()

    async def ready(self) -> None:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not self._ready_path.exists():
                self.check()
                await asyncio.sleep(POLL_INTERVAL_S)
        await super().ready()

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    @property
    def _ready_path(self) -> Path:
        return self._directory / "ready.json"

    @property
    def _ready_file(self) -> _ReadyFile:
        return msgspec.json.decode(self._ready_path.read_bytes(), type=_ReadyFile)


@contextlib.asynccontextmanager
async def running(backend: BackendProcess) -> AsyncIterator[None]:
    """Start a backend, wait until it serves, and end it after the block."""
    try:
        backend.start()
        await backend.ready()
        yield
    finally:
        await backend.end()


def free_port() -> int:
    """A port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
