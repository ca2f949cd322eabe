"""`python -m tools.cluster up|down|status [cluster|docker]`: the commands behind `make cluster-up` and its like."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from types import FrameType

from tools.cluster.engine import DockerEngine
from tools.cluster.layout import ClusterError, chosen
from tools.cluster.node import Cluster

_INTERRUPTED = 130


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.cluster", description="a Kubernetes node, a Docker engine")
    parser.add_argument("command", choices=["up", "down", "status"])
    parser.add_argument("what", choices=["cluster", "docker"], nargs="?", default="cluster")
    arguments = parser.parse_args()
    command: str = arguments.command
    what: str = arguments.what
    began = time.monotonic()

    def progress(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True)

    signal.signal(signal.SIGTERM, _interrupt)
    layout = chosen(what)
    one = Cluster(layout, progress) if what == "cluster" else DockerEngine(layout, progress)
    try:
        if command == "status":
            healthy, lines = one.status()
            print("\n".join(lines))
            return 0 if healthy else 1
        if command == "down":
            one.down()
            return 0
        one.up()
    except ClusterError as error:
        print(f"{what}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{what}: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """A request to end is undone as Ctrl-C is."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
