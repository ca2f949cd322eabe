"""A host of its own for one replica, as a network namespace, whose cable to the database can be cut.

A cut is silence, as when a switch dies: nothing is refused and nothing reset. Both ends go on sending to a hardware
address that nobody has, so the packets are lost on the way and every connection stays as it was.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

NAME_PREFIX: Final = "rtx-faults-"
NETWORK: Final = ipaddress.ip_network("198.18.0.0/16")
"""Set aside for tests of networks (RFC 2544): nobody's addresses."""

ADDRESSES_PER_HOST: Final = 8
NOBODY: Final = "02:00:00:00:00:99"
TIMEOUT_S: Final = 20.0


class NoNamespacesError(Exception):
    """This machine does not let the test make a network namespace; the message says why."""


@dataclass(frozen=True)
class Cable:
    """A pair of interfaces, one here and one in the namespace, both with an address."""

    namespace: str
    device: str
    far_device: str
    address: str
    far_address: str
    hardware: str
    far_hardware: str

    def lay(self) -> None:
        """Make the pair."""
        far = ("peer", "name", self.far_device, "address", self.far_hardware, "netns", self.namespace)
        _ip("link", "add", self.device, "address", self.hardware, "type", "veth", *far)
        _ip("address", "add", f"{self.address}/30", "dev", self.device)
        _ip("link", "set", self.device, "up")
        _ip("-n", self.namespace, "address", "add", f"{self.far_address}/30", "dev", self.far_device)
        _ip("-n", self.namespace, "link", "set", self.far_device, "up")
        self.heal()

    def cut(self) -> None:
        """Lose every packet from now on, in both directions."""
        self._send_to(NOBODY, NOBODY)

    def heal(self) -> None:
        """Deliver again."""
        self._send_to(self.hardware, self.far_hardware)

    def _send_to(self, hardware: str, far_hardware: str) -> None:
        entry = ("nud", "permanent", "dev")
        _ip("neighbour", "replace", self.far_address, "lladdr", far_hardware, *entry, self.device)
        _ip("-n", self.namespace, "neighbour", "replace", self.address, "lladdr", hardware, *entry, self.far_device)


@dataclass(frozen=True)
class RemoteHost:
    """The namespace: ``database`` is the cable to the database, ``service`` the one for everything else."""

    name: str
    service: Cable
    database: Cable

    @property
    def launcher(self) -> Sequence[str]:
        """A command line that becomes the one after it, on this host."""
        return ("ip", "netns", "exec", self.name)


@contextlib.contextmanager
def remote_host() -> Iterator[RemoteHost]:
    """Make the namespace with its cables, and remove them after the block; raises :class:`NoNamespacesError`."""
    if os.geteuid() != 0:
        raise NoNamespacesError("only root can make network namespaces")
    if shutil.which("ip") is None:
        raise NoNamespacesError("the program `ip` (iproute2) is not installed")
    process_id = os.getpid()
    name = f"{NAME_PREFIX}{process_id}"
    first = NETWORK[process_id % (NETWORK.num_addresses // ADDRESSES_PER_HOST) * ADDRESSES_PER_HOST]
    service = Cable(
        name, f"rtxs{process_id}", "service", str(first + 1), str(first + 2), "02:00:00:00:00:01", "02:00:00:00:00:02"
    )
    database = Cable(
        name, f"rtxd{process_id}", "database", str(first + 5), str(first + 6), "02:00:00:00:00:05", "02:00:00:00:00:06"
    )
    try:
        _remove_leftovers()
        _ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        raise NoNamespacesError(f"the kernel does not allow it: {error.stderr.strip()}") from error
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        service.lay()
        database.lay()
        yield RemoteHost(name, service, database)
    finally:
        # With the namespace go the interfaces in it, and with those their other ends.
        _ip("netns", "delete", name)


def _remove_leftovers() -> None:
    """Remove what a run left that was killed."""
    for entry in json.loads(_ip("-j", "netns", "list") or "[]"):
        name: str = entry["name"]
        if name.startswith(NAME_PREFIX) and not os.path.exists(f"/proc/{name.removeprefix(NAME_PREFIX)}"):  # noqa: PTH110
            _ip("netns", "delete", name)


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    return done.stdout
