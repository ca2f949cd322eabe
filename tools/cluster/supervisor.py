"""Process 1 of the node: prepares its mounts, starts its services when what they need is ready, and reaps.

It runs by itself (`python -I supervisor.py PLAN`), with nothing but the standard library, in namespaces of its own. It
begins when it reads a line from its standard input: a start that was killed half-way closes that, and the node ends
with it. When process 1 ends, the kernel ends everything else in the node.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

BUSY_INTERVAL_SECONDS: Final = 0.1
IDLE_INTERVAL_SECONDS: Final = 1.0
RESTART_DELAY_SECONDS: Final = 1.0
PROBE_TIMEOUT_SECONDS: Final = 2.0
STOP_TIMEOUT_SECONDS: Final = 3.0
WATCHED: Final = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}


class Service:
    """One program that is to run for as long as the node does."""

    def __init__(self, description: dict[str, Any]) -> None:
        self.name: str = description["name"]
        self.needs: list[str] = description["needs"]
        self.probe = prepared_probe(description["probe"], description.get("authority"))
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False
        self.starts = 0
        self.not_before = 0.0
        self._command: list[str] = description["command"]
        self._log: str = description["log"]

    def start(self, environment: dict[str, str]) -> None:
        with Path(self._log).open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd="/",
                start_new_session=True,
                preexec_fn=unblock,  # noqa: PLW1509 - there is one thread
            )
        self.starts += 1

    def ended(self) -> None:
        """The process is gone; the next one waits a moment, since what ends at once would keep the machine busy."""
        self.process = None
        self.ready = False
        self.not_before = time.monotonic() + RESTART_DELAY_SECONDS


def unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)


def prepared_probe(probe: str | None, authority: str | None) -> Callable[[], bool]:
    """How to learn whether a service is ready: a path of a socket, or a URL; None is ready once it runs."""
    if probe is None:
        return lambda: True
    if probe.startswith("/"):
        return lambda: accepts(probe)
    return lambda: answers(probe, authority)


def accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PROBE_TIMEOUT_SECONDS)
        try:
            connection.connect(path)
        except OSError:
            return False
        return True


def answers(url: str, authority: str | None) -> bool:
    context = ssl.create_default_context(cafile=authority) if authority else None
    try:
        with urllib.request.urlopen(url, timeout=PROBE_TIMEOUT_SECONDS, context=context) as response:  # noqa: S310
            return bool(response.status == 200)
    except OSError:
        return False


def prepare(plan: dict[str, Any]) -> None:
    """What differs from the machine's view of things, seen in here alone."""
    socket.sethostname(plan["hostname"])
    for command in plan["preparation"]:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    for path, value in plan["kernel_settings"].items():
        Path(path).write_text(value)


class Supervisor:
    """Keeps the services of a plan running."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._services = [Service(description) for description in plan["services"]]
        self._environment: dict[str, str] = plan["environment"]
        self._report = Path(plan["report"])

    def run(self) -> None:
        """Until a signal says that it is over."""
        reported = ""
        while True:
            self._reap()
            self._start_and_probe()
            state = self._state()
            if state != reported:
                unfinished = self._report.with_suffix(".new")
                unfinished.write_text(state)
                unfinished.replace(self._report)
                reported = state
            busy = any(not service.ready for service in self._services)
            received = signal.sigtimedwait(WATCHED, BUSY_INTERVAL_SECONDS if busy else IDLE_INTERVAL_SECONDS)
            if received is not None and received.si_signo != signal.SIGCHLD:
                return

    def stop(self) -> None:
        """Asks everything in the node to end and waits a little; the kernel ends the rest."""
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        try:
            os.kill(-1, signal.SIGTERM)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            try:
                if os.waitpid(-1, os.WNOHANG) == (0, 0):
                    signal.sigtimedwait({signal.SIGCHLD}, BUSY_INTERVAL_SECONDS)
            except ChildProcessError:
                return

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for service in self._services:
                if service.process is not None and service.process.pid == pid:
                    service.process.returncode = os.waitstatus_to_exitcode(status)
                    print(f"{service.name} ended with {service.process.returncode}", flush=True)
                    service.ended()

    def _start_and_probe(self) -> None:
        ready = {service.name for service in self._services if service.ready}
        for service in self._services:
            if service.process is None:
                if ready.issuperset(service.needs) and time.monotonic() >= service.not_before:
                    service.start(self._environment)
            elif not service.ready:
                service.ready = service.probe()

    def _state(self) -> str:
        return json.dumps(
            {
                service.name: {"running": service.process is not None, "ready": service.ready, "starts": service.starts}
                for service in self._services
            }
        )


def main(plan_file: str) -> None:
    # Whoever started this may have been killed already; then the line never comes.
    if not sys.stdin.readline():
        return
    plan = json.loads(Path(plan_file).read_text())
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    prepare(plan)
    supervisor = Supervisor(plan)
    supervisor.run()
    supervisor.stop()


if __name__ == "__main__":
    main(sys.argv[1])
