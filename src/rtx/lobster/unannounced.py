"""Finds the orders that the record never announces although they are in its book.

A record of ten levels leaves out whatever happens below them. An order placed out of view comes into view, without a
message, when better levels vanish; the record then shows it, and names it for the first time when it is cancelled or
executed. That later message proves that it rested before: it entered while its price was out of view, and has been in
the book ever since. When exactly does not matter for what was visible, unless its price was out of view several times.
Then the id helps, for ids are given out in the sequence of arrival. An order that arrived during the record entered
next to those with neighbouring ids. One that arrived earlier and was not in the opening had been held back; held orders
are released in groups, which show by ids lower than that of the first message, so it entered with such a group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from rtx.lobster.record import ORDER_EVENTS, EventType, Message, Opening, Side
from rtx.lobster.translation import Place, Translation

_ROUNDS_MAX: Final = 20


class Unannounced(NamedTuple):
    """An order that has to be in the book; ``first_named`` is the number of the message that first names it."""

    order_id: int
    side: Side
    price: int
    quantity: int
    first_named: int

    def enter(self, translation: Translation) -> Place:
        """Let it rest."""
        return translation.place(self.side, self.price, self.quantity, self.order_id)


Entries = Mapping[int, Sequence[Unannounced]]
"""The orders that enter unannounced, by the number of the message after which they do."""

Edges = list[dict[Side, int | None]]
"""After each message, by side: the price of the last level in view, or None when the book has fewer levels."""


def find_entries(opening: Opening, messages: Sequence[Message]) -> Entries:
    """Say which orders enter unannounced, and when; raises :class:`~rtx.lobster.errors.RecordError`."""
    orders = _missing_orders(opening, messages)
    announced = {m.order_id: m.number for m in messages if m.event_type is EventType.SUBMISSION}
    entries: dict[int, list[Unannounced]] = {}
    # The orders found move the edge of the view for each other, so look again until nothing moves.
    for _ in range(_ROUNDS_MAX if orders else 0):
        edges = _edges(opening, messages, entries)
        found: dict[int, list[Unannounced]] = {}
        for order in orders:
            number = _entry(order, edges, announced, messages[0].order_id)
            if number:
                found.setdefault(number, []).append(order)
        if found == entries:
            break
        entries = found
    return entries


def _missing_orders(opening: Opening, messages: Sequence[Message]) -> list[Unannounced]:
    """Orders that messages act on, and that neither a message nor the opening can have brought."""
    sizes: Counter[int] = Counter()
    for message in messages[1:]:
        if message.event_type in ORDER_EVENTS and message.event_type is not EventType.SUBMISSION:
            sizes[message.order_id] += message.size
    translation = Translation()
    translation.open(opening, messages[0])
    missing: dict[int, Unannounced] = {}
    announced = {messages[0].order_id}
    for message in messages[1:]:
        order_id = message.order_id
        if message.event_type is EventType.SUBMISSION:
            announced.add(order_id)
        elif message.event_type in ORDER_EVENTS and order_id not in announced:
            resting = translation.resting(message)
            if order_id not in missing and (resting is None or resting.remaining < sizes[order_id]):
                missing[order_id] = Unannounced(order_id, message.side, message.price, sizes[order_id], message.number)
            if order_id in missing:
                continue
            sizes[order_id] -= message.size
        translation.apply(message)
    return list(missing.values())


def _edges(opening: Opening, messages: Sequence[Message], entries: Entries) -> Edges:
    translation = Translation()
    edges: Edges = []
    for message in messages:
        if edges:
            translation.apply(message)
        else:
            translation.open(opening, message)
        for order in entries.get(message.number, ()):
            order.enter(translation)
        edges.append({side: _edge(translation, side, opening.depth) for side in Side})
    return edges


def _edge(translation: Translation, side: Side, depth: int) -> int | None:
    levels = translation.book.best(side, depth)
    return levels[-1].price if len(levels) == depth else None


def _entry(order: Unannounced, edges: Edges, announced: Mapping[int, int], first_id: int) -> int:
    """The number of the message after which an order entered, or 0 when it cannot have."""
    out_of_view = [
        number
        for number, edge in enumerate((edges_after[order.side] for edges_after in edges), start=1)
        if number < order.first_named and edge is not None and order.side.is_better(edge, order.price)
    ]
    is_earlier = order.order_id < first_id
    if is_earlier and out_of_view[:1] == [1]:
        return 1
    # Ids and message numbers of those that it may have entered with.
    peers = [(peer_id, number) for peer_id, number in announced.items() if (peer_id < first_id) == is_earlier]
    peers = peers or [(first_id, 1)]
    if not is_earlier:
        peers = [min(peers, key=lambda peer: abs(peer[0] - order.order_id))]
    moments = (
        (abs(number - entered), abs(peer_id - order.order_id), number)
        for number in out_of_view
        for peer_id, entered in peers
    )
    return min(moments, default=(0, 0, 0))[2]
