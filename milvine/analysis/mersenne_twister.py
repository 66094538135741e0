"""The 64-bit Mersenne Twister of C++ (`std::mt19937_64`), of which numpy has only the 32-bit one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_WORDS, _SHIFT = 312, 156
_MASK = 2**64 - 1
_HIGH = 2**64 - 2**31
_LOW = 2**31 - 1
_TWIST = 0xB5026F5AA96619E9


def outputs(seed: int, count: int) -> npt.NDArray[np.uint64]:
    """The first `count` numbers. A negative seed is taken modulo 2**64."""
    words = [seed & _MASK]
    for i in range(1, _WORDS):
        words.append((6364136223846793005 * (words[-1] ^ (words[-1] >> 62)) + i) & _MASK)
    made: list[int] = []
    while len(made) < count:
        for i in range(_WORDS):
            mixed = (words[i] & _HIGH) | (words[(i + 1) % _WORDS] & _LOW)
            words[i] = words[(i + _SHIFT) % _WORDS] ^ (mixed >> 1) ^ (_TWIST if mixed & 1 else 0)
        made += words
    found = np.array(made[:count], np.uint64)
    found ^= (found >> np.uint64(29)) & np.uint64(0x5555555555555555)
    found ^= (found << np.uint64(17)) & np.uint64(0x71D67FFFEDA60000)
    found ^= (found << np.uint64(37)) & np.uint64(0xFFF7EEE000000000)
    return found ^ (found >> np.uint64(43))
