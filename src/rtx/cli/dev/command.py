"""The course of `rtx dev`: servers, schema, backend, markets, then watching over all of them until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from rtx.cli.dev.backend_process import HOST, BackendEndedError, BackendProcess
from rtx.cli.dev.console import DevConsole
from rtx.cli.dev.data_directory import Credentials, DataDirectory, DataDirectoryError
from rtx.cli.dev.figures import read_figures
from rtx.cli.dev.seeding import ensure_users, seed
from rtx.cli.instances import DemoKeys, Instance, published
from rtx.demo.client import AnsweredError, HttpConnection, UnreachableError
from rtx.embedded import EmbeddedPostgresql, EmbeddedServer, EmbeddedServerError, EmbeddedValkey
from rtx.settings import EXIT_CONFIGURATION
from rtx.store import migrate
from rtx.store.connection import DATABASE_ERRORS
from rtx.supervisor.backend import BackendState
from rtx.supervisor.listeners import PortInUseError, open_listeners
from rtx.supervisor.private_files import write_private

WATCH_INTERVAL_S: Final = 0.25
FIGURES_INTERVAL_S: Final = 2.0
LOG_INTERVAL_S: Final = 30.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class DevOptions:
    """The options of the command line; ``api_workers`` None: as many as there are processors to spare."""

    data: Path
    port: int
    metrics_port: int
    demo: bool
    api_workers: int | None
    ready_file: Path | None


def run_dev(options: DevOptions) -> int:
    """Run until Ctrl-C; returns the exit code."""
    console = DevConsole()
    try:
        for option, port in (("--port", options.port), ("--metrics-port", options.metrics_port)):
            if port:
                open_listeners(HOST, port, 1, option)[0].close()
        if options.port and options.port == options.metrics_port:
            raise PortInUseError("--port and --metrics-port are the same: give them different numbers")
    except PortInUseError as error:
        console.error(str(error))
        return EXIT_CONFIGURATION
    return asyncio.run(_Development(options, console).run())


class _Development:
    """One run."""

    def __init__(self, options: DevOptions, console: DevConsole) -> None:
        self._options = options
        self._console = console
        self._data = DataDirectory(options.data)
        self._postgresql = EmbeddedPostgresql(self._data.postgresql)
        self._valkey = EmbeddedValkey(self._data.valkey)
        self._backend: BackendProcess | None = None
        self._stop_requests = 0
        self._restarts: dict[str, int] = {}

    async def run(self) -> int:
        """Run until a signal or a failure; returns the exit code."""
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal, task)
        try:
            with self._console.running():
                await self._run()
        except asyncio.CancelledError:
            self._console.note("stopped", style="green")
            return 0
        except (DataDirectoryError, EmbeddedServerError, BackendEndedError) as error:
            self._console.error(str(error))
        except (AnsweredError, UnreachableError) as error:
            self._console.error(f"the backend could not be set up: {error}; see {self._data.log}")
        except (*migrate.MIGRATION_ERRORS, migrate.UnknownRevisionError, *DATABASE_ERRORS) as error:
            self._console.error(f"the database in {self._data.postgresql} cannot be used: {error}")
        return 1

    def _on_signal(self, task: asyncio.Task[object]) -> None:
        self._stop_requests += 1
        if self._stop_requests == 1:
            self._console.step("stopping (Ctrl-C again to hurry)")
            task.cancel()
        elif self._backend is not None:
            self._backend.signal()

    async def _run(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._data.in_use())
            for server in (self._valkey, self._postgresql):
                stack.push_async_callback(self._stop_server, server)
            await asyncio.gather(*(_in_thread(server.start, self._console.step) for server in self._servers))
            await _in_thread(migrate.upgrade, self._postgresql.database_url, self._console.step)
            credentials = self._data.credentials()
            await ensure_users(self._postgresql.database_url, credentials)
            self._data.save(credentials)
            self._console.step("starting the engine and the API")
            self._backend = BackendProcess(self._data, self._environment(credentials), demo=self._options.demo)
            stack.push_async_callback(self._stop_backend, self._backend)
            await self._backend.start()
            state = await self._backend.ready()
            instance = self._instance(state, credentials)
            plan = await seed(instance.api, self._data, credentials, self._console.step)
            instance = self._instance(state, credentials)
            if self._options.demo:
                write_private(self._data.crowd_file, msgspec.json.encode(plan))
            ready_files = [self._data.ready_file]
            if self._options.ready_file is not None:
                ready_files.append(self._options.ready_file.absolute())
            stack.enter_context(published(instance, *ready_files))
            self._console.summary(
                instance, data=str(self._data.root), log=str(self._data.log), crowd=self._options.demo
            )
            await self._watch(self._backend, instance)

    @property
    def _servers(self) -> tuple[EmbeddedServer, ...]:
        return (self._postgresql, self._valkey)

    def _environment(self, credentials: Credentials) -> Mapping[str, str]:
        environment = dict(os.environ)
        environment.update(
            {
                "DATABASE_URL": self._postgresql.database_url,
                "REDIS_URL": self._valkey.redis_url,
                "JWT_SECRET": credentials.jwt_secret,
                "RTX_ENVIRONMENT": "development",
                "RTX_HOST": HOST,
                "RTX_PORT": str(self._options.port),
                "RTX_METRICS_HOST": HOST,
                "RTX_METRICS_PORT": str(self._options.metrics_port),
                "RTX_DEMO_FILE": str(self._data.crowd_file),
            }
        )
        if self._options.api_workers is not None:
            environment["RTX_API_WORKERS"] = str(self._options.api_workers)
        return environment

    def _instance(self, state: BackendState, credentials: Credentials) -> Instance:
        return Instance(
            api=f"http://{HOST}:{state.port}",
            metrics=f"http://{HOST}:{state.metrics_port}/metrics",
            database_url=self._postgresql.database_url,
            redis_url=self._valkey.redis_url,
            operator=credentials.operator,
            demo=DemoKeys(credentials.demo.api_key, credentials.demo.secret),
            pid=os.getpid(),
        )

    async def _watch(self, backend: BackendProcess, instance: Instance) -> None:
        """Keep the servers running and say what happens, until cancelled or the backend is gone."""
        figures_due_s = log_due_s = 0.0
        async with HttpConnection(instance.metrics) as connection:
            while True:
                backend.check()
                await self._revive_servers()
                self._tell_restarts(backend)
                now_s = time.monotonic()
                if now_s >= figures_due_s:
                    figures_due_s = now_s + FIGURES_INTERVAL_S
                    with contextlib.suppress(AnsweredError, UnreachableError):
                        self._console.figures(await read_figures(connection))
                if now_s >= log_due_s:
                    log_due_s = now_s + LOG_INTERVAL_S
                    self._data.shorten_log()
                await asyncio.sleep(WATCH_INTERVAL_S)

    async def _revive_servers(self) -> None:
        for server in self._servers:
            if not server.is_running:
                self._console.note(f"{server.title} ended and is started again")
                await _in_thread(server.start)
                self._console.note(f"{server.title} is back", style="green")

    def _tell_restarts(self, backend: BackendProcess) -> None:
        state = backend.state
        for process in state.processes if state is not None else ():
            if process.pid and process.restarts > self._restarts.get(process.role, 0):
                self._restarts[process.role] = process.restarts
                self._console.note(f"{process.role} ended and was started again (process {process.pid})")

    async def _stop_backend(self, backend: BackendProcess) -> None:
        self._console.step("stopping the API and the engine")
        await backend.stop()

    async def _stop_server(self, server: EmbeddedServer) -> None:
        if server.is_running:
            self._console.step(f"stopping {server.title}")
        await asyncio.to_thread(server.stop)


async def _in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """Run something that blocks; a cancellation waits for it, because what it started must be stopped after it."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await running
        raise
