"""Orders: placing, cancelling, replacing, amending and querying them."""
