"""Where the logs of collections are: files in the data directory."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from milvine.storage.files import remove_tree
from milvine.storage.kept_logs import KeptLogs
from milvine.storage.segment_files import SegmentPaths
from milvine.storage.wal import Wal, WalReader, remove_files_before
from milvine.storage.wal_format import Log, LogReader

FIRST_FILE = 1


class LocalLogs:
    """One directory for each collection. What leaves a log may be kept."""

    def __init__(self, paths: SegmentPaths, keep_seconds: float = 0) -> None:
        self._paths = paths
        self.kept = KeptLogs(paths, keep_seconds)

    def create(self, collection_id: int) -> Log:
        """Starts the log of a collection. Its checkpoint is FIRST_FILE."""
        return Wal(self._paths.wal(collection_id), collection_id)

    def readers(self, checkpoints: Mapping[int, int]) -> Mapping[int, LogReader]:
        """Readers by collection, each from the collection's checkpoint on."""
        return {one: WalReader(self._paths.wal(one), one, number) for one, number in checkpoints.items()}

    def remove_before(self, collection_id: int, checkpoint: int) -> None:
        """Removes what is in sealed segments. May raise OSError; the next start removes the rest."""
        self.kept.take_before(collection_id, checkpoint)
        remove_files_before(self._paths.wal(collection_id), checkpoint)

    def remove(self, collection_id: int) -> None:
        """Removes the log of a collection that has left the catalog."""
        with contextlib.suppress(OSError):  # a full disk, on which a drop must work
            self.kept.take(collection_id)
        remove_tree(self._paths.wal(collection_id))
