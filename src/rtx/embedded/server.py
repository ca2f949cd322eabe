"""What the embedded servers have in common: one child process on a data directory, on loopback, that cannot get lost.

A data directory outlives runs that end badly, so starting means first dealing with what is there: another run that
uses it (refused, with its process id), a server that a killed run left behind (stopped), a port that somebody else
has taken. Servers are recognised by a mark in their command line, made of the directory's device and inode numbers,
so that no process id from an old file is ever trusted.
"""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Self

import psutil

from rtx.embedded.lifeline import Lifeline
from rtx.embedded.service_account import ServiceAccount

Progress = Callable[[str], None]

HOST = "127.0.0.1"
START_TIMEOUT_SECONDS = 300.0
STOP_TIMEOUT_SECONDS = 60.0
KILL_TIMEOUT_SECONDS = 10.0
POLL_INTERVAL_SECONDS = 0.02
SLOW_START_SECONDS = 3.0
PORT_ATTEMPTS = 5
LOG_BYTES_MAX = 16 * 1024 * 1024
LOG_TAIL_LINES = 8


class EmbeddedServerError(RuntimeError):
    """A server could not be started or stopped; the message says why, and what would help."""


class EmbeddedServer(ABC):
    """A server on a data directory. Start and stop may be called from any thread, but from one at a time."""

    title: ClassVar[str]
    program_name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    _directories_in_use: ClassVar[set[Path]] = set()

    def __init__(self, data_directory: Path, port: int | None = None) -> None:
        """Names the server's place; nothing happens before `start`.

        Args:
            data_directory: where the server keeps everything; made when missing.
            port: the TCP port on 127.0.0.1; None takes the one of the run before if it is free, else any free one.
        """
        self.data_directory = data_directory.resolve()
        self.log_path = self.data_directory / "server.log"
        self._wanted_port = port
        self._port: int | None = None
        self._account = ServiceAccount()
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: Lifeline | None = None
        self._lock_file: IO[str] | None = None

    # What differs between servers.

    @abstractmethod
    def _prepare(self, report: Progress) -> None:
        """Makes the data directory's content ready for a start."""

    @abstractmethod
    def _command(self, port: int) -> Sequence[str | Path]:
        """The command line, which must contain the mark."""

    @abstractmethod
    def _is_ready(self, process: "subprocess.Popen[bytes]", port: int) -> bool:
        """Whether the server that was started answers."""

    def _input(self, port: int) -> bytes:
        """What the server reads from its standard input."""
        return b""

    # What is the same.

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1.

        Raises:
            EmbeddedServerError: the server was never started.
        """
        if self._port is None:
            raise EmbeddedServerError(f"{self.title} was not started, so it has no port yet")
        return self._port

    @property
    def process_id(self) -> int:
        """The server's process id.

        Raises:
            EmbeddedServerError: the server is not running.
        """
        if self._process is None or self._process.poll() is not None:
            raise EmbeddedServerError(f"{self.title} in {self.data_directory} is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server's process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, progress: Progress | None = None) -> None:
        """Starts the server and returns once it answers; does nothing when it runs.

        Args:
            progress: called with a short sentence at each step that may take long.

        Raises:
            EmbeddedServerError: the port is taken, another run uses the directory, or the server gave up (the message
                then carries the end of its log).
        """
        if self.is_running:
            return
        report = progress or _silent
        self._forget_process()
        self._take_directory()
        try:
            self._stop_leftovers(report)
            self._prepare(report)
            self._launch(report)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops the server in order; does nothing when it does not run."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """Ends the server as `kill -9` does."""
        self._end(signal.SIGKILL)

    def restart(self, progress: Progress | None = None) -> None:
        """Stops the server in order and starts it again, on the same port where that is free."""
        self.stop()
        self.start(progress)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _mark(self) -> str:
        place = self.data_directory.stat()
        return f"rtx-{place.st_dev:x}-{place.st_ino:x}"

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(how)
            for escalation in (signal.SIGQUIT, signal.SIGKILL):
                try:
                    process.wait(STOP_TIMEOUT_SECONDS if escalation == signal.SIGQUIT else KILL_TIMEOUT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    process.send_signal(escalation)
            process.wait(KILL_TIMEOUT_SECONDS)
        self._forget_process()
        self._leave_directory()

    def _forget_process(self) -> None:
        if self._lifeline is not None:
            self._lifeline.release()
            self._lifeline = None
        self._process = None

    def _take_directory(self) -> None:
        """Makes sure that no other run, nor another object in this one, works on the directory."""
        if self._lock_file is not None:
            return
        try:
            self.data_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.data_directory in self._directories_in_use:
                raise EmbeddedServerError(f"{self.data_directory} is already in use by this process")
            lock_file = (self.data_directory / "lock").open("a+")
        except OSError as error:
            raise EmbeddedServerError(f"{self.title} cannot use {self.data_directory}: {error.strerror}") from error
        try:
            # A record lock belongs to one process: forked children do not keep it alive, as they would with flock.
            fcntl.lockf(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock_file.seek(0)
            holder = lock_file.read().strip() or "unknown"
            lock_file.close()
            raise EmbeddedServerError(
                f"{self.data_directory} is in use by another run (process {holder}): stop that one, or name another "
                "data directory"
            ) from error
        lock_file.truncate(0)
        lock_file.write(f"{os.getpid()}\n")
        lock_file.flush()
        self._lock_file = lock_file
        self._directories_in_use.add(self.data_directory)

    def _leave_directory(self) -> None:
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None
            self._directories_in_use.discard(self.data_directory)

    def _stop_leftovers(self, report: Progress) -> None:
        leftovers = self._leftovers()
        if not leftovers:
            return
        report(f"stopping the {self.title} that an earlier run left behind")
        for how in (self.stop_signal, signal.SIGQUIT, signal.SIGKILL):
            for process in leftovers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(how)
            seconds = STOP_TIMEOUT_SECONDS if how == self.stop_signal else KILL_TIMEOUT_SECONDS
            _, leftovers = psutil.wait_procs(leftovers, timeout=seconds)
            if not leftovers:
                return
        listed = ", ".join(str(process.pid) for process in leftovers)
        raise EmbeddedServerError(
            f"{self.title} of an earlier run in {self.data_directory} does not end: process {listed}"
        )

    def _leftovers(self) -> list[psutil.Process]:
        mark = self._mark
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.name() == self.program_name and any(mark in word for word in process.cmdline()):
                    found.append(process)
        return found

    def _launch(self, report: Progress) -> None:
        complaint = ""
        for attempt in range(PORT_ATTEMPTS):
            port = self._choose_port(remembered=attempt == 0)
            report(f"starting {self.title} on {HOST}:{port}")
            log_start = self._spawn(port)
            if self._await_ready(port, report):
                self._port = port
                if self._wanted_port is None:
                    self._port_path.write_text(f"{port}\n")
                return
            self._forget_process()
            complaint = self._log_since(log_start)
            # Somebody may take a port between our look and the server's.
            if "Address already in use" not in complaint:
                break
        raise EmbeddedServerError(f"{self.title} did not start; its log ({self.log_path}) ends with:\n{complaint}")

    @property
    def _port_path(self) -> Path:
        return self.data_directory / "port"

    def _choose_port(self, *, remembered: bool) -> int:
        if self._wanted_port is not None:
            try:
                return _bindable_port(self._wanted_port)
            except OSError as error:
                raise EmbeddedServerError(
                    f"{self.title} cannot listen on port {self._wanted_port} of {HOST} ({error.strerror}): stop what "
                    "uses it, or choose another port"
                ) from error
        if remembered:
            with contextlib.suppress(OSError, ValueError):
                return _bindable_port(int(self._port_path.read_text()))
        return _bindable_port(0)

    def _spawn(self, port: int) -> int:
        """Starts the process; returns where in the log its output begins, in bytes."""
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES_MAX:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        with self.log_path.open("ab") as log:
            log_start = log.tell()
            self._process = self._account.start(
                self._command(port),
                directory=self.data_directory,
                environment=server_environment(),
                stdin=subprocess.PIPE,
                stdout=log.fileno(),
            )
        self._lifeline = Lifeline(self._process.pid, self._mark, self.stop_signal)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as server_input:
            server_input.write(self._input(port))
        return log_start

    def _await_ready(self, port: int, report: Progress) -> bool:
        """Waits for the server; False when it ended instead."""
        process = self._process
        assert process is not None
        started = time.monotonic()
        said_slow = False
        while process.poll() is None:
            if self._is_ready(process, port):
                return True
            waited_seconds = time.monotonic() - started
            if waited_seconds > START_TIMEOUT_SECONDS:
                raise EmbeddedServerError(
                    f"{self.title} did not answer within {START_TIMEOUT_SECONDS:.0f} s; see {self.log_path}"
                )
            if waited_seconds > SLOW_START_SECONDS and not said_slow:
                report(f"waiting for {self.title}; after a hard stop it first recovers")
                said_slow = True
            time.sleep(POLL_INTERVAL_SECONDS)
        return False

    def _log_since(self, position: int) -> str:
        with self.log_path.open("rb") as log:
            log.seek(position)
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


def server_environment() -> dict[str, str]:
    """The few variables that a server needs; the caller's secrets and PG* settings are not among them."""
    passed_on = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
    return {name: os.environ[name] for name in passed_on if name in os.environ} | {"LC_ALL": "C", "TZ": "UTC"}


def write_durably(path: Path, content: str) -> None:
    """Writes a file that only its owner may read, whole or not at all, even when the power goes."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    with unfinished.open("w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    rename_durably(unfinished, path)


def rename_durably(source: Path, target: Path) -> None:
    """Renames within one directory, such that a power cut afterwards does not undo it."""
    source.replace(target)
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _bindable_port(port: int) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do it, so that connections of the run before, not yet forgotten, are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        chosen: int = probe.getsockname()[1]
    return chosen


def _silent(_sentence: str) -> None:
    """Progress for those who do not ask for it."""
