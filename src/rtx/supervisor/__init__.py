"""Keeps the processes of one backend alive: one engine, several API workers, the metrics. None of them outlives it."""
