"""The cluster as whoever types the commands sees it: up, down, status, and images brought to the node."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tools.cluster import authorities, builds, packages
from tools.cluster.images import write_image
from tools.cluster.layout import NODE_NAME, SOURCE, ClusterError, Layout
from tools.cluster.machine import Machine, conflicts
from tools.cluster.services import CONTAINERD_SOCKET, PAUSE_IMAGE, environment, services

SERVICES_TIMEOUT_SECONDS: Final = 180.0
SYSTEM_PODS_TIMEOUT_SECONDS: Final = 180.0
POLL_INTERVAL_SECONDS: Final = 0.1
_LOG_LINES: Final = 15
_STARTS: Final = 5
"""A service that ended so often without having been ready never will be."""
_IMAGES: Final = {
    PAUSE_IMAGE: "pause",
    "localhost/rtx/coredns:1": "coredns",
    "localhost/rtx/metrics-server:1": "metrics-server",
}
"""The images of the system's pods: a name, and the one program that is in it."""

Progress = Callable[[str], None]


class Cluster:
    """One node, wherever its layout says."""

    def __init__(self, layout: Layout, progress: Progress = lambda _: None) -> None:
        self._layout = layout
        self._machine = Machine(layout)
        self._progress = progress

    def up(self) -> None:
        """Starts what does not run, and returns when everything is ready; undoes a start that fails."""
        if os.geteuid() != 0:
            raise ClusterError("a node needs namespaces, mounts and packet filters: run this as root")
        with self._alone():
            self._layout.claim()
            programs = self._programs()
            if self._machine.first_process is not None:
                self._progress("the node runs already")
                self._finish(programs)
                return
            try:
                self._begin(programs)
                self._finish(programs)
            except BaseException:
                # Whoever asks twice to end gets the machine back as it was all the same.
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_IGN)
                self._progress("undoing the start")
                self._machine.stop()
                raise

    def down(self) -> None:
        """Stops the node and removes all that it had; fine when there is nothing."""
        with self._alone():
            if not self._machine.leftovers():
                self._progress("nothing runs, and nothing is left")
                return
            self._machine.stop()
            left = self._machine.leftovers()
            if left:
                raise ClusterError(f"could not remove: {', '.join(left)}")
            self._progress("stopped; nothing is left")

    def status(self) -> tuple[bool, list[str]]:
        """Whether all runs, and a line for each thing that should."""
        if self._machine.first_process is None:
            left = self._machine.leftovers()
            return False, ["the node does not run", *(f"left behind: {thing}" for thing in left)]
        lines, healthy = [], True
        for name, state in self._services().items():
            healthy = healthy and state["ready"]
            lines.append(_line(name, _words(state)))
        try:
            for pod in json.loads(self.kubectl("get", "pods", "-n", "kube-system", "-o", "json"))["items"]:
                ready = _condition(pod, "Ready")
                healthy = healthy and ready
                lines.append(_line(pod["metadata"]["name"], "ready" if ready else "not ready"))
            node_ready = _condition(json.loads(self.kubectl("get", "node", NODE_NAME, "-o", "json")), "Ready")
        except ClusterError as error:
            return False, [*lines, str(error)]
        lines.append(_line(f"node {NODE_NAME}", "ready" if node_ready else "not ready"))
        lines.append(f"KUBECONFIG={self._layout.kubeconfig}")
        return healthy and node_ready, lines

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """What kubectl prints, as the administrator."""
        programs = builds.programs()
        if programs is None:
            raise ClusterError("the node's programs are not built; `make cluster-up` builds them")
        done = subprocess.run(
            [programs / "kubectl", "--kubeconfig", self._layout.kubeconfig, "--request-timeout=10s", *words],
            input=stdin,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise ClusterError(f"`kubectl {' '.join(words)}` failed: {done.stderr.strip()}")
        return done.stdout

    def import_image(self, archive: Path) -> None:
        """Gives the node the images of an archive that `docker save` or `write_image` wrote."""
        ctr = ["ctr", f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io", "images", "import", "-"]
        with archive.open("rb") as content:
            done = subprocess.run(
                self._machine.command(*ctr), stdin=content, check=False, capture_output=True, text=True
            )
        if done.returncode != 0:
            raise ClusterError(f"{archive.name} cannot be imported: {done.stderr.strip()}")

    def _programs(self) -> Path:
        wanted = packages.missing()
        if wanted:
            self._progress(f"installing {', '.join(wanted)}")
            packages.install(wanted)
        if builds.programs() is None:
            self._progress("building Kubernetes, CoreDNS and metrics-server (once; minutes)")
        return builds.build()

    def _begin(self, programs: Path) -> None:
        left = self._machine.leftovers()
        if len(left) > 1:
            self._progress(f"removing what a run before left: {', '.join(left)}")
        self._machine.stop()
        taken = conflicts(self._layout)
        if taken:
            raise ClusterError(f"networks of the node are in use on this machine: {', '.join(taken)}")
        self._layout.claim()
        self._machine.prepare()
        authorities.make(self._layout)
        self._machine.start(services(self._layout, programs), environment(programs))
        self._progress(f"the node is there: {self._layout.node_address}, everything in {self._layout.directory}")

    def _finish(self, programs: Path) -> None:
        self._await_services()
        for name, program in _IMAGES.items():
            self._bring(name, programs / program)
        self._progress("images of the system's pods imported")
        for manifest in sorted((SOURCE / "manifests").iterdir()):
            self.kubectl("apply", "--server-side", "-f", str(manifest))
        self._await_ready("node is ready", "node", NODE_NAME, "Ready")
        self._await_ready("CoreDNS is ready", "deployment", "coredns", "Available")
        self._await_ready("metrics-server is ready", "deployment", "metrics-server", "Available")
        self._await_ready("metrics are served", "apiservice", "v1beta1.metrics.k8s.io", "Available")

    def _await_services(self) -> None:
        deadline = time.monotonic() + SERVICES_TIMEOUT_SECONDS
        told: set[str] = set()
        while True:
            state = self._services()
            for name in state:
                if state[name]["ready"] and name not in told:
                    told.add(name)
                    self._progress(f"{name} is ready")
            if state and len(told) == len(state):
                return
            if self._machine.first_process is None:
                raise ClusterError(f"the node ended: {self._end_of_log('supervisor')}")
            late = next((name for name in state if name not in told), "supervisor")
            if time.monotonic() > deadline or state.get(late, {}).get("starts", 0) > _STARTS:
                raise ClusterError(f"{late} did not get ready: {self._end_of_log(late)}")
            time.sleep(POLL_INTERVAL_SECONDS)

    def _await_ready(self, said: str, kind: str, name: str, condition: str) -> None:
        deadline = time.monotonic() + SYSTEM_PODS_TIMEOUT_SECONDS
        namespace = ["-n", "kube-system"] if kind == "deployment" else []
        while True:
            try:
                found = json.loads(self.kubectl("get", kind, name, *namespace, "-o", "json"))
                if _condition(found, condition):
                    self._progress(said)
                    return
                why = f"its conditions are {json.dumps(found['status'].get('conditions', []))}"
            except ClusterError as error:
                why = str(error)
            if time.monotonic() > deadline:
                raise ClusterError(f"{kind} {name} did not get ready: {why}")
            time.sleep(POLL_INTERVAL_SECONDS)

    def _bring(self, name: str, program: Path) -> None:
        archive = self._layout.directory / f"{program.name}.tar"
        write_image(archive, name, files={f"/{program.name}": program}, command=[f"/{program.name}"])
        self.import_image(archive)
        archive.unlink()

    def _services(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._layout.services_file.read_text())
        except FileNotFoundError:
            return {}
        return state

    def _end_of_log(self, name: str) -> str:
        lines = (self._layout.logs / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(["", *lines[-_LOG_LINES:]])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else starts or stops a cluster beside this one's folder meanwhile."""
        parent = self._layout.directory.parent
        parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(parent, os.O_RDONLY)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._progress("somebody else starts or stops a cluster; waiting")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _line(name: str, state: str) -> str:
    return f"{name:<34}{state}"


def _words(state: dict[str, Any]) -> str:
    restarts = f", started {state['starts']} times" if state["starts"] > 1 else ""
    if not state["running"]:
        return f"not running{restarts}"
    return f"{'ready' if state['ready'] else 'not ready'}{restarts}"


def _condition(thing: dict[str, Any], name: str) -> bool:
    conditions = thing.get("status", {}).get("conditions", [])
    return any(condition["type"] == name and condition["status"] == "True" for condition in conditions)
