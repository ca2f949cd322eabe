"""The keys with which a user's programs sign their requests."""
