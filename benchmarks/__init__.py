"""Measurements of this project against its peers and its limits, each a ratio taken within one run."""
