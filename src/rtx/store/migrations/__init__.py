"""The schema as a chain of Alembic revisions, each plain SQL; :mod:`rtx.store.migrate` runs them."""
