"""AISAQ: as DISKANN, with the codes mapped too, so that it takes no memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss

from milvine.index import dense
from milvine.index.types.diskann import Diskann


class Aisaq(Diskann):
    name = "AISAQ"

    def _codes(self, payload: memoryview, path: Path) -> tuple[Any, int]:
        codes, buffer = dense.read(payload, path, faiss.IndexScalarQuantizer)
        codes.referenced_objects = [buffer]
        return codes, 0

    def memory_bytes(self, file_bytes: int, row_count: int, dim: int) -> int:
        return 0


TYPE = Aisaq()
