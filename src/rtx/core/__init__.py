"""The exchange as a state machine: pure, integer, deterministic.

Nothing in this package reads a clock, draws a random number, uses a float, does I/O or depends on the order of a set.
Time and identifiers come in with the command, so the same journal always gives the same state.
"""
