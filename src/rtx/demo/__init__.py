"""A small crowd that trades through the public API, so that somebody who just started the backend sees a market."""
