"""Scalar index types: the fields and parameters that they allow.

The type is the one the user asked for, and is described as such. The values decide how rows are listed (see `scalar`).
Texts: Milvus's indexparamcheck.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from milvine.errors import ParameterInvalid, ParameterMissing
from milvine.index.params import AUTOINDEX, SCALAR_TYPES, ResolvedIndex, check_size
from milvine.index.vector_params import is_vector_type
from milvine.model.properties import WARMUP_PROPERTY, check_warmup
from milvine.model.schema import FieldSchema, flatten_params
from milvine.model.types import DataType

INVERTED, STL_SORT, BITMAP = "INVERTED", "STL_SORT", "BITMAP"
_TRIES = ("Trie", "TRIE", "marisa-trie")
JSON_PATH, JSON_CAST_TYPE, JSON_CAST_FUNCTION = "json_path", "json_cast_type", "json_cast_function"
DATA_TYPE, PATH, CAST = "data_type", "path", "cast"
"""Build parameters: the field's type and, for JSON, the indexed path (a list of keys) and a json_cast_type."""

_MMAP, _OFFSET_CACHE = "mmap.enabled", "indexoffsetcache.enabled"
_WITHOUT_MMAP = frozenset({STL_SORT, "TRIE", "marisa-trie"})
_INVERTED_CASTS = ("BOOL", "DOUBLE", "VARCHAR", "ARRAY_BOOL", "ARRAY_DOUBLE", "ARRAY_VARCHAR", "JSON")
_CASTS = {
    INVERTED: _INVERTED_CASTS,
    BITMAP: ("BOOL", "VARCHAR"),
    STL_SORT: ("DOUBLE", "VARCHAR"),
    AUTOINDEX: ("BOOL", "DOUBLE", "VARCHAR", "JSON"),
}


def resolve_scalar(field: FieldSchema, params: Mapping[str, str]) -> ResolvedIndex:
    """Checks an index for a field that is not a vector. Raises ParameterInvalid and ParameterMissing."""
    flat = flatten_params(params)
    check_size(flat)
    index_type = flat.get("index_type", "") or AUTOINDEX
    _check_flags(index_type, flat)
    if WARMUP_PROPERTY in flat:
        check_warmup(flat[WARMUP_PROPERTY], "invalid warmup params: ")
    if index_type != AUTOINDEX and index_type not in SCALAR_TYPES:
        if is_vector_type(index_type):
            raise ParameterInvalid(f"index {index_type} only supports vector data type")
        raise ParameterInvalid(expected="valid index", actual=f"invalid index type: {index_type}")
    _check_field(index_type, field)
    build_params: dict[str, Any] = {DATA_TYPE: int(field.data_type)}
    if field.data_type is DataType.JSON:
        build_params[CAST] = _cast(index_type, flat)
    return ResolvedIndex(index_type, None, index_type, build_params, dict(params))


def _check_flags(index_type: str, flat: Mapping[str, str]) -> None:
    for key, can_be_on, refusal, what in (
        (_MMAP, index_type not in _WITHOUT_MMAP, f"index type {index_type} does not support mmap", "mmap type"),
        (_OFFSET_CACHE, index_type == BITMAP, f"only bitmap index support {_OFFSET_CACHE} now", "offset cache index"),
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


def _check_field(index_type: str, field: FieldSchema) -> None:
    data_type, element_type = field.data_type, field.element_type
    is_json = data_type is DataType.JSON
    is_number = data_type.is_integer or data_type.is_floating
    if index_type == STL_SORT and not (is_number or is_json or data_type is DataType.VARCHAR):
        raise ParameterInvalid(
            f"STL_SORT are only supported on numeric, varchar or timestamptz field, got {data_type.milvus_name}"
        )
    if index_type in _TRIES and data_type is not DataType.VARCHAR:
        raise ParameterInvalid("TRIE are only supported on varchar field")
    if index_type == BITMAP:
        if field.is_primary:
            raise ParameterInvalid("create bitmap index on primary key not supported")
        if data_type.is_floating:
            raise ParameterInvalid("bitmap index are only supported on bool, int, string and array field")
        if element_type is not None and element_type.is_floating:
            raise ParameterInvalid("bitmap index are only supported on bool, int, string for array field")


def _cast(index_type: str, flat: Mapping[str, str]) -> str:
    """The indexed path and kinds of a JSON field."""
    if JSON_CAST_TYPE not in flat:
        raise ParameterMissing("json index must specify cast type", missing_param=JSON_CAST_TYPE)
    cast = flat[JSON_CAST_TYPE].strip().upper()
    if cast not in _CASTS[index_type]:
        suffix = {INVERTED: "", AUTOINDEX: " for HYBRID index"}.get(index_type, f" for {index_type} index")
        raise ParameterInvalid(f"json_cast_type {cast} is not supported{suffix}")
    function = flat.get(JSON_CAST_FUNCTION)
    if function is not None and index_type == INVERTED:
        # With STRING_TO_DOUBLE, Milvus's filters find different rows with the index than without it.
        raise ParameterInvalid(f"{JSON_CAST_FUNCTION} {function.strip().upper()} is not supported")
    return cast
