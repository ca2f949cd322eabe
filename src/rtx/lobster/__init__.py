"""Plays recorded order flow (LOBSTER's reconstruction of NASDAQ's) through the public API.

Made orders show that a matching engine does what its authors thought of. A recorded morning shows that it does what an
exchange does: after every message the book must be the one that the exchange published.

File formats and event types: LOBSTER, "Output Structure" (lobsterdata.com).
"""
