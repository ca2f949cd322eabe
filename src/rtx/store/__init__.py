"""Everything that the exchange keeps in PostgreSQL: all SQL of the project is in this package."""
