"""A second exchange, written to be read rather than to be fast, that the real one is judged by."""
