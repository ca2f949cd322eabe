"""Unmodified third-party clients against a running `rtx serve`, told nothing but its address."""
