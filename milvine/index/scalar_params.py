"""Definitions of scalar indexes: their types and parameters, checked in Milvus's order and words.

The type is the one the user asked for, and is described as such.
"""

from __future__ import annotations

from collections.abc import Mapping

from milvine.errors import ParameterInvalid
from milvine.index.params import AUTOINDEX, ResolvedIndex, check_size
from milvine.index.registry import TYPES
from milvine.index.scalar_registry import SCALAR_TYPES
from milvine.index.scalar_type import ScalarType
from milvine.model.properties import WARMUP_PROPERTY, check_warmup
from milvine.model.schema import FieldSchema, flatten_params

JSON_PATH = "json_path"

_MMAP, _OFFSET_CACHE = "mmap.enabled", "indexoffsetcache.enabled"


def resolve_scalar(field: FieldSchema, params: Mapping[str, str]) -> ResolvedIndex:
    """Checks an index for a field that is not a vector. Raises ParameterInvalid and ParameterMissing."""
    flat = flatten_params(params)
    check_size(flat)
    name = flat.get("index_type", "") or AUTOINDEX
    index_type = SCALAR_TYPES.get(name)
    _check_flags(name, index_type, flat)
    if WARMUP_PROPERTY in flat:
        check_warmup(flat[WARMUP_PROPERTY], "invalid warmup params: ")
    if index_type is None:
        if name in TYPES:
            raise ParameterInvalid(f"index {name} only supports vector data type")
        raise ParameterInvalid(expected="valid index", actual=f"invalid index type: {name}")
    index_type.check_field(field)
    return ResolvedIndex(name, None, name, index_type.build_params(field, flat), dict(params))


def _check_flags(name: str, index_type: ScalarType | None, flat: Mapping[str, str]) -> None:
    can_map = index_type is None or index_type.can_map
    has_cache = index_type is not None and index_type.has_offset_cache
    for key, can_be_on, refusal, what in (
        (_MMAP, can_map, f"index type {name} does not support mmap", "mmap type"),
        (_OFFSET_CACHE, has_cache, f"only bitmap index support {_OFFSET_CACHE} now", "offset cache index"),
    ):
        given = flat.get(key)
        if given is None:
            continue
        reason = f"invalid {key} value: {given}, expected: true, false"
        if given.lower() in ("true", "t", "1"):
            reason = "" if can_be_on else refusal
        elif given.lower() in ("false", "f", "0"):
            reason = ""
        if reason:
            raise ParameterInvalid(f"invalid {what} params: {ParameterInvalid(reason).message}")
