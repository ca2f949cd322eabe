"""`rtx verify`: whether a database is what its journal says, and whether a proof holds.

The exit code is 0 when it is so, 1 when it is not, 2 when that could not be found out, 130 after Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from rtx.cli.database import UNDEFINED_TABLE, database_url, fail_unreachable, first_line
from rtx.cli.messages import EXIT_FAILED, fail, say
from rtx.proofs.checking import ProofRefusedError, check_proof
from rtx.proofs.document import MalformedProofError, PublicKey, Statement, decode_proof
from rtx.settings import redacted_url
from rtx.store.connection import DATABASE_ERRORS
from rtx.verification.database import Progress, verify_database
from rtx.verification.journaled_proof import check_journaled
from rtx.verification.report import Report

EXIT_UNKNOWN: Final = 2
EXIT_INTERRUPTED: Final = 130
PROGRESS_INTERVAL_S: Final = 5.0
STANDARD_INPUT: Final = Path("-")

_GC_THRESHOLDS: Final = (100_000, 20, 20)
"""Rows come and go by the million and link to nothing: looking for circles among them took a third of the time."""


@dataclass(frozen=True)
class VerifyOptions:
    """What was asked for; see the options of the command."""

    from_snapshot: bool
    as_json: bool
    proof: Path | None
    public_keys: tuple[str, ...]
    against_database: bool


def run_verify(options: VerifyOptions) -> int:
    """Verify the database, or a proof; prints what was found and returns the exit code."""
    if options.proof is not None:
        if options.from_snapshot:
            fail("--from-snapshot is about the database, --proof about a file: give one of them", code=EXIT_UNKNOWN)
        return _verify_proof(options.proof, options)
    if options.public_keys or options.against_database:
        fail("--public-key and --against-database say how a proof is checked: give --proof FILE", code=EXIT_UNKNOWN)
    return _verify_database(options)


# -- the database -----------------------------------------------------------------------------------------------------


def _verify_database(options: VerifyOptions) -> int:
    url = database_url()
    gc.set_threshold(*_GC_THRESHOLDS)
    done = 0

    def note(rows: int, of: int) -> None:
        nonlocal done
        done = rows
        show(rows, of)

    try:
        with _progress() as show:
            report = asyncio.run(verify_database(url, from_snapshot=options.from_snapshot, progress=note))
    except KeyboardInterrupt:
        say(f"rtx: interrupted; {done} journal rows were verified and nothing was wrong with them so far")
        return EXIT_INTERRUPTED
    except DATABASE_ERRORS as error:
        _fail_unread(url, error)
    if options.as_json:
        print(_json(report))
    else:
        _print_report(url, report)
    return 0 if report.is_clean else EXIT_FAILED


def _print_report(url: str, report: Report) -> None:
    print(f"database  {redacted_url(url)}")
    print(f"journal   {report.sequence} rows verified, executed from row {report.executed_from}")
    print(f"hash      {report.journal_hash.hex()} of row {report.sequence}")
    if report.state_hash is not None:
        print(f"state     {report.state_hash.hex()}")
    print(f"checked   {', '.join(f'{count} {table}' for table, count in report.checked.items()) or 'nothing'}")
    print(f"time      {report.elapsed_s:.1f} s, {report.rows_per_s:.0f} journal rows/s")
    found = report.difference
    if found is None:
        print("result    everything is as the journal says")
        return
    print(f"result    {found.table}, {found.key}: {found.problem}")
    print(f"expected  {found.expected or '(nothing)'}")
    print(f"found     {found.actual or '(nothing)'}")
    if found.sequence is not None:
        print(f"row       {found.sequence} of the journal")


def _json(report: Report) -> str:
    content = {
        "clean": report.is_clean,
        "sequence": report.sequence,
        "journalHash": report.journal_hash.hex(),
        "stateHash": None if report.state_hash is None else report.state_hash.hex(),
        "executedFrom": report.executed_from,
        "checked": report.checked,
        "elapsedSeconds": round(report.elapsed_s, 3),
        "rowsPerSecond": round(report.rows_per_s),
        "difference": report.difference,
    }
    return msgspec.json.encode(content).decode()


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """Show how far it is: a bar on a terminal, else a line now and then."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} journal rows"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rows_per_s]:,.0f} rows/s"),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("journal", total=1, visible=False, rows_per_s=0.0)
            started_s = time.monotonic()

            def move(done: int, of: int) -> None:
                rows_per_s = done / (time.monotonic() - started_s)
                bar.update(task, completed=done, total=of, visible=True, rows_per_s=rows_per_s)

            yield move
        return
    started_s = said_s = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal said_s
        now_s = time.monotonic()
        if now_s - said_s >= PROGRESS_INTERVAL_S:
            said_s = now_s
            say(f"{done} of {of} journal rows ({done / of:.1%}), {done / (now_s - started_s):.0f} rows/s")

    yield tell


def _fail_unread(url: str, error: BaseException) -> NoReturn:
    if getattr(error, "sqlstate", "") == UNDEFINED_TABLE:
        fail("the database has no tables yet", "run `rtx migrate` first", code=EXIT_UNKNOWN)
    fail_unreachable(url, first_line(error), code=EXIT_UNKNOWN)


# -- a proof ----------------------------------------------------------------------------------------------------------


def _verify_proof(path: Path, options: VerifyOptions) -> int:
    public_keys = [_public_key(text) for text in options.public_keys]
    document = _read(path)
    try:
        proof = decode_proof(document)
        check_proof(proof, public_keys)
        if options.against_database:
            _check_in_database(proof.statement)
    except (MalformedProofError, ProofRefusedError) as error:
        if options.as_json:
            print(msgspec.json.encode({"holds": False, "reason": str(error)}).decode())
        else:
            say(f"rtx: the proof does not hold: {error}")
        return EXIT_FAILED
    if options.as_json:
        print(msgspec.json.encode({"holds": True, "statement": proof.statement}).decode())
    else:
        _print_statement(proof.statement, options)
    return 0


def _check_in_database(statement: Statement) -> None:
    url = database_url()
    try:
        asyncio.run(check_journaled(url, statement))
    except DATABASE_ERRORS as error:
        _fail_unread(url, error)


def _print_statement(statement: Statement, options: VerifyOptions) -> None:
    trade, market = statement.trade, statement.market
    print(f"trade     {trade.trade_id} of {market.symbol}, made by journal row {trade.sequence}")
    print(f"          {trade.quantity} {market.base_asset} at {trade.price} {market.quote_asset}")
    for fill in statement.fills:
        print(
            f"fill      account {statement.account_id}, order {fill.order_id}, {fill.side} as {fill.role.lower()}, "
            f"commission {fill.commission} {fill.commission_asset}, placed by journal row {fill.placed_sequence}"
        )
    print(f"head      {statement.head.sequence} {statement.head.hash}")
    if statement.checkpoint is not None:
        print(f"state     {statement.checkpoint.state_hash} after journal row {statement.checkpoint.row.sequence}")
    known = "the one given" if options.public_keys else "not compared with a known one: see --public-key"
    print(f"key       {statement.public_key} ({known})")
    journal = ", and the journal has its rows" if options.against_database else ""
    print(f"result    the proof holds{journal}")


def _public_key(text: str) -> str:
    try:
        return msgspec.convert(text.strip().lower(), PublicKey)
    except msgspec.ValidationError:
        fail(
            f"{text!r} is no public key",
            "it should be 64 hexadecimal digits, as GET /api/v1/proofs/key gives them",
            code=EXIT_UNKNOWN,
        )


def _read(path: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == STANDARD_INPUT else path.read_bytes()
    except OSError as error:
        fail(f"{path} cannot be read ({error.strerror})", "name the file with the proof", code=EXIT_UNKNOWN)
