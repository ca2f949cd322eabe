"""Double entry: how ownership moves with each event.

A posting is (account id, asset id, amount in smallest units); the postings of one event add up to zero per asset. What
is held for open orders stays its owner's, so placing and cancelling post nothing.
"""

from __future__ import annotations

from rtx.core.events import AnyEvent, Deposited, Trade, Withdrawn
from rtx.core.market import Market
from rtx.core.vocabulary import BUY, EXTERNAL_ACCOUNT_ID, FEE_ACCOUNT_ID

Posting = tuple[int, int, int]


def postings(event: AnyEvent, markets: dict[int, Market]) -> list[Posting]:
    """The postings of one event; empty where nothing changes hands."""
    if type(event) is Trade:
        return trade_postings(event, markets[event.market_id])
    if type(event) is Deposited:
        return [
            (EXTERNAL_ACCOUNT_ID, event.asset_id, -event.amount),
            (event.account_id, event.asset_id, event.amount),
        ]
    if type(event) is Withdrawn:
        return [
            (event.account_id, event.asset_id, -event.amount),
            (EXTERNAL_ACCOUNT_ID, event.asset_id, event.amount),
        ]
    return []


def trade_postings(trade: Trade, market: Market) -> list[Posting]:
    """Base to the buyer, quote to the seller, and of each what the exchange keeps as its fee."""
    if trade.taker_side == BUY:
        buyer, base_fee = trade.taker_account_id, trade.taker_fee
        seller, quote_fee = trade.maker_account_id, trade.maker_fee
    else:
        buyer, base_fee = trade.maker_account_id, trade.maker_fee
        seller, quote_fee = trade.taker_account_id, trade.taker_fee
    base, quote = market.base_asset_id, market.quote_asset_id
    base_amount = trade.quantity * market.lot_size
    quote_amount = trade.quote_quantity
    lines = [
        (seller, base, -base_amount),
        (buyer, base, base_amount - base_fee),
        (buyer, quote, -quote_amount),
        (seller, quote, quote_amount - quote_fee),
    ]
    if base_fee:
        lines.append((FEE_ACCOUNT_ID, base, base_fee))
    if quote_fee:
        lines.append((FEE_ACCOUNT_ID, quote, quote_fee))
    return lines
