"""The hash of random scores, against Milvus's algorithm in whole numbers."""

from __future__ import annotations

import numpy as np
import pytest

from milvine.segment.boosting import _murmur

MASK = (1 << 64) - 1


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> 64 - bits) & MASK


def _mixed(value: int) -> int:
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ value >> 33) * factor & MASK
    return value ^ value >> 33


def _reference(key: int, seed: int) -> int:
    c1, c2 = 0x87C37B91114253D5, 0x4CF5AD432745937F
    h1, h2 = key ^ seed, seed
    h1 ^= _rotated(key * c1 & MASK, 31) * c2 & MASK
    h1 = ((_rotated(h1, 27) + h2) * 5 + 0x52DCE729) & MASK
    h2 ^= _rotated(seed * c2 & MASK, 33) * c1 & MASK
    h2 = ((_rotated(h2, 31) + h1) * 5 + 0x38495AB5) & MASK
    h1, h2 = h1 ^ 16, h2 ^ 16
    h1 = (h1 + h2) & MASK
    h2 = (h2 + h1) & MASK
    return (_mixed(h1) + _mixed(h2)) & MASK


@pytest.mark.parametrize("seed", [0, 1, 126, MASK])
def test_hashes_are_those_of_milvus(seed: int) -> None:
    keys = np.array([0, 1, 42, 1 << 63, MASK], np.uint64)
    assert _murmur(keys, np.uint64(seed)).tolist() == [_reference(int(key), seed) for key in keys]
