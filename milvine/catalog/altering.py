"""Changes to properties and fields of collections, and to parameters of indexes."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from milvine.catalog import encoding, tables
from milvine.catalog.collections import insert_index, without_indexes
from milvine.catalog.contents import Snapshot
from milvine.catalog.file_resources import check_file_resources
from milvine.catalog.store import Catalog
from milvine.model.collections import Collection


def alter_collection(catalog: Catalog, collection_id: int, change: Callable[[Collection], Collection]) -> None:
    """Replaces the collection by the result of `change`; no other change comes in between.

    Schema, consistency level, properties, load configuration and the parameters of its indexes may differ, and indexes
    may be added or left out. If `change` raises, everything stays as it was.
    """

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        current = snapshot.existing(collection_id)
        following = change(current)
        if following.schema != current.schema:
            check_file_resources(snapshot, following.schema)
        connection.execute(
            sa.update(tables.collections)
            .where(tables.collections.c.collection_id == collection_id)
            .values(
                schema=encoding.encode_schema(following.schema),
                consistency_level=int(following.consistency_level),
                properties=dict(following.properties),
                load_config=encoding.encode_load(following.load),
            )
        )
        known = {i.index_id: i for i in current.indexes}
        for index in following.indexes:
            if index.index_id not in known:
                insert_index(connection, collection_id, index)
            elif index != known[index.index_id]:
                connection.execute(
                    sa.update(tables.indexes)
                    .where(tables.indexes.c.index_id == index.index_id)
                    .values(params=index.params)
                )
        gone = known.keys() - {i.index_id for i in following.indexes}
        altered = snapshot.with_collection(following)
        return without_indexes(connection, altered, collection_id, gone) if gone else altered

    catalog.change(work)
