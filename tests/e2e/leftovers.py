"""What a node or an engine might leave on the machine, or change there."""

import shutil
import subprocess
from pathlib import Path

from tools.cluster.layout import Layout

MACHINE_WIDE = ("kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward", "vm/overcommit_memory")


def machine_state() -> dict[str, str]:
    """What a node might change on the machine that it runs on."""
    state = {name: (Path("/proc/sys") / name).read_text() for name in MACHINE_WIDE}
    if shutil.which("iptables-save") is not None:
        rules = subprocess.run(["iptables-save"], check=True, capture_output=True, text=True).stdout
        state["packet filters"] = "\n".join(line for line in rules.splitlines() if not line.startswith(("#", ":")))
    return state


def assert_nothing_left(layout: Layout) -> None:
    assert not layout.directory.exists()
    assert not (Path("/sys/class/net") / layout.interface).exists()
    assert str(layout.directory) not in Path("/proc/self/mountinfo").read_text()
    assert not [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{layout.cgroup}")]
    named = str(layout.directory).encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        assert named not in command, f"still runs: {command!r}"
