"""Texts as sparse vectors: how often each term is in each text."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from milvine.analysis.hashes import term_ids
from milvine.analysis.terms import Int64
from milvine.model.sparse_vectors import SparseVectors

_ID_BITS = 32


def term_frequencies(offsets: Int64, tokens: pa.StringArray) -> SparseVectors:
    """A vector for each text, with the ids of its terms as indices. `offsets` and `tokens` as of `Analyzer.tokens`."""
    text_count = len(offsets) - 1
    texts = np.repeat(np.arange(text_count, dtype=np.uint64), np.diff(offsets))
    pairs, counts = np.unique(texts << np.uint64(_ID_BITS) | term_ids(tokens), return_counts=True)
    starts = np.searchsorted(pairs, np.arange(text_count + 1, dtype=np.uint64) << np.uint64(_ID_BITS))
    return SparseVectors(starts.astype(np.int64), pairs.astype(np.uint32), counts.astype(np.float32))
