"""The real PostgreSQL and Valkey behind `rtx dev`: installed by pip, started as child processes, nothing to set up.

They exist so that somebody who clones the repository trades against the same servers as production does, durable and
with a password, without knowing how to install either. Production names its own servers and never comes here.
"""

from rtx.embedded.postgresql import EmbeddedPostgresql, postgresql_program
from rtx.embedded.server import EmbeddedServer, EmbeddedServerError, Progress
from rtx.embedded.valkey import EmbeddedValkey

__all__ = [
    "EmbeddedPostgresql",
    "EmbeddedServer",
    "EmbeddedServerError",
    "EmbeddedValkey",
    "Progress",
    "postgresql_program",
]
