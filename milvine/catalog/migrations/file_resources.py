"""Version 8: file resources."""

from __future__ import annotations

import sqlalchemy as sa


def add_file_resources(connection: sa.Connection) -> None:
    connection.execute(
        sa.text(
            """CREATE TABLE file_resources (
                resource_id BIGINT NOT NULL, name VARCHAR NOT NULL, path VARCHAR NOT NULL, file_bytes BIGINT NOT NULL,
                PRIMARY KEY (resource_id), UNIQUE (name))"""
        )
    )
