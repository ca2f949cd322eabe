"""Starts a program in a fork of this process, cleanly cut off from what the supervisor has open.

Forking a process that has everything imported takes milliseconds where a new interpreter takes most of a second: that
is the time for which a killed engine is away. It is safe here because the supervisor has one thread and no event loop.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Final

from rtx.observability.errors import flush_error_reports
from rtx.observability.logging import get_logger
from rtx.supervisor.lifeline import end_with_parent
from rtx.supervisor.programs import ROLE_VARIABLE, Program

EXIT_CRASHED: Final = 1

_log = get_logger(__name__)

_RESET_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


def fork_program(
    program: Program, main: Callable[[], int], *, sockets: Iterable[socket.socket], lifeline: tuple[int, int]
) -> int:
    """Run ``main`` in a child of its own process group and return the child's process id.

    ``sockets`` are all listening sockets of the supervisor: the child closes those that are not its own. ``lifeline``
    is a pipe (reading end, writing end) that breaks when the supervisor dies.
    """
    parent_pid = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _RESET_SIGNALS)
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return pid
    code = EXIT_CRASHED
    try:
        # A group of its own: Ctrl-C in the terminal reaches the supervisor alone, which ends its children in order.
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in _RESET_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        os.close(lifeline[1])
        end_with_parent(parent_pid, lifeline[0])
        own = {listener.fileno() for listener in program.sockets.values()}
        for listener in sockets:
            if listener.fileno() not in own:
                listener.close()
        for variable, listener in program.sockets.items():
            os.environ[variable] = str(listener.detach())
        os.environ[ROLE_VARIABLE] = program.role
        _set_title(program.role)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        code = main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else EXIT_CRASHED * (error.code is not None)
    except BaseException as error:  # noqa: BLE001 - nothing may run on into the supervisor's own code
        with contextlib.suppress(Exception):
            _log.error("process crashed", process=program.role, exc_info=error)
    finally:
        with contextlib.suppress(Exception):
            flush_error_reports()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _set_title(role: str) -> None:
    """Name the process in ``ps`` and ``top``; a fork would otherwise show the supervisor's command line."""
    if sys.platform != "linux":
        return
    import ctypes

    pr_set_name = 15
    with contextlib.suppress(OSError, ValueError, AttributeError):
        ctypes.CDLL(None).prctl(pr_set_name, f"rtx-{role}".encode()[:15], 0, 0, 0)
        with open("/proc/self/stat", encoding="ascii", errors="replace") as stat:  # noqa: PTH123
            fields = stat.read().rpartition(")")[2].split()
        start, end = (
            int(fields[45]),
            int(fields[46]),
        )  # arg_start and arg_end of proc_pid_stat(5), counted after the name
        if 0 < start < end:
            title = f"rtx {role}".encode()[: end - start - 1]
            ctypes.memmove(start, title.ljust(end - start, b"\0"), end - start)
