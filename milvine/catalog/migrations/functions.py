"""Version 7: a collection's schema has functions, and a field names the type of the function that makes it."""

from __future__ import annotations

import sqlalchemy as sa


def add_functions(connection: sa.Connection) -> None:
    connection.execute(sa.text("UPDATE collections SET schema = json_set(schema, '$.functions', json('[]'))"))
