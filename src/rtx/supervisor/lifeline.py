"""Ends a process when the one that started it dies, however it dies.

A supervisor that is killed with ``kill -9`` can tell its children nothing. On Linux the kernel does it; elsewhere a
thread waits for the end of a pipe whose other end only the parent holds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
EXIT_ORPHANED: Final = 75
"""Exit code of a process that found its parent gone (EX_TEMPFAIL)."""


def end_with_parent(parent_pid: int, lifeline_fd: int | None = None, how: signal.Signals = signal.SIGKILL) -> None:
    """Have this process receive ``how`` when ``parent_pid``, which is its parent, dies.

    ``lifeline_fd`` is the reading end of a pipe that only the parent holds open for writing; it is used where the
    kernel offers nothing better. Exits at once when the parent is gone already.
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None, use_errno=True)
        if library.prctl(_PR_SET_PDEATHSIG, int(how), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    elif lifeline_fd is not None:
        threading.Thread(target=_end_at_eof, args=(lifeline_fd, how), name="lifeline", daemon=True).start()
    if os.getppid() != parent_pid:
        os._exit(EXIT_ORPHANED)


def _end_at_eof(lifeline_fd: int, how: signal.Signals) -> None:
    while os.read(lifeline_fd, 64):
        pass
    os.kill(os.getpid(), how)
