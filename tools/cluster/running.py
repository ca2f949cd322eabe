"""Starting, awaiting and stopping of what runs in a machine of its own, the same for the node and for Docker."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from tools.cluster.layout import ClusterError, Layout, alone_in
from tools.cluster.machine import Machine

SERVICES_TIMEOUT_SECONDS: Final = 180.0
POLL_INTERVAL_SECONDS: Final = 0.1
_LOG_LINES: Final = 15
_STARTS: Final = 5
"""A service that ended so often without having been ready never will be."""

Progress = Callable[[str], None]


class Running:
    """What is done to a machine and its services, with a line for each step."""

    def __init__(self, layout: Layout, machine: Machine, progress: Progress) -> None:
        self._layout = layout
        self._machine = machine
        self._progress = progress

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else starts or stops what is in this folder, or beside it, meanwhile."""
        if os.geteuid() != 0:
            raise ClusterError("namespaces, mounts and packet filters are made: run this as root")
        waiting = partial(self._progress, "somebody else starts or stops one; waiting")
        with alone_in(self._layout.directory.parent, waiting):
            yield

    @contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """What was started within is stopped when it does not come to its end."""
        try:
            yield
        except BaseException:
            # Whoever asks twice to end gets the machine back as it was all the same.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            self._progress("undoing the start")
            self._machine.stop()
            raise

    def clear(self) -> None:
        """Removes what a run before left, and makes sure that the addresses are free."""
        left = self._machine.leftovers()
        if left:
            self._progress(f"removing what a run before left: {', '.join(left)}")
        self._machine.stop()
        taken = self._machine.conflicts()
        if taken:
            raise ClusterError(f"networks that are needed are in use on this machine: {', '.join(taken)}")

    def await_services(self) -> None:
        """Until every service is ready, with a line for each."""
        deadline = time.monotonic() + SERVICES_TIMEOUT_SECONDS
        told: set[str] = set()
        while True:
            state = self.services()
            for name in state:
                if state[name]["ready"] and name not in told:
                    told.add(name)
                    self._progress(f"{name} is ready")
            if state and len(told) == len(state):
                return
            if self._machine.first_process is None:
                raise ClusterError(f"it ended: {self._end_of_log('supervisor')}")
            late = next((name for name in state if name not in told), "supervisor")
            if time.monotonic() > deadline or state.get(late, {}).get("starts", 0) > _STARTS:
                raise ClusterError(f"{late} did not get ready: {self._end_of_log(late)}")
            time.sleep(POLL_INTERVAL_SECONDS)

    def down(self) -> None:
        """Stops the machine and removes all that it had; fine when there is nothing."""
        with self.alone():
            if not self._machine.leftovers():
                self._progress("nothing runs, and nothing is left")
                return
            self._progress("stopping")
            self._machine.stop()
            left = self._machine.leftovers()
            if left:
                raise ClusterError(f"could not remove: {', '.join(left)}")
            self._progress("stopped; nothing is left")

    def status(self) -> tuple[bool, list[str]]:
        """Whether all services are ready, and a line for each."""
        if self._machine.first_process is None:
            return False, ["not running", *(f"left behind: {thing}" for thing in self._machine.leftovers())]
        state = self.services()
        lines = [line(name, _words(state[name])) for name in state]
        return bool(state) and all(service["ready"] for service in state.values()), lines

    def services(self) -> dict[str, Any]:
        """What the supervisor says: name to whether it runs and is ready, and how often it was started."""
        try:
            state: dict[str, Any] = json.loads(self._layout.services_file.read_text())
        except FileNotFoundError:
            return {}
        return state

    def _end_of_log(self, name: str) -> str:
        lines = (self._layout.logs / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(["", *lines[-_LOG_LINES:]])


def line(name: str, state: str) -> str:
    """A line of `status`."""
    return f"{name:<34}{state}"


def _words(state: dict[str, Any]) -> str:
    restarts = f", started {state['starts']} times" if state["starts"] > 1 else ""
    if not state["running"]:
        return f"not running{restarts}"
    return f"{'ready' if state['ready'] else 'not ready'}{restarts}"
