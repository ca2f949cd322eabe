"""The journal itself: that no row is missing or altered, and that executing its commands again gives its events."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rtx.core.commands import decode_command
from rtx.core.events import AnyEvent, decode_events, encode_events
from rtx.core.exchange import Exchange
from rtx.engine.recovery import execute_entry
from rtx.store.entries import GENESIS_HASH, JournalEntry, entry_hash
from rtx.verification.report import Difference, DifferenceFoundError, Problem


class Chain:
    """Follows the hashes from row to row."""

    def __init__(self) -> None:
        self.sequence = 0
        self.hash = GENESIS_HASH
        self.epoch = 0

    def check(self, entry: JournalEntry) -> None:
        """Raise DifferenceFoundError unless the row follows from the one before."""
        sequence = self.sequence + 1
        if entry.sequence != sequence:
            found = f"row {entry.sequence} comes next"
            if entry.sequence > sequence:
                raise row_difference(sequence, "missing", f"row {sequence} after row {self.sequence}", found)
            raise row_difference(entry.sequence, "unexpected", None, found)
        if entry.previous_hash != self.hash:
            raise row_difference(
                sequence, "different", f"previous_hash={self.hash.hex()}", f"previous_hash={entry.previous_hash.hex()}"
            )
        expected = entry_hash(
            entry.previous_hash,
            sequence,
            entry.epoch,
            entry.time_us,
            entry.command_id,
            entry.request_id,
            entry.request_hash,
            entry.command,
            entry.events,
        )
        if entry.hash != expected:
            raise row_difference(
                sequence, "different", f"hash={expected.hex()} of its content", f"hash={entry.hash.hex()}"
            )
        if entry.epoch < self.epoch:
            raise row_difference(sequence, "different", f"epoch>={self.epoch}", f"epoch={entry.epoch}")

    def advance(self, entry: JournalEntry) -> None:
        """Go on from this row, which was checked."""
        self.sequence = entry.sequence
        self.hash = entry.hash
        self.epoch = entry.epoch


def read_events(entry: JournalEntry) -> list[AnyEvent]:
    """The events that a row holds; raises DifferenceFoundError when they cannot be read."""
    try:
        return decode_events(entry.events)
    except msgspec.DecodeError as error:
        raise row_difference(
            entry.sequence, "different", "events that this version can read", f"events that it cannot ({error})"
        ) from error


def execute(exchange: Exchange, entry: JournalEntry) -> list[AnyEvent]:
    """Execute a row's command and return its events; raises DifferenceFoundError when the row holds others."""
    try:
        command = decode_command(entry.command)
    except msgspec.DecodeError as error:
        raise row_difference(
            entry.sequence, "different", "a command that this version can read", f"one that it cannot ({error})"
        ) from error
    try:
        events = execute_entry(exchange, command, entry)
    except Exception as error:
        raise row_difference(
            entry.sequence,
            "different",
            "a command that can be executed",
            f"{command!r}, which fails ({type(error).__name__}: {error})",
        ) from error
    if encode_events(events) != entry.events:
        raise _events_difference(entry, events)
    return events


def row_difference(sequence: int, problem: Problem, expected: str | None, actual: str | None) -> DifferenceFoundError:
    """A difference in the journal row with this sequence."""
    return DifferenceFoundError(Difference("journal", f"sequence={sequence}", problem, expected, actual, sequence))


def _events_difference(entry: JournalEntry, executed: Sequence[AnyEvent]) -> DifferenceFoundError:
    """Name the first event that executing the command gives differently."""
    journaled = read_events(entry)
    for number, (expected, actual) in enumerate(zip(executed, journaled, strict=False), start=1):
        if expected != actual:
            return row_difference(
                entry.sequence, "different", f"event {number} {expected!r}", f"event {number} {actual!r}"
            )
    if len(executed) != len(journaled):
        return row_difference(entry.sequence, "different", f"{len(executed)} events", f"{len(journaled)} events")
    return row_difference(
        entry.sequence, "different", f"events={encode_events(executed).hex()}", f"events={entry.events.hex()}"
    )
