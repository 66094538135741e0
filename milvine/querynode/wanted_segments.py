"""Which segments of each collection are wanted open, by the catalog, the views and the states of loads."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import replace

from milvine.catalog.store import Catalog
from milvine.model.collections import Collection, Database, LoadConfig
from milvine.model.properties import PartKey, PartKind
from milvine.model.schema import CollectionSchema
from milvine.model.segments import SegmentMeta
from milvine.querynode.load_state import LoadStates
from milvine.querynode.load_targets import LoadTarget, load_spec, load_target, needed_bytes, resting_config
from milvine.querynode.node import QueryNode
from milvine.segment.sealed import LoadSpec, part_sizes
from milvine.segment.view import Views


class WantedSegments:
    """The targets of all collections. It changes nothing but what the states remember of their last target."""

    def __init__(
        self,
        catalog: Catalog,
        views: Views,
        node: QueryNode,
        states: LoadStates,
        mmap_by_default: Mapping[PartKind, bool],
        *,
        serves_unlisted_fields: bool,
    ) -> None:
        self._catalog = catalog
        self._views = views
        self._node = node
        self._states = states
        self._mmap_by_default = mmap_by_default
        self.serves_unlisted_fields = serves_unlisted_fields
        self.is_closed = False
        """Nothing is wanted any more, since the process ends. The stored load configurations stay."""

    def _spec(
        self, collection: Collection, config: LoadConfig, database: Database | None, wider: CollectionSchema | None
    ) -> LoadSpec:
        spec = load_spec(
            collection,
            {} if database is None else database.properties,
            self._mmap_by_default,
            config,
            serves_unlisted_fields=self.serves_unlisted_fields,
        )
        return spec if wider is None else replace(spec, schema=wider)

    def of(self, collection: Collection, config: LoadConfig, partition_ids: frozenset[int] | None = None) -> LoadTarget:
        """The target of a configuration, or of its part for some partitions."""
        view = self._views.current(collection.collection_id)
        database = self._catalog.snapshot.databases.get(collection.database)
        state = self._states.known(collection.collection_id)
        wider = None if state is None else state.wider_schema
        return load_target(config, self._spec(collection, config, database, wider), view, partition_ids)

    def current(self, collection_id: int) -> LoadTarget | None:
        """The current target; None if nothing is to be loaded."""
        collection = self._catalog.snapshot.collections.get(collection_id)
        if collection is None or collection.load is None or self.is_closed:
            return None
        state = self._states.known(collection_id)
        if state is None:
            return self.of(collection, collection.load)
        # Asked for several times for each of perhaps a thousand segments.
        view = self._views.current(collection_id)
        database = self._catalog.snapshot.databases.get(collection.database)
        wider, is_resting = state.wider_schema, state.is_resting
        made_of = (collection, database, None if view is None else view.sealed, wider, is_resting)
        known = state.known_target
        if known is None or not all(map(operator.is_, known[0], made_of)):
            # Made of these objects alone: others may have come meanwhile.
            config = resting_config(collection.load) if is_resting else collection.load
            target = load_target(config, self._spec(collection, config, database, wider), view)
            known = state.known_target = made_of, target
        return known[1]

    def estimate(
        self, collection: Collection, config: LoadConfig, partition_ids: frozenset[int] | None = None
    ) -> list[tuple[SegmentMeta, dict[PartKey, int]]]:
        """Bytes that each part will hold once loaded, by segment, of some partitions or of all."""
        target = self.of(collection, config, partition_ids)
        return [(meta, part_sizes(meta, target.spec)) for meta in target.segments.values()]

    def needed_bytes(self, collection: Collection, config: LoadConfig) -> int:
        """Bytes that loading would add now, on all nodes."""
        target, collection_id = self.of(collection, config), collection.collection_id
        needed = needed_bytes(target, self._node.held(collection_id)).values()
        return self._node.copies(collection_id, config) * sum(needed)
