"""The cluster as whoever types the commands sees it: up, down, status, kubectl, and images brought to the node."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from tools.cluster import authorities, builds, packages
from tools.cluster.images import write_image
from tools.cluster.layout import NODE_NAME, POD_NETWORK, SERVICE_NETWORK, SOURCE, ClusterError, Layout
from tools.cluster.machine import Machine, Networks
from tools.cluster.running import POLL_INTERVAL_SECONDS, Progress, Running, line
from tools.cluster.services import CONTAINERD_SOCKET, PAUSE_IMAGE, environment, services

SYSTEM_PODS_TIMEOUT_SECONDS: Final = 180.0
_IMAGES: Final = {
    PAUSE_IMAGE: "pause",
    "localhost/rtx/coredns:1": "coredns",
    "localhost/rtx/metrics-server:1": "metrics-server",
}
"""The images of the system's pods: a name, and the one program that is in it."""
_NETWORKS: Final = Networks(inside=(SERVICE_NETWORK, POD_NETWORK), virtual=(SERVICE_NETWORK,))


class Cluster:
    """One node, wherever its layout says."""

    def __init__(self, layout: Layout, progress: Progress = lambda _: None) -> None:
        self._layout = layout
        self._progress = progress
        self.machine = Machine(layout, NODE_NAME, _NETWORKS)
        self._running = Running(layout, self.machine, progress)

    def up(self) -> None:
        """Starts what does not run, and returns when everything is ready; undoes a start that fails."""
        with self._running.alone():
            self._layout.require_free()
            programs = self._programs()
            if self.machine.first_process is not None:
                self._progress("the node runs already")
                self._finish(programs)
                return
            with self._running.undone_on_failure():
                self._begin(programs)
                self._finish(programs)
            self._progress(f"ready: export KUBECONFIG={self._layout.kubeconfig}")

    def down(self) -> None:
        """Stops the node and removes all that it had; fine when there is nothing."""
        self._running.down()

    def status(self) -> tuple[bool, list[str]]:
        """Whether all runs, and a line for each thing that should."""
        healthy, lines = self._running.status()
        if self.machine.first_process is None:
            return healthy, lines
        try:
            pods = json.loads(self.kubectl("get", "pods", "-n", "kube-system", "-o", "json"))["items"]
            nodes = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        except ClusterError as error:
            return False, [*lines, str(error)]
        for thing in (*pods, *nodes):
            ready = _condition(thing, "Ready")
            healthy = healthy and ready
            lines.append(line(thing["metadata"]["name"], "ready" if ready else "not ready"))
        return healthy, [*lines, f"KUBECONFIG={self._layout.kubeconfig}"]

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
                self.machine.command(*ctr), stdin=content, check=False, capture_output=True, text=True
            )
        if done.returncode != 0:
            raise ClusterError(f"{archive.name} cannot be imported: {done.stderr.strip()}")

    def _programs(self) -> Path:
        packages.require(packages.FOR_THE_NODE, self._progress)
        return builds.build(self._progress)

    def _begin(self, programs: Path) -> None:
        self._running.clear()
        self._layout.claim()
        self.machine.prepare()
        authorities.make(self._layout)
        self.machine.start(services(self._layout, programs), environment(programs))
        self._progress(f"the node is there: {self._layout.node_address}, everything in {self._layout.directory}")

    def _finish(self, programs: Path) -> None:
        self._running.await_services()
        for name, program in _IMAGES.items():
            self._bring(name, programs / program)
        self._progress("images of the system's pods imported")
        for manifest in sorted((SOURCE / "manifests").iterdir()):
            self.kubectl("apply", "--server-side", "-f", str(manifest))
        self._await_ready("node is ready", "node", NODE_NAME, "Ready")
        self._await_ready("CoreDNS is ready", "deployment", "coredns", "Available")
        self._await_ready("metrics-server is ready", "deployment", "metrics-server", "Available")
        self._await_ready("metrics are served", "apiservice", "v1beta1.metrics.k8s.io", "Available")

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


def _condition(thing: dict[str, Any], name: str) -> bool:
    conditions = thing.get("status", {}).get("conditions", [])
    return any(condition["type"] == name and condition["status"] == "True" for condition in conditions)
