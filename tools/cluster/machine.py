"""The node's own processes, mounts, network and host name: namespaces on this machine, begun and ended as one.

Everything that a node does to a machine (bridges, addresses, packet filters, mounts, sockets under /run, files under
/var) it does in here, to namespaces that end with their first process. Outside are one folder, one link with two
addresses and two routes, and one group of processes in each hierarchy of cgroups; these are what is cleaned up after a
run, also after one that was killed.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from tools.cluster.layout import (
    NODE_NAME,
    POD_NETWORK,
    SERVICE_NETWORK,
    SOURCE,
    ClusterError,
    Layout,
)

Result = TypeVar("Result")

START_TIMEOUT_SECONDS: Final = 10.0
STOP_TIMEOUT_SECONDS: Final = 15.0
CLEANUP_TIMEOUT_SECONDS: Final = 15.0
POLL_INTERVAL_SECONDS: Final = 0.05

_NODE_FOLDERS: Final = ("var", "run", "log", "authorities", "settings", "kernel")
_VARIABLE_FOLDERS: Final = ("lib", "log", "cache", "spool", "tmp")
_KUBELET_DEMANDS: Final = {
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxbytes": "25000000",
    "kernel/keys/root_maxkeys": "1000000",
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
}
"""What the kubelet sets, for the whole machine. It is shown files with these values, so that it has nothing to set."""


class Machine:
    """The namespaces of one node."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    @property
    def first_process(self) -> int | None:
        """The machine's number of the node's process 1; None when it does not run."""
        try:
            record = json.loads(self._layout.machine_file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        pid: int = record["pid"]
        return pid if _start_time(pid) == record["started"] else None

    def prepare(self) -> None:
        """Makes the folders that a start needs; what a run before left is gone by then."""
        directory = self._layout.directory
        for name in _NODE_FOLDERS:
            (directory / name).mkdir(exist_ok=True)
        self._layout.authorities.chmod(0o700)
        for name in _VARIABLE_FOLDERS:
            (directory / "var" / name).mkdir(exist_ok=True)
        (directory / "var" / "tmp").chmod(0o1777)
        (directory / "var" / "run").symlink_to("/run")
        for name, value in _KUBELET_DEMANDS.items():
            (directory / "kernel" / name.replace("/", "-")).write_text(value + "\n")
        (directory / "settings" / "resolv.conf").write_text("")

    def start(self, services: list[dict[str, Any]], environment: dict[str, str]) -> None:
        """Begins the namespaces with the supervisor of `services` in them."""
        layout = self._layout
        self._make_cgroups()
        plan_file = layout.settings / "plan.json"
        plan_file.write_text(json.dumps(self._plan(services, environment), indent=1))
        isolated = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        supervisor = [sys.executable, "-I", "-S", str(SOURCE / "supervisor.py"), str(plan_file)]
        with (layout.logs / "supervisor.log").open("wb") as log:
            parent = subprocess.Popen(
                isolated + supervisor,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        assert parent.stdin is not None
        pid = _awaited(lambda: _only_child(parent), START_TIMEOUT_SECONDS)
        if pid is None:
            parent.kill()
            raise ClusterError(f"the node did not start: {(layout.logs / 'supervisor.log').read_text().strip()}")
        layout.machine_file.write_text(json.dumps({"pid": pid, "started": _start_time(pid)}))
        self._link(pid)
        parent.stdin.write(b"go\n")
        parent.stdin.close()
        # It goes on without us; that is not for the interpreter to warn of.
        parent.returncode = 0

    def command(self, *words: str) -> list[str]:
        """`words`, to be run inside the node."""
        pid = self.first_process
        if pid is None:
            raise ClusterError("the node does not run; `make cluster-up` starts it")
        return ["nsenter", f"--target={pid}", "--mount", "--pid", "--net", "--uts", "--ipc", "--", *words]

    def stop(self) -> None:
        """Ends everything in the node and removes what it had outside; fine with a node that does not run."""
        pid = self.first_process
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            if not _awaited(lambda: self.first_process is None, STOP_TIMEOUT_SECONDS):
                os.kill(pid, signal.SIGKILL)
                _awaited(lambda: self.first_process is None, STOP_TIMEOUT_SECONDS)
        self._remove_link()
        for group in self._cgroups():
            _awaited(functools.partial(_removed, group), CLEANUP_TIMEOUT_SECONDS)
        if self._layout.is_claimed():
            shutil.rmtree(self._layout.directory)

    def leftovers(self) -> list[str]:
        """What of the node is on the machine, in words; a stopped cluster has none."""
        found = [f"process {self.first_process}"] if self.first_process else []
        found += [f"interface {self._layout.interface}"] if self._link_exists() else []
        found += [f"cgroup {group}" for group in self._cgroups()]
        found += [f"folder {self._layout.directory}"] if self._layout.is_claimed() else []
        return found

    def _plan(self, services: list[dict[str, Any]], environment: dict[str, str]) -> dict[str, Any]:
        directory = self._layout.directory
        shown = {f"/proc/sys/{name}": directory / "kernel" / name.replace("/", "-") for name in _KUBELET_DEMANDS}
        return {
            "hostname": NODE_NAME,
            "preparation": [
                # Mounts of volumes reach the containers, and none of it the machine.
                ["mount", "--make-rshared", "/"],
                ["mount", "--bind", str(directory / "var"), "/var"],
                ["mount", "--bind", str(directory / "run"), "/run"],
                *(["mount", "--bind", str(file), path] for path, file in shown.items() if Path(path).exists()),
            ],
            "kernel_settings": {"/proc/sys/net/ipv4/ip_forward": "1"},
            "services": services,
            "environment": environment,
            "report": str(self._layout.services_file),
        }

    def _link(self, pid: int) -> None:
        layout = self._layout
        _ip("link", "add", layout.interface, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _ip("address", "add", f"{layout.host_address}/30", "dev", layout.interface)
        _ip("link", "set", layout.interface, "up")
        inside = ["nsenter", f"--target={pid}", "--net", "ip"]
        for words in (
            ["link", "set", "lo", "up"],
            ["address", "add", f"{layout.node_address}/30", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            # A connection to a Service has to have a route before kube-proxy's rules turn it to a pod. There is no
            # other one: nothing in the node reaches beyond this machine.
            ["route", "add", SERVICE_NETWORK, "dev", "eth0"],
        ):
            _run([*inside, *words])
        for network in (SERVICE_NETWORK, POD_NETWORK):
            _ip("route", "add", network, "via", layout.node_address)

    def _link_exists(self) -> bool:
        return (Path("/sys/class/net") / self._layout.interface).exists()

    def _remove_link(self) -> None:
        if self._link_exists():
            # It may be on its way out already: it goes with the node's end of it.
            command = ["ip", "link", "delete", self._layout.interface]
            subprocess.run(command, check=False, capture_output=True)
        _awaited(lambda: not self._link_exists(), CLEANUP_TIMEOUT_SECONDS)

    def _make_cgroups(self) -> None:
        for root in _cgroup_hierarchies():
            group = root / self._layout.cgroup
            if (root / "cgroup.controllers").exists():
                wanted = (root / "cgroup.controllers").read_text().split()
                _enable(root, wanted)
                group.mkdir(exist_ok=True)
                _enable(group, wanted)
                continue
            group.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (root / name).exists():
                    (group / name).write_text((root / name).read_text())

    def _cgroups(self) -> list[Path]:
        return [root / self._layout.cgroup for root in _cgroup_hierarchies() if (root / self._layout.cgroup).exists()]


def conflicts(layout: Layout) -> list[str]:
    """Routes of this machine that the node's networks would cover, in words."""
    listed = json.loads(_run(["ip", "-json", "route", "show"]) or "[]")
    taken = [ipaddress.ip_network(route["dst"], strict=False) for route in listed if route["dst"] != "default"]
    wanted = [f"{layout.node_address}/30", SERVICE_NETWORK, POD_NETWORK]
    networks = [ipaddress.ip_network(network, strict=False) for network in wanted]
    return [f"{own} and {other}" for own in networks for other in taken if own.overlaps(other)]


def _enable(group: Path, controllers: list[str]) -> None:
    for controller in controllers:
        try:
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            # Some cannot be handed down (real-time ones, a group with processes); the kubelet says which it misses.
            continue


def _cgroup_hierarchies() -> Iterator[Path]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] in {"cgroup", "cgroup2"}:
            yield Path(fields[4])


def _removed(group: Path) -> bool:
    """Whether a group and all below it is gone; it stays for as long as a process of it is being ended."""
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(folder)  # noqa: PTH106 - the walk gives names
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def _only_child(parent: subprocess.Popen[bytes]) -> int | None:
    if parent.poll() is not None:
        return None
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    return int(children[0]) if children else None


def _start_time(pid: int) -> str | None:
    """When a process was started, in ticks since the machine was; tells it from a later one with its number."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in {"Z", "X"} else fields[19]


def _awaited(question: Callable[[], Result], timeout_seconds: float) -> Result:
    """The first answer that is true, or the last one when time is up."""
    deadline = time.monotonic() + timeout_seconds
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL_SECONDS)
    return answer


def _ip(*words: str) -> None:
    _run(["ip", *words])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ClusterError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout
