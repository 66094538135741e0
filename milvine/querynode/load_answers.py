"""Answers about loads: progress, failures, what can be read, and waiting for it. They change no load."""

from __future__ import annotations

from collections.abc import Mapping

from milvine.catalog.store import Catalog
from milvine.errors import DataIntegrityError, MilvineError
from milvine.model.collections import Collection
from milvine.model.properties import PartKey
from milvine.model.records import record
from milvine.model.segments import SegmentMeta
from milvine.querynode.budget import Budget
from milvine.querynode.load_state import LoadStates
from milvine.querynode.load_targets import oldest_first, percent_of
from milvine.querynode.node import QueryNode
from milvine.querynode.wanted_segments import WantedSegments
from milvine.segment.view import Views


@record
class LoadProgress:
    """`percent` of the bytes to be loaded that are in memory, 0..100; `is_loaded` once all are served."""

    percent: int
    is_loaded: bool


class LoadAnswers:
    """Made from the states of loads, the targets and the open segments."""

    def __init__(
        self,
        catalog: Catalog,
        views: Views,
        node: QueryNode,
        budget: Budget,
        *,
        states: LoadStates,
        wanted: WantedSegments,
    ) -> None:
        self._catalog = catalog
        self._views = views
        self._node = node
        self._budget = budget
        self._states = states
        self._wanted = wanted

    def progress(self, collection: Collection, partition_ids: frozenset[int] | None = None) -> LoadProgress:
        """The progress of the collection's load configuration, or of its part for some partitions."""
        config = collection.load
        if config is None or (partition_ids is not None and not partition_ids <= config.partition_ids):
            return LoadProgress(0, False)
        state = self._states.of(collection.collection_id)
        if state.is_loaded:
            return LoadProgress(100, True)
        opened = state.opened_bytes()
        target = self._wanted.of(collection, config, partition_ids)
        held = self._node.held(collection.collection_id)
        if target.is_open(held):  # or else the collection would be loading for a moment after its partitions are loaded
            return LoadProgress(100, True)
        return LoadProgress(percent_of(target, held, opened), False)

    def loaded(self, collection_id: int) -> list[tuple[SegmentMeta, Mapping[PartKey, int]]]:
        """Open segments that the view names, with their bytes in memory by part, oldest first."""
        view = self._views.current(collection_id)
        named = set() if view is None else {m.segment_id for m in view.sealed}
        usage = self._budget.usage(collection_id)
        metas = oldest_first(meta for i, (meta, _) in self._node.held(collection_id).items() if i in named)
        return [(meta, usage.get(meta.segment_id, {})) for meta in metas]

    def failure(self, collection_id: int) -> MilvineError | None:
        """Why the last load ended, if it failed."""
        return self._states.failures.get(collection_id)

    def damage(self) -> list[tuple[int, MilvineError]]:
        """Collections whose last load ended at a damaged file, and the errors that name it. Those that could not be
        recovered are reported elsewhere."""
        return [
            (collection_id, error)
            for collection_id, error in list(self._states.failures.items())
            if isinstance(error, DataIntegrityError) and self._views.damage(collection_id) is None
        ]

    def serves(self, collection: Collection, partition_ids: frozenset[int] | None, field_ids: frozenset[int]) -> bool:
        """Whether a read of these (None: all partitions that are to be loaded) can run now. It takes no lock."""
        state = self._states.known(collection.collection_id)
        if state is None or collection.load is None:
            return False
        if state.loaded.is_set():
            return True
        served = state.served_config
        if served is not None and (partition_ids or collection.load.partition_ids) <= served.partition_ids:
            return self._wanted.serves_unlisted_fields or field_ids & collection.schema.field_ids <= served.field_ids
        if partition_ids is None:
            return False
        target = self._wanted.of(collection, collection.load, partition_ids)
        return target.is_open(self._node.held(collection.collection_id))

    def changes(self, collection_id: int) -> int:
        """The number of changes that a read of the collection may wait for. It takes no lock."""
        state = self._states.known(collection_id)
        return 0 if state is None else state.changes

    def wait_for_change(self, collection_id: int, seen: int, deadline: float) -> bool:
        """Waits until `changes` is no longer `seen`; False if it still is at `deadline` (time.monotonic)."""
        return self._states.of(collection_id).wait_for_change(seen, deadline)

    def wait_loaded(self, collection_id: int, timeout: float) -> bool:
        """Waits until the collection is loaded; False if it is not in time."""
        return self._states.of(collection_id).loaded.wait(timeout)

    def all_loaded(self) -> bool:
        """Whether all collections loaded when the process ended are loaded again, or no longer to be loaded."""
        collections = self._catalog.snapshot.collections
        for collection_id in list(self._states.resuming):
            collection = collections.get(collection_id)
            if collection is None or collection.load is None or self._states.of(collection_id).is_loaded:
                self._states.resuming.discard(collection_id)
        return not self._states.resuming

    def is_resting(self, collection_id: int) -> bool:
        state = self._states.known(collection_id)
        return state is not None and state.is_resting

    def comes_back(self, collection_id: int) -> bool:
        """Whether the collection rests, or is being opened after its rest."""
        state = self._states.known(collection_id)
        return state is not None and (state.is_resting or state.is_waking)
