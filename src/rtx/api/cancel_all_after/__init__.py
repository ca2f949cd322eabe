"""Dead-man's switches: an account's orders are cancelled unless it says in time that it is still there."""
