"""A supervisor with small programs, in a process of its own, because it forks and takes the signals."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rtx.supervisor.programs import EXIT_HALTED
from rtx.supervisor.supervisor import DELAY_MAX_S, HALTED_DELAY_S, restart_delay_s

PROGRAMS = {
    # They write with os.write: print is not reentrant, and its lines may be torn apart by another process's.
    "steady": """
        import os, signal, sys
        def main():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            os.write(1, b'{"event": "up", "program": "steady"}\\n')
            while True:
                signal.pause()
        """,
    "stubborn": """
        import os, signal
        def main():
            signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'{"event": "refused"}\\n'))
            os.write(1, b'{"event": "up", "program": "stubborn"}\\n')
            while True:
                signal.pause()
        """,
    "misconfigured": """
        def main():
            return 2
        """,
    "crashing": """
        def main():
            raise RuntimeError("what went wrong")
        """,
    "answering": """
        import os, signal, sys
        from rtx.supervisor.listeners import inherited_socket
        def main():
            listener = inherited_socket("LISTENER")
            listener.setblocking(True)
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            while True:
                connection, _ = listener.accept()
                if connection.recv(16) == b"die":
                    os.kill(os.getpid(), signal.SIGKILL)
                connection.sendall(b"%d" % os.getpid())
                connection.close()
        """,
}

HOST = """
    import json, socket, sys
    from rtx.observability.logging import configure_logging
    from rtx.supervisor import supervisor
    from rtx.supervisor.listeners import open_listeners
    from rtx.supervisor.programs import Program

    supervisor.SAME_REQUEST_S = 0.0
    configure_logging("info", role="supervisor")
    programs, sockets = [], []
    for stage, name in enumerate(sys.argv[1:]):
        own = {}
        if name == "answering":
            listener = open_listeners("127.0.0.1", 0, 1, "PORT")[0]
            own = {"LISTENER": listener}
            sockets.append(listener)
            print(json.dumps({"event": "listening", "port": listener.getsockname()[1]}), flush=True)
        programs.append(Program(name, f"{name}_program", stop_stage=stage, stop_grace_s=30, sockets=own))
    sys.exit(supervisor.Supervisor(programs, sockets=sockets).run())
    """

Line = dict[str, Any]


class Host:
    """The supervisor's process and what it and its programs print."""

    def __init__(self, directory: Path, *names: str) -> None:
        for name in names:
            (directory / f"{name}_program.py").write_text(textwrap.dedent(PROGRAMS[name]))
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(HOST), *names],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(directory), *sys.path])},
        )
        self.lines: list[Line] = []

    def read(self, wanted: Callable[[Line], bool]) -> Line:
        """Read on until a line is wanted."""
        assert self.process.stdout is not None
        for text in self.process.stdout:
            line: Line = json.loads(text)
            self.lines.append(line)
            if wanted(line):
                return line
        raise AssertionError(f"the supervisor ended without it; it said {self.lines}")

    def read_event(self, event: str, **fields: object) -> Line:
        """Read on until this event with these fields."""
        return self.read(lambda line: line["event"] == event and fields.items() <= line.items())

    def read_to_end(self) -> list[Line]:
        """Read until nobody is left who could write: the supervisor and all its programs ended."""
        assert self.process.stdout is not None
        self.lines.extend(json.loads(text) for text in self.process.stdout)
        return self.lines


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Starts a supervisor with the programs named."""
    hosts: list[Host] = []

    def start(*names: str) -> Host:
        hosts.append(Host(tmp_path, *names))
        return hosts[-1]

    yield start
    for host in hosts:
        host.process.kill()
        host.process.wait()
        assert host.process.stdout is not None
        host.process.stdout.close()


def test_a_killed_program_is_started_again(start: Callable[..., Host]) -> None:
    host = start("steady")
    first = host.read_event("process started")["process_id"]
    host.read_event("up")
    os.kill(first, signal.SIGKILL)
    ended = host.read_event("process ended by itself and is started again")
    assert ended["exit_code"] == -signal.SIGKILL
    assert host.read_event("process started")["process_id"] != first
    host.read_event("up")


def test_programs_end_stage_by_stage_when_the_supervisor_is_told_to_stop(start: Callable[..., Host]) -> None:
    host = start("answering", "steady")
    host.read_event("up")
    host.process.send_signal(signal.SIGTERM)
    ended = [line["process"] for line in host.read_to_end() if line["event"] == "process ended"]
    assert ended == ["answering", "steady"]
    assert host.process.wait() == 0


def test_a_second_request_kills_what_does_not_end(start: Callable[..., Host]) -> None:
    host = start("stubborn")
    host.read_event("up")
    host.process.send_signal(signal.SIGINT)
    host.read_event("refused")
    host.process.send_signal(signal.SIGINT)
    host.read_event("process did not end in time and is killed")
    assert host.read_event("process ended")["exit_code"] == -signal.SIGKILL
    assert host.process.wait() == 0


def test_programs_end_when_the_supervisor_is_killed(start: Callable[..., Host]) -> None:
    host = start("steady", "stubborn")
    host.read_event("up")
    host.read_event("up")
    host.process.kill()
    host.read_to_end()


def test_wrong_settings_end_everything(start: Callable[..., Host]) -> None:
    host = start("steady", "misconfigured")
    lines = host.read_to_end()
    assert host.process.wait() == 2
    assert [line["process"] for line in lines if line["event"] == "process ended"] == ["steady"]


def test_a_crash_is_logged_with_its_traceback(start: Callable[..., Host]) -> None:
    host = start("crashing")
    assert "what went wrong" in host.read_event("process crashed", process="crashing")["exception"]
    assert host.read_event("process ended by itself and is started again")["exit_code"] == 1


def test_a_connection_made_while_the_program_is_dead_is_answered_by_the_next(start: Callable[..., Host]) -> None:
    host = start("answering")
    address = ("127.0.0.1", host.read_event("listening")["port"])
    first = host.read_event("process started")["process_id"]
    with socket.create_connection(address) as dying, socket.create_connection(address) as waiting:
        dying.sendall(b"die")
        waiting.sendall(b"who?")
        answer = int(waiting.recv(16))
    assert answer != first
    assert host.read_event("process started")["process_id"] == answer


def test_restarts_are_free_at_first_and_then_wait_longer_and_longer() -> None:
    assert [restart_delay_s(deaths, 1) for deaths in range(6)] == [0.0, 0.0, 0.0, 0.1, 0.2, 0.4]
    assert restart_delay_s(100, -9) == DELAY_MAX_S
    assert restart_delay_s(1, EXIT_HALTED) == HALTED_DELAY_S
