"""The one order of all commands: match, commit in batches, answer after the commit.

While a batch commits, the next one is matched; batches grow with load by themselves and nothing waits for a timer. When
a commit fails, or its outcome is not known, the memory is thrown away and everything unanswered is sent back as
"unavailable": the API workers ask again under the same command ids, and what did commit is answered from the journal.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
import structlog

from rtx.core import snapshot
from rtx.core.commands import decode_command
from rtx.core.events import AnyEvent, Rejected, Trade, decode_events, encode_events
from rtx.core.exchange import Exchange
from rtx.core.ledger import postings, trade_postings
from rtx.core.rejections import Reason, RejectedError
from rtx.core.vocabulary import SELL
from rtx.engine.batch import OpenBatch
from rtx.engine.recovery import Recovered, rejected_events
from rtx.link.market_data import MarketUpdate, PublicTrade
from rtx.link.messages import (
    ANSWERED,
    APPLIED,
    CONFLICT,
    FAULTED,
    OVERLOADED,
    QUERY_BOOK,
    REJECTED,
    SUBMIT,
    UNAVAILABLE,
    BookAnswer,
    BookQuery,
    Request,
    Response,
)
from rtx.link.server import Connection
from rtx.store.journal import JournalEntry, entry_hash
from rtx.store.protocols import JournalBackend

_log = structlog.get_logger(__name__)

REMEMBERED_COMMANDS: Final = 20_000
"""Commands whose answers are kept in memory after their commit, for API workers that ask again."""

_NOTHING: Final = msgspec.Raw(b"\xc0")
_encoder = msgspec.msgpack.Encoder()
_book_query_decoder = msgspec.msgpack.Decoder(BookQuery)


class Publisher(Protocol):
    """Where committed market data goes; must neither block nor raise."""

    def offer(self, update: MarketUpdate) -> None: ...


class SequencerMetrics(Protocol):
    """What the sequencer reports, once a batch."""

    def batch_committed(self, batch: OpenBatch, commit_s: float, queued: int) -> None: ...

    def command_rejected(self, reason: int) -> None: ...

    def command_refused(self) -> None: ...


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a journaled command, for whoever asks again."""

    status: int
    sequence: int
    time_us: int
    events: bytes
    request_hash: bytes

    def response(self, number: int, request_hash: bytes) -> Response:
        if request_hash and request_hash != self.request_hash:
            return Response(number, CONFLICT, self.sequence, self.time_us, _NOTHING)
        return Response(number, self.status, self.sequence, self.time_us, msgspec.Raw(self.events))


class Sequencer:
    """Applies requests to one exchange under one epoch of leadership. Belongs to one event loop.

    Commits go through ``store``, which has one connection; ``lookups`` reads the journal beside them. ``on_failure`` is
    called, once, when a commit failed: this object is then spent, and another is to be made from what
    is committed.
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
        on_failure: Callable[[BaseException], None],
        queue_commands_max: int,
        batch_commands_max: int,
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
        self._on_failure = on_failure
        self._queue_commands_max = queue_commands_max
        self._batch_commands_max = batch_commands_max
        self._queue: deque[tuple[Connection, Request]] = deque()
        self._batch = OpenBatch(monotonic_s())
        self._committing: OpenBatch | None = None
        self._commit_task: asyncio.Task[None] | None = None
        self._start_is_scheduled = False
        self._is_open = True
        self._has_failed = False
        self._applied: dict[bytes, Answer] = {}
        self._published: dict[int, int] = {}
        self._looking_up: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def sequence(self) -> int:
        """Position of the last command that was matched."""
        return self._sequence

    @property
    def exchange(self) -> Exchange:
        return self._exchange

    def handle(self, connection: Connection, requests: list[Request]) -> None:
        """Take the requests of one frame."""
        if not self._is_open:
            connection.send([Response(request.number, UNAVAILABLE, 0, 0, _NOTHING) for request in requests])
            return
        known: list[Request] = []
        for request in requests:
            if request.may_be_known:
                known.append(request)
            elif self._queue or len(self._batch.entries) >= self._batch_commands_max:
                self._enqueue(connection, request)
            else:
                self._apply(connection, request)
        if known:
            self._handle_known(connection, known)
        self._schedule_commit()

    async def close(self) -> None:
        """Take no more, and return when everything taken is committed and answered."""
        self._is_open = False
        self._refuse_queue()
        await self._idle.wait()

    def fail(self, error: BaseException) -> None:
        """Throw everything unanswered back and report the failure."""
        if self._has_failed:
            return
        self._has_failed = True
        self._is_open = False
        for batch in (self._committing, self._batch):
            if batch is not None:
                for connection, responses in batch.answers.items():
                    connection.send([Response(r.number, UNAVAILABLE, 0, 0, _NOTHING) for r in responses])
        self._committing = None
        self._refuse_queue()
        for task in self._looking_up:
            task.cancel()
        self._idle.set()
        self._on_failure(error)

    # -- taking ---------------------------------------------------------------------------------------------------

    def _enqueue(self, connection: Connection, request: Request) -> None:
        if len(self._queue) >= self._queue_commands_max:
            self._metrics.command_refused()
            connection.send([Response(request.number, OVERLOADED, self._sequence, 0, _NOTHING)])
            return
        self._queue.append((connection, request))

    def _refuse_queue(self) -> None:
        for connection, request in self._queue:
            connection.send([Response(request.number, UNAVAILABLE, 0, 0, _NOTHING)])
        self._queue.clear()

    def _handle_known(self, connection: Connection, requests: list[Request]) -> None:
        """Answer what is known; look the rest up in the journal before applying it."""
        unknown = []
        for request in requests:
            answer = self._applied.get(request.command_id)
            if answer is None:
                unknown.append(request)
            else:
                self._batch.answer(connection, answer.response(request.number, request.request_hash))
        if unknown:
            task = asyncio.get_running_loop().create_task(self._look_up(connection, unknown))
            self._looking_up.add(task)
            task.add_done_callback(self._looking_up.discard)

    async def _look_up(self, connection: Connection, requests: list[Request]) -> None:
        try:
            entries = await self._lookups.find_commands([request.command_id for request in requests])
        except Exception as error:  # noqa: BLE001 - whatever it is, the API worker asks again
            _log.warning("journal_lookup_failed", error=repr(error))
            connection.send([Response(request.number, UNAVAILABLE, 0, 0, _NOTHING) for request in requests])
            return
        found = {entry.command_id: entry for entry in entries}
        for request in requests:
            if self._has_failed or not self._is_open:
                connection.send([Response(request.number, UNAVAILABLE, 0, 0, _NOTHING)])
                continue
            entry = found.get(request.command_id)
            answer = answer_of(entry) if entry is not None else self._applied.get(request.command_id)
            if answer is not None:
                self._batch.answer(connection, answer.response(request.number, request.request_hash))
            else:
                self._apply(connection, request)
        self._schedule_commit()

    # -- matching -------------------------------------------------------------------------------------------------

    def _apply(self, connection: Connection, request: Request) -> None:
        if request.kind == SUBMIT:
            self._apply_command(connection, request)
        else:
            self._answer_query(connection, request)

    def _apply_command(self, connection: Connection, request: Request) -> None:
        exchange = self._exchange
        time_us = max(self._clock_us(), exchange.time_us)
        status = APPLIED
        try:
            events = exchange.apply(decode_command(request.payload), time_us)
        except RejectedError as error:
            self._metrics.command_rejected(error.reason)
            events = rejected_events(error)
            status = REJECTED
        except msgspec.DecodeError:
            events = [Rejected(Reason.INVALID_FIELD, "command")]
            self._respond_rejected(connection, request, events)
            return
        except Exception as error:  # noqa: BLE001 - a fault in the core: its state is not to be trusted any more
            _log.critical("command_faulted", command_id=request.command_id.hex(), exc_info=True)
            connection.send([Response(request.number, FAULTED, self._sequence, 0, _NOTHING)])
            self.fail(error)
            return
        if status == REJECTED and not request.request_hash:
            self._respond_rejected(connection, request, events)
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
        applied = self._applied
        applied[command_id] = Answer(status, sequence, time_us, encoded, request_hash)
        if len(applied) > REMEMBERED_COMMANDS:
            del applied[next(iter(applied))]
        batch.answer(connection, Response(request.number, status, sequence, time_us, msgspec.Raw(encoded)))

    def _post(self, sequence: int, events: list[AnyEvent]) -> None:
        markets = self._exchange.markets
        rows = self._batch.postings
        line = 0
        for event in events:
            if type(event) is Trade:
                lines = trade_postings(event, markets[event.market_id])
            else:
                lines = postings(event, markets)
            for account_id, asset_id, amount in lines:
                rows.append((sequence, line, account_id, asset_id, amount))
                line += 1

    def _answer_query(self, connection: Connection, request: Request) -> None:
        if request.kind == QUERY_BOOK:
            query = _book_query_decoder.decode(request.payload)
            try:
                bids, asks = self._exchange.book_levels(query.market_id, query.limit)
            except RejectedError as error:
                self._respond_rejected(connection, request, rejected_events(error))
                return
            last_price = self._exchange.markets[query.market_id].last_price
            payload = _encoder.encode(BookAnswer(query.market_id, bids, asks, last_price))
        else:
            payload = _encoder.encode(snapshot.state_hash(self._exchange))
        response = Response(request.number, ANSWERED, self._sequence, self._exchange.time_us, msgspec.Raw(payload))
        self._batch.answer(connection, response)

    # -- committing -----------------------------------------------------------------------------------------------

    def _schedule_commit(self) -> None:
        """Commit at the end of this turn of the event loop, so that all that arrived in it shares one transaction."""
        if self._commit_task is None and not self._start_is_scheduled and self._batch.answers:
            self._start_is_scheduled = True
            self._idle.clear()
            asyncio.get_running_loop().call_soon(self._start_commit)

    def _start_commit(self) -> None:
        self._start_is_scheduled = False
        if self._commit_task is not None or self._has_failed:
            return
        batch = self._batch
        batch.balances = self._exchange.take_changed_balances()
        batch.levels = self._exchange.take_changed_levels()
        self._committing = batch
        self._batch = OpenBatch(self._monotonic_s())
        self._commit_task = asyncio.get_running_loop().create_task(self._commit(batch))

    async def _commit(self, batch: OpenBatch) -> None:
        started_s = self._monotonic_s()
        try:
            if batch.entries:
                await self._store.commit(batch.to_store(self._epoch))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - a commit that failed or may have: never guess
            self.fail(error)
            return
        if self._has_failed:
            return
        self._committing = None
        self._commit_task = None
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
        while queue and len(self._batch.entries) < self._batch_commands_max:
            self._apply(*queue.popleft())

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
            previous = self._published.get(market_id, 0)
            self._published[market_id] = last.sequence
            self._publisher.offer(
                MarketUpdate(market_id, previous, last.sequence, last.time_us, trades.get(market_id, []), bids, asks)
            )


def answer_of(entry: JournalEntry) -> Answer:
    """The answer that a journaled command was given."""
    rejected = all(type(event) is Rejected for event in decode_events(entry.events))
    return Answer(REJECTED if rejected else APPLIED, entry.sequence, entry.time_us, entry.events, entry.request_hash)
