"""Version 6: API keys of users."""

from __future__ import annotations

import sqlalchemy as sa


def add_api_keys(connection: sa.Connection) -> None:
    connection.execute(
        sa.text(
            """CREATE TABLE api_keys (
                key_id VARCHAR NOT NULL, "user" VARCHAR NOT NULL, name VARCHAR NOT NULL, digest VARCHAR NOT NULL,
                roles JSON, created_ts BIGINT NOT NULL, expires_ms BIGINT NOT NULL,
                PRIMARY KEY (key_id), UNIQUE ("user", name))"""
        )
    )
