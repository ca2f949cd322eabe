"""Rebuilding the exchange from what is committed: the newest snapshot, then the journal after it.

Every replayed command must give the very events that the journal holds; an engine that computes something else stops
here instead of trading on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec
import structlog

from rtx.core import snapshot
from rtx.core.commands import ActivateRules, AnyCommand, Checkpoint, decode_command
from rtx.core.events import AnyEvent, CheckpointTaken, Rejected, decode_events, encode_events
from rtx.core.exchange import Exchange
from rtx.core.rejections import CancelReplaceRejectedError, Reason, RejectedError
from rtx.engine.book_positions import BookPositions
from rtx.store.journal import GENESIS_HASH, JournalEntry
from rtx.store.protocols import JournalBackend

READ_ROWS: Final = 2_000

_RULES_NOT_KNOWN_THEN: Final = encode_events([Rejected(Reason.UNKNOWN_RULES, "version")])

_log = structlog.get_logger(__name__)


class ReplayDivergedError(Exception):
    """This program computes something else from journal row ``sequence`` than the program that journaled it.

    ``agreed_sequence`` is where :func:`recover` began, if it was that.
    """

    def __init__(self, sequence: int, problem: str) -> None:
        super().__init__(f"journal row {sequence}: {problem}")
        self.sequence = sequence
        self.agreed_sequence = 0


class Recovered(NamedTuple):
    """The exchange as of the journal's end; ``checkpoint_sequence`` is the newest row where its state was compared."""

    exchange: Exchange
    sequence: int
    journal_hash: bytes
    snapshot_sequence: int
    book_positions: BookPositions
    checkpoint_sequence: int = 0


def rejected_events(error: RejectedError) -> list[AnyEvent]:
    """A refusal in the form in which it is answered and, under an idempotency key, journaled."""
    if isinstance(error, CancelReplaceRejectedError):
        return [
            Rejected(error.cancel.reason, error.cancel.field, "cancel"),
            Rejected(error.order.reason, error.order.field, "order"),
        ]
    return [Rejected(error.reason, error.field)]


def replay_entry(exchange: Exchange, entry: JournalEntry) -> list[AnyEvent]:
    """Do one journaled command again and return its events.

    Raises :class:`ReplayDivergedError` when they are others than the journal's.
    """
    try:
        command = decode_command(entry.command)
    except msgspec.DecodeError as error:
        raise ReplayDivergedError(
            entry.sequence, f"this program cannot read the command ({error}); run the version that wrote it"
        ) from error
    try:
        events = execute_entry(exchange, command, entry)
    except Exception as error:
        raise ReplayDivergedError(
            entry.sequence, f"this program fails on the command ({type(error).__name__}: {error})"
        ) from error
    if encode_events(events) != entry.events:
        raise ReplayDivergedError(entry.sequence, _difference(command, exchange.latest_rules))
    return events


def execute_entry(exchange: Exchange, command: AnyCommand, entry: JournalEntry) -> list[AnyEvent]:
    """The events of the ``command`` of a journal row on ``exchange``, a refusal among them, compared with nothing."""
    if isinstance(command, ActivateRules) and entry.events == _RULES_NOT_KNOWN_THEN:
        # Refused for what the program of that day did not know. It stays refused, whatever this one knows.
        return decode_events(entry.events)
    try:
        return exchange.apply(command, entry.time_us)
    except RejectedError as error:
        return rejected_events(error)


def _difference(command: AnyCommand, latest_rules: int) -> str:
    """What it means that a command gave other events."""
    if isinstance(command, ActivateRules) and command.version > latest_rules:
        return (
            f"it activates rules {command.version}; this program knows rules up to {latest_rules}: run a newer version"
        )
    if isinstance(command, Checkpoint):
        return "at this checkpoint the state is another one than the leader's"
    return "this program computes other events than the journal holds; run the version that wrote it"


async def recover(
    store: JournalBackend,
    progress: Callable[[int], None] | None = None,
    *,
    before_sequence: int | None = None,
) -> Recovered:
    """Load what is committed. ``progress`` is told the position after each block of rows.

    With ``before_sequence`` no snapshot is used that was made at this row or after it.

    Raises :class:`ReplayDivergedError`, or the store's ``JournalCorruptError`` for a gap or a broken hash.
    """
    exchange, sequence, journal_hash = await _load_snapshot(store, before_sequence)
    snapshot_sequence = sequence
    checkpoint_sequence = 0
    book_positions = BookPositions(sequence)
    while True:
        entries = await store.read_after(sequence, READ_ROWS)
        try:
            for entry in entries:
                events = replay_entry(exchange, entry)
                book_positions.follow(entry.sequence, events)
                if is_checkpoint(events):
                    checkpoint_sequence = entry.sequence
        except ReplayDivergedError as error:
            error.agreed_sequence = max(snapshot_sequence, checkpoint_sequence)
            raise
        if entries:
            sequence, journal_hash = entries[-1].sequence, entries[-1].hash
            if progress is not None:
                progress(sequence)
        if len(entries) < READ_ROWS:
            break
    exchange.take_changed_balances()
    exchange.take_changed_levels()
    return Recovered(exchange, sequence, journal_hash, snapshot_sequence, book_positions, checkpoint_sequence)


def is_checkpoint(events: Sequence[AnyEvent]) -> bool:
    """Whether a command that gave these events had the whole state compared."""
    return bool(events) and type(events[0]) is CheckpointTaken


async def _load_snapshot(store: JournalBackend, before_sequence: int | None) -> tuple[Exchange, int, bytes]:
    """The newest snapshot that this program can read, or the empty exchange where there is none.

    The journal holds everything, so a snapshot that is damaged or of another version costs time and nothing else.
    """
    while (saved := await store.load_snapshot(before_sequence)) is not None:
        try:
            if hashlib.sha256(saved.state).digest() != saved.state_hash:
                raise ValueError("its hash is not that of its content")
            return snapshot.load(saved.state), saved.sequence, saved.journal_hash
        except (ValueError, msgspec.DecodeError) as error:
            _log.error("snapshot not usable, looking for one before it", sequence=saved.sequence, error=str(error))
            before_sequence = saved.sequence
    return Exchange(), 0, GENESIS_HASH


def dismantle(exchange: Exchange) -> None:
    """Take an exchange apart that nobody needs any more.

    Resting orders are linked in circles that the garbage collector does not follow: nothing else frees them.
    """
    for order in exchange.orders.values():
        order.level = order.previous = order.next = None
