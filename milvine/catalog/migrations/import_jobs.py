"""Version 10: import jobs."""

from __future__ import annotations

import sqlalchemy as sa


def add_import_jobs(connection: sa.Connection) -> None:
    connection.execute(
        sa.text(
            """CREATE TABLE import_jobs (
                job_id BIGINT NOT NULL, collection_id BIGINT NOT NULL, collection_name VARCHAR NOT NULL,
                database VARCHAR NOT NULL, partition_id BIGINT NOT NULL, files JSON NOT NULL, options JSON NOT NULL,
                created_ms BIGINT NOT NULL, state VARCHAR NOT NULL, reason VARCHAR NOT NULL,
                ended_ms BIGINT NOT NULL, row_count BIGINT NOT NULL, stats JSON NOT NULL, segments JSON NOT NULL,
                PRIMARY KEY (job_id))"""
        )
    )
