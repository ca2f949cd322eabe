"""The form of the messages."""

from __future__ import annotations

import msgspec

from rtx.api.streams.messages import DepthMessage, PartialDepthMessage, TradeMessage


def test_the_members_come_in_binances_order_with_the_events_type_first() -> None:
    trade = TradeMessage(5, "BTCUSDT", 1, "2.0", "3.0", 4, buyer_is_maker=True)
    assert msgspec.json.encode(trade) == (
        b'{"e":"trade","E":5,"s":"BTCUSDT","t":1,"p":"2.0","q":"3.0","T":4,"m":true,"M":true}'
    )
    depth = DepthMessage(5, "BTCUSDT", 1, 2, [("2.0", "3.0")], [], 77)
    assert msgspec.json.encode(depth) == (
        b'{"e":"depthUpdate","E":5,"s":"BTCUSDT","U":1,"u":2,"b":[["2.0","3.0"]],"a":[],"crc":77}'
    )
    assert msgspec.json.encode(PartialDepthMessage(9, [], [])) == b'{"lastUpdateId":9,"bids":[],"asks":[]}'
