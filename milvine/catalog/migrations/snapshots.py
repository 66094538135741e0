"""Version 9: snapshots of collections, their pins, and restore jobs."""

from __future__ import annotations

import sqlalchemy as sa

_STATEMENTS = (
    """CREATE TABLE snapshots (
        snapshot_id BIGINT NOT NULL, collection_id BIGINT NOT NULL, name VARCHAR NOT NULL, description VARCHAR NOT NULL,
        created_ts BIGINT NOT NULL, collection JSON NOT NULL, segments JSON NOT NULL, deltas JSON NOT NULL,
        protected_until_ms BIGINT NOT NULL, PRIMARY KEY (snapshot_id), UNIQUE (collection_id, name))""",
    """CREATE TABLE snapshot_pins (
        pin_id BIGINT NOT NULL, snapshot_id BIGINT NOT NULL, expires_ms BIGINT NOT NULL, PRIMARY KEY (pin_id))""",
    "CREATE INDEX ix_snapshot_pins_snapshot_id ON snapshot_pins (snapshot_id)",
    """CREATE TABLE restore_jobs (
        job_id BIGINT NOT NULL, snapshot_id BIGINT NOT NULL, snapshot_name VARCHAR NOT NULL,
        collection_id BIGINT NOT NULL, database VARCHAR NOT NULL, collection_name VARCHAR NOT NULL,
        state INTEGER NOT NULL, reason VARCHAR NOT NULL, started_ms BIGINT NOT NULL, ended_ms BIGINT NOT NULL,
        PRIMARY KEY (job_id))""",
)


def add_snapshots(connection: sa.Connection) -> None:
    for statement in _STATEMENTS:
        connection.execute(sa.text(statement))
