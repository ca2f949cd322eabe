"""The command line: `rtx`."""

from rtx.cli.application import main

__all__ = ["main"]
