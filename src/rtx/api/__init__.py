"""HTTP and WebSocket: what clients speak to. One folder a noun; SQL is in :mod:`rtx.store`, matching in the engine."""
