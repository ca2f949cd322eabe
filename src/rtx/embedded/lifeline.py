"""Stops a server when the process that started it is gone, even by `kill -9`.

The kernel closes a dead process's end of a pipe; a shell that reads the other end then signals the server. (Linux's
parent-death signal would be simpler, but it fires when the starting *thread* ends.)
"""

import os
import signal
import subprocess

# Process ids are used again, so the server is signalled only while its command line carries its mark. Linux shows
# command lines under /proc, macOS through ps.
_SCRIPT = """
read -r _
if { cat "/proc/$1/cmdline" || ps -o args= -p "$1"; } 2>/dev/null | grep -q -- "$2"; then kill -s "$3" "$1"; fi
"""


class Lifeline:
    """Held by the parent; cut by `release`, or by the kernel when the parent dies."""

    def __init__(self, process_id: int, mark: str, stop_signal: signal.Signals) -> None:
        """Watches over the server `process_id`, known by `mark` in its command line, to be ended by `stop_signal`."""
        read_end, self._write_end = os.pipe()
        signal_name = stop_signal.name.removeprefix("SIG")
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "lifeline", str(process_id), mark, signal_name],
            stdin=read_end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        )
        os.close(read_end)

    def release(self) -> None:
        """Ends the watch without touching the server."""
        self._watcher.kill()
        self._watcher.wait()
        os.close(self._write_end)
