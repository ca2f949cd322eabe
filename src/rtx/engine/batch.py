"""One batch: the commands that are matched while the batch before them commits, and what waits for their commit."""

from __future__ import annotations

from rtx.core.events import AnyEvent
from rtx.core.exchange import LevelChanges
from rtx.link.messages import Response
from rtx.link.server import Connection
from rtx.store.journal import Batch, JournalEntry


class OpenBatch:
    """Collects entries with their events and postings, and the answers that leave once they are committed.

    ``size`` counts the answers: also what journals nothing takes its place in a batch.
    """

    __slots__ = ("answers", "balances", "entries", "events", "levels", "postings", "size")

    def __init__(self) -> None:
        self.size = 0
        self.entries: list[JournalEntry] = []
        self.events: list[list[AnyEvent]] = []
        self.postings: list[tuple[int, int, int, int, int]] = []
        self.balances: list[tuple[int, int, int, int]] = []
        self.levels: list[LevelChanges] = []
        self.answers: dict[Connection, list[Response]] = {}

    def answer(self, connection: Connection, response: Response) -> None:
        """Have ``response`` sent after the commit."""
        self.size += 1
        answers = self.answers.get(connection)
        if answers is None:
            self.answers[connection] = [response]
        else:
            answers.append(response)

    def to_store(self, epoch: int) -> Batch:
        """The batch as the store takes it."""
        return Batch(epoch, self.entries, self.events, self.balances, self.postings)

    def send_answers(self) -> None:
        """Send every answer, one frame a connection."""
        for connection, responses in self.answers.items():
            connection.send(responses)
