"""Version 12: the runs of servers that made backups."""

from __future__ import annotations

import sqlalchemy as sa


def add_backup_runs(connection: sa.Connection) -> None:
    connection.execute(
        sa.text("CREATE TABLE backup_runs (run VARCHAR NOT NULL, ts BIGINT NOT NULL, PRIMARY KEY (run))")
    )
