"""Version 11: the history of collections."""

from __future__ import annotations

import sqlalchemy as sa


def add_history(connection: sa.Connection) -> None:
    connection.execute(
        sa.text(
            """CREATE TABLE history (
                entry_id BIGINT NOT NULL, ts BIGINT NOT NULL, collection_id BIGINT NOT NULL, collection JSON,
                gained JSON NOT NULL, emptied_at BIGINT, PRIMARY KEY (entry_id))"""
        )
    )
