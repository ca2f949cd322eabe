"""A client that keeps a book as Binance's document says ("How to manage a local order book correctly")."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec


class RecipeClient:
    """Subscribes, buffers, takes a snapshot, follows. ``gaps`` counts how often it had to begin again.

    With :meth:`move` it goes on at another worker: from what it holds, if it holds a book and is let.
    """

    is_combined = False

    def __init__(self) -> None:
        self.update_id: int | None = None
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self.buffer: list[dict[str, Any]] = []
        self.gaps = 0
        self.wants_snapshot = True
        self.last_told: int | None = None
        self.broken_chains = 0
        self.resumes = 0

    def offer(self, text: str) -> None:
        """A message of the stream."""
        event = msgspec.json.decode(text)
        assert event["e"] == "depthUpdate"
        assert event["U"] <= event["u"]
        if self.last_told is not None and event["U"] != self.last_told + 1:
            self.broken_chains += 1
        self.last_told = event["u"]
        if self.update_id is None:
            self.buffer.append(event)
        else:
            self._follow(event)

    def move(self) -> int | None:
        """The connection is gone; gives the update id to resume from, None when there is no book yet."""
        self.buffer = []
        self.last_told = None
        if self.update_id is None:
            self.wants_snapshot = True
        return self.update_id

    def resumed(self) -> None:
        """The new connection goes on from what :meth:`move` gave: exactly from there."""
        self.resumes += 1
        self.last_told = self.update_id

    def begin_again(self) -> None:
        """The new connection does not go on."""
        self.update_id = None
        self.last_told = None
        self.buffer = []
        self.wants_snapshot = True

    def take_snapshot(self, update_id: int, bids: dict[str, str], asks: dict[str, str]) -> None:
        """The answer to GET /api/v3/depth."""
        if self.buffer and update_id < self.buffer[0]["U"]:
            self.wants_snapshot = True
            return
        self.update_id, self.bids, self.asks = update_id, dict(bids), dict(asks)
        buffered, self.buffer = self.buffer, []
        for event in buffered:
            if event["u"] > update_id:
                self._follow(event)

    def _follow(self, event: dict[str, Any]) -> None:
        if self.update_id is None:
            self.buffer.append(event)
            return
        if event["u"] < self.update_id:
            return
        if event["U"] > self.update_id + 1:
            self.gaps += 1
            self.update_id = None
            self.wants_snapshot = True
            self.buffer = [event]
            return
        for side, changes in ((self.bids, event["b"]), (self.asks, event["a"])):
            for price, quantity in changes:
                if float(quantity):
                    side[price] = quantity
                else:
                    side.pop(price, None)
        self.update_id = event["u"]
        assert self.checksum() == event["crc"]

    def checksum(self) -> int:
        """Ours, from the description alone."""
        asks = sorted(self.asks.items(), key=lambda level: float(level[0]))[:10]
        bids = sorted(self.bids.items(), key=lambda level: -float(level[0]))[:10]
        text = "".join(
            price.replace(".", "").lstrip("0") + quantity.replace(".", "").lstrip("0")
            for price, quantity in asks + bids
        )
        return zlib.crc32(text.encode())
