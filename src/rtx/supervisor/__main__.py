"""``python -m rtx.supervisor``: a backend as ``rtx dev`` starts it, which ends when ``rtx dev`` does."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from rtx.observability.logging import configure_logging
from rtx.settings import EXIT_CONFIGURATION, Settings, SettingsError
from rtx.supervisor.backend import run_backend
from rtx.supervisor.lifeline import end_with_parent
from rtx.supervisor.listeners import PortInUseError


def main() -> int:
    parser = argparse.ArgumentParser(prog="rtx.supervisor")
    parser.add_argument("--parent", type=int, required=True, help="process id of the parent, to end with it")
    parser.add_argument("--lifeline", type=int, help="descriptor of a pipe that breaks when the parent dies")
    parser.add_argument("--state-file", type=Path, help="where to write what runs")
    parser.add_argument("--demo", action="store_true", help="run the demo traders too")
    arguments = parser.parse_args()
    end_with_parent(arguments.parent, arguments.lifeline, signal.SIGTERM)
    try:
        settings = Settings.from_environment()
        configure_logging(settings.log_level, role="supervisor")
        return run_backend(settings, demo=arguments.demo, state_file=arguments.state_file)
    except (SettingsError, PortInUseError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_CONFIGURATION


if __name__ == "__main__":
    sys.exit(main())
