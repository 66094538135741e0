"""Bloom filters as clients build them, written from Milvus's description of the envelope."""

from __future__ import annotations

import struct
from collections.abc import Iterable

_M64, _M32 = 2**64 - 1, 2**32 - 1
_P = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
_SALT = (0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31)


def _rotated(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & _M64


def _round(state: int, word: int) -> int:
    return _rotated((state + word * _P[1]) & _M64, 31) * _P[0] & _M64


def xxh64(data: bytes) -> int:
    """With seed 0."""
    rest, state = data, _P[4]
    if len(data) >= 32:
        lanes = [(_P[0] + _P[1]) & _M64, _P[1], 0, -_P[0] & _M64]
        while len(rest) >= 32:
            lanes = [_round(lane, word) for lane, word in zip(lanes, struct.unpack("<4Q", rest[:32]), strict=True)]
            rest = rest[32:]
        state = sum(_rotated(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & _M64
        for lane in lanes:
            state = ((state ^ _round(0, lane)) * _P[0] + _P[3]) & _M64
    state = (state + len(data)) & _M64
    while len(rest) >= 8:
        state = (_rotated(state ^ _round(0, int.from_bytes(rest[:8], "little")), 27) * _P[0] + _P[3]) & _M64
        rest = rest[8:]
    if len(rest) >= 4:
        state = (_rotated(state ^ int.from_bytes(rest[:4], "little") * _P[0] & _M64, 23) * _P[1] + _P[2]) & _M64
        rest = rest[4:]
    for byte in rest:
        state = _rotated(state ^ byte * _P[4] & _M64, 11) * _P[0] & _M64
    state = (state ^ state >> 33) * _P[1] & _M64
    state = (state ^ state >> 29) * _P[2] & _M64
    return state ^ state >> 32


def bloom_filter(members: Iterable[int | str], blocks: int = 64) -> bytes:
    """An envelope that holds the members."""
    members = list(members)
    words = [[0] * 8 for _ in range(blocks)]
    domains = 0
    for member in members:
        domains |= 1 if isinstance(member, int) else 2
        value = xxh64(struct.pack("<q", member) if isinstance(member, int) else member.encode())
        block = words[(value >> 32) * blocks >> 32]
        for i, salt in enumerate(_SALT):
            block[i] |= 1 << (((value & _M32) * salt & _M32) >> 27)
    header = struct.pack("<4sHHQdIB3x", b"MBF1", 1, 1, len(members), 0.005, blocks, domains)
    return header + b"".join(struct.pack("<8I", *block) for block in words)
