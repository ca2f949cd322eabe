"""The one order of all commands: match, commit in batches, answer after the commit.

While a batch commits, the next one is matched; batches grow with load by themselves and nothing waits for a timer. When
a commit fails, or its outcome is not known, the memory is thrown away and everything unanswered is sent back as
"unavailable": the API workers ask again under the same command ids, and what did commit is answered from the journal.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec
import structlog

from rtx.core import snapshot
from rtx.core.commands import decode_command
from rtx.core.events import AnyEvent, CancelAllAfterSet, DeadlinesExtended, OrderState, Rejected, Trade, encode_events
from rtx.core.exchange import Exchange
from rtx.core.ledger import postings, trade_postings
from rtx.core.rejections import Reason, RejectedError
from rtx.core.vocabulary import SELL
from rtx.engine.answers import NOTHING, Answer, RememberedAnswers, answer_of
from rtx.engine.batch import OpenBatch
from rtx.engine.book_positions import BookPositions
from rtx.engine.recovery import Recovered, rejected_events
from rtx.link.market_data import MarketUpdate, PublicTrade
from rtx.link.messages import (
    ANSWERED,
    APPLIED,
    COMMAND_ID_BYTES,
    FAULTED,
    OVERLOADED,
    QUERY_BOOK,
    QUERY_DEADLINES,
    QUERY_POSITION,
    QUERY_STATE_HASH,
    REJECTED,
    SUBMIT,
    UNAVAILABLE,
    BookAnswer,
    BookQuery,
    Request,
    Response,
)
from rtx.link.server import Connection
from rtx.store.errors import JournalCorruptError
from rtx.store.journal import JournalEntry, entry_hash
from rtx.store.protocols import JournalBackend

_log = structlog.get_logger(__name__)

_encoder = msgspec.msgpack.Encoder()
_book_query_decoder = msgspec.msgpack.Decoder(BookQuery)
_account_decoder = msgspec.msgpack.Decoder(int)


class Publisher(Protocol):
    """Where committed market data goes; must neither block nor raise."""

    def offer(self, update: MarketUpdate) -> None: ...


class SequencerMetrics(Protocol):
    """What the sequencer reports, once a batch."""

    def batch_committed(self, batch: OpenBatch, commit_s: float, queued: int) -> None: ...

    def command_rejected(self, reason: int) -> None: ...

    def command_refused(self) -> None: ...


class LeaseExpiredError(Exception):
    """The lease ran out by this process's own clock before a batch could be committed."""


class SequencerFailedError(Exception):
    """What was taken could not all be committed; the cause says why."""


class Lookup:
    """Re-sent commands of which the journal is asked whether it has them."""

    __slots__ = ("connection", "requests", "task")

    def __init__(self, connection: Connection, requests: list[Request]) -> None:
        self.connection = connection
        self.requests = requests
        self.task: asyncio.Task[None] | None = None


class Sequencer:
    """Applies requests to one exchange under one epoch of leadership. Belongs to one event loop.

    Commits go through ``store``, which has one connection; ``lookups`` reads the journal beside them. ``may_lead`` says
    whether the lease still holds by this process's own clock: without it nothing is taken and nothing is committed.
    ``answers`` are those of the newest commands before, where they are at hand. ``on_switch`` is told of every
    dead-man's switch in the moment in which it changes.
    ``on_failure`` is called, once, when a commit failed or the memory is not to be trusted: this object is then spent,
    and another is to be made from what is committed.
    """

    def __init__(
        self,
        recovered: Recovered,
        epoch: int,
        *,
        store: JournalBackend,
        lookups: JournalBackend,
        publisher: Publisher,
        metrics: SequencerMetrics,
        clock_us: Callable[[], int],
        monotonic_s: Callable[[], float],
        may_lead: Callable[[], bool],
        on_failure: Callable[[Exception], None],
        queue_commands_max: int,
        batch_commands_max: int,
        answers: RememberedAnswers | None = None,
        on_switch: Callable[[CancelAllAfterSet | DeadlinesExtended], None] | None = None,
    ) -> None:
        self._exchange: Exchange = recovered.exchange
        self._sequence = recovered.sequence
        self._hash = recovered.journal_hash
        self._epoch = epoch
        self._store = store
        self._lookups = lookups
        self._publisher = publisher
        self._metrics = metrics
        self._clock_us = clock_us
        self._monotonic_s = monotonic_s
        self._may_lead = may_lead
        self._on_failure = on_failure
        self._queue_commands_max = queue_commands_max
        self._batch_commands_max = batch_commands_max
        self._queue: deque[tuple[Connection, Request]] = deque()
        self._batch = OpenBatch()
        self._committing: OpenBatch | None = None
        self._commit_task: asyncio.Task[None] | None = None
        self._start_is_scheduled = False
        self._is_open = True
        self._failure: Exception | None = None
        self._answers = RememberedAnswers() if answers is None else answers
        self._on_switch = on_switch
        self._commit_began_s: float | None = None
        self._book_positions = recovered.book_positions
        self._lookups_under_way: set[Lookup] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def sequence(self) -> int:
        """Position of the last command that was matched."""
        return self._sequence

    @property
    def journal_hash(self) -> bytes:
        """Hash of the journal row of that command."""
        return self._hash

    @property
    def exchange(self) -> Exchange:
        return self._exchange

    @property
    def commit_began_s(self) -> float | None:
        """When the commit began that is on its way, by the monotonic clock; None: there is none."""
        return self._commit_began_s

    @property
    def book_positions(self) -> BookPositions:
        """Since when each market's book stands as it was last published."""
        return self._book_positions

    def handle(self, connection: Connection, requests: list[Request]) -> None:
        """Take the requests of one frame."""
        if not self._is_open or not self._may_lead():
            connection.send(unavailable(requests))
            return
        known: list[Request] = []
        overloaded: list[Request] = []
        remaining = iter(requests)
        for request in remaining:
            if request.may_be_known and request.kind == SUBMIT:
                known.append(request)
            elif not self._take(connection, request):
                overloaded.append(request)
            if self._failure is not None:
                connection.send(unavailable([*known, *overloaded, *remaining]))
                return
        if overloaded:
            self._refuse_overloaded(connection, overloaded)
        if known:
            self._handle_known(connection, known)
        self._schedule_commit()

    def handle_own(self, connection: Connection, request: Request) -> None:
        """Take a command of the engine's own: it waits its turn, and is not refused when too many do."""
        if not self._is_open or not self._may_lead():
            connection.send(unavailable([request]))
            return
        if self._queue or self._batch.size >= self._batch_commands_max:
            self._queue.append((connection, request))
        else:
            self._apply(connection, request)
        if self._failure is None:
            self._schedule_commit()

    async def close(self) -> None:
        """Take no more, and return when everything that was matched is committed and answered.

        What waits to be matched is sent back as "unavailable". Raises :class:`SequencerFailedError` when not all could
        be committed: ``sequence`` and ``exchange`` then tell nothing.
        """
        self._is_open = False
        self._refuse_waiting()
        await self._idle.wait()
        if self._failure is not None:
            raise SequencerFailedError(f"{type(self._failure).__name__}: {self._failure}") from self._failure

    def fail(self, error: Exception) -> None:
        """Throw everything unanswered back and report the failure."""
        if self._failure is not None:
            return
        self._failure = error
        self._is_open = False
        for batch in (self._committing, self._batch):
            if batch is not None:
                for connection, responses in batch.answers.items():
                    connection.send(unavailable(responses))
        self._committing = None
        self._batch = OpenBatch()
        self._refuse_waiting()
        self._idle.set()
        self._on_failure(error)

    # -- taking ---------------------------------------------------------------------------------------------------

    def _take(self, connection: Connection, request: Request) -> bool:
        """Match a request, or keep it behind those that wait already; False when too many do."""
        if self._queue or self._batch.size >= self._batch_commands_max:
            if len(self._queue) >= self._queue_commands_max:
                return False
            self._queue.append((connection, request))
        else:
            self._apply(connection, request)
        return True

    def _refuse_overloaded(self, connection: Connection, requests: list[Request]) -> None:
        for _ in requests:
            self._metrics.command_refused()
        connection.send([Response(request.number, OVERLOADED, self._sequence, 0, NOTHING) for request in requests])

    def _refuse_waiting(self) -> None:
        """Send back what was not matched yet."""
        waiting: dict[Connection, list[Request]] = {}
        for connection, request in self._queue:
            waiting.setdefault(connection, []).append(request)
        self._queue.clear()
        for lookup in self._lookups_under_way:
            waiting.setdefault(lookup.connection, []).extend(lookup.requests)
            assert lookup.task is not None
            lookup.task.cancel()
        self._lookups_under_way.clear()
        for connection, requests in waiting.items():
            connection.send(unavailable(requests))

    def _handle_known(self, connection: Connection, requests: list[Request]) -> None:
        """Answer what is known; look the rest up in the journal before matching it."""
        unknown = []
        for request in requests:
            answer = self._answers.find(request.command_id)
            if answer is None:
                unknown.append(request)
            else:
                self._batch.answer(connection, answer.response(request.number, request.request_hash))
        if unknown:
            lookup = Lookup(connection, unknown)
            lookup.task = asyncio.get_running_loop().create_task(self._look_up(lookup))
            self._lookups_under_way.add(lookup)

    async def _look_up(self, lookup: Lookup) -> None:
        sequence = self._sequence
        try:
            entries = await self._lookups.find_commands([request.command_id for request in lookup.requests])
        except JournalCorruptError as error:
            self.fail(error)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the API worker asks again
            if lookup in self._lookups_under_way:
                _log.warning("journal_lookup_failed", error=repr(error))
                self._lookups_under_way.discard(lookup)
                lookup.connection.send(unavailable(lookup.requests))
            return
        if lookup not in self._lookups_under_way:
            # It was sent back meanwhile, and cancelled; a database client may lose a cancellation.
            return
        self._lookups_under_way.discard(lookup)
        if lookup.connection.is_closed:
            # They came again over another connection, and may have been refused there.
            return
        if self._sequence - sequence > self._answers.count_max or not self._may_lead():
            # What the journal did not have yet, memory may have forgotten already.
            lookup.connection.send(unavailable(lookup.requests))
            return
        self._take_looked_up(lookup, {entry.command_id: answer_of(entry) for entry in entries})

    def _take_looked_up(self, lookup: Lookup, found: dict[bytes, Answer]) -> None:
        connection = lookup.connection
        overloaded: list[Request] = []
        remaining = iter(lookup.requests)
        for request in remaining:
            answer = found.get(request.command_id)
            if answer is not None:
                self._batch.answer(connection, answer.response(request.number, request.request_hash))
            elif not self._take(connection, request):
                overloaded.append(request)
            if self._failure is not None:
                connection.send(unavailable([*overloaded, *remaining]))
                return
        if overloaded:
            self._refuse_overloaded(connection, overloaded)
        self._schedule_commit()

    # -- matching -------------------------------------------------------------------------------------------------

    def _apply(self, connection: Connection, request: Request) -> None:
        try:
            if request.kind == SUBMIT:
                self._apply_command(connection, request)
            else:
                self._answer_query(connection, request)
        except Exception as error:  # noqa: BLE001 - a fault of ours: the memory is not to be trusted any more
            _log.critical(
                "command_faulted", command_id=request.command_id.hex(), request_id=request.request_id, exc_info=True
            )
            connection.send([Response(request.number, FAULTED, self._sequence, 0, NOTHING)])
            self.fail(error)

    def _apply_command(self, connection: Connection, request: Request) -> None:
        if len(request.command_id) != COMMAND_ID_BYTES:
            self._respond_rejected(connection, request, [Rejected(Reason.INVALID_FIELD, "command_id")])
            return
        # Also a first sending may come late: after its copy over the connection that followed.
        answer = self._answers.find(request.command_id)
        if answer is not None:
            self._batch.answer(connection, answer.response(request.number, request.request_hash))
            return
        exchange = self._exchange
        # Never the same time twice, also when the clock was set back: what is named by its time stays unmistakable.
        time_us = max(self._clock_us(), exchange.time_us + 1)
        status = APPLIED
        try:
            events = exchange.apply(decode_command(request.payload), time_us)
        except RejectedError as error:
            self._metrics.command_rejected(error.reason)
            events = rejected_events(error)
            if not request.request_hash:
                self._respond_rejected(connection, request, events)
                return
            status = REJECTED
        except msgspec.DecodeError:
            self._respond_rejected(connection, request, [Rejected(Reason.INVALID_FIELD, "command")])
            return
        self._journal(connection, request, events, time_us, status)

    def _respond_rejected(self, connection: Connection, request: Request, events: list[AnyEvent]) -> None:
        """Refuse after what is being committed: the refusal may rest on it."""
        payload = msgspec.Raw(encode_events(events))
        self._batch.answer(connection, Response(request.number, REJECTED, self._sequence, 0, payload))

    def _journal(
        self, connection: Connection, request: Request, events: list[AnyEvent], time_us: int, status: int
    ) -> None:
        encoded = encode_events(events)
        sequence = self._sequence = self._sequence + 1
        command_id, request_hash, command = request.command_id, request.request_hash, bytes(request.payload)
        previous_hash = self._hash
        self._hash = entry_hash(
            previous_hash,
            sequence,
            self._epoch,
            time_us,
            command_id,
            request.request_id,
            request_hash,
            command,
            encoded,
        )
        batch = self._batch
        batch.entries.append(
            JournalEntry(
                sequence,
                self._epoch,
                time_us,
                command_id,
                request.request_id,
                request_hash,
                command,
                encoded,
                previous_hash,
                self._hash,
            )
        )
        batch.events.append(events)
        self._post(sequence, events)
        self._answers.add(command_id, Answer(status, sequence, time_us, encoded, request_hash))
        batch.answer(connection, Response(request.number, status, sequence, time_us, msgspec.Raw(encoded)))

    def _post(self, sequence: int, events: list[AnyEvent]) -> None:
        markets = self._exchange.markets
        rows = self._batch.postings
        line = 0
        for event in events:
            if type(event) is Trade:
                lines = trade_postings(event, markets[event.market_id])
            elif type(event) is OrderState:
                continue
            else:
                if isinstance(event, CancelAllAfterSet | DeadlinesExtended) and self._on_switch is not None:
                    self._on_switch(event)
                lines = postings(event, markets)
            for account_id, asset_id, amount in lines:
                rows.append((sequence, line, account_id, asset_id, amount))
                line += 1

    def _answer_query(self, connection: Connection, request: Request) -> None:
        try:
            payload = self._query(request)
        except RejectedError as error:
            self._respond_rejected(connection, request, rejected_events(error))
            return
        response = Response(request.number, ANSWERED, self._sequence, self._exchange.time_us, msgspec.Raw(payload))
        self._batch.answer(connection, response)

    def _query(self, request: Request) -> bytes:
        exchange = self._exchange
        if request.kind == QUERY_POSITION:
            return bytes(NOTHING)
        if request.kind == QUERY_STATE_HASH:
            return _encoder.encode(snapshot.state_hash(exchange))
        if request.kind == QUERY_DEADLINES:
            return self._deadlines_of(request)
        if request.kind != QUERY_BOOK:
            raise RejectedError(Reason.INVALID_FIELD, "kind")
        try:
            query = _book_query_decoder.decode(request.payload)
        except msgspec.DecodeError:
            raise RejectedError(Reason.INVALID_FIELD, "query") from None
        bids, asks = exchange.book_levels(query.market_id, query.limit)
        last_price = exchange.markets[query.market_id].last_price
        return _encoder.encode(BookAnswer(query.market_id, bids, asks, last_price))

    def _deadlines_of(self, request: Request) -> bytes:
        try:
            account_id = _account_decoder.decode(request.payload)
        except msgspec.DecodeError:
            raise RejectedError(Reason.INVALID_FIELD, "query") from None
        deadlines = self._exchange.deadlines.items()
        return _encoder.encode(
            sorted((session, until_us) for (owner, session), until_us in deadlines if owner == account_id)
        )

    # -- committing -----------------------------------------------------------------------------------------------

    def _schedule_commit(self) -> None:
        """Commit at the end of this turn of the event loop, so that all that arrived in it shares one transaction."""
        if self._commit_task is None and not self._start_is_scheduled and self._batch.answers:
            self._start_is_scheduled = True
            self._idle.clear()
            asyncio.get_running_loop().call_soon(self._start_commit)

    def _start_commit(self) -> None:
        self._start_is_scheduled = False
        if self._commit_task is not None or self._failure is not None:
            return
        if not self._may_lead():
            self.fail(LeaseExpiredError("the lease ran out before a commit"))
            return
        batch = self._batch
        batch.balances = self._exchange.take_changed_balances()
        batch.levels = self._exchange.take_changed_levels()
        self._committing = batch
        self._batch = OpenBatch()
        self._commit_task = asyncio.get_running_loop().create_task(self._commit(batch))

    async def _commit(self, batch: OpenBatch) -> None:
        started_s = self._commit_began_s = self._monotonic_s()
        try:
            if batch.entries:
                await self._store.commit(batch.to_store(self._epoch))
        except Exception as error:  # noqa: BLE001 - a commit that failed or may have: never guess
            self.fail(error)
            return
        if self._failure is not None:
            return
        self._committing = None
        self._commit_task = None
        self._commit_began_s = None
        batch.send_answers()
        self._take_queue()
        if self._batch.answers:
            self._start_commit()
        else:
            self._idle.set()
        if batch.entries:
            self._publish(batch)
            self._metrics.batch_committed(batch, self._monotonic_s() - started_s, len(self._queue))

    def _take_queue(self) -> None:
        queue = self._queue
        while queue and self._batch.size < self._batch_commands_max:
            connection, request = queue.popleft()
            # What came over a connection that ended came again over another one, and may have been refused there.
            if not connection.is_closed:
                self._apply(connection, request)

    # -- publishing -----------------------------------------------------------------------------------------------

    def _publish(self, batch: OpenBatch) -> None:
        """Hand on what the batch changed in each market, after its answers are on their way."""
        trades: dict[int, list[PublicTrade]] = {}
        for entry, events in zip(batch.entries, batch.events, strict=True):
            for event in events:
                if type(event) is not Trade:
                    continue
                public = PublicTrade(
                    event.trade_id,
                    event.price,
                    event.quantity,
                    event.quote_quantity,
                    entry.time_us,
                    event.taker_side == SELL,
                )
                trades.setdefault(event.market_id, []).append(public)
        last = batch.entries[-1]
        for market_id, bids, asks in batch.levels:
            previous = self._book_positions.unchanged_since(market_id)
            self._book_positions.change(market_id, last.sequence)
            self._publisher.offer(
                MarketUpdate(market_id, previous, last.sequence, last.time_us, trades.get(market_id, []), bids, asks)
            )


def unavailable(unanswered: Iterable[Request | Response]) -> list[Response]:
    """Have these asked again."""
    return [Response(one.number, UNAVAILABLE, 0, 0, NOTHING) for one in unanswered]
