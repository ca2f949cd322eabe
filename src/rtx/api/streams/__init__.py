"""WebSocket market streams as Binance Spot has them (web-socket-streams.md).

One worker keeps one copy of every market (:mod:`~rtx.api.streams.market_view`), fed by the engine's updates through
Redis (:mod:`~rtx.api.streams.feed`). A stream turns what changed into one message, encoded once, and hands the
same text to every subscriber; a subscriber that cannot keep up is closed.

``depthUpdate`` has one member more than Binance's: ``crc``, the CRC-32 of the book's ten best levels after the update,
see :func:`rtx.api.streams.book.checksum`.
"""
