"""`python -m tools.cluster up|down|status`: the commands behind `make cluster-up` and its like."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from types import FrameType

from tools.cluster.layout import ClusterError, chosen
from tools.cluster.node import Cluster

_INTERRUPTED = 130


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.cluster", description="one real Kubernetes node")
    parser.add_argument("command", choices=["up", "down", "status"])
    command = parser.parse_args().command
    began = time.monotonic()

    def progress(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True)

    signal.signal(signal.SIGTERM, _interrupt)
    layout = chosen()
    cluster = Cluster(layout, progress)
    try:
        if command == "status":
            healthy, lines = cluster.status()
            print("\n".join(lines))
            return 0 if healthy else 1
        if command == "down":
            cluster.down()
            return 0
        cluster.up()
        progress(f"ready: export KUBECONFIG={layout.kubeconfig}")
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cluster: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """A request to end is undone as Ctrl-C is."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
