"""How commands speak to people: what happened on standard error, what went wrong, and what to do next."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from rtx.settings import EXIT_CONFIGURATION, SettingsError

EXIT_FAILED = 1


def say(sentence: str) -> None:
    """Tell the user something that is not the command's output."""
    print(sentence, file=sys.stderr, flush=True)


def fail(what: str, *next_steps: str, code: int = EXIT_FAILED) -> NoReturn:
    """End the command: ``what`` went wrong, and each of ``next_steps`` on a line of its own."""
    say(f"rtx: {what}")
    for step in next_steps:
        say(f"  {step}")
    raise typer.Exit(code)


def fail_settings(error: SettingsError) -> NoReturn:
    """End the command because of its settings, naming all that is wrong."""
    count = len(error.problems)
    what = "a setting is missing or wrong" if count == 1 else f"{count} settings are missing or wrong"
    problems: Sequence[str] = [str(problem) for problem in error.problems]
    fail(f"{what}:", *problems, code=EXIT_CONFIGURATION)
