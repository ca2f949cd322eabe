"""Rows of the journal and what is committed with them, with the hash that chains each row to the one before."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

import msgspec

from rtx.core.events import AnyEvent
from rtx.store.errors import JournalCorruptError

GENESIS_HASH: Final = bytes(32)
"""What the first row names as the hash of the row before it."""

_CHAINED: Final = struct.Struct(">32sqqq16sIIII")
"""Previous hash, sequence, epoch, time, command id, and the lengths of the four fields of any length that follow."""


class JournalEntry(msgspec.Struct, frozen=True, gc=False):
    """One journal row: a command with its events.

    ``command_id`` is 16 bytes, ``request_hash`` 32 bytes or empty, ``command`` and ``events`` are encoded by
    :mod:`rtx.core.commands` and :mod:`rtx.core.events`, ``hash`` is :func:`entry_hash` of all the rest.
    """

    sequence: int
    epoch: int
    time_us: int
    command_id: bytes
    request_id: str
    request_hash: bytes
    command: bytes
    events: bytes
    previous_hash: bytes
    hash: bytes


class Batch(msgspec.Struct, frozen=True, gc=False):
    """What one commit writes.

    ``events`` runs parallel to ``entries``, whose sequences are contiguous. ``balances`` holds every balance that the
    batch changed, once, as (account_id, asset_id, available, held) after the batch. ``postings`` are (sequence, line,
    account_id, asset_id, amount).
    """

    epoch: int
    entries: Sequence[JournalEntry]
    events: Sequence[Sequence[AnyEvent]]
    balances: Sequence[tuple[int, int, int, int]]
    postings: Sequence[tuple[int, int, int, int, int]]


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """The exchange's state right after journal row ``sequence``, whose hash is ``journal_hash``."""

    sequence: int
    journal_hash: bytes
    state_hash: bytes
    state: bytes


def entry_hash(  # noqa: PLR0917 - the fields of a row, in its order
    previous_hash: bytes,
    sequence: int,
    epoch: int,
    time_us: int,
    command_id: bytes,
    request_id: str,
    request_hash: bytes,
    command: bytes,
    events: bytes,
) -> bytes:
    """Return the SHA-256 of a journal row; every field has a fixed or a written length, so none runs into the next."""
    request = request_id.encode()
    chained = _CHAINED.pack(
        previous_hash,
        sequence,
        epoch,
        time_us,
        command_id,
        len(request),
        len(request_hash),
        len(command),
        len(events),
    )
    return sha256(b"".join((chained, request, request_hash, command, events))).digest()


def verify_entry(entry: JournalEntry) -> None:
    """Raise :class:`~rtx.store.errors.JournalCorruptError` unless the row's hash is that of its content."""
    expected = entry_hash(
        entry.previous_hash,
        entry.sequence,
        entry.epoch,
        entry.time_us,
        entry.command_id,
        entry.request_id,
        entry.request_hash,
        entry.command,
        entry.events,
    )
    if entry.hash != expected:
        raise JournalCorruptError(entry.sequence, "its hash is not that of its content")


def verify_chain(entries: Iterable[JournalEntry], after_sequence: int, previous_hash: bytes | None) -> None:
    """Raise :class:`~rtx.store.errors.JournalCorruptError` at the first row that does not follow from the one before.

    ``after_sequence`` and ``previous_hash`` are those of the row before the first; without ``previous_hash`` the first
    row's own word is taken for it.
    """
    sequence = after_sequence
    for entry in entries:
        sequence += 1
        if entry.sequence != sequence:
            raise JournalCorruptError(sequence, f"is missing, the next one is {entry.sequence}")
        if previous_hash is not None and entry.previous_hash != previous_hash:
            raise JournalCorruptError(sequence, "does not name the hash of the row before it")
        verify_entry(entry)
        previous_hash = entry.hash
