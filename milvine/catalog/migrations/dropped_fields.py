"""Version 4: a collection's schema names the fields that were dropped from it."""

from __future__ import annotations

import sqlalchemy as sa


def add_dropped_fields(connection: sa.Connection) -> None:
    connection.execute(sa.text("UPDATE collections SET schema = json_set(schema, '$.dropped_fields', json('[]'))"))
