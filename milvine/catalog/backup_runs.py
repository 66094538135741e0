"""Which runs of a server made backups of a catalog.

A run lasts from a start to its end. A catalog keeps the names of its runs, so a backup continues another one if it has
the run of that. Copies of a directory go on with different runs, and a restored directory begins without any.
"""

from __future__ import annotations

import sqlalchemy as sa

from milvine.catalog import tables

_MOST = 1000
"""Runs that are kept. A place that was not used for longer counts as that of another server."""


def note_run(connection: sa.Connection, run: str, ts: int) -> None:
    """The run becomes the newest one."""
    columns = tables.backup_runs.c
    connection.execute(sa.delete(tables.backup_runs).where(columns.run == run))
    connection.execute(sa.insert(tables.backup_runs).values(run=run, ts=ts))
    newest = sa.select(columns.run).order_by(columns.ts.desc()).limit(_MOST)
    connection.execute(sa.delete(tables.backup_runs).where(columns.run.not_in(newest)))


def read_runs(connection: sa.Connection) -> tuple[str, ...]:
    """The newest last."""
    if not sa.inspect(connection).has_table(tables.backup_runs.name):  # of a server of an earlier Milvine
        return ()
    columns = tables.backup_runs.c
    return tuple(connection.execute(sa.select(columns.run).order_by(columns.ts)).scalars())
