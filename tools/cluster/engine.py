"""A Docker engine of the project's own: containers, networks and published ports in namespaces that end with it.

Unlike the node it reaches what this machine reaches, since a build asks the package index. Its published ports are
on its own address, and on 127.0.0.1 for what runs inside (:meth:`Machine.command`), so that a composition with fixed
ports can run beside anything else.
"""

from __future__ import annotations

from typing import Any, Final

from tools.cluster import packages
from tools.cluster.layout import Layout
from tools.cluster.machine import OUTBOUND_NAME_SERVER, Machine, Networks
from tools.cluster.packages import installed
from tools.cluster.running import Progress, Running
from tools.cluster.services import CONTAINERD_SOCKET, SYSTEM_PATH

_SOCKET: Final = "/run/docker.sock"


class DockerEngine:
    """One engine, wherever its layout says."""

    def __init__(self, layout: Layout, progress: Progress = lambda _: None) -> None:
        self._layout = layout
        self._progress = progress
        self.machine = Machine(layout, "rtx-docker", Networks(beyond=True))
        self._running = Running(layout, self.machine, progress)

    @property
    def address(self) -> str:
        """What DOCKER_HOST has to be for a client on this machine."""
        return f"unix://{self._layout.directory}{_SOCKET}"

    def up(self) -> None:
        """Starts it if it does not run, and returns when it answers; undoes a start that fails."""
        with self._running.alone():
            self._layout.require_free()
            packages.require(packages.FOR_DOCKER, self._progress)
            if self.machine.first_process is not None:
                self._progress("Docker runs already")
                self._running.await_services()
                return
            with self._running.undone_on_failure():
                self._running.clear()
                self._layout.claim()
                self.machine.prepare()
                self.machine.start(self._services(), {"PATH": SYSTEM_PATH, "HOME": "/var/lib", "LANG": "C.UTF-8"})
                self._running.await_services()
            self._progress(f"ready: export DOCKER_HOST={self.address}")

    def down(self) -> None:
        """Stops it and removes all that it had, images too; fine when there is nothing."""
        self._running.down()

    def status(self) -> tuple[bool, list[str]]:
        """Whether all runs, and a line for each thing that should."""
        healthy, lines = self._running.status()
        return healthy, [*lines, f"DOCKER_HOST={self.address}"] if healthy else lines

    def _services(self) -> list[dict[str, Any]]:
        configuration = self._layout.settings / "containerd.toml"
        configuration.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        engine = [
            installed("dockerd"),
            f"--host=unix://{_SOCKET}",
            f"--containerd={CONTAINERD_SOCKET}",
            f"--cgroup-parent=/{self._layout.cgroup}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--dns={OUTBOUND_NAME_SERVER}",
            # Lowering it is not allowed everywhere.
            "--oom-score-adjust=0",
        ]
        return [
            self._service("containerd", [installed("containerd"), f"--config={configuration}"], [], CONTAINERD_SOCKET),
            self._service("dockerd", engine, ["containerd"], _SOCKET),
        ]

    def _service(self, name: str, command: list[str], needs: list[str], probe: str) -> dict[str, Any]:
        log = str(self._layout.logs / f"{name}.log")
        return {"name": name, "command": command, "needs": needs, "probe": probe, "authority": None, "log": log}
