"""The limits of growing rows: which collection is sealed next, and which writes are refused."""

from __future__ import annotations

import time
from collections.abc import Mapping

from milvine.background import Work
from milvine.config import Settings
from milvine.datanode.held_writer import HeldWriter
from milvine.datanode.writer import CollectionWriter
from milvine.errors import QuotaExceeded
from milvine.model.timestamps import physical_ms
from milvine.segment.view import Views

REFUSED_AT = 2
"""Writes are refused when growing rows reach this many times the write buffer's limit. Collections whose flush fails
may hold as much again."""


class WriteBuffer:
    """Keeps nothing: all sizes are those of the views and writers."""

    def __init__(self, settings: Settings, views: Views, flushes: Work[int]) -> None:
        """`flushes`: the failed ones, by collection."""
        self._settings = settings
        self._views = views
        self._flushes = flushes

    def check_room(self, collection_id: int, size: int) -> None:
        """Raises QuotaExceeded when the write buffer fills faster than it is sealed. `size`: bytes to write."""
        limit = self._settings.write_buffer_bytes
        # Below the limit no rows are being sealed, so waiting does not help, and the write is accepted.
        if self._views.all_growing_bytes <= limit:
            return
        if self._flushes.failure(collection_id) is None:
            growing = self._sealable_bytes()
        else:
            growing = self._views.all_growing_bytes
        if growing > limit and growing + size > REFUSED_AT * limit:
            raise QuotaExceeded(
                f"{growing} bytes of rows and deletes are not sealed yet and this write adds {size}, "
                f"the write buffer takes {REFUSED_AT * limit}; try again later"
            )

    def _sealable_bytes(self) -> int:
        """Growing bytes without those of collections whose flush fails, so that these do not take the write buffer
        from the others. Beyond the size of a refused write buffer they count again, since memory needs a bound."""
        failing = sum(map(self._views.growing_bytes, self._flushes.keys()))
        return self._views.all_growing_bytes - min(failing, REFUSED_AT * self._settings.write_buffer_bytes)

    def _is_full(self, writer: CollectionWriter) -> bool:
        return (
            writer.growing_bytes > self._settings.segment_seal_bytes
            or writer.wal_bytes > self._settings.wal_limit_bytes
        )

    def is_to_seal(self, writer: CollectionWriter) -> bool:
        """Whether a collection is to be sealed after a write to this one."""
        return self._is_full(writer) or self._is_buffer_full()

    def _is_buffer_full(self) -> bool:
        limit = self._settings.write_buffer_bytes
        return self._views.all_growing_bytes > limit and self._sealable_bytes() > limit

    def next_full(self, held_writers: Mapping[int, HeldWriter]) -> int | None:
        """A collection to seal now: its rows are too many or too old, its flush failed, or all rows are too many and it
        is the largest. One whose flush has just failed is skipped."""
        waiting, failing = self._flushes.waiting(), self._flushes.keys()
        unsealed = dict.fromkeys([*self._views.with_growing(), *failing])
        held = [(i, one) for i in unsealed if i not in waiting and (one := held_writers.get(i)) is not None]
        for collection_id, one in held:
            if self._is_full(one.writer) or self._is_old(collection_id) or collection_id in failing:
                return collection_id
        if self._views.all_growing_bytes <= self._settings.write_buffer_bytes:
            return None
        if not self._is_buffer_full():
            # Only the rows of failing collections are too many: those due for a retry are the candidates.
            held = [item for item in held if item[0] in failing]
        sizes = {collection_id: one.writer.growing_bytes for collection_id, one in held}
        largest = max(sizes, key=sizes.__getitem__, default=None)
        return largest if largest is not None and sizes[largest] else None

    def _is_old(self, collection_id: int) -> bool:
        view = self._views.current(collection_id)
        oldest = None if view is None else view.oldest_unsealed_ts
        if oldest is None:
            return False
        return time.time_ns() // 1_000_000 - physical_ms(oldest) > 1000 * self._settings.segment_seal_seconds
