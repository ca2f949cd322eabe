"""`rtx status`: who leads, who could, and how far each engine is, from the database alone.

The database knows it even when no API worker can be reached, which is when somebody asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rtx.cli.database import database_url, first_line
from rtx.cli.engines import Engines, is_alive, next_step, on_database, read_engines
from rtx.cli.messages import EXIT_FAILED, say
from rtx.store.connection import DATABASE_ERRORS, Pool
from rtx.store.replicas import DIVERGED, FOLLOWING, LEADING, STOPPED, ReplicaReport

INTERVAL_S: Final = 1.0
APPLICATION_NAME: Final = "rtx-status"

_HEADINGS: Final = ("engine", "colour", "version", "state", "row", "lag", "checkpoint", "knows rules", "seen")
_STYLES: Final = {LEADING: "bold green", FOLLOWING: "", DIVERGED: "bold red", STOPPED: "dim", "silent": "red"}


def run_status(*, as_json: bool, watch: bool) -> int:
    """Print it once, or every second until Ctrl-C; returns 0 when an engine leads, 1 when none does."""
    url = database_url()
    show = _watch if watch else _once
    return on_database(url, APPLICATION_NAME, lambda pool: show(pool, as_json=as_json))


async def _once(pool: Pool, *, as_json: bool) -> int:
    engines = await read_engines(pool)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(as_plain_data(engines))).decode())
    else:
        _print(Console(highlight=False), engines)
    return _exit_code(engines)


async def _watch(pool: Pool, *, as_json: bool) -> int:
    console = Console(highlight=False)
    code = EXIT_FAILED
    with contextlib.ExitStack() as stack:
        live: Live | None = None
        if console.is_terminal and not as_json:
            live = stack.enter_context(Live(console=console, auto_refresh=False))
        async for engines in _looks(pool):
            code = EXIT_FAILED if isinstance(engines, str) else _exit_code(engines)
            if isinstance(engines, str):
                if live is None:
                    say(f"rtx: {engines}")
                else:
                    live.update(Text(engines, style="red"), refresh=True)
            elif as_json:
                print(msgspec.json.encode(as_plain_data(engines)).decode(), flush=True)
            elif live is not None:
                live.update(_rich(engines), refresh=True)
            else:
                _print(console, engines)
                print(flush=True)
    return code


async def _looks(pool: Pool) -> AsyncIterator[Engines | str]:
    """Look every second until told to stop; a sentence says why a look was in vain."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    has_looked = False
    while not stopping.is_set():
        try:
            engines = await read_engines(pool)
        except DATABASE_ERRORS as error:
            if not has_looked:
                raise
            yield f"the database cannot be used: {first_line(error)}"
        else:
            has_looked = True
            yield engines
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INTERVAL_S):
                await stopping.wait()


def _exit_code(engines: Engines) -> int:
    return EXIT_FAILED if engines.leader is None else 0


# -- for programs -----------------------------------------------------------------------------------------------------


def as_plain_data(engines: Engines) -> dict[str, Any]:
    """What `--json` prints; names that end in a unit are in that unit, times are RFC 3339."""
    lease, leader, last, waiting = engines.lease, engines.leader, engines.last_handover, engines.waiting
    return {
        "leader": None
        if leader is None
        else {
            "holder": leader.holder,
            "address": leader.address,
            "colour": leader.colour,
            "version": leader.version,
            "epoch": leader.epoch,
            "since": _time(leader.acquired_at_us).isoformat(),
            "lease_expires_in_s": round(leader.expires_in_s, 3),
        },
        "active_colour": engines.active_colour or None,
        "epoch": 0 if lease is None else lease.epoch,
        "successor": lease.successor if lease is not None and lease.successor_in_s > 0 else None,
        "rules": engines.rules or None,
        "next_step": next_step(engines) if leader is None else None,
        "engines": [_engine_as_plain_data(report) for report in engines.replicas],
        "last_handover": None
        if last is None
        else {
            "from": last.from_holder,
            "to": last.to_holder,
            "epoch": last.to_epoch,
            "at": None if last.taken_at is None else last.taken_at.astimezone(UTC).isoformat(),
            "pause_ms": None if last.pause_ms is None else round(last.pause_ms, 3),
        },
        "waiting_handover": None
        if waiting is None
        else {
            "id": waiting.handover_id,
            "target": waiting.target,
            "age_s": round(waiting.age_s, 3),
            "expires_in_s": round(waiting.expires_in_s, 3),
        },
    }


def _engine_as_plain_data(report: ReplicaReport) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(report)
    return plain | {
        "is_alive": is_alive(report),
        "lag_ms": round(report.lag_ms, 3),
        "started_s": round(report.started_s, 3),
        "seen_s": round(report.seen_s, 3),
    }


# -- for people -------------------------------------------------------------------------------------------------------


def _summary(engines: Engines) -> list[tuple[str, str]]:
    """What stands above the table: names and sentences."""
    leader, last, waiting = engines.leader, engines.last_handover, engines.waiting
    lines = []
    if leader is None:
        lines.append(("leader", "none"))
    else:
        lines.append(("leader", f"{leader.holder} ({leader.colour}, version {leader.version}) at {leader.address}"))
        since = _shown_time(_time(leader.acquired_at_us))
        lines.append(("lease", f"epoch {leader.epoch} since {since}, for another {leader.expires_in_s:.1f} s"))
    lines.append(("active colour", engines.active_colour or "none yet"))
    lines.append(("rules", str(engines.rules) if engines.rules else "not known: no engine has said"))
    if last is not None:
        at = "" if last.taken_at is None else f" at {_shown_time(last.taken_at)}"
        pause = "" if last.pause_ms is None else f", pause {last.pause_ms:.0f} ms"
        lines.append(("last handover", f"{last.from_holder or 'nobody'} to {last.to_holder}{at}{pause}"))
    if waiting is not None:
        lines.append(
            (
                "ordered",
                f"handover to {waiting.target}, {waiting.age_s:.0f} s ago, void in {waiting.expires_in_s:.0f} s",
            )
        )
    return lines


def _cells(report: ReplicaReport) -> tuple[str, ...]:
    """One row of the table."""
    leads = report.state == LEADING
    lag = "" if leads or report.state != FOLLOWING else f"{report.lag_rows} rows, {report.lag_ms:.0f} ms"
    return (
        report.holder,
        report.colour,
        report.version,
        _state(report),
        str(report.sequence),
        lag or "-",
        str(report.checkpoint_sequence or "-"),
        str(report.rules_latest),
        f"{report.seen_s:.1f} s ago",
    )


def _state(report: ReplicaReport) -> str:
    if report.state in (STOPPED, DIVERGED) or is_alive(report):
        return report.state
    return f"silent (was {report.state})"


def _remarks(engines: Engines) -> list[str]:
    """What does not fit into the table."""
    remarks = [
        f"{report.holder} diverged and never leads: {report.reason}"
        for report in engines.recent
        if report.state == DIVERGED
    ]
    gone = len(engines.replicas) - len(engines.recent)
    if gone:
        remarks.append(f"Not shown: {gone} that ended earlier today.")
    return remarks


def _print(console: Console, engines: Engines) -> None:
    if console.is_terminal:
        console.print(_rich(engines))
    else:
        print("\n".join(_plain_lines(engines)))


def _plain_lines(engines: Engines) -> list[str]:
    summary = _summary(engines)
    width = max(len(name) for name, _ in summary)
    lines = [f"{name:<{width}}  {sentence}" for name, sentence in summary]
    rows = [_HEADINGS, *(_cells(report) for report in engines.recent)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines.append("")
    lines += ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += _remarks(engines)
    return [*lines, "", _headline(engines)] if _headline(engines) else lines


def _headline(engines: Engines) -> str:
    """What is wrong, and what to do; "" when an engine leads."""
    return "" if engines.leader is not None else f"No engine leads: {next_step(engines)}."


def _rich(engines: Engines) -> RenderableType:
    summary = Table.grid(padding=(0, 2))
    summary.add_column(style="bold")
    summary.add_column(overflow="fold")
    for name, sentence in _summary(engines):
        summary.add_row(name, sentence)
    table = Table(*_HEADINGS, header_style="bold")
    for report in engines.recent:
        table.add_row(*_cells(report), style=_STYLES.get(_state(report).partition(" ")[0], "yellow"))
    parts: Sequence[RenderableType] = [summary, table, *(Text(remark) for remark in _remarks(engines))]
    return Group(*parts, Text(_headline(engines), style="bold red"))


def _time(time_us: int) -> datetime:
    return datetime.fromtimestamp(time_us / 1_000_000, UTC)


def _shown_time(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
