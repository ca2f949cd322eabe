"""Proof that a whole database is what its journal says."""
