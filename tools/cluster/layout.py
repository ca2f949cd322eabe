"""Where the cluster keeps things, and the addresses and names that it takes on the machine.

All of it follows from the folder of its state, so that whoever comes after a killed run knows what to look for.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).parent
KUBERNETES_VERSION: Final = "v1.34.4"
NODE_NAME: Final = "rtx-node"
POD_NETWORK: Final = "10.244.0.0/24"
SERVICE_NETWORK: Final = "10.96.0.0/16"
API_SERVICE_ADDRESS: Final = "10.96.0.1"
DNS_SERVICE_ADDRESS: Final = "10.96.0.10"
DNS_DOMAIN: Final = "cluster.local"
API_PORT: Final = 6443

_LINKS: Final = ipaddress.ip_network("198.19.0.0/16")
"""The part of the range for benchmarks (RFC 2544) from which a node gets its four addresses; nobody routes it."""
_LINK_COUNT: Final = 1 << 14
_MARKER: Final = "rtx-cluster"
_HIDDEN_IN_THE_NODE: Final = ("/proc", "/run", "/sys", "/var")


class ClusterError(Exception):
    """The cluster cannot be started or stopped; the message says why, and what would help."""


@dataclass(frozen=True)
class Layout:
    """The state of one cluster, everything in `directory`."""

    directory: Path

    @property
    def number(self) -> int:
        """Tells clusters in different folders apart, from 0 to 16383."""
        return zlib.crc32(str(self.directory).encode()) % _LINK_COUNT

    @property
    def host_address(self) -> str:
        """The machine as the node sees it."""
        return str(_LINKS[4 * self.number + 1])

    @property
    def node_address(self) -> str:
        """The node as the machine sees it; the API server listens here."""
        return str(_LINKS[4 * self.number + 2])

    @property
    def interface(self) -> str:
        """The machine's end of the link to the node."""
        return f"rtxk{self.number}"

    @property
    def cgroup(self) -> str:
        """Below the root of each hierarchy; the kubelet makes the pods' groups in it."""
        return f"rtx-cluster-{self.number}"

    @property
    def api_url(self) -> str:
        return f"https://{self.node_address}:{API_PORT}"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def authorities(self) -> Path:
        """Certificates, keys and the kubeconfigs of the node's programs."""
        return self.directory / "authorities"

    @property
    def settings(self) -> Path:
        """The configuration files of the node's programs."""
        return self.directory / "settings"

    @property
    def logs(self) -> Path:
        return self.directory / "log"

    @property
    def services_file(self) -> Path:
        """What the supervisor says about its services."""
        return self.directory / "services.json"

    @property
    def machine_file(self) -> Path:
        """Which process is the first of the node."""
        return self.directory / "machine.json"

    def require_free(self) -> None:
        """Raises :class:`ClusterError` when the folder cannot be a cluster's."""
        for hidden in _HIDDEN_IN_THE_NODE:
            if self.directory.is_relative_to(hidden):
                raise ClusterError(f"{self.directory}: inside, {hidden} is another one; name a folder elsewhere")
        if self.directory.exists() and not self.is_claimed() and any(self.directory.iterdir()):
            raise ClusterError(f"{self.directory} holds something else; name an empty or a new folder")

    def claim(self) -> None:
        """Makes the folder and marks it as one that may be removed."""
        self.require_free()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o755)
        (self.directory / _MARKER).touch()

    def is_claimed(self) -> bool:
        return (self.directory / _MARKER).exists()


@contextmanager
def alone_in(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Nobody else who asks for `folder` goes on meanwhile; calls `waiting` when somebody has it already."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def cache() -> Path:
    """Where what can be made again is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rtx"


def chosen(name: str) -> Layout:
    """Where `cluster` or `docker` is: as RTX_CLUSTER_DIRECTORY or RTX_DOCKER_DIRECTORY says, or in the cache."""
    named = os.environ.get(f"RTX_{name.upper()}_DIRECTORY")
    return Layout(Path(named).absolute() if named else cache() / name)
