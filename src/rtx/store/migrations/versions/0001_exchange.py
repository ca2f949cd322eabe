"""The exchange: lease, journal, snapshots, directory, orders, trades, ledger, candles, users and keys.

Column units are those of ``rtx.core``: prices in ticks, quantities in lots, amounts in smallest units, times in
microseconds since 1970 (candles: seconds).
"""

from __future__ import annotations

from alembic import op

revision = "0001_exchange"
down_revision = None
branch_labels = None
depends_on = None

UP = """
SET LOCAL lock_timeout = '5s';

-- One row. The unique index makes FOR KEY SHARE in a commit conflict with a takeover (which changes the epoch) and not
-- with a renewal (which does not).
CREATE TABLE engine_lease (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch bigint NOT NULL UNIQUE,
    holder text NOT NULL,
    address text NOT NULL,
    colour text NOT NULL,
    version text NOT NULL,
    expires_at timestamptz NOT NULL,
    acquired_at timestamptz NOT NULL
) WITH (fillfactor = 10);
INSERT INTO engine_lease (epoch, holder, address, colour, version, expires_at, acquired_at)
VALUES (0, '', '', '', '', '-infinity', '-infinity');

-- Makes a statement fail, and with it its transaction, when what it found is not what must hold.
CREATE FUNCTION rtx_require(condition boolean, message text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF condition IS NOT TRUE THEN
        RAISE EXCEPTION USING MESSAGE = message, ERRCODE = 'RTX01';
    END IF;
    RETURN true;
END
$$;

CREATE TABLE journal (
    sequence bigint PRIMARY KEY CHECK (sequence > 0),
    epoch bigint NOT NULL,
    time_us bigint NOT NULL,
    command_id bytea NOT NULL UNIQUE CHECK (octet_length(command_id) = 16),
    request_id text NOT NULL,
    request_hash bytea NOT NULL,
    command bytea NOT NULL,
    events bytea NOT NULL,
    previous_hash bytea NOT NULL,
    hash bytea NOT NULL
);
-- MessagePack and hashes do not compress; trying costs the commit.
ALTER TABLE journal ALTER COLUMN command SET STORAGE EXTERNAL, ALTER COLUMN events SET STORAGE EXTERNAL;

CREATE TABLE snapshots (
    sequence bigint PRIMARY KEY,
    journal_hash bytea NOT NULL,
    state_hash bytea NOT NULL,
    state bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE assets (
    asset_id integer PRIMARY KEY,
    symbol text NOT NULL UNIQUE,
    scale smallint NOT NULL
);

CREATE TABLE markets (
    market_id integer PRIMARY KEY,
    symbol text NOT NULL UNIQUE,
    base_asset_id integer NOT NULL REFERENCES assets,
    quote_asset_id integer NOT NULL REFERENCES assets,
    tick_size bigint NOT NULL,
    lot_size bigint NOT NULL,
    status smallint NOT NULL,
    filters jsonb NOT NULL,
    created_at_us bigint NOT NULL
);

CREATE TABLE fee_tiers (
    tier integer PRIMARY KEY,
    maker_rate_ppm integer NOT NULL,
    taker_rate_ppm integer NOT NULL
);

CREATE TABLE account_fee_tiers (
    account_id bigint PRIMARY KEY,
    tier integer NOT NULL
);

CREATE TABLE orders (
    account_id bigint NOT NULL,
    order_id bigint NOT NULL,
    created_at_us bigint NOT NULL,
    working_at_us bigint NOT NULL,
    updated_at_us bigint NOT NULL,
    price bigint NOT NULL,
    quantity bigint NOT NULL,
    executed_quantity bigint NOT NULL,
    executed_quote_quantity bigint NOT NULL,
    quote_quantity bigint NOT NULL,
    stop_price bigint NOT NULL,
    prevented_quantity bigint NOT NULL,
    created_sequence bigint NOT NULL,
    updated_sequence bigint NOT NULL,
    market_id integer NOT NULL,
    side smallint NOT NULL,
    type smallint NOT NULL,
    time_in_force smallint NOT NULL,
    status smallint NOT NULL,
    self_trade_prevention smallint NOT NULL,
    client_order_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (account_id, market_id, order_id)
) WITH (fillfactor = 80);
CREATE INDEX orders_open ON orders (account_id, market_id, order_id) WHERE status <= 1;
-- Led by the client order id, so that no plan for (account_id, market_id, order_id) can take it for the primary key.
CREATE INDEX orders_client_order_id ON orders (client_order_id, account_id, market_id);

CREATE TABLE trades (
    trade_id bigint NOT NULL,
    sequence bigint NOT NULL,
    time_us bigint NOT NULL,
    price bigint NOT NULL,
    quantity bigint NOT NULL,
    quote_quantity bigint NOT NULL,
    maker_order_id bigint NOT NULL,
    taker_order_id bigint NOT NULL,
    maker_account_id bigint NOT NULL,
    taker_account_id bigint NOT NULL,
    maker_fee bigint NOT NULL,
    taker_fee bigint NOT NULL,
    market_id integer NOT NULL,
    taker_side smallint NOT NULL,
    PRIMARY KEY (market_id, trade_id)
);
-- A time becomes a trade id through the first_trade_id of candles, so no index on time is needed.
CREATE INDEX trades_maker ON trades (maker_account_id, market_id, trade_id);
CREATE INDEX trades_taker ON trades (taker_account_id, market_id, trade_id);

CREATE TABLE postings (
    sequence bigint NOT NULL,
    account_id bigint NOT NULL,
    amount bigint NOT NULL,
    line integer NOT NULL,
    asset_id integer NOT NULL,
    PRIMARY KEY (sequence, line)
);

-- Account 1 is the world outside: it owes what was deposited and not yet withdrawn. Account 2 earns the fees.
CREATE TABLE balances (
    account_id bigint NOT NULL,
    available bigint NOT NULL,
    held bigint NOT NULL,
    updated_sequence bigint NOT NULL,
    asset_id integer NOT NULL,
    PRIMARY KEY (account_id, asset_id),
    CHECK (held >= 0 AND (available >= 0 OR account_id = 1))
) WITH (fillfactor = 50);

-- Written for intervals of 60, 3600 and 86400 s; all others are made from these, 1 s from trades.
CREATE TABLE candles (
    open_time_s bigint NOT NULL,
    open bigint NOT NULL,
    high bigint NOT NULL,
    low bigint NOT NULL,
    close bigint NOT NULL,
    trade_count bigint NOT NULL,
    first_trade_id bigint NOT NULL,
    last_trade_id bigint NOT NULL,
    market_id integer NOT NULL,
    interval_s integer NOT NULL,
    volume numeric NOT NULL,
    quote_volume numeric NOT NULL,
    taker_buy_volume numeric NOT NULL,
    taker_buy_quote_volume numeric NOT NULL,
    PRIMARY KEY (market_id, interval_s, open_time_s)
) WITH (fillfactor = 50);

CREATE TABLE users (
    user_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (START 1001),
    email text NOT NULL,
    password_hash text NOT NULL,
    role text NOT NULL CHECK (role IN ('user', 'operator')),
    disabled boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_email ON users (lower(email));

CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES users,
    family uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX refresh_tokens_family ON refresh_tokens (family);
CREATE INDEX refresh_tokens_user ON refresh_tokens (user_id);

CREATE TABLE api_keys (
    api_key text PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES users,
    label text NOT NULL,
    permissions text[] NOT NULL,
    ip_allow cidr[] NOT NULL,
    secret_encrypted bytea NOT NULL,
    encryption_key_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX api_keys_user ON api_keys (user_id);
"""

DOWN = """
SET LOCAL lock_timeout = '5s';
DROP TABLE api_keys, refresh_tokens, users, candles, balances, postings, trades, orders, account_fee_tiers, fee_tiers,
    markets, assets, snapshots, journal, engine_lease;
DROP FUNCTION rtx_require;
"""


def upgrade() -> None:
    """Create the schema."""
    op.execute(UP)


def downgrade() -> None:
    """Remove the schema and everything in it."""
    op.execute(DOWN)
