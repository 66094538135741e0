"""Bloom filters that clients build, tested over whole columns: Parquet's split blocks, XXH64, Milvus's envelope."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from milvine.expr.errors import PlanError
from milvine.model.columns import text_lengths

Array = np.ndarray[Any, Any]

MAX_BODY_BYTES = 64 << 20
"""Milvus's default of proxy.maxBloomFilterSize."""
_MAX_BLOCKS = (128 << 20) // 32
_HEADER_BYTES = 32
_MAGIC = b"MBF1"
_INT64, _UTF8 = 1, 2
_DOMAINS = {_INT64: "int64", _UTF8: "utf8"}
_SALT = np.array(
    [0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31], np.uint32
)
_ROWS_AT_A_TIME, _BYTES_AT_A_TIME = 1 << 16, 1 << 20
_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(p)
    for p in (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
)


class BloomFilter:
    """A client's envelope, checked. Raises PlanError with Milvus's text if it is not valid."""

    def __init__(self, blob: bytes, position: int) -> None:
        _check_size(blob, position)
        reason = _fault_of(blob)
        if reason is not None:
            raise _EnvelopeError(f"bloom_match filter blob is invalid: {reason}", position)
        self.blob = blob
        self._blocks = np.frombuffer(blob, "<u4", offset=_HEADER_BYTES).reshape(-1, 8)
        self._domains = blob[28]

    def check_kind(self, data_type_name: str, *, is_text: bool, position: int) -> None:
        """Raises PlanError if the filter was made from values of another kind than the field's."""
        wanted = _UTF8 if is_text else _INT64
        if self._domains and not self._domains & wanted:
            raise _EnvelopeError(
                f"bloom_match filter blob was built from the {_DOMAINS[self._domains]} value domain but field "
                f"({data_type_name}) requires the {_DOMAINS[wanted]} domain; "
                "rebuild the filter from values of the field's type",
                position,
            )

    def has_integers(self, values: Array) -> Array:
        """bool (n,) for integers of any width."""
        if not self._domains & _INT64:
            return np.zeros(len(values), np.bool_)
        words = values.astype(np.int64).view(np.uint64).reshape(-1, 1)
        return self._has(_hashes_of_words(words))

    def has_texts(self, texts: Any) -> Array:
        """bool (n,) for a StringArray; a null is hashed as the empty text."""
        if not self._domains & _UTF8 or not len(texts):
            return np.zeros(len(texts), np.bool_)
        return self._has(_hashes_of_texts(texts))

    def _has(self, hashes: Array) -> Array:
        count = np.uint64(len(self._blocks))
        found = np.zeros(len(hashes), np.bool_)
        for start in range(0, len(hashes), _ROWS_AT_A_TIME):
            some = hashes[start : start + _ROWS_AT_A_TIME]
            blocks = self._blocks[((some >> np.uint64(32)) * count) >> np.uint64(32)]
            bits = np.uint32(1) << ((some.astype(np.uint32).reshape(-1, 1) * _SALT) >> np.uint32(27))
            found[start : start + len(some)] = ((blocks & bits) != 0).all(axis=1)
        return found


class _EnvelopeError(PlanError):
    sentinel = "invalid parameter"


def _check_size(blob: bytes, position: int) -> None:
    body = len(blob) - _HEADER_BYTES
    if body > MAX_BODY_BYTES:
        raise _EnvelopeError(
            f"bloom_match filter blob body is {body} bytes, exceeding proxy.maxBloomFilterSize ({MAX_BODY_BYTES})"
            + _advice(blob),
            position,
        )


def _advice(blob: bytes) -> str:
    """The rate of false positives at which the filter would be small enough."""
    count = int.from_bytes(blob[8:16], "little")
    if not 0 < count < 2**63:
        return ""
    rate = max(math.ceil((1 - math.exp(-count / MAX_BODY_BYTES)) ** 8 * 10_000) / 10_000, 0.0001)
    if rate > 0.05:
        return (
            f"; the declared {count} members do not fit {MAX_BODY_BYTES} bytes even at the maximum fpr 0.05 — "
            "reduce the member count or raise proxy.maxBloomFilterSize"
        )
    return (
        f"; rebuild the filter with fpr >= {rate:g} for the declared {count} members "
        "(SBBF bodies are powers of two, so a smaller fpr jumps straight to the next size)"
    )


def _fault_of(blob: bytes) -> str | None:
    if len(blob) < _HEADER_BYTES:
        return f"bloom filter blob too short: {len(blob)} bytes, need at least {_HEADER_BYTES}"
    magic = blob[:4]
    version, algorithm = (int.from_bytes(blob[i : i + 2], "little") for i in (4, 6))
    block_count, body = int.from_bytes(blob[24:28], "little"), len(blob) - _HEADER_BYTES
    if magic != _MAGIC:
        shown = "".join(chr(b) if 32 <= b < 127 else f"\\x{b:02x}" for b in magic)
        return f'bloom filter blob has invalid magic "{shown}", expected "MBF1"'
    if version != 1:
        return f"unsupported bloom filter version {version}, expected 1"
    if algorithm != 1:
        return f"unsupported bloom filter algo {algorithm}, expected 1"
    if blob[28] & ~(_INT64 | _UTF8):
        return f"bloom filter declares unknown value domains 0x{blob[28]:02x}, known bits 0x03"
    if any(blob[29:32]):
        return f"bloom filter reserved field must be 0, got {blob[29] | blob[30] | blob[31]}"
    if block_count & (block_count - 1) or not 0 < block_count <= _MAX_BLOCKS:
        return f"bloom filter num_blocks {block_count} is not a power of two in [1, {_MAX_BLOCKS}]"
    if body != block_count * 32:
        return (
            f"bloom filter body length {body} does not match num_blocks {block_count} (want {block_count * 32} bytes)"
        )
    return None


def _rotated(values: Array, bits: int) -> Array:
    return (values << np.uint64(bits)) | (values >> np.uint64(64 - bits))


def _round(state: Array, words: Array) -> Array:
    return _rotated(state + words * _P2, 31) * _P1


def _finished(state: Array) -> Array:
    state = (state ^ (state >> np.uint64(33))) * _P2
    state = (state ^ (state >> np.uint64(29))) * _P3
    finished: Array = state ^ (state >> np.uint64(32))
    return finished


def _hashes_of_words(words: Array) -> Array:
    """XXH64 with seed 0 of rows of one 8-byte word each."""
    state = np.full(len(words), _P5 + np.uint64(8), np.uint64)
    state = _rotated(state ^ _round(np.zeros_like(state), words[:, 0]), 27) * _P1 + _P4
    return _finished(state)


def _hashes_of_texts(texts: Any) -> Array:
    """XXH64 with seed 0 of the bytes of each text; texts of one length are hashed together."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, 4 * texts.offset)
    data = texts.buffers()[2]
    flat = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    lengths = text_lengths(texts)
    order = np.argsort(lengths, kind="stable")
    hashes = np.empty(len(texts), np.uint64)
    for alike in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        length = int(lengths[alike[0]])
        size = max(1, _BYTES_AT_A_TIME // max(1, length))
        for rows in (alike[start : start + size] for start in range(0, len(alike), size)):
            places = offsets[rows].astype(np.int64)[:, None] + np.arange(length)
            hashes[rows] = _hashes_of_bytes(flat[places])
    return hashes


def _hashes_of_bytes(rows: Array) -> Array:
    """XXH64 with seed 0 of each row of uint8 (n, length)."""
    count, length = rows.shape
    done = 0
    with np.errstate(over="ignore"):
        if length >= 32:
            done = length // 32 * 32
            stripes = _words(rows[:, :done], "<u8").reshape(count, -1, 4)
            start = np.array([_P1 + _P2, _P2, 0, np.uint64(0) - _P1], np.uint64)
            lanes = np.tile(start, (count, 1))
            for number in range(stripes.shape[1]):
                lanes = _round(lanes, stripes[:, number])
            rotated = [_rotated(lanes[:, lane], bits) for lane, bits in enumerate((1, 7, 12, 18))]
            state = rotated[0] + rotated[1] + rotated[2] + rotated[3]
            for lane in range(4):
                state = (state ^ _round(np.zeros_like(state), lanes[:, lane])) * _P1 + _P4
        else:
            state = np.full(count, _P5, np.uint64)
        state = state + np.uint64(length)
        while length - done >= 8:
            word = _words(rows[:, done : done + 8], "<u8")[:, 0]
            state = _rotated(state ^ _round(np.zeros_like(state), word), 27) * _P1 + _P4
            done += 8
        if length - done >= 4:
            word = _words(rows[:, done : done + 4], "<u4")[:, 0].astype(np.uint64)
            state = _rotated(state ^ (word * _P1), 23) * _P2 + _P3
            done += 4
        for column in range(done, length):
            state = _rotated(state ^ (rows[:, column].astype(np.uint64) * _P5), 11) * _P1
        return _finished(state)


def _words(rows: Array, dtype: str) -> Array:
    words: Array = np.ascontiguousarray(rows).view(dtype)
    return words
