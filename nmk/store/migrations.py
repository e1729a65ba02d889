"""The schema, as the steps that led to it. A step that was released is never changed.

Plain SQL that every engine reads: TEXT and BIGINT columns, lists and maps as JSON text.
"""

from __future__ import annotations

FIRST = (
    "CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE changes (
        network TEXT NOT NULL,
        revision BIGINT NOT NULL,
        commit_id TEXT NOT NULL UNIQUE,
        at BIGINT NOT NULL,
        actor TEXT NOT NULL,
        what TEXT NOT NULL,
        PRIMARY KEY (network, revision)
    )""",
    """CREATE TABLE networks (
        name TEXT NOT NULL PRIMARY KEY,
        cidr4 TEXT,
        cidr6 TEXT,
        settings TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        deleted_at BIGINT,
        revision BIGINT NOT NULL,
        CHECK (cidr4 IS NOT NULL OR cidr6 IS NOT NULL)
    )""",
    """CREATE TABLE access_keys (
        network TEXT NOT NULL REFERENCES networks (name),
        id TEXT NOT NULL,
        secret_hash TEXT NOT NULL,
        uses BIGINT NOT NULL,
        uses_max BIGINT,
        expires_at BIGINT,
        created_at BIGINT NOT NULL,
        deleted_at BIGINT,
        revision BIGINT NOT NULL,
        PRIMARY KEY (network, id),
        CHECK (uses >= 0 AND (uses_max IS NULL OR uses <= uses_max))
    )""",
    "CREATE INDEX access_keys_revision ON access_keys (network, revision)",
    """CREATE TABLE nodes (
        network TEXT NOT NULL REFERENCES networks (name),
        identity TEXT NOT NULL,
        name TEXT NOT NULL,
        address4 TEXT,
        address6 TEXT,
        wg_key TEXT NOT NULL,
        listen_port BIGINT NOT NULL,
        lan TEXT NOT NULL,
        interval BIGINT NOT NULL,
        pinned TEXT,
        instance TEXT NOT NULL,
        observed TEXT NOT NULL,
        endpoint TEXT,
        seq BIGINT NOT NULL,
        key_id TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        deleted_at BIGINT,
        revision BIGINT NOT NULL,
        PRIMARY KEY (network, identity),
        CHECK (address4 IS NOT NULL OR address6 IS NOT NULL)
    )""",
    "CREATE INDEX nodes_revision ON nodes (network, revision)",
    "CREATE UNIQUE INDEX nodes_name ON nodes (network, name) WHERE deleted_at IS NULL",
    "CREATE UNIQUE INDEX nodes_address4 ON nodes (network, address4) WHERE deleted_at IS NULL",
    "CREATE UNIQUE INDEX nodes_address6 ON nodes (network, address6) WHERE deleted_at IS NULL",
    "CREATE UNIQUE INDEX nodes_wg_key ON nodes (network, wg_key) WHERE deleted_at IS NULL",
    "CREATE TABLE presence (identity TEXT NOT NULL PRIMARY KEY, last_seen BIGINT NOT NULL)",
)

GATEWAYS = (
    "ALTER TABLE nodes ADD COLUMN gateway TEXT NOT NULL DEFAULT '{}'",
    """CREATE TABLE ext_clients (
        network TEXT NOT NULL REFERENCES networks (name),
        id TEXT NOT NULL,
        name TEXT NOT NULL,
        gateway TEXT NOT NULL,
        public_key TEXT NOT NULL,
        address4 TEXT,
        address6 TEXT,
        issue TEXT NOT NULL,
        full_tunnel BIGINT NOT NULL,
        state TEXT NOT NULL,
        expires_at BIGINT,
        created_at BIGINT NOT NULL,
        deleted_at BIGINT,
        revision BIGINT NOT NULL,
        PRIMARY KEY (network, id),
        FOREIGN KEY (network, gateway) REFERENCES nodes (network, identity),
        CHECK (address4 IS NOT NULL OR address6 IS NOT NULL),
        CHECK (full_tunnel IN (0, 1)),
        CHECK (state IN ('enabled', 'disabled', 'expired'))
    )""",
    "CREATE INDEX ext_clients_revision ON ext_clients (network, revision)",
    "CREATE UNIQUE INDEX ext_clients_name ON ext_clients (network, name) WHERE deleted_at IS NULL",
    """CREATE UNIQUE INDEX ext_clients_address4 ON ext_clients (network, address4)
        WHERE deleted_at IS NULL""",
    """CREATE UNIQUE INDEX ext_clients_address6 ON ext_clients (network, address6)
        WHERE deleted_at IS NULL""",
    """CREATE UNIQUE INDEX ext_clients_key ON ext_clients (network, public_key)
        WHERE deleted_at IS NULL""",
)

PROTOCOL = ("ALTER TABLE nodes ADD COLUMN protocol BIGINT NOT NULL DEFAULT 1",)

ROUTERS = ("ALTER TABLE ext_clients ADD COLUMN routes TEXT NOT NULL DEFAULT '[]'",)

MIGRATIONS: tuple[tuple[str, ...], ...] = (FIRST, GATEWAYS, PROTOCOL, ROUTERS)
"""Step n leads from version n to version n + 1."""
