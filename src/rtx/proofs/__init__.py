"""Proof of a trade: the journal rows that made it, signed by the exchange and checked by anybody."""
