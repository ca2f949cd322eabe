"""Since which journal position each market's book stands as it does.

A new leader tells every API worker where the markets stand. With these positions it can say more than "here": that
nothing happened in a market since its last change, so that a worker that has seen that change goes on without reading
the book again. Without them every worker would read every book at the moment of every handover.
"""

from __future__ import annotations

from collections.abc import Iterable

from rtx.core.events import AnyEvent, MarketCreated, OrderState


class BookPositions:
    """Belongs to an exchange in memory, while it follows the journal and while it leads."""

    def __init__(self, sequence: int) -> None:
        """Know nothing of what happened up to ``sequence``, and everything after it."""
        self._sequence = sequence
        self._changed: dict[int, int] = {}

    def follow(self, sequence: int, events: Iterable[AnyEvent]) -> None:
        """Take notice of the journal row at ``sequence``: no level changes without some order's change."""
        for event in events:
            if type(event) is OrderState or type(event) is MarketCreated:
                self._changed[event.market_id] = sequence

    def change(self, market_id: int, sequence: int) -> None:
        """Take notice of an update that was published."""
        self._changed[market_id] = sequence

    def unchanged_since(self, market_id: int) -> int:
        """The position after which nothing happened in this market."""
        return self._changed.get(market_id, self._sequence)
