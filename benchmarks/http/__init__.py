"""Orders through the public HTTP API, closed-loop, signed, from many connections."""
