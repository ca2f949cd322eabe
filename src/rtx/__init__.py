"""RTX, a trading engine backend: order books, a double-entry ledger and a Binance-compatible API."""
