"""What comes from Debian: a container runtime, etcd, Docker, and what sets up networks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tools.cluster.layout import ClusterError

CNI_PLUGINS: Final = Path("/usr/lib/cni")
FOR_THE_NODE: Final = {
    "conntrack": "conntrack",
    "containerd": "containerd",
    "etcd": "etcd-server",
    "ip": "iproute2",
    "iptables": "iptables",
    "mount": "mount",
    "nsenter": "util-linux",
    "runc": "runc",
    str(CNI_PLUGINS / "bridge"): "containernetworking-plugins",
}
FOR_DOCKER: Final = {
    "containerd": "containerd",
    "docker-compose": "docker-compose",
    "dockerd": "docker.io",
    "ip": "iproute2",
    "iptables": "iptables",
    "mount": "mount",
    "nsenter": "util-linux",
    "runc": "runc",
    "slirp4netns": "slirp4netns",
}
"""Which package has which program."""
_NO_SERVICE_STARTS: Final = Path("/usr/sbin/policy-rc.d")


def require(wanted: Mapping[str, str], progress: Callable[[str], None]) -> None:
    """Installs what is missing of `wanted`, which names a package for each program."""
    missing = sorted(package for program, package in wanted.items() if shutil.which(program) is None)
    if missing:
        progress(f"installing {', '.join(missing)}")
        _install(missing)


def installed(program: str) -> str:
    """Where a program is."""
    found = shutil.which(program)
    if found is None:
        raise ClusterError(f"{program} is not installed")
    return found


def _install(packages: list[str]) -> None:
    """With apt, without starting the services that come with them."""
    if shutil.which("apt-get") is None:
        raise ClusterError(f"not installed, and there is no apt to do it: {', '.join(packages)} (names as in Debian)")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    written = not _NO_SERVICE_STARTS.exists()
    if written:
        _NO_SERVICE_STARTS.write_text("#!/bin/sh\nexit 101\n")
        _NO_SERVICE_STARTS.chmod(0o755)
    try:
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            apt = ["apt-get", "-qq", *command]
            done = subprocess.run(
                apt, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
            )
            if done.returncode != 0:
                raise ClusterError(f"`apt-get {' '.join(command)}` failed: {done.stderr.strip()}")
    finally:
        if written:
            _NO_SERVICE_STARTS.unlink()
