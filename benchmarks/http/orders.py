"""The orders that are sent: drawn and signed ahead, so that the measured loop only moves bytes.

Of all orders, ``CROSSING_SHARE`` reach through the whole spread and trade at once (IOC: what finds nobody expires), the
others rest near the middle. Crossing orders are larger, so that they take at least what the others bring: the book
stays shallow and no account comes near its limit of open orders.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from benchmarks.http.accounts import JsonClient, SetupError, Trader

CROSSING_SHARE = 0.4
CROSSING_SIZE_FACTOR = 2
BAND_TICKS = 20
LARGEST_SIZE_STEPS = 5
RECEIVE_WINDOW_MS = 60_000
NOTIONAL_MARGIN = Decimal("1.05")
"""Times the least notional, so that the lowest price of the band still reaches it."""


@dataclass(frozen=True, slots=True)
class MarketRules:
    """What an order of this market must keep to, and the middle round which orders are placed.

    Prices in quote per base, quantities in base. ``size_step`` is a whole number of lots worth at least the least
    notional.
    """

    symbol: str
    base_asset: str
    quote_asset: str
    tick_size: Decimal
    size_step: Decimal
    middle: Decimal


def read_market_rules(client: JsonClient, symbol: str, middle_if_untraded: Decimal) -> MarketRules:
    """Ask the API for the market's filters and for its last price."""
    [market] = client.call("GET", f"/api/v3/exchangeInfo?symbol={symbol}")["symbols"]
    filters: dict[str, dict[str, Any]] = {each["filterType"]: each for each in market["filters"]}
    tick_size = Decimal(filters["PRICE_FILTER"]["tickSize"])
    lot = Decimal(filters["LOT_SIZE"]["stepSize"])
    notional_filter = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL") or {"minNotional": "0"}
    middle = _last_price(client, symbol) or middle_if_untraded
    middle = (middle / tick_size).to_integral_value(ROUND_FLOOR) * tick_size
    if middle <= 2 * BAND_TICKS * tick_size:
        raise SetupError(f"{symbol}: the middle {middle} leaves no room for {BAND_TICKS} ticks of {tick_size}")
    least = max(
        Decimal(filters["LOT_SIZE"]["minQty"]), Decimal(notional_filter["minNotional"]) * NOTIONAL_MARGIN / middle
    )
    size_step = max((least / lot).to_integral_value(ROUND_CEILING), Decimal(1)) * lot
    return MarketRules(symbol, market["baseAsset"], market["quoteAsset"], tick_size, size_step, middle)


def _last_price(client: JsonClient, symbol: str) -> Decimal | None:
    try:
        price = Decimal(client.call("GET", f"/api/v3/ticker/price?symbol={symbol}")["price"])
    except SetupError:  # a market without a trade may have no price to tell
        return None
    return price or None


def sign_orders(
    rules: MarketRules, traders: Sequence[Trader], count: int, host: str, source: random.Random
) -> list[bytes]:
    """Draw and sign ``count`` orders as whole HTTP requests; they are good for ``RECEIVE_WINDOW_MS`` from now.

    Traders take turns. The same state of ``source`` draws the same orders.
    """
    heads = [_request_head(trader, host) for trader in traders]
    keys = [trader.secret_key.encode() for trader in traders]
    buys, sells = _order_bodies(rules)
    tail = f"&recvWindow={RECEIVE_WINDOW_MS}&timestamp={time.time_ns() // 1_000_000}".encode()
    requests = []
    for index in range(count):
        trader = index % len(traders)
        parameters = source.choice(source.choice((buys, sells))) + tail
        signature = hmac.digest(keys[trader], parameters, hashlib.sha256).hex()
        body = b"%b&signature=%b" % (parameters, signature.encode())
        requests.append(heads[trader] % len(body) + body)
    return requests


def _request_head(trader: Trader, host: str) -> bytes:
    """Everything before the body, with a place for the body's length."""
    return (
        f"POST /api/v3/order HTTP/1.1\r\nHost: {host}\r\nX-MBX-APIKEY: {trader.api_key}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n"
    ).encode()


def _order_bodies(rules: MarketRules) -> tuple[list[bytes], list[bytes]]:
    """Parameters of buys and of sells, each kind as often as it shall be drawn."""
    crossing_repeats = 10 * CROSSING_SHARE
    bodies: dict[str, list[bytes]] = {"BUY": [], "SELL": []}
    for side, toward_mid in (("BUY", -1), ("SELL", 1)):
        for distance in range(1, BAND_TICKS + 1):
            for steps in range(1, LARGEST_SIZE_STEPS + 1):
                resting = _parameters(rules, side, "GTC", toward_mid * distance, steps)
                crossing = _parameters(rules, side, "IOC", -toward_mid * BAND_TICKS, CROSSING_SIZE_FACTOR * steps)
                bodies[side] += [resting] * round(10 - crossing_repeats) + [crossing] * round(crossing_repeats)
    return bodies["BUY"], bodies["SELL"]


def _parameters(rules: MarketRules, side: str, time_in_force: str, offset_ticks: int, steps: int) -> bytes:
    price = rules.middle + offset_ticks * rules.tick_size
    return (
        f"symbol={rules.symbol}&side={side}&type=LIMIT&timeInForce={time_in_force}"
        f"&quantity={steps * rules.size_step:f}&price={price:f}"
    ).encode()
