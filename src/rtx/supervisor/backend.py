"""Puts the processes of one backend together from its settings, and runs them."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from rtx.settings import Settings
from rtx.supervisor import listeners, metrics_directory
from rtx.supervisor.private_files import write_private
from rtx.supervisor.programs import Program, release

if TYPE_CHECKING:
    from rtx.supervisor.supervisor import Running

ENGINE_STOP_GRACE_S: Final = 15.0


class BackendProcess(msgspec.Struct, frozen=True, rename="camel"):
    """One process as the state file names it; ``pid`` 0: about to be started again."""

    role: str
    pid: int
    restarts: int


class BackendState(msgspec.Struct, frozen=True, rename="camel"):
    """What the state file says: the ports, and which processes run."""

    supervisor: int
    port: int
    metrics_port: int
    engine_port: int
    processes: tuple[BackendProcess, ...]


def read_state(path: Path) -> BackendState | None:
    """What a running backend wrote, or None when there is nothing to read (yet)."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=BackendState)
    except (OSError, msgspec.DecodeError):
        return None


def run_backend(settings: Settings, *, demo: bool = False, state_file: Path | None = None) -> int:
    """Run engine, API workers and metrics (and the demo traders) until stopped; returns the exit code.

    Raises :class:`rtx.supervisor.listeners.PortInUseError`. The environment of this process is what the children see,
    so everything chosen here (ports, directories) is written into it.
    """
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(metrics_directory.metrics_directory())
        api = listeners.open_listeners(settings.host, settings.port, settings.api_workers, "RTX_PORT")
        metrics = listeners.open_listeners(settings.metrics_host, settings.metrics_port, 1, "RTX_METRICS_PORT")[0]
        engine = listeners.reserve_port(settings.engine_host, settings.engine_port, "RTX_ENGINE_PORT")
        sockets = [*api, metrics, engine.keeper]
        for listener in sockets:
            stack.callback(listener.close)
        port, metrics_port = _port(api[0]), _port(metrics)
        os.environ.update(
            {
                metrics_directory.VARIABLE: str(directory),
                "RTX_PORT": str(port),
                "RTX_METRICS_PORT": str(metrics_port),
                "RTX_ENGINE_PORT": str(engine.port),
                "RTX_API_WORKERS": str(settings.api_workers),
                "RTX_ENGINE_HOLDER": f"{settings.engine_holder}/{secrets.token_hex(4)}",
            }
        )
        # From here on, and not before, the metrics know that there are several processes.
        from rtx.observability.logging import get_logger
        from rtx.observability.metrics import BUILD_INFO
        from rtx.supervisor.supervisor import Supervisor

        BUILD_INFO.labels(release(), settings.colour).set(1)
        log = get_logger("rtx.supervisor")
        log.info("backend starts", port=port, metrics_port=metrics_port, api_workers=settings.api_workers)

        def on_change(running: Sequence[Running]) -> None:
            if state_file is None:
                return
            processes = tuple(BackendProcess(child.program.role, child.pid, child.restarts) for child in running)
            state = BackendState(os.getpid(), port, metrics_port, engine.port, processes)
            try:
                write_private(state_file, msgspec.json.encode(state))
            except OSError as error:
                log.warning("the state file cannot be written", path=str(state_file), error=str(error))

        supervisor = Supervisor(
            _programs(settings, api, metrics, demo=demo),
            sockets=sockets,
            metrics_directory=directory,
            on_change=on_change,
        )
        return supervisor.run()


def _programs(settings: Settings, api: Sequence[socket.socket], metrics: socket.socket, *, demo: bool) -> list[Program]:
    programs = [Program("engine", "rtx.engine.__main__", stop_stage=2, stop_grace_s=ENGINE_STOP_GRACE_S)]
    programs += [
        Program(
            f"api-{number}",
            "rtx.api.__main__",
            stop_stage=1,
            # A worker gives its requests the whole of the grace, and then needs a moment to end.
            stop_grace_s=settings.shutdown_grace_s + 2.0,
            sockets={listeners.API_SOCKET_VARIABLE: listener},
        )
        for number, listener in enumerate(api, start=1)
    ]
    programs.append(
        Program(
            "metrics",
            "rtx.supervisor.metrics_server",
            stop_stage=3,
            stop_grace_s=2.0,
            sockets={listeners.METRICS_SOCKET_VARIABLE: metrics},
        )
    )
    if demo:
        programs.append(Program("demo", "rtx.demo.__main__", stop_stage=0, stop_grace_s=5.0))
    return programs


def _port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])
