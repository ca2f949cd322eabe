"""The answers of journaled commands, kept for API workers that ask again.

Most of those who ask again do so within moments, so the newest commands are kept in memory; all others are looked up in
the journal.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import msgspec

from rtx.core.events import AnyEvent, Rejected, decode_events
from rtx.link.messages import APPLIED, CONFLICT, REJECTED, Response
from rtx.store.journal import JournalEntry

REMEMBERED_COMMANDS: Final = 20_000
"""Commands whose answers are kept in memory after their commit."""

NOTHING: Final = msgspec.Raw(b"\xc0")
"""The payload of an answer that has none (MessagePack's nil)."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a journaled command, for whoever asks again."""

    status: int
    sequence: int
    time_us: int
    events: bytes
    request_hash: bytes

    def response(self, number: int, request_hash: bytes) -> Response:
        """The answer to a request with this hash (empty: whatever the command was)."""
        if request_hash and request_hash != self.request_hash:
            return Response(number, CONFLICT, self.sequence, self.time_us, NOTHING)
        return Response(number, self.status, self.sequence, self.time_us, msgspec.Raw(self.events))


class RememberedAnswers:
    """The answers of the newest commands by command id, committed or about to be."""

    __slots__ = ("_answers", "count_max", "find")

    def __init__(self, count_max: int = REMEMBERED_COMMANDS) -> None:
        # An ordered one, because taking the oldest out of a plain dict means passing over all that went before.
        self._answers: OrderedDict[bytes, Answer] = OrderedDict()
        self.count_max = count_max
        self.find = self._answers.get

    def add(self, command_id: bytes, answer: Answer) -> None:
        """Keep an answer, and forget the oldest when there are too many."""
        answers = self._answers
        answers[command_id] = answer
        if len(answers) > self.count_max:
            answers.popitem(last=False)


def answer_of(entry: JournalEntry, events: Sequence[AnyEvent] | None = None) -> Answer:
    """The answer that a journaled command was given; ``events`` spares decoding them where they are at hand."""
    if events is None:
        events = decode_events(entry.events)
    is_rejected = bool(events) and all(type(event) is Rejected for event in events)
    status = REJECTED if is_rejected else APPLIED
    return Answer(status, entry.sequence, entry.time_us, entry.events, entry.request_hash)
