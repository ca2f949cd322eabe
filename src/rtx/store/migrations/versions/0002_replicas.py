"""Several replicas: the lease names a successor, engines report themselves, and handovers are asked for and recorded.

Everything is added with a default, so that engines of the version before go on beside it.
"""

from __future__ import annotations

from alembic import op

revision = "0002_replicas"
down_revision = "0001_exchange"
branch_labels = None
depends_on = None

UP = """
SET LOCAL lock_timeout = '5s';

-- released: the leader let go, so that a renewal of its that comes late changes nothing. fallback_colour: the colour
-- that led before, until the first leader of another one has kept its lease for a while. renewed_at: until when the
-- leader was alive for certain. previous_renewed_at: the same of the leader before.
ALTER TABLE engine_lease
    ADD COLUMN released boolean NOT NULL DEFAULT false,
    ADD COLUMN fallback_colour text NOT NULL DEFAULT '',
    ADD COLUMN successor text NOT NULL DEFAULT '',
    ADD COLUMN successor_until timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN renewed_at timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN previous_renewed_at timestamptz NOT NULL DEFAULT '-infinity';

-- What every engine says of itself, once a second.
CREATE TABLE engine_replicas (
    holder text PRIMARY KEY,
    address text NOT NULL,
    colour text NOT NULL,
    version text NOT NULL,
    rules_latest integer NOT NULL,
    state text NOT NULL CHECK (state IN ('recovering', 'following', 'leading', 'diverged', 'stopped')),
    epoch bigint NOT NULL,
    sequence bigint NOT NULL,
    checkpoint_sequence bigint NOT NULL,
    lag_rows bigint NOT NULL,
    lag_ms double precision NOT NULL,
    diverged_sequence bigint NOT NULL,
    reason text NOT NULL,
    rules integer NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Orders to hand the book over, and what became of them. The leader writes its own when it is told to stop.
CREATE TABLE engine_handovers (
    handover_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    target text NOT NULL,
    state text NOT NULL CHECK (state IN ('requested', 'released', 'taken', 'refused')),
    reason text NOT NULL DEFAULT '',
    from_epoch bigint NOT NULL,
    from_holder text NOT NULL,
    to_epoch bigint,
    to_holder text NOT NULL DEFAULT '',
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    stopped_at timestamptz,
    taken_at timestamptz,
    pause_ms double precision
);
CREATE UNIQUE INDEX engine_handovers_one_requested ON engine_handovers ((true)) WHERE state = 'requested';
"""

DOWN = """
SET LOCAL lock_timeout = '5s';
DROP TABLE engine_handovers, engine_replicas;
ALTER TABLE engine_lease DROP COLUMN released, DROP COLUMN fallback_colour, DROP COLUMN successor,
    DROP COLUMN successor_until, DROP COLUMN renewed_at, DROP COLUMN previous_renewed_at;
"""


def upgrade() -> None:
    """Add what replicas need."""
    op.execute(UP)


def downgrade() -> None:
    """Remove it; engines of this version can then not run."""
    op.execute(DOWN)
