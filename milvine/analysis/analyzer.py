"""An analyzer: a tokenizer, then filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from milvine.analysis.filters.base import Filter
from milvine.analysis.terms import Int64, Stream, Terms, Texts, as_texts, blocks, concatenated
from milvine.analysis.tokenizers.base import Tokenizer

_BLOCK_BYTES = 4 << 20
"""So much text is analyzed at a time, which bounds the memory."""


@dataclass(frozen=True)
class Analyzer:
    tokenizer: Tokenizer
    filters: Sequence[Filter] = ()

    def terms(self, texts: Texts) -> Terms:
        """The terms of each text with their places; none of a missing one."""
        stream = self.stream(as_texts(texts), with_places=True)
        assert stream.places is not None
        return Terms(stream.offsets, stream.tokens(), *stream.places)

    def tokens(self, texts: Texts) -> tuple[Int64, pa.StringArray]:
        """`offsets` and `tokens` of `terms`, at less cost."""
        stream = self.stream(as_texts(texts), with_places=False)
        return stream.offsets, stream.tokens()

    def stream(self, texts: pa.StringArray, with_places: bool) -> Stream:
        """The terms of texts none of which is missing."""
        parts = [self._part(block, with_places) for block in blocks(texts, _BLOCK_BYTES)]
        return parts[0] if len(parts) == 1 else concatenated(parts, with_places)

    def _part(self, texts: pa.StringArray, with_places: bool) -> Stream:
        found = self.tokenizer.split(texts, with_places)
        for token_filter in self.filters:
            found = token_filter.apply(found)
        return found
