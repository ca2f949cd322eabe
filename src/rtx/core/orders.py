"""An order as the exchange knows it: what the book needs to match it, and what its owner is told of it."""

from __future__ import annotations

from typing import Any, Final

from rtx.core.accounts import Balance
from rtx.core.book import BookOrder
from rtx.core.events import OrderState
from rtx.core.vocabulary import NEW, PassedOn

# For the compiled form a final name of its own module is nearer than an imported one.
_OrderState: Final = OrderState


class Order(BookOrder):
    """An order that is open or being worked on; fields as in :class:`~rtx.core.events.OrderState`.

    ``balance`` is where its money is held, ``open_orders`` the list of its account's orders in its market, by client
    order id, in which it stands; both are None while nothing is held and it stands in none. ``terms`` are the fields of
    the command that placed it, as they came: telling them again then makes no new objects (of the quantity and the
    client order id, which an amendment changes, the order has its own).
    """

    __slots__ = (
        "balance",
        "client_order_id",
        "created_at_us",
        "executed_quantity",
        "executed_quote_quantity",
        "market_id",
        "open_orders",
        "quantity",
        "stop_price",
        "terms",
        "time_in_force",
        "type",
        "working_at_us",
    )

    def __init__(  # noqa: PLR0917 - once for every order, and keywords cost time
        self,
        order_id: PassedOn,
        terms: tuple[Any, ...],
        account_id: int,
        market_id: int,
        side: int,
        order_type: int,
        time_in_force: int,
        price: int,
        quantity: int,
        client_order_id: str,
        created_at_us: PassedOn,
        working_at_us: PassedOn,
        quote_quantity: int,
        stop_price: int,
        self_trade_prevention: int,
    ) -> None:
        # All fields here, instead of a call to the base: this happens once for every order.
        self.order_id = order_id
        self.terms = terms
        self.account_id = account_id
        self.market_id = market_id
        self.side = side
        self.type = order_type
        self.time_in_force = time_in_force
        self.status = NEW
        self.price = price
        self.quantity = quantity
        self.remaining = quantity
        self.executed_quantity = 0
        self.executed_quote_quantity = 0
        self.client_order_id = client_order_id
        self.created_at_us: PassedOn = created_at_us
        self.working_at_us: PassedOn = working_at_us
        self.quote_quantity = quote_quantity
        self.stop_price = stop_price
        self.self_trade_prevention = self_trade_prevention
        self.prevented_quantity = 0
        self.balance: Balance | None = None
        self.open_orders: dict[str, Order] | None = None
        self.level = None
        self.previous = None
        self.next = None

    def state(self, is_new: bool) -> OrderState:
        """The public record of the order as it is now."""
        terms = self.terms
        return _OrderState(
            self.order_id,
            terms[0],
            terms[1],
            terms[2],
            terms[3],
            terms[4],
            self.status,
            terms[5],
            self.quantity,
            self.executed_quantity,
            self.executed_quote_quantity,
            self.client_order_id,
            self.created_at_us,
            self.working_at_us,
            terms[8],
            terms[9],
            terms[10],
            self.prevented_quantity,
            is_new,
        )
