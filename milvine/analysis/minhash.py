"""MinHash signatures of texts, equal to Milvus's bit by bit (internal/core/src/minhash)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from xxhash import xxh3_64_intdigest

from milvine.analysis.mersenne_twister import outputs
from milvine.analysis.terms import Int64, Texts, as_texts, blocks, bytes_of
from milvine.model.records import record

UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]
_PRIME_BITS = np.uint64(61)
_PRIME = np.uint64(2**61 - 1)
_BLOCK_BYTES = 1 << 20
"""Texts of about so many bytes are hashed at a time, which bounds the memory."""
_BLOCK_HASHES = 1 << 16
"""So many permuted hashes fit into a core's cache."""


@record
class Shingles:
    """How the tokens of a text become hashes: `size` neighbours at a time, or all of them if there are fewer."""

    size: int
    hashed: Callable[[memoryview, Int64, Int64], UInt64]
    """The hashes of `data[start:end]` for each start and end."""


def xxh3_hashes(data: memoryview, starts: Int64, ends: Int64) -> UInt64:
    """The low halves of XXH3's 64 bits."""
    pairs = zip(starts.tolist(), ends.tolist(), strict=True)
    found = np.fromiter((xxh3_64_intdigest(data[start:end]) for start, end in pairs), np.uint64, len(starts))
    return found & np.uint64(0xFFFFFFFF)


def sha1_hashes(data: memoryview, starts: Int64, ends: Int64) -> UInt64:
    """The first four bytes of SHA-1 as a signed number that is extended to 64 bits, as in Milvus."""
    pairs = zip(starts.tolist(), ends.tolist(), strict=True)
    digests = b"".join(hashlib.sha1(data[s:e], usedforsecurity=False).digest()[:4] for s, e in pairs)
    return np.frombuffer(digests, "<i4").astype(np.int64).view(np.uint64)


def signatures_of_terms(offsets: Int64, tokens: pa.StringArray, shingles: Shingles, count: int, seed: int) -> UInt32:
    """uint32 (n, count): the signatures of texts from their terms. `offsets` and `tokens` as of `Analyzer.tokens`."""
    data, bounds = bytes_of(tokens)
    return _signatures(data.data, bounds, offsets, shingles, _permutations(count, seed))


def signatures_of_bytes(texts: Texts, shingles: Shingles, count: int, seed: int) -> UInt32:
    """uint32 (n, count): the signatures of texts whose tokens are the bytes of their UTF-8. A missing text is empty."""
    permutations = _permutations(count, seed)
    parts = []
    for block in blocks(as_texts(texts), _BLOCK_BYTES):
        data, offsets = bytes_of(block)
        parts.append(_signatures(data.data, np.arange(len(data) + 1), offsets, shingles, permutations))
    return np.concatenate(parts)


@lru_cache(maxsize=16)
def _permutations(count: int, seed: int) -> tuple[UInt64, UInt64]:
    """Factors and summands, each uint64 (count, 1)."""
    numbers = outputs(seed, 2 * count).reshape(count, 2)
    return numbers[:, :1] % (_PRIME - np.uint64(1)) + np.uint64(1), numbers[:, 1:] % _PRIME


def _signatures(
    data: memoryview, bounds: Int64, offsets: Int64, shingles: Shingles, permutations: tuple[UInt64, UInt64]
) -> UInt32:
    """Token i is `data[bounds[i]:bounds[i + 1]]`; the tokens of text i are `offsets[i]:offsets[i + 1]`."""
    text_count, hash_count = len(offsets) - 1, len(permutations[0])
    found = np.full((text_count, hash_count), 0xFFFFFFFF, np.uint32)
    token_counts = np.diff(offsets)
    counts = np.where(token_counts == 0, 0, np.maximum(token_counts - shingles.size + 1, 1))
    firsts = np.concatenate(([0], np.cumsum(counts)))
    row = 0
    while row < text_count:
        stop = max(row + 1, int(np.searchsorted(firsts, firsts[row] + _BLOCK_HASHES, side="right")) - 1)
        kept = counts[row:stop]
        at = np.repeat(offsets[row:stop] - (firsts[row:stop] - firsts[row]), kept) + np.arange(int(kept.sum()))
        ends = np.minimum(at + shingles.size, np.repeat(offsets[row + 1 : stop + 1], kept))
        hashes = shingles.hashed(data, bounds[at], bounds[ends])
        is_filled = kept > 0
        if is_filled.any():
            starts = (firsts[row:stop] - firsts[row])[is_filled]
            found[row:stop][is_filled] = _least(hashes, starts, permutations)
        row = stop
    return found


def _least(hashes: UInt64, starts: Any, permutations: tuple[UInt64, UInt64]) -> UInt32:
    """uint32 (n, count): the least permuted hash of each text, whose hashes begin at its start."""
    factors, summands = permutations
    step = max(1, _BLOCK_HASHES // len(hashes))
    found = np.empty((len(starts), len(factors)), np.uint32)
    for first in range(0, len(factors), step):
        permuted = factors[first : first + step] * hashes
        permuted += summands[first : first + step]
        high = permuted >> _PRIME_BITS
        permuted &= _PRIME
        permuted += high
        permuted += permuted >= _PRIME  # the low 32 bits of this are those of the number less the prime
        found[:, first : first + step] = np.minimum.reduceat(permuted.astype(np.uint32), starts, axis=1).T
    return found
