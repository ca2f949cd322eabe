"""Every command that a document shows is run by a test, and has the options that it is shown with."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from typing import Final

import pytest
from tests.documentation.documents import REPOSITORY, all_commands, documents
from tests.integration.cli.program import run

_RUNNING: Final = "tests/documentation/test_running.py"
_DEV: Final = "tests/integration/cli/test_dev.py"
_STATUS: Final = "tests/integration/cli/test_status.py"
_HANDOVER: Final = "tests/integration/cli/test_handover.py"
_SERVE: Final = "tests/integration/cli/test_serve.py"
_VERIFY: Final = "tests/integration/verification/test_command.py"
_HELP: Final = "tests/documentation/test_commands.py::test_a_command_has_the_options_it_is_shown_with"
_LONG: Final = f"{_RUNNING}::test_a_long_command_would_start_the_program_that_it_is_for"

TESTED_BY: Final[Mapping[str, str]] = {
    "make": f"{_RUNNING}::test_make_alone_lists_every_target",
    "make run": f"{_RUNNING}::test_the_python_of_the_readme_trades_on_what_make_run_runs",
    'make run ARGS="--no-demo --data /tmp/exchange --port 8090 --metrics-port 9095"': (
        f"{_RUNNING}::test_make_run_takes_options"
    ),
    "make test": "tests/installation/test_clean_system.py::test_make_test_passes",
    "make lint": _LONG,
    "make bench": _LONG,
    'make bench ARGS="orders --ready-file FILE"': _LONG,
    'make bench ARGS="replicas"': _LONG,
    "make compile": _LONG,
    "make simulate": _LONG,
    'make simulate ARGS="--seeds 10000 --first 1"': _LONG,
    "python -m tests.simulation --seed 7 --trace": (
        "tests/simulation/test_simulation.py::test_a_seed_is_the_same_in_another_process"
    ),
    "python -m benchmarks.book": _HELP,
    "python -m benchmarks.http --ready-file FILE": f"{_RUNNING}::test_orders_are_measured_on_a_backend_that_runs",
    "rtx dev": f"{_DEV}::test_the_crowd_trades_ccxt_trades_and_nothing_is_lost_when_all_is_killed",
    "rtx dev --no-demo --ready-file FILE": (
        f"{_DEV}::test_a_first_run_opens_an_exchange_and_a_second_goes_on_with_its_books"
    ),
    "rtx serve": f"{_SERVE}::test_a_backend_serves_until_told_to_stop",
    "rtx status": f"{_STATUS}::test_it_shows_who_leads_and_who_follows",
    "rtx status --json": f"{_STATUS}::test_it_shows_who_leads_and_who_follows",
    "rtx status --watch": f"{_STATUS}::test_it_is_watched_until_told_to_stop",
    "rtx handover": f"{_HANDOVER}::test_engines_carry_it_out",
    "rtx handover --to green": f"{_HANDOVER}::test_engines_carry_it_out",
    "rtx activate-rules 2": "tests/integration/cli/test_rules.py::test_the_leader_journals_it_once",
    "rtx migrate": f"{_SERVE}::test_migrations_go_up_and_down_and_say_where_they_stand",
    "rtx operator create --email …": (
        f"{_SERVE}::test_an_operator_is_made_with_a_password_from_standard_input_or_the_environment"
    ),
    "rtx health-check": f"{_RUNNING}::test_health_check_asks_the_backend_on_the_port_that_the_environment_names",
    "rtx verify": f"{_VERIFY}::test_a_database_that_agrees_is_said_to",
    "rtx verify --proof FILE --public-key KEY": f"{_VERIFY}::test_the_key_is_compared_with_the_one_given",
    "rtx replay-lobster MESSAGES --opening BOOK --symbol AAPLUSD": (
        "tests/integration/lobster/test_command.py::test_rows_come_on_standard_output"
    ),
}
"""The test that runs each command. Of those that take minutes or need a compiler it runs the options and the recipe."""

_BEHIND_ARGS: Final = {
    "run": ("rtx", "dev"),
    "bench": ("python", "-m", "benchmarks"),
    "simulate": ("python", "-m", "tests.simulation"),
}
_OPTION: Final = re.compile(r"--[a-z][a-z-]*")


def test_every_command_has_a_test() -> None:
    untested = all_commands() - TESTED_BY.keys()
    assert not untested, "name the test that runs it in TESTED_BY; write one where there is none"
    assert not TESTED_BY.keys() - all_commands(), "no document has these any more"


def test_commands_stand_in_console_blocks() -> None:
    """Where :func:`all_commands` looks for them."""
    for document in documents():
        assert document.languages.isdisjoint({"sh", "bash", "shell"}), document.name
        for block in document.fences("console"):
            assert all(line.startswith("$ ") for line in block.splitlines()[:1]), document.name


@pytest.mark.parametrize("test", sorted(set(TESTED_BY.values())))
def test_the_test_of_a_command_exists(test: str) -> None:
    path, _, name = test.partition("::")
    module = ast.parse((REPOSITORY / path).read_text())
    functions = {node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in functions


@pytest.mark.parametrize("command", sorted(TESTED_BY))
def test_a_command_has_the_options_it_is_shown_with(command: str) -> None:
    program, shown = _program_behind(shlex.split(command))
    assert set(_OPTION.findall(" ".join(shown))) <= _options_of(program)


def _program_behind(words: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """The program that takes a command's options, and the words that follow its name."""
    if words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word]
        arguments = [word.removeprefix("ARGS=") for word in words[1:] if word.startswith("ARGS=")]
        return (_BEHIND_ARGS[targets[0]], arguments) if arguments else ((), [])
    if words[0] == "python":
        return tuple(words[:3]), words[3:]
    length = 3 if words[1] == "operator" else 2
    return tuple(words[:length]), words[length:]


@cache
def _options_of(program: tuple[str, ...]) -> frozenset[str]:
    if not program:
        return frozenset()
    if program[0] == "rtx":
        done = run(*program[1:], "--help")
    else:
        done = subprocess.run(
            [sys.executable, *program[1:], "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    return frozenset(_OPTION.findall(done.stdout))
