"""What a supervisor runs: the description of a program, and what its exit codes ask for."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Final

from rtx.settings import EXIT_CONFIGURATION

EXIT_HALTED: Final = 3
"""A program that refuses to go on with the data it found; starting it again at once would change nothing."""

ROLE_VARIABLE: Final = "RTX_ROLE"

FATAL_EXIT_CODES: Final = frozenset({EXIT_CONFIGURATION})
"""Exit codes after which nothing is started again: the whole backend ends with them."""


@dataclass(frozen=True)
class Program:
    """One process to keep running: ``main()`` of ``module``, in a fork of the supervisor.

    ``role`` names the process to people. Programs with the lower ``stop_stage`` end first, and the next stage waits for
    them ``stop_grace_s`` at most. ``sockets`` are kept open in the process, each under its environment variable.
    """

    role: str
    module: str
    stop_stage: int
    stop_grace_s: float = 10.0
    sockets: Mapping[str, socket.socket] = field(default_factory=dict)

    def load(self) -> Callable[[], int]:
        """Import the program; done once before the first fork, so that every start after it is quick."""
        main: Callable[[], int] = importlib.import_module(self.module).main
        return main


def role(default: str) -> str:
    """The name that the supervisor gave this process, for its log lines; ``default`` when it runs alone."""
    return os.environ.get(ROLE_VARIABLE, default)


def release() -> str:
    """The version that runs, as it stands in error reports and metrics."""
    return version("rtx")
