"""The chain: no two different rows have one hash, and no row can be changed, dropped or moved unseen."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtx.store.entries import GENESIS_HASH, JournalEntry, entry_hash, verify_chain, verify_entry
from rtx.store.errors import JournalCorruptError

fields = st.tuples(
    st.binary(min_size=32, max_size=32),
    st.integers(1, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.binary(min_size=16, max_size=16),
    st.text(max_size=5),
    st.sampled_from((b"", bytes(32))),
    st.binary(max_size=5),
    st.binary(max_size=5),
)


def chain(length: int) -> list[JournalEntry]:
    entries = []
    previous_hash = GENESIS_HASH
    for sequence in range(1, length + 1):
        content = (sequence, 1, sequence, sequence.to_bytes(16, "big"), "request", b"", b"command", b"events")
        own_hash = entry_hash(previous_hash, *content)
        entries.append(JournalEntry(*content, previous_hash, own_hash))
        previous_hash = own_hash
    return entries


@given(fields, fields)
def test_different_rows_have_different_hashes(one: tuple[object, ...], other: tuple[object, ...]) -> None:
    assert (entry_hash(*one) == entry_hash(*other)) == (one == other)  # type: ignore[arg-type]


def test_bytes_cannot_move_from_one_field_to_the_next() -> None:
    common = (GENESIS_HASH, 1, 1, 1, bytes(16), "", b"")
    assert entry_hash(*common, b"ab", b"c") != entry_hash(*common, b"a", b"bc")


def test_a_whole_chain_is_accepted() -> None:
    entries = chain(5)
    verify_chain(entries, 0, GENESIS_HASH)
    verify_chain(entries[2:], 2, entries[1].hash)
    verify_chain(entries[2:], 2, None)


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 2},
        {"time_us": 99},
        {"command_id": b"another command!"},
        {"request_id": "other"},
        {"request_hash": bytes(32)},
        {"command": b"other"},
        {"events": b"other"},
        {"previous_hash": bytes(31) + b"!"},
        {"hash": bytes(32)},
    ],
)
def test_a_changed_row_is_named(position: int, change: dict[str, object]) -> None:
    entries = chain(5)
    entries[position] = msgspec.structs.replace(entries[position], **change)
    with pytest.raises(JournalCorruptError) as error:
        verify_chain(entries, 0, GENESIS_HASH)
    assert error.value.sequence == position + 1
    with pytest.raises(JournalCorruptError):
        verify_entry(entries[position])


def test_a_row_that_was_forged_with_its_hash_breaks_the_next() -> None:
    entries = chain(3)
    forged = msgspec.structs.replace(entries[1], command=b"other")
    content = [getattr(forged, name) for name in forged.__struct_fields__[:8]]
    entries[1] = msgspec.structs.replace(forged, hash=entry_hash(forged.previous_hash, *content))
    with pytest.raises(JournalCorruptError) as error:
        verify_chain(entries, 0, GENESIS_HASH)
    assert error.value.sequence == 3


@pytest.mark.parametrize("missing", range(4))
def test_a_missing_row_is_named(missing: int) -> None:
    entries = chain(5)
    del entries[missing]
    with pytest.raises(JournalCorruptError) as error:
        verify_chain(entries, 0, GENESIS_HASH)
    assert error.value.sequence == missing + 1
