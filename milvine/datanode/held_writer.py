"""A collection's writer with the locks of its flushes and merges, and the rows of a failed flush."""

from __future__ import annotations

import threading

from milvine.datanode.writer import CollectionWriter, Frozen


class HeldWriter:
    """A writer, and its frozen rows that are not flushed yet (a failed flush is retried as a whole)."""

    def __init__(self, writer: CollectionWriter) -> None:
        self.writer = writer
        self.flush_lock = threading.Lock()
        self.merge_lock = threading.Lock()
        """Held by partial upserts from read to write, so that they do not restart each other."""
        self.frozen: Frozen | None = None

    def freeze(self) -> Frozen | None:
        """Freezes all growing rows and unflushed deletes, including those of a failed flush. The caller holds the
        flush lock."""
        return self._with_failed(self.writer.freeze())

    def freeze_stopped(self) -> Frozen | None:
        """As `freeze`, of a writer that is stopped."""
        return self._with_failed(self.writer.freeze_stopped())

    def _with_failed(self, frozen: Frozen | None) -> Frozen | None:
        """Rows that were just frozen, and those of a failed flush."""
        if self.frozen is not None:
            frozen = self.frozen if frozen is None else _joined(self.frozen, frozen)
        self.frozen = frozen
        return frozen


def _joined(first: Frozen, second: Frozen) -> Frozen:
    return Frozen(
        first.segment_ids | second.segment_ids,
        first.deletes + second.deletes,
        second.checkpoint_file,
    )
