"""Bugs to plant, each one that somebody could write, to see that the simulation finds it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final
from unittest import mock

import msgspec
from tests.simulation.cluster import Cluster, Program
from tests.simulation.simulation import Sabotage

from rtx.core.exchange import Exchange
from rtx.engine import leader
from rtx.engine.answers import RememberedAnswers
from rtx.engine.batch import OpenBatch
from rtx.engine.sequencer import Sequencer
from rtx.engine.standby import Standby
from rtx.engine.term import Term
from rtx.link.client import EngineClient, new_command_id
from rtx.link.messages import OVERLOADED, Request
from rtx.link.server import Connection
from rtx.store.connection import DATABASE_ERRORS
from rtx.store.entries import Batch
from rtx.store.protocols import JournalBackend

Commit = Callable[[Sequencer, OpenBatch], Coroutine[Any, Any, None]]


@contextlib.contextmanager
def no_fencing(cluster: Cluster) -> Iterator[None]:
    """The store takes a batch whatever its epoch."""
    cluster.database.fences = False
    yield


@contextlib.contextmanager
def fencing_without_a_lock(cluster: Cluster) -> Iterator[None]:
    """The store looks at the epoch, and writes a moment later: a takeover does not wait for what is on its way."""
    cluster.database.locks = False
    yield


@contextlib.contextmanager
def answer_before_commit(_cluster: Cluster) -> Iterator[None]:
    """The answers of a batch leave when its commit begins."""
    commit: Commit = Sequencer._commit

    async def answer_and_commit(self: Sequencer, batch: OpenBatch) -> None:
        batch.send_answers()
        batch.answers = {}
        await commit(self, batch)

    with mock.patch.object(Sequencer, "_commit", answer_and_commit):
        yield


@contextlib.contextmanager
def new_id_for_each_sending(_cluster: Cluster) -> Iterator[None]:
    """What is sent again gets another command id."""
    send_again = EngineClient._send_again

    def send_as_another(self: EngineClient, number: int) -> None:
        pending = self._pending.get(number)
        if pending is not None and pending.was_sent and pending.request.command_id:
            pending.request = msgspec.structs.replace(pending.request, command_id=new_command_id())
        send_again(self, number)

    with mock.patch.object(EngineClient, "_send_again", send_as_another):
        yield


@contextlib.contextmanager
def leading_beyond_the_lease(_cluster: Cluster) -> Iterator[None]:
    """A leader whose lease is not renewed goes on until a commit is refused; in between it answers questions."""
    ask = Term._ask

    async def ask_and_believe(self: Term, timeout_s: float) -> bool:
        with contextlib.suppress(*DATABASE_ERRORS):
            await ask(self, timeout_s)
        return True

    with mock.patch.object(Term, "may_lead", return_value=True), mock.patch.object(Term, "_ask", ask_and_believe):
        yield


class _Guessing:
    """A journal whose commits never leave anything in doubt."""

    def __init__(self, journal: JournalBackend) -> None:
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def commit(self, batch: Batch) -> None:
        """Commit, and take an unknown outcome for a success."""
        with contextlib.suppress(*DATABASE_ERRORS):
            await self._journal.commit(batch)


@contextlib.contextmanager
def unknown_commit_taken_for_done(_cluster: Cluster) -> Iterator[None]:
    """A commit whose outcome is not known is taken for one that was written."""
    begin = Sequencer.__init__

    def begin_guessing(self: Sequencer, *arguments: Any, store: JournalBackend, **options: Any) -> None:
        begin(self, *arguments, store=_Guessing(store), **options)

    with mock.patch.object(Sequencer, "__init__", begin_guessing):
        yield


@contextlib.contextmanager
def unknown_commit_taken_for_failed(_cluster: Cluster) -> Iterator[None]:
    """A commit whose outcome is not known is taken for one that was not written, and the clients are told so."""
    commit: Commit = Sequencer._commit

    async def commit_or_refuse(self: Sequencer, batch: OpenBatch) -> None:
        store = self._store

        class Refusing:
            async def commit(self, written: Batch) -> None:
                try:
                    await store.commit(written)
                except DATABASE_ERRORS:
                    for connection, responses in batch.answers.items():
                        connection.send([msgspec.structs.replace(one, status=OVERLOADED) for one in responses])
                    batch.answers = {}
                    raise

        self._store = Refusing()  # type: ignore[assignment]
        try:
            await commit(self, batch)
        finally:
            self._store = store

    with mock.patch.object(Sequencer, "_commit", commit_or_refuse):
        yield


@contextlib.contextmanager
def takeover_without_reading_to_the_end(_cluster: Cluster) -> Iterator[None]:
    """A standby goes on at the journal's end with the state that it happens to have."""

    async def skip(self: Standby) -> None:
        last = await self._reads.last_entry()
        if last is not None:
            self._sequence, self._hash = last.sequence, last.hash

    with mock.patch.object(Standby, "catch_up", skip):
        yield


@contextlib.contextmanager
def known_commands_not_looked_for(_cluster: Cluster) -> Iterator[None]:
    """What is sent again is done again: no memory of answers, no look into the journal."""

    class Forgetful(RememberedAnswers):
        def __init__(self, *arguments: int) -> None:
            super().__init__(*arguments)
            self.find = self._know_nothing  # type: ignore[assignment]

        def _know_nothing(self, _command_id: bytes) -> None:
            return None

    def take_all(self: Sequencer, connection: Connection, requests: list[Request]) -> None:
        for request in requests:
            self._take(connection, request)

    with (
        mock.patch("rtx.engine.service.RememberedAnswers", Forgetful),
        mock.patch.object(Sequencer, "_handle_known", take_all),
    ):
        yield


@contextlib.contextmanager
def refusals_not_kept_under_a_key(_cluster: Cluster) -> Iterator[None]:
    """A refusal under an idempotency key is answered and not journaled."""
    journal = Sequencer._journal

    def journal_successes(self: Sequencer, connection: Connection, request: Request, *rest: Any) -> None:
        events, _, status = rest
        if status:
            self._respond_rejected(connection, request, events)
        else:
            journal(self, connection, request, *rest)

    with mock.patch.object(Sequencer, "_journal", journal_successes):
        yield


@contextlib.contextmanager
def rules_changed_by_deploying(_cluster: Cluster) -> Iterator[None]:
    """A newer program matches by its newest rules from its start, whatever the journal says."""
    begin = Exchange.__init__

    def begin_with_the_newest(self: Exchange, *arguments: int) -> None:
        begin(self, *arguments)
        self.rules = self.latest_rules

    enter = Program.enter

    def enter_both(program: Program) -> None:
        enter(program)
        begin.__defaults__ = (program.rules,)

    with (
        mock.patch.object(Exchange, "__init__", begin_with_the_newest),
        mock.patch.object(Program, "enter", enter_both),
    ):
        yield


@contextlib.contextmanager
def publishing_before_commit(_cluster: Cluster) -> Iterator[None]:
    """Market data leaves when its commit begins."""
    commit: Commit = Sequencer._commit

    async def publish_and_commit(self: Sequencer, batch: OpenBatch) -> None:
        if batch.entries:
            self._publish(batch)
            batch.levels = []
        await commit(self, batch)

    with mock.patch.object(Sequencer, "_commit", publish_and_commit):
        yield


@contextlib.contextmanager
def time_away_counted_for_switches(_cluster: Cluster) -> Iterator[None]:
    """A leader takes dead-man's switches over as if the exchange had been there all the time."""

    def until_now_us(time_us: int, *, idle_s: float, away_s: float) -> int:
        return time_us + int(idle_s * 1_000_000)

    with mock.patch.object(leader, "served_until_us", until_now_us):
        yield


PLANTED: Final[tuple[Sabotage, ...]] = (
    no_fencing,
    fencing_without_a_lock,
    answer_before_commit,
    new_id_for_each_sending,
    leading_beyond_the_lease,
    unknown_commit_taken_for_done,
    unknown_commit_taken_for_failed,
    takeover_without_reading_to_the_end,
    known_commands_not_looked_for,
    refusals_not_kept_under_a_key,
    rules_changed_by_deploying,
    publishing_before_commit,
    time_away_counted_for_switches,
)
