"""Proofs: the journal rows behind a fill, signed, for the one whose fill it is."""
