"""The programs that the node takes from Debian: a container runtime, etcd, and what sets up networks."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tools.cluster.layout import ClusterError

CNI_PLUGINS: Final = Path("/usr/lib/cni")
_PACKAGES: Final = {
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
"""Which package has which program."""
_NO_SERVICE_STARTS: Final = Path("/usr/sbin/policy-rc.d")


def missing() -> list[str]:
    """The packages that are not installed, in order."""
    return sorted(package for program, package in _PACKAGES.items() if shutil.which(program) is None)


def install(packages: list[str]) -> None:
    """Installs them with apt, without starting the services that come with them."""
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
