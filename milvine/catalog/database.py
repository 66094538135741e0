"""What a database of a catalog has to offer. The tables and the statements are the same for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from milvine.catalog.leases import Lease
from milvine.catalog.tables import metadata
from milvine.errors import MilvineError

JSON_OPTIONS: dict[str, Any] = {
    "json_serializer": lambda value: orjson.dumps(value).decode(),
    "json_deserializer": orjson.loads,
}
"""Arguments of `sa.create_engine` for the JSON in tables."""


class CatalogDatabase(ABC):
    """A database with one writer. `source` names it in errors."""

    source: str
    engine: sa.Engine
    owner = ""
    """The name of the directories whose catalog this is, if there may be several."""
    epoch = 0
    lease: Lease | None = None

    @abstractmethod
    def opening(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that finds or creates the tables. Afterwards this process is the one writer."""

    @abstractmethod
    def changing(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that is durable after the block, or without effect if that raised."""

    @abstractmethod
    def before_upgrade(self, version: int) -> None:
        """Called when a catalog of `version` is about to be changed to another version."""

    @abstractmethod
    def write_image(self, image: Path) -> None:
        """Writes the whole catalog into a new SQLite file. Raises DiskLimitExceeded."""

    @abstractmethod
    def failed(self, error: sa.exc.DBAPIError) -> MilvineError:
        """What a failed change raises."""

    @abstractmethod
    def close(self) -> None: ...


def copy_tables(source: sa.Connection, target: sa.Connection) -> None:
    """Copies all rows into tables that are empty. Both have the version of this program."""
    for table in metadata.sorted_tables:
        rows = [dict(row) for row in source.execute(sa.select(table)).mappings()]
        if rows:
            target.execute(sa.insert(table), rows)
