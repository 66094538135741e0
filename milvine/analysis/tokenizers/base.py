"""What a tokenizer is."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa

from milvine.analysis.terms import Stream


class Tokenizer(Protocol):
    def split(self, texts: pa.StringArray, with_places: bool) -> Stream: ...
