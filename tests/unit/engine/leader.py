"""A sequencer on a journal in memory whose commits and lookups wait until the test says how they end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from tests.fakes.journal import FakeJournal
from tests.fakes.leadership import FakeLease, take_lease
from tests.integration.store.trading import ALICE, MARKET, Trading

from rtx.core.commands import AnyCommand, NewOrder, Withdraw, encode_command
from rtx.core.events import AnyEvent, decode_events
from rtx.core.exchange import Exchange
from rtx.core.snapshot import state_hash
from rtx.core.vocabulary import BUY, GTC, LIMIT
from rtx.engine.answers import REMEMBERED_COMMANDS, RememberedAnswers
from rtx.engine.batch import OpenBatch
from rtx.engine.recovery import recover
from rtx.engine.sequencer import Sequencer
from rtx.link.market_data import MarketUpdate
from rtx.link.messages import QUERY_BOOK, SUBMIT, BookAnswer, BookQuery, Request, Response
from rtx.store.entries import Batch, JournalEntry

TTL_S: Final = 3.0
TIMEOUT_S: Final = 5.0
"""How long a test waits for what must happen."""

_command_ids = itertools.count(1_000_000)
_names = itertools.count(1)


class Waiting:
    """A call of the sequencer's that waits for the test."""

    def __init__(self, argument: Any) -> None:
        self.argument = argument
        self.decision: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.error: Exception | None = None
        self.ended = asyncio.Event()

    def go_on(self) -> None:
        """Let the call do what it is for, and return."""
        self.decision.set_result(True)

    def fail(self, error: Exception) -> None:
        """Let the call raise, with nothing done."""
        self.decision.set_exception(error)

    def do_and_fail(self, error: Exception) -> None:
        """Let the call do what it is for, and raise all the same: its outcome is unknown to the caller."""
        self.error = error
        self.decision.set_result(True)


class Commit(Waiting):
    """A batch on its way."""

    argument: Batch

    @property
    def batch(self) -> Batch:
        return self.argument


class GatedJournal(FakeJournal):
    """Holds commits and lookups while ``holds_commits`` and ``holds_lookups``."""

    def __init__(self, lease: FakeLease) -> None:
        super().__init__(lease)
        self.holds_commits = True
        self.holds_lookups = False
        self.loses_cancellations = False
        self.commits: asyncio.Queue[Commit] = asyncio.Queue()
        self.lookups: asyncio.Queue[Waiting] = asyncio.Queue()
        self.was_asked = asyncio.Event()
        self.commit_count = 0
        self.lookup_count = 0

    async def commit(self, batch: Batch) -> None:
        self.commit_count += 1
        waiting = Commit(batch)
        if self.holds_commits:
            self.commits.put_nowait(waiting)
            await waiting.decision
        try:
            await super().commit(batch)
        finally:
            waiting.ended.set()
        if waiting.error is not None:
            raise waiting.error

    async def find_commands(self, command_ids: Sequence[bytes]) -> list[JournalEntry]:
        # What a query sees is what was committed when it began.
        self.lookup_count += 1
        self.was_asked.set()
        found = await super().find_commands(command_ids)
        if self.holds_lookups:
            waiting = Waiting(command_ids)
            self.lookups.put_nowait(waiting)
            try:
                await asyncio.shield(waiting.decision)
            except asyncio.CancelledError:
                if not self.loses_cancellations:
                    raise
        return found

    async def next_commit(self) -> Commit:
        """The next batch that the sequencer wants to commit."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self.commits.get()

    async def next_lookup(self) -> Waiting:
        """The next question of the sequencer's, already answered and not yet delivered."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self.lookups.get()


class Worker:
    """An API worker's connection; ``answers`` holds all that it got, by number of request."""

    def __init__(self) -> None:
        self.frames: list[list[Response]] = []
        self.answers: dict[int, list[Response]] = {}
        self.is_closed = False
        self._arrived = asyncio.Event()

    def send(self, responses: list[Response]) -> None:
        self.frames.append(responses)
        for response in responses:
            self.answers.setdefault(response.number, []).append(response)
        self._arrived.set()

    async def answer(self, request: Request) -> Response:
        """The answer to a request, which must be its only one."""
        async with asyncio.timeout(TIMEOUT_S):
            while request.number not in self.answers:
                self._arrived.clear()
                await self._arrived.wait()
        (response,) = self.answers[request.number]
        return response

    def statuses(self, *requests: Request) -> list[list[int]]:
        """The statuses of all answers that each request got so far."""
        return [[response.status for response in self.answers.get(request.number, [])] for request in requests]


class Recorder:
    """Metrics and publisher: notes what it is told."""

    def __init__(self) -> None:
        self.updates: list[MarketUpdate] = []
        self.batch_sizes: list[int] = []
        self.refused_count = 0
        self.failures: list[Exception] = []

    def offer(self, update: MarketUpdate) -> None:
        self.updates.append(update)

    def batch_committed(self, batch: OpenBatch, commit_s: float, queued: int) -> None:
        self.batch_sizes.append(len(batch.entries))

    def command_rejected(self, reason: int) -> None:
        pass

    def command_refused(self) -> None:
        self.refused_count += 1


class Leader:
    """One journal and the engines that lead on it, one after the other."""

    def __init__(self, **limits: int) -> None:
        self.now_s = 0.0
        self.lease = FakeLease(lambda: self.now_s)
        self.journal = GatedJournal(self.lease)
        self.recorder = Recorder()
        self.may_lead = True
        self.time_us = 2_000_000_000_000_000
        self.remembered_commands_max = limits.pop("remembered_commands_max", REMEMBERED_COMMANDS)
        self.limits = {"queue_commands_max": 100, "batch_commands_max": 50} | limits
        self.sequencer: Sequencer
        self.exchange: Exchange
        self._numbers = itertools.count(1)

    @classmethod
    async def start(cls, **limits: int) -> Leader:
        """An engine that leads on a journal with one open market and two rich accounts."""
        leader = cls(**limits)
        epoch = await take_lease(leader.lease, "opening", ttl_s=TTL_S)
        assert epoch is not None
        trading = Trading(epoch)
        trading.open_market()
        await FakeJournal.commit(leader.journal, trading.take_batch())
        await leader.lead()
        return leader

    async def lead(self) -> None:
        """Take the next epoch and begin from what is committed."""
        self.now_s += TTL_S + 1
        epoch = await take_lease(self.lease, "engine", ttl_s=TTL_S)
        assert epoch is not None
        recovered = await recover(self.journal)
        self.exchange = recovered.exchange
        self.sequencer = Sequencer(
            recovered,
            epoch,
            store=self.journal,
            lookups=self.journal,
            publisher=self.recorder,
            metrics=self.recorder,
            clock_us=self._clock_us,
            monotonic_s=lambda: self.now_s,
            may_lead=lambda: self.may_lead,
            on_failure=self.recorder.failures.append,
            answers=RememberedAnswers(self.remembered_commands_max),
            queue_commands_max=self.limits["queue_commands_max"],
            batch_commands_max=self.limits["batch_commands_max"],
        )

    def _clock_us(self) -> int:
        self.time_us += 1
        return self.time_us

    def submit(
        self,
        command: AnyCommand,
        *,
        command_id: bytes | None = None,
        may_be_known: bool = False,
        request_hash: bytes = b"",
    ) -> Request:
        """A request with a command; under an id of its own unless one is given."""
        return Request(
            next(self._numbers),
            SUBMIT,
            msgspec.Raw(encode_command(command)),
            new_command_id() if command_id is None else command_id,
            "request",
            may_be_known,
            request_hash,
        )

    def again(self, request: Request, **changes: Any) -> Request:
        """The request as an API worker sends it once more, over another connection."""
        fields = {"number": next(self._numbers), "may_be_known": True} | changes
        return msgspec.structs.replace(request, **fields)

    def bid(self, price: int = 10, quantity: int = 1) -> Request:
        """Ask for an order that rests in the book."""
        return self.submit(bid(price, quantity))

    def query_book(self, limit: int = 0) -> Request:
        """Ask for the book."""
        return Request(next(self._numbers), QUERY_BOOK, msgspec.Raw(msgspec.msgpack.encode(BookQuery(MARKET, limit))))

    def query(self, kind: int, payload: bytes = b"\xc0") -> Request:
        """Ask for anything."""
        return Request(next(self._numbers), kind, msgspec.Raw(payload))

    def journaled(self, request: Request) -> list[JournalEntry]:
        """The rows of the request's command."""
        return [entry for entry in self.journal.rows.values() if entry.command_id == request.command_id]

    async def recovered_state(self) -> tuple[int, bytes]:
        """Position and state hash of an exchange made from the journal alone."""
        recovered = await recover(self.journal)
        return recovered.sequence, state_hash(recovered.exchange)


def new_command_id() -> bytes:
    return next(_command_ids).to_bytes(16)


def bid(price: int = 10, quantity: int = 1, account_id: int = ALICE) -> NewOrder:
    """A buy order that nobody sells to in the opening market."""
    return NewOrder(account_id, MARKET, BUY, LIMIT, GTC, price, quantity, f"name-{next(_names)}")


def hopeless() -> Withdraw:
    """A command that the exchange refuses."""
    return Withdraw(ALICE, 1, 2**62, "too much")


def book_of(response: Response) -> BookAnswer:
    """The book in an answer."""
    return msgspec.msgpack.decode(response.payload, type=BookAnswer)


def events_of(response: Response) -> list[AnyEvent]:
    """The events in an answer."""
    return decode_events(response.payload)
