"""Reads in pages after a load without them (`warmup: async`), one segment after another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Set
from dataclasses import replace

from milvine import metrics
from milvine.errors import MemoryLimitExceeded
from milvine.model.segments import SegmentMeta
from milvine.querynode.budget import Budget
from milvine.querynode.load_state import LoadState, Opening
from milvine.querynode.load_targets import LoadTarget, lacking_bytes
from milvine.querynode.node import QueryNode
from milvine.segment.sealed import LoadSpec, is_to_warm, part_sizes

_log = logging.getLogger(__name__)


class Warmer:
    """Opens segments anew with their pages. Segments that do not fit in memory stay mapped."""

    def __init__(
        self,
        node: QueryNode,
        budget: Budget,
        target_of: Callable[[int], LoadTarget | None],
        open_one: Callable[[int, LoadState, Opening], None],
    ) -> None:
        self._node = node
        self._budget = budget
        self._target_of = target_of
        self._open_one = open_one

    def lacking(self, collection_id: int) -> list[int]:
        """Segments whose pages are not read in yet."""
        return [i for i, one in self._node.held(collection_id).items() if is_to_warm(*one)]

    def warm_up(self, collection_id: int, state: LoadState, waiting: Set[tuple[int, int]]) -> None:
        """`waiting`: segments, with their collection, that failed and are not due for a retry."""
        for segment_id in self.lacking(collection_id):
            if (collection_id, segment_id) in waiting:
                continue
            opening = self._begin(collection_id, state, segment_id)
            if opening is not None:
                self._open_one(collection_id, state, opening)

    def _begin(self, collection_id: int, state: LoadState, segment_id: int) -> Opening | None:
        with state.lock:
            target, held = self._target_of(collection_id), self._node.held_segment(collection_id, segment_id)
            if target is None or held is None or segment_id in state.working or not is_to_warm(*held):
                return None
            meta, spec = held
            needed = self._lacking_bytes(meta, spec)
            try:
                needed = state.reservations.reserve(needed)
            except MemoryLimitExceeded as error:
                _log.warning("segment %s stays mapped: %s", segment_id, error)
                metrics.mapped_for_lack_of_memory.inc()
                return None
            opening = Opening(meta, target.spec, replace(spec, warmed=True), state.generation, needed)
            state.begin(segment_id, opening)
            return opening

    def _lacking_bytes(self, meta: SegmentMeta, spec: LoadSpec) -> int:
        usage = self._budget.usage(meta.collection_id).get(meta.segment_id, {})
        return lacking_bytes(part_sizes(meta, spec), usage)
