"""Version 5: roles, the users who have them, grants, and groups of privileges.

Users could do everything before there were roles, so they get the role admin.
"""

from __future__ import annotations

import sqlalchemy as sa

_STATEMENTS = (
    "CREATE TABLE roles (name VARCHAR NOT NULL, description VARCHAR NOT NULL, PRIMARY KEY (name))",
    "CREATE TABLE user_roles (user VARCHAR NOT NULL, role VARCHAR NOT NULL, PRIMARY KEY (user, role))",
    """CREATE TABLE grants (
        role VARCHAR NOT NULL, object_type VARCHAR NOT NULL, object_name VARCHAR NOT NULL, "database" VARCHAR NOT NULL,
        privilege VARCHAR NOT NULL, grantor VARCHAR NOT NULL,
        PRIMARY KEY (role, object_type, object_name, "database", privilege))""",
    "CREATE TABLE privilege_groups (name VARCHAR NOT NULL, privileges JSON NOT NULL, PRIMARY KEY (name))",
    "INSERT INTO roles VALUES ('admin', ''), ('public', '')",
    "INSERT INTO user_roles SELECT name, 'admin' FROM users WHERE name != 'root'",
)


def add_roles(connection: sa.Connection) -> None:
    for statement in _STATEMENTS:
        connection.execute(sa.text(statement))
