"""The directory through which the processes of one backend share their metrics.

It lies in memory where there is such a place, because every count is written there. A backend that was killed leaves
its directory behind; the next one removes it, and knows by a lock which ones are still in use.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus_client looks for the directory, at the moment it is imported."""

_PREFIX: Final = "rtx-metrics-"
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - entries are made by mkdtemp


@contextlib.contextmanager
def metrics_directory(base: Path | None = None) -> Iterator[Path]:
    """Make an empty directory, and remove it in the end; in ``base``, or in memory or where temporary files are."""
    if base is None:
        base = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    _remove_abandoned(base)
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    try:
        with (directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _remove_abandoned(base: Path) -> None:
    for directory in base.glob(f"{_PREFIX}*"):
        # Directories of other users cannot be opened, those in use are locked, and those being made have no lock yet.
        with contextlib.suppress(OSError), (directory / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
