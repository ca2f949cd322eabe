"""Who is calling: registration, passwords, access tokens and refresh tokens."""
