"""The numbers of terms in sparse vectors, as Milvus makes them."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_HASHED_BYTES = 100
_LARGEST = 2**32 - 1


def term_ids(tokens: pa.StringArray | pa.DictionaryArray) -> npt.NDArray[np.uint32]:
    """CRC-32 of the first 100 bytes of each token, modulo 2**32 - 1."""
    encoded = tokens if isinstance(tokens, pa.DictionaryArray) else tokens.dictionary_encode()
    words = encoded.dictionary.cast(pa.binary()).to_pylist()
    hashes = np.fromiter((zlib.crc32(word[:_HASHED_BYTES]) % _LARGEST for word in words), np.uint32, len(words))
    found: npt.NDArray[np.uint32] = hashes[encoded.indices.to_numpy(zero_copy_only=False)]
    return found
