"""The memory reserved for the loads of one collection, by segment, before files are read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Set
from dataclasses import replace

from milvine import metrics
from milvine.errors import MemoryLimitExceeded
from milvine.model.properties import PartKey
from milvine.model.segments import SegmentMeta
from milvine.querynode.budget import Budget
from milvine.querynode.load_targets import lacking_bytes
from milvine.segment.sealed import LoadSpec, part_sizes

_log = logging.getLogger(__name__)


class Reservations:
    """Reservations of segments whose opening has not started. An opening takes its bytes from here, owns them while it
    runs, and ends with `Budget.settle`, `take_back` or `give_back`.

    The caller holds the lock of the collection's LoadState.
    """

    def __init__(
        self,
        budget: Budget,
        collection_id: int,
        names: Callable[[], Mapping[int, str]],
        copies: Callable[[], int] = lambda: 1,
    ) -> None:
        """`names`: the collections that a refusal may list. `copies`: how many nodes open each segment."""
        self._copies = copies
        self._budget = budget
        self._collection_id = collection_id
        self._names = names
        self._planned: dict[int, int] = {}

    @property
    def planned_bytes(self) -> int:
        return sum(self._planned.values())

    def plan(self, needed: Mapping[int, int], copies: int = 1) -> None:
        """Reserves bytes by segment, for so many copies, in place of the plan. Raises MemoryLimitExceeded with nothing
        changed."""
        needed = {i: copies * size for i, size in needed.items()}
        total, before = sum(needed.values()), self.planned_bytes
        self._budget.reserve(self._collection_id, total, self._names, instead_of=before)
        self._planned = {i: size for i, size in needed.items() if size}

    def plan_more(self, segment_id: int, needed_bytes: int) -> None:
        """Reserves bytes for a further segment. Raises MemoryLimitExceeded with nothing changed."""
        needed_bytes *= self._copies()
        before = self._planned.get(segment_id, 0)
        self._budget.reserve(self._collection_id, needed_bytes, self._names, instead_of=before)
        self._planned[segment_id] = needed_bytes

    def reserve(self, needed_bytes: int) -> int:
        """Reserves bytes for an opening without a plan; returns those of all copies. Raises MemoryLimitExceeded."""
        needed_bytes *= self._copies()
        self._budget.reserve(self._collection_id, needed_bytes, self._names)
        return needed_bytes

    def take(self, meta: SegmentMeta, spec: LoadSpec, held: Mapping[PartKey, int]) -> tuple[int, LoadSpec]:
        """Bytes for an opening, and the spec to open with them: without scalar indexes, or else mapped, if plan and
        free memory do not suffice. The plan of a load always suffices."""
        planned = self._planned.pop(meta.segment_id, 0)
        for attempt in (spec, replace(spec, without_scalar_indexes=True)):
            needed = self._copies() * lacking_bytes(part_sizes(meta, attempt), held)
            try:
                self._budget.reserve(self._collection_id, needed, self._names, instead_of=planned)
            except MemoryLimitExceeded as error:
                failure = error
            else:
                return needed, attempt
        self.give_back(planned)
        _log.warning("segment %s is opened mapped: %s", meta.segment_id, failure)
        metrics.mapped_for_lack_of_memory.inc()
        return 0, replace(spec, mapped=True)

    def take_back(self, segment_id: int, reserved_bytes: int) -> None:
        """Returns the bytes of an opening that is to run again to its plan, unless it has a new plan."""
        if segment_id in self._planned:
            self.give_back(reserved_bytes)
        elif reserved_bytes:
            self._planned[segment_id] = reserved_bytes

    def give_back(self, reserved_bytes: int) -> None:
        self._budget.give_back(self._collection_id, reserved_bytes)

    def keep(self, segment_ids: Set[int]) -> None:
        """Returns the planned bytes of all segments but these."""
        for segment_id in self._planned.keys() - segment_ids:
            self.give_back(self._planned.pop(segment_id))
