"""`rtx replay-lobster` as it is typed: rows on standard output, all else on standard error, and an exit code."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.lobster.test_replay import ASKS, BIDS, EVERY_KIND, resting
from tests.unit.lobster.recorded_files import reconstruct, write_messages, write_opening

from rtx.cli.instances import Instance
from rtx.demo.client import HttpConnection

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass
class Files:
    """Handmade files and where the command runs."""

    messages: Path
    opening: Path
    directory: Path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(
        write_messages(tmp_path / "messages.csv", EVERY_KIND),
        write_opening(tmp_path / "opening.csv", ASKS, BIDS),
        tmp_path,
    )


async def start(files: Files, symbol: str, *options: str | Path, **environment: str) -> Process:
    """Start the command in a directory and with a registry of its own."""
    state = files.directory / "state"
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from rtx.cli import main; main()", "replay-lobster", str(files.messages)),
        *("--opening", str(files.opening), "--symbol", symbol, *map(str, options)),
        cwd=files.directory,
        env=os.environ | {"XDG_STATE_HOME": str(state)} | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )


async def run(files: Files, symbol: str, *options: str | Path, **environment: str) -> tuple[int | None, str, str]:
    """Exit code, standard output and standard error."""
    process = await start(files, symbol, *options, **environment)
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_rows_come_on_standard_output(files: Files, symbol: str, ready_file: Path) -> None:
    code, output, errors = await run(files, symbol, "--ready-file", ready_file)
    assert code == 0, errors
    assert output.splitlines() == reconstruct(files.messages, files.opening)
    assert "14 messages: the opening, 3 new orders, 3 reductions, 2 cancellations, 4 executions" in errors


async def test_rows_go_into_a_file(files: Files, symbol: str, ready_file: Path) -> None:
    target = files.directory / "books.csv"
    code, output, errors = await run(files, symbol, "--ready-file", ready_file, "--output", target)
    assert code == 0, errors
    assert output == ""
    assert target.read_text().splitlines() == reconstruct(files.messages, files.opening)


async def test_the_operator_comes_from_the_environment(files: Files, symbol: str, instance: Instance) -> None:
    code, output, errors = await run(
        files,
        symbol,
        *("--api", instance.api),
        RTX_OPERATOR_EMAIL=instance.operator.email,
        RTX_OPERATOR_PASSWORD=instance.operator.password,
    )
    assert code == 0, errors
    assert len(output.splitlines()) == len(EVERY_KIND)


async def test_the_backend_comes_from_the_registry_or_the_directory(
    files: Files, symbol: str, instance: Instance, ready_file: Path
) -> None:
    registry = files.directory / "state" / "rtx" / "instances"
    registry.mkdir(parents=True)
    registered = registry / f"{instance.api.rpartition(':')[2]}.json"
    shutil.copy(ready_file, registered)
    for options in ((), ("--api", instance.api)):
        code, _, errors = await run(files, symbol, *options)
        assert code == 0, errors
        assert f"playing on {symbol} at {instance.api}" in errors
    here = files.directory / ".rtx"
    here.mkdir()
    registered.rename(here / "ready.json")
    for options in ((), ("--api", instance.api)):
        code, _, errors = await run(files, symbol, *options)
        assert code == 0, errors
        assert f"playing on {symbol} at {instance.api}" in errors


async def test_without_a_backend_it_brings_its_own(files: Files) -> None:
    code, output, errors = await run(files, "AAPLUSD")
    assert code == 0, errors
    assert "starting a backend of its own" in errors
    assert output.splitlines() == reconstruct(files.messages, files.opening)


async def test_an_unknown_operator_is_said(files: Files, symbol: str, instance: Instance) -> None:
    code, output, errors = await run(files, symbol, "--api", instance.api)
    assert (code, output) == (1, "")
    assert "RTX_OPERATOR_EMAIL and RTX_OPERATOR_PASSWORD" in errors


async def test_a_wrong_password_is_said_without_repeating_it(files: Files, symbol: str, instance: Instance) -> None:
    code, output, errors = await run(
        files,
        symbol,
        *("--api", instance.api),
        RTX_OPERATOR_EMAIL=instance.operator.email,
        RTX_OPERATOR_PASSWORD="quite wrong",
    )
    assert (code, output) == (1, "")
    assert "cannot be made ready" in errors
    assert "quite wrong" not in errors


async def test_a_backend_that_is_away_is_said(files: Files, symbol: str, ready_file: Path) -> None:
    code, output, errors = await run(files, symbol, "--ready-file", ready_file, "--api", "http://127.0.0.1:9")
    assert (code, output) == (1, "")
    assert "does not answer" in errors


async def test_wrong_files_are_said(files: Files, symbol: str, ready_file: Path) -> None:
    files.messages.write_text("not,a,record\n")
    code, output, errors = await run(files, symbol, "--ready-file", ready_file)
    assert (code, output) == (1, "")
    assert f"{files.messages}, line 1" in errors
    code, _, errors = await run(files, symbol, "--ready-file", files.directory / "absent.json")
    assert code == 1


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_ends_it_and_clears_the_book(
    files: Files, symbol: str, ready_file: Path, connection: HttpConnection, number: signal.Signals, exit_code: int
) -> None:
    long = [EVERY_KIND[0], *((1, 2000 + n, 1, 999_000 - 100 * n, 1) for n in range(400))]
    write_messages(files.messages, long)
    process = await start(files, symbol, "--ready-file", ready_file)
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(number)
    _, errors = await process.communicate()
    assert process.returncode == exit_code, errors
    assert await resting(connection, symbol) == 0


async def test_a_reader_who_leaves_ends_it_and_clears_the_book(
    files: Files, symbol: str, ready_file: Path, connection: HttpConnection
) -> None:
    long = [EVERY_KIND[0], *((1, 2000 + n, 1, 999_000 - 100 * n, 1) for n in range(400))]
    write_messages(files.messages, long)
    process = await start(files, symbol, "--ready-file", ready_file)
    assert process.stdout is not None
    assert process.stderr is not None
    await process.stdout.readline()
    process.stdout._transport.close()  # type: ignore[attr-defined]
    errors = await process.stderr.read()
    assert await process.wait() == 1
    assert b"the output was closed" in errors
    assert b"Traceback" not in errors
    assert await resting(connection, symbol) == 0
