"""The order book alone, ours and others', on one and the same order flow."""
