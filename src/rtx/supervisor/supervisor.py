"""The loop that starts programs, starts them again when they die, and ends them in order.

It has one thread, no event loop and no connection, and does nothing that could fail or take long: it is the one process
that must not die.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from rtx.observability import metrics
from rtx.observability.logging import get_logger
from rtx.supervisor.processes import fork_program
from rtx.supervisor.programs import EXIT_HALTED, FATAL_EXIT_CODES, Program

QUICK_DEATH_S: Final = 10.0
"""A process that lived longer than this is started again at once."""

FREE_RESTARTS: Final = 2
"""So many quick deaths in a row are taken for chance."""

FIRST_DELAY_S: Final = 0.1
DELAY_MAX_S: Final = 5.0
HALTED_DELAY_S: Final = 30.0
SWEEP_INTERVAL_S: Final = 60.0
KILL_GRACE_S: Final = 5.0
SAME_REQUEST_S: Final = 0.3
"""Signals that come so close together are one request to stop."""

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_log = get_logger("rtx.supervisor")


@dataclass
class Running:
    """A program and the process that runs it now; ``pid`` 0: none. Times are monotonic seconds."""

    program: Program
    main: Callable[[], int]
    pid: int = 0
    started_s: float = 0.0
    start_due_s: float = 0.0
    restarts: int = 0
    quick_deaths: int = 0


OnChange = Callable[[Sequence[Running]], None]


class Supervisor:
    """Runs programs until told to stop."""

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        sockets: Sequence[socket.socket] = (),
        metrics_directory: Path | None = None,
        on_change: OnChange | None = None,
    ) -> None:
        """``sockets``: all that this process has open for its programs. ``on_change`` is told what runs, each time."""
        self._programs = programs
        self._sockets = list(dict.fromkeys(sockets))
        self._metrics_directory = metrics_directory
        self._on_change = on_change
        self._children: list[Running] = []
        self._lifeline = (-1, -1)
        self._stop_requests = 0
        self._stop_requested_s = -SAME_REQUEST_S
        self._exit_code = 0
        self._swept_s = 0.0

    def run(self) -> int:
        """Start everything and stay until SIGTERM, SIGINT or SIGHUP; a second signal kills what is left.

        Returns the exit code for this process: 0, or that of the program because of which nothing could go on.
        """
        self._children = [Running(program, program.load()) for program in self._programs]
        # What is imported by now is shared with every child: the collector must not touch it, or it would be copied.
        gc.collect()
        gc.freeze()
        self._lifeline = os.pipe()
        try:
            with self._signals() as wakeup:
                while not self._stop_requests:
                    self._start_due()
                    self._wait(wakeup, self._next_due_s())
                    self._reap()
                    self._sweep_metrics()
                self._stop(wakeup)
        finally:
            for end in self._lifeline:
                os.close(end)
        return self._exit_code

    @contextlib.contextmanager
    def _signals(self) -> Iterator[int]:
        """Handle signals; gives the descriptor that becomes readable with each."""
        reading, writing = os.pipe()
        for end in (reading, writing):
            os.set_blocking(end, False)
        before = {number: signal.signal(number, self._on_stop_signal) for number in _STOP_SIGNALS}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _do_nothing)
        wakeup_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(wakeup_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(reading)
            os.close(writing)

    def _on_stop_signal(self, _number: int, _frame: FrameType | None) -> None:
        # One death of a parent with several threads, or one closed terminal, can send more than one signal.
        now_s = time.monotonic()
        if now_s - self._stop_requested_s > SAME_REQUEST_S:
            self._stop_requests += 1
            self._stop_requested_s = now_s

    def _start_due(self) -> None:
        now_s = time.monotonic()
        for child in self._children:
            if not child.pid and child.start_due_s <= now_s:
                self._start(child)

    def _start(self, child: Running) -> None:
        try:
            child.pid = fork_program(child.program, child.main, sockets=self._sockets, lifeline=self._lifeline)
        except OSError as error:
            # No process or memory to be had: what runs goes on, and this one is tried again.
            child.start_due_s = time.monotonic() + DELAY_MAX_S
            _log.error("a process could not be started", process=child.program.role, error=str(error))
            return
        child.started_s = time.monotonic()
        _log.info("process started", process=child.program.role, process_id=child.pid)
        self._tell()

    def _next_due_s(self) -> float:
        """Seconds until something is to be done without a signal."""
        due_s = [child.start_due_s for child in self._children if not child.pid]
        return max(0.0, min(due_s) - time.monotonic()) if due_s else SWEEP_INTERVAL_S

    def _wait(self, wakeup: int, timeout_s: float) -> None:
        select.select([wakeup], [], [], timeout_s)
        with contextlib.suppress(BlockingIOError):
            os.read(wakeup, 4096)

    def _reap(self) -> None:
        """Note every process that ended, also those that an ended child left to us (we may be process 1)."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for child in self._children:
                if child.pid == pid:
                    self._note_end(child, os.waitstatus_to_exitcode(status))
            self._retire_metrics([pid])

    def _note_end(self, child: Running, exit_code: int) -> None:
        """Plan the next start of ``child``. ``exit_code`` is negative for the signal that killed it."""
        lived_s = time.monotonic() - child.started_s
        child.pid = 0
        role = child.program.role
        if self._stop_requests:
            _log.info("process ended", process=role, exit_code=exit_code)
            self._tell()
            return
        if exit_code in FATAL_EXIT_CODES:
            _log.error("process ended for good, so everything ends", process=role, exit_code=exit_code)
            self._exit_code = exit_code
            self._stop_requests = 1
            return
        child.quick_deaths = child.quick_deaths + 1 if lived_s < QUICK_DEATH_S else 0
        delay_s = restart_delay_s(child.quick_deaths, exit_code)
        child.start_due_s = time.monotonic() + delay_s
        child.restarts += 1
        metrics.PROCESS_RESTARTS.labels(role).inc()
        _log.warning(
            "process ended by itself and is started again",
            process=role,
            exit_code=exit_code,
            lived_s=round(lived_s, 3),
            restart_in_s=delay_s,
        )
        self._tell()

    def _stop(self, wakeup: int) -> None:
        """End the programs stage by stage, the rest at once when another signal comes."""
        hurry_at = self._stop_requests + 1
        _log.info("stopping")
        for stage in sorted({child.program.stop_stage for child in self._children}):
            members = [child for child in self._children if child.program.stop_stage == stage]
            deadline_s = time.monotonic() + max(child.program.stop_grace_s for child in members)
            self._close_sockets(members)
            self._signal(members, signal.SIGTERM)
            while any(child.pid for child in members):
                remaining_s = deadline_s - time.monotonic()
                if remaining_s <= 0 or self._stop_requests >= hurry_at:
                    self._kill(members)
                    break
                self._wait(wakeup, remaining_s)
                self._reap()
        _log.info("stopped")

    def _close_sockets(self, members: Sequence[Running]) -> None:
        """Let new connections be refused from now on, instead of waiting for nobody."""
        for child in members:
            for listener in child.program.sockets.values():
                listener.close()

    def _signal(self, members: Sequence[Running], number: signal.Signals) -> None:
        for child in members:
            if child.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, number)

    def _kill(self, members: Sequence[Running]) -> None:
        for child in members:
            if child.pid:
                _log.warning("process did not end in time and is killed", process=child.program.role)
        self._signal(members, signal.SIGKILL)
        deadline_s = time.monotonic() + KILL_GRACE_S
        while any(child.pid for child in members) and time.monotonic() < deadline_s:
            time.sleep(0.01)
            self._reap()

    def _tell(self) -> None:
        for child in self._children:
            metrics.PROCESSES_UP.labels(child.program.role).set(1 if child.pid else 0)
        if self._on_change is not None:
            self._on_change(self._children)

    def _sweep_metrics(self) -> None:
        """Fold in the series of processes that others started and reaped, such as the engine's snapshotter."""
        if self._metrics_directory is None or time.monotonic() - self._swept_s < SWEEP_INTERVAL_S:
            return
        self._swept_s = time.monotonic()
        self._retire_metrics([pid for pid in metrics.recorded_processes(self._metrics_directory) if not _lives(pid)])

    def _retire_metrics(self, pids: Sequence[int]) -> None:
        if self._metrics_directory is None:
            return
        try:
            for pid in pids:
                metrics.retire_process(self._metrics_directory, pid)
        except Exception as error:  # noqa: BLE001 - figures may be lost, the supervisor may not
            _log.warning("metrics of an ended process are lost", error=f"{type(error).__name__}: {error}")


def restart_delay_s(quick_deaths: int, exit_code: int) -> float:
    """Seconds to wait before a program is started again after ``quick_deaths`` quick deaths in a row."""
    if exit_code == EXIT_HALTED:
        return HALTED_DELAY_S
    if quick_deaths <= FREE_RESTARTS:
        return 0.0
    return float(min(FIRST_DELAY_S * 2.0 ** (quick_deaths - FREE_RESTARTS - 1), DELAY_MAX_S))


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Take SIGCHLD so that it wakes the loop; by default it would be ignored."""


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
