"""The connection between API workers and the engine: its frames and both of its ends."""
