"""A minute of an engine's life: commands in, a batch out, as the store gets it in production."""

from __future__ import annotations

from rtx.core.commands import (
    AnyCommand,
    CreateAsset,
    CreateMarket,
    Deposit,
    MarketFilters,
    NewOrder,
    encode_command,
)
from rtx.core.events import AnyEvent, encode_events
from rtx.core.exchange import Exchange
from rtx.core.ledger import postings
from rtx.core.vocabulary import GTC, LIMIT
from rtx.store.entries import GENESIS_HASH, Batch, JournalEntry, entry_hash

BASE, QUOTE = 1, 2
MARKET = 1
ALICE, BOB = 1001, 1002
START_US = 1_760_000_000_000_000


class Trading:
    """An exchange whose commands pile up until :meth:`take_batch`."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.exchange = Exchange()
        self.time_us = START_US
        self.sequence = 0
        self.hash = GENESIS_HASH
        self._clear()

    def _clear(self) -> None:
        self.entries: list[JournalEntry] = []
        self.events: list[list[AnyEvent]] = []
        self.postings: list[tuple[int, int, int, int, int]] = []

    def apply(self, command: AnyCommand) -> list[AnyEvent]:
        """Match a command one microsecond after the last; raises what the core raises."""
        self.time_us += 1
        events = self.exchange.apply(command, self.time_us)
        self.journal(command, events)
        return events

    def journal(self, command: AnyCommand, events: list[AnyEvent]) -> None:
        """Write a row for a command that gave these events."""
        self.sequence += 1
        command_id = self.sequence.to_bytes(16, "big")
        request_id = f"request-{self.sequence}"
        encoded_command, encoded_events = encode_command(command), encode_events(events)
        previous_hash = self.hash
        self.hash = entry_hash(
            previous_hash,
            self.sequence,
            self.epoch,
            self.time_us,
            command_id,
            request_id,
            b"",
            encoded_command,
            encoded_events,
        )
        self.entries.append(
            JournalEntry(
                self.sequence,
                self.epoch,
                self.time_us,
                command_id,
                request_id,
                b"",
                encoded_command,
                encoded_events,
                previous_hash,
                self.hash,
            )
        )
        self.events.append(events)
        lines = [posting for event in events for posting in postings(event, self.exchange.markets)]
        self.postings.extend((self.sequence, line, *posting) for line, posting in enumerate(lines))

    def take_batch(self) -> Batch:
        """Return what was applied since the last batch."""
        balances = self.exchange.take_changed_balances()
        batch = Batch(self.epoch, self.entries, self.events, balances, self.postings)
        self._clear()
        return batch

    def open_market(self) -> None:
        """One market of an asset in hundredths for one in thousandths, and two accounts with much of both."""
        self.apply(CreateAsset("BASE", 2))
        self.apply(CreateAsset("QUOTE", 3))
        self.apply(CreateMarket("BASEQUOTE", BASE, QUOTE, tick_size=100, lot_size=1, filters=MarketFilters()))
        for account_id in (ALICE, BOB):
            self.apply(Deposit(account_id, BASE, 1_000_000_000, f"base-{account_id}"))
            self.apply(Deposit(account_id, QUOTE, 1_000_000_000, f"quote-{account_id}"))

    def place(self, account_id: int, side: int, price: int, quantity: int, client_order_id: str = "") -> list[AnyEvent]:
        """Place a limit order."""
        name = client_order_id or f"order-{self.sequence}"
        return self.apply(NewOrder(account_id, MARKET, side, LIMIT, GTC, price, quantity, name))
