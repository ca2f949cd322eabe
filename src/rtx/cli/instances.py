"""Which backends `rtx dev` runs on this machine right now, so that other commands find their addresses and keys.

Each running one keeps a file, readable by its owner alone, named after its API port.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from rtx.demo.crowd import Login
from rtx.supervisor.private_files import write_private

_LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0"})  # noqa: S104 - compared with, not bound to


class DemoKeys(msgspec.Struct, frozen=True, rename="camel"):
    """The API key of the demo account."""

    api_key: str
    secret: str


class Instance(msgspec.Struct, frozen=True):
    """A running backend: its addresses, its operator and its demo keys. ``pid`` is that of `rtx dev`."""

    api: str
    metrics: str
    database_url: str
    redis_url: str
    operator: Login
    demo: DemoKeys
    pid: int

    def __repr__(self) -> str:
        return f"Instance(api={self.api!r}, pid={self.pid})"


def instances_directory() -> Path:
    """Where the files are: under ``XDG_STATE_HOME``, by default ``~/.local/state``."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "rtx" / "instances"


def find_instance(api_url: str) -> Instance | None:
    """The running instance that serves ``api_url`` on this machine, or None."""
    parts = urlsplit(api_url)
    if parts.hostname not in _LOCAL_HOSTS:
        return None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    instance = read_instance(instances_directory() / f"{port}.json")
    return instance if instance is not None and _lives(instance.pid) else None


def read_instance(path: Path) -> Instance | None:
    """What a ready file or a registry file says, or None when there is none (yet)."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Instance)
    except (OSError, msgspec.DecodeError):
        return None


@contextlib.contextmanager
def published(instance: Instance, *ready_files: Path) -> Iterator[None]:
    """Let others find ``instance`` in the registry and in ``ready_files`` until the block ends; raises ``OSError``."""
    directory = instances_directory()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    registered = directory / f"{urlsplit(instance.api).port}.json"
    content = msgspec.json.format(msgspec.json.encode(instance))
    try:
        # The ready files come last: whoever waits for them may look into the registry too.
        for path in (registered, *ready_files):
            write_private(path, content)
        yield
    finally:
        for path in (registered, *ready_files):
            with contextlib.suppress(OSError):
                path.unlink()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
