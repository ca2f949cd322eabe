"""Public market data: what can be traded, the books, the trades and what is made of them."""
