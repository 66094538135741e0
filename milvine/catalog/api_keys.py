"""Changes to API keys. Checks run inside the transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import sqlalchemy as sa

from milvine.catalog import encoding, tables
from milvine.catalog.contents import Snapshot
from milvine.catalog.store import Catalog
from milvine.errors import ApiKeyAlreadyExists, ApiKeyNotFound, QuotaExceeded, UserNotFound
from milvine.model.users import ApiKey

Keys = Mapping[str, ApiKey]


def create_key(catalog: Catalog, key: ApiKey, most_keys: int, now_ms: int, check: Callable[[Snapshot], None]) -> None:
    """Also removes the user's expired keys. `check` may refuse the key.

    Raises UserNotFound, ApiKeyAlreadyExists, or QuotaExceeded if the user has `most_keys` already.
    """

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        if key.user not in snapshot.users:
            raise UserNotFound
        check(snapshot)
        kept = _without(connection, snapshot.api_keys, lambda k: k.user == key.user and k.is_expired(now_ms))
        held = [k for k in kept.values() if k.user == key.user]
        if any(k.name == key.name for k in held):
            raise ApiKeyAlreadyExists(key.user, key.name)
        if len(held) >= most_keys:
            raise QuotaExceeded("unable to add API key because the number of keys of the user has reached the limit")
        connection.execute(sa.insert(tables.api_keys).values(encoding.encode_api_key(key)))
        return replace(snapshot, api_keys={**kept, key.key_id: key})

    catalog.change(work)


def drop_key(catalog: Catalog, user: str, name: str) -> None:
    """Raises ApiKeyNotFound."""

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        kept = _without(connection, snapshot.api_keys, lambda k: (k.user, k.name) == (user, name))
        if len(kept) == len(snapshot.api_keys):
            raise ApiKeyNotFound(user, name)
        return replace(snapshot, api_keys=kept)

    catalog.change(work)


def without_user(connection: sa.Connection, keys: Keys, user: str) -> Keys:
    """The keys that are left once the user is gone."""
    return _without(connection, keys, lambda k: k.user == user)


def without_role(connection: sa.Connection, keys: Keys, role: str) -> Keys:
    """The keys once the role is gone. One that was limited to it stays limited, to no role."""
    limited = {i: k for i, k in keys.items() if k.roles is not None and role in k.roles}
    changed = {i: replace(k, roles=(k.roles or frozenset()) - {role}) for i, k in limited.items()}
    table = tables.api_keys
    for key_id, key in changed.items():
        row = encoding.encode_api_key(key)
        connection.execute(sa.update(table).where(table.c.key_id == key_id).values(roles=row["roles"]))
    return {**keys, **changed}


def _without(connection: sa.Connection, keys: Keys, is_gone: Callable[[ApiKey], bool]) -> Keys:
    gone = {key_id for key_id, key in keys.items() if is_gone(key)}
    if gone:
        connection.execute(sa.delete(tables.api_keys).where(tables.api_keys.c.key_id.in_(gone)))
    return {key_id: key for key_id, key in keys.items() if key_id not in gone}
