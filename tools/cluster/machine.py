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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from tools.cluster.layout import SOURCE, ClusterError, Layout

Result = TypeVar("Result")

OUTBOUND_NAME_SERVER: Final = "10.0.2.3"
"""Where a node that reaches beyond the machine finds what the machine's own name server says."""
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


@dataclass(frozen=True)
class Networks:
    """What a node's addresses are, besides that of its end of the link."""

    inside: tuple[str, ...] = ()
    """Networks that the machine reaches through the node."""
    virtual: tuple[str, ...] = ()
    """Those of which nobody has an address: packet filters in the node turn them into others."""
    beyond: bool = False
    """Whether the node reaches what the machine reaches."""


class Machine:
    """The namespaces of one node."""

    def __init__(self, layout: Layout, hostname: str, networks: Networks) -> None:
        self._layout = layout
        self._hostname = hostname
        self._networks = networks

    @property
    def first_process(self) -> int | None:
        """The machine's number of the node's process 1; None when it does not run."""
        return self._recorded("first")

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
        # Both ends close with whoever has them: that of the supervisor, and no earlier.
        read_end, write_end = os.pipe()
        with (layout.logs / "supervisor.log").open("wb") as log:
            parent = subprocess.Popen(
                isolated + supervisor,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                cwd="/",
                start_new_session=True,
                pass_fds=[write_end],
            )
        os.close(write_end)
        assert parent.stdin is not None
        pid = _awaited(lambda: _only_child(parent), START_TIMEOUT_SECONDS)
        if pid is None:
            parent.kill()
            raise ClusterError(f"the node did not start: {(layout.logs / 'supervisor.log').read_text().strip()}")
        self._record("first", pid)
        self._link(pid)
        if self._networks.beyond:
            self._reach_beyond(pid, read_end)
        os.close(read_end)
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
        outbound = self._recorded("outbound")
        if outbound is not None and not _awaited(lambda: self._recorded("outbound") is None, STOP_TIMEOUT_SECONDS):
            os.kill(outbound, signal.SIGKILL)
        self._remove_link()
        for group in self._cgroups():
            _awaited(functools.partial(_removed, group), CLEANUP_TIMEOUT_SECONDS)
        if self._layout.is_claimed():
            shutil.rmtree(self._layout.directory)

    def leftovers(self) -> list[str]:
        """What of the node is on the machine, in words; a stopped cluster has none."""
        found = [f"process {pid}" for name in ("first", "outbound") if (pid := self._recorded(name)) is not None]
        found += [f"interface {self._layout.interface}"] if self._link_exists() else []
        found += [f"cgroup {group}" for group in self._cgroups()]
        found += [f"folder {self._layout.directory}"] if self._layout.is_claimed() else []
        return found

    def conflicts(self) -> list[str]:
        """Routes of this machine that the node's networks would cover, in words."""
        listed = json.loads(_run(["ip", "-json", "route", "show"]) or "[]")
        taken = [ipaddress.ip_network(route["dst"], strict=False) for route in listed if route["dst"] != "default"]
        wanted = [f"{self._layout.node_address}/30", *self._networks.inside]
        networks = [ipaddress.ip_network(network, strict=False) for network in wanted]
        return [f"{own} and {other}" for own in networks for other in taken if own.overlaps(other)]

    def _plan(self, services: list[dict[str, Any]], environment: dict[str, str]) -> dict[str, Any]:
        directory = self._layout.directory
        shown = {f"/proc/sys/{name}": directory / "kernel" / name.replace("/", "-") for name in _KUBELET_DEMANDS}
        return {
            "hostname": self._hostname,
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
            # A connection has to have a route before packet filters turn it elsewhere.
            *(["route", "add", network, "dev", "eth0"] for network in self._networks.virtual),
        ):
            _run([*inside, *words])
        for network in self._networks.inside:
            _ip("route", "add", network, "via", layout.node_address)

    def _reach_beyond(self, pid: int, until_closed: int) -> None:
        """Connections from the node are made anew on this machine, by a program that ends with the node."""
        ready, said = os.pipe()
        command = ["slirp4netns", "--configure", "--disable-host-loopback", f"--exit-fd={until_closed}"]
        command += [f"--ready-fd={said}", str(pid), "tap0"]
        with (self._layout.logs / "slirp4netns.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[until_closed, said],
            )
        self._record("outbound", process.pid)
        os.close(said)
        with os.fdopen(ready, "rb") as answer:
            if not answer.read(1):
                raise ClusterError(f"slirp4netns: {(self._layout.logs / 'slirp4netns.log').read_text().strip()}")
        process.returncode = 0

    def _record(self, name: str, pid: int) -> None:
        known = json.loads(self._layout.machine_file.read_text()) if self._layout.machine_file.exists() else {}
        known[name] = {"pid": pid, "started": _start_time(pid)}
        self._layout.machine_file.write_text(json.dumps(known))

    def _recorded(self, name: str) -> int | None:
        """The number of a process that was recorded, for as long as it runs."""
        try:
            record = json.loads(self._layout.machine_file.read_text())[name]
        except (FileNotFoundError, json.JSONDecodeError, KeyError):
            return None
        pid: int = record["pid"]
        return pid if _start_time(pid) == record["started"] else None

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
