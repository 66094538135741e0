"""Index types, their parameters and ranges, and the meaning of AUTOINDEX.

Defaults and ranges: Milvus's index documentation and knowhere; texts: Milvus's proxy and knowhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from milvine.errors import ParameterInvalid, UnexpectedError
from milvine.index.base import Effort
from milvine.model.properties import INDEX_PROPERTIES, check_new_index_properties
from milvine.model.schema import FieldSchema, flatten_params
from milvine.model.types import DataType, MetricType

AUTOINDEX = "AUTOINDEX"
FLAT = "FLAT"
IVF_FLAT, IVF_SQ8, IVF_PQ, SCANN = "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "SCANN"
HNSW, HNSW_SQ, HNSW_PQ = "HNSW", "HNSW_SQ", "HNSW_PQ"
MIN_INDEXED_ROWS = 1024
"""Smaller segments are scanned; an index over them would be slower and less exact (Milvus does the same)."""

_INT32_MAX = 2**31 - 1
_SCANN_PIECE = 2
"""Dimensions per code of SCANN."""
_MAX_PARAMS_BYTES = 100 << 10
_RESERVED_KEYS = frozenset({"index_type", "metric_type", "params", *INDEX_PROPERTIES})
_OTHER_VECTOR_TYPES = frozenset(
    {"BIN_FLAT", "BIN_IVF_FLAT", "MINHASH_LSH", "SPARSE_INVERTED_INDEX", "SPARSE_WAND"}
)  # known to Milvus, for vectors of other kinds
SCALAR_TYPES = frozenset({"INVERTED", "STL_SORT", "BITMAP", "Trie", "TRIE", "marisa-trie"})
_OF_INT8 = frozenset({AUTOINDEX, HNSW, HNSW_SQ, HNSW_PQ})
_NOT_OF_INT8 = frozenset({"DISKANN", "IVF_RABITQ"})  # known to Milvus, for other types than INT8_VECTOR
_INTEGER = re.compile(r"[+-]?\d+")
_DECIMAL = re.compile(r"[+-]?\d*\.\d+(e[+-]?\d+)?", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class IntParam:
    """No default: the parameter must be given."""

    default: int | None
    low: int
    high: int

    def parse(self, name: str, text: str) -> int:
        if not _INTEGER.fullmatch(text):
            if _DECIMAL.fullmatch(text):
                raise ParameterInvalid(f"wrong data type in json, key: '{name}', value: '{text}'")
            raise ParameterInvalid(f"invalid integer value, key: '{name}', value: '{text}'")
        value = int(text)
        if not self.low <= value <= self.high:
            raise ParameterInvalid(
                f"Out of range in json: param '{name}' ({value}) should be in range [{self.low}, {self.high}]"
            )
        return value


@dataclass(frozen=True, slots=True)
class BoolParam:
    default: bool

    def parse(self, name: str, text: str) -> bool:
        if text.lower() not in ("true", "false"):
            raise ParameterInvalid(f"Type conflict in json: param '{name}' ({text}) should be a boolean")
        return text.lower() == "true"


@dataclass(frozen=True, slots=True)
class ChoiceParam:
    """One of `names` in any case; kept in lower case. `refusal` has a place for the text."""

    default: str
    names: tuple[str, ...]
    refusal: str

    def parse(self, name: str, text: str) -> str:
        if text.lower() not in self.names:
            raise ParameterInvalid(self.refusal.format(text))
        return text.lower()


Param = IntParam | BoolParam | ChoiceParam

_REFINE_TYPES = ("sq4u", "sq6", "sq8", "fp16", "bf16", "fp32", "flat")
_GRAPH: dict[str, Param] = {"M": IntParam(30, 2, 2048), "efConstruction": IntParam(360, 1, _INT32_MAX)}
_LISTS: dict[str, Param] = {"nlist": IntParam(128, 1, 65536)}
_PRODUCT: dict[str, Param] = {"m": IntParam(32, 1, 65536), "nbits": IntParam(8, 1, 24)}
_REFINE: dict[str, Param] = {
    "refine": BoolParam(False),
    "refine_type": ChoiceParam(
        "flat", _REFINE_TYPES, f"invalid refine type : {{}}, optional types are [{', '.join(_REFINE_TYPES)}]"
    ),
}
_SCALAR = ChoiceParam("sq8", ("sq4u", "sq6", "sq8", "bf16", "fp16"), "invalid scalar quantizer type")

BUILD_PARAMS: dict[str, dict[str, Param]] = {
    FLAT: {},
    IVF_FLAT: _LISTS,
    IVF_SQ8: _LISTS,
    IVF_PQ: {**_LISTS, **_PRODUCT, "m": IntParam(None, 1, 65536)},
    SCANN: {**_LISTS, "with_raw_data": BoolParam(True)},
    HNSW: _GRAPH,
    HNSW_SQ: {**_GRAPH, "sq_type": _SCALAR, **_REFINE},
    HNSW_PQ: {**_GRAPH, **_PRODUCT, **_REFINE},
}
AUTOINDEX_BUILD: dict[str, int] = {"M": 16, "efConstruction": 200}
"""AUTOINDEX is this HNSW: on real text embeddings recall@10 is 0.94 at ef 64, at half of HNSW's default cost."""

DEFAULT_EF = 64
DEFAULT_NPROBE = 8
_CANDIDATES = {HNSW_SQ: 2, IVF_SQ8: 2, HNSW_PQ: 4, IVF_PQ: 4, SCANN: 4}
"""This many times `depth` rows are measured if no parameter gives a number: codes cannot order near rows."""
_LEAST_DEPTH = 16


@dataclass(frozen=True, slots=True)
class ResolvedIndex:
    """A checked index definition. A scalar index has no metric. DescribeIndex returns `user_params`."""

    index_type: str
    metric_type: MetricType | None
    build_type: str
    build_params: dict[str, Any]
    user_params: dict[str, str]


def check_size(flat: Mapping[str, str]) -> None:
    if sum(len(k.encode()) + len(v.encode()) for k, v in flat.items()) > _MAX_PARAMS_BYTES:
        raise ParameterInvalid("index params size exceeds limit")


def is_vector_type(index_type: str) -> bool:
    """Whether it is an index type of Milvus for any kind of vectors."""
    return index_type in BUILD_PARAMS or index_type in _OTHER_VECTOR_TYPES


def resolve(field: FieldSchema, params: Mapping[str, str]) -> ResolvedIndex:
    """Checks an index for a vector field. Raises ParameterInvalid with Milvus's texts."""
    flat = flatten_params(params)
    check_size(flat)
    index_type = flat.get("index_type", "") or AUTOINDEX
    check_new_index_properties(flat)
    is_int8 = field.data_type is DataType.INT8_VECTOR
    is_known = index_type in (AUTOINDEX, *SCALAR_TYPES) or is_vector_type(index_type)
    if not is_known and not (is_int8 and index_type in _NOT_OF_INT8):
        raise ParameterInvalid(expected="valid index", actual=f"invalid index type: {index_type}")
    if index_type != AUTOINDEX and not flat.get("metric_type"):
        raise ParameterInvalid(
            "metric type not set for vector index", expected="valid index params", actual="invalid index params"
        )
    if index_type in (*_OTHER_VECTOR_TYPES, *SCALAR_TYPES) or (is_int8 and index_type not in _OF_INT8):
        raise ParameterInvalid(f"data type {field.data_type.milvus_name} can't build with this index {index_type}")
    metric = metric_type(flat.get("metric_type", "") or MetricType.COSINE.value, "int" if is_int8 else "float")
    if index_type == AUTOINDEX:
        if any(k not in _RESERVED_KEYS for k in flat):
            raise ParameterInvalid("only metric type can be passed when use AutoIndex")
        placing = {k: flat[k] for k in flat if k in INDEX_PROPERTIES}
        described = {"index_type": index_type, "metric_type": metric.value, **placing}
        return ResolvedIndex(index_type, metric, HNSW, dict(AUTOINDEX_BUILD), described)
    built = _build_params(BUILD_PARAMS[index_type], flat)
    if "m" in built and (field.dim or 0) % int(built["m"]):
        raise ParameterInvalid(
            "The dimension of the vector (dim) should be a multiple of the number of subquantizers (m). "
            f"Dimension:{field.dim}, m:{built['m']}"
        )
    if index_type == SCANN and (field.dim or 0) % _SCANN_PIECE:
        raise ParameterInvalid(
            "The dimension of a vector (dim) should be a multiple of sub_dim. "
            f"Dimension:{field.dim}, sub_dim:{_SCANN_PIECE}"
        )
    return ResolvedIndex(index_type, metric, index_type, built, dict(params))


def _build_params(rules: Mapping[str, Param], given: Mapping[str, str]) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for name, rule in rules.items():
        built[name] = rule.parse(name, given[name]) if name in given else rule.default
        if built[name] is None:
            raise ParameterInvalid(f"param '{name}' not exist in json")
    return built


def metric_type(name: str, kind: str = "float") -> MetricType:
    """A metric by its case-insensitive name. `kind`: that of the vectors, for the message."""
    try:
        return MetricType(name.upper())
    except ValueError:
        raise ParameterInvalid(
            f"{kind} vector index does not support metric type: {name}",
            expected="valid index params",
            actual="invalid index params",
        ) from None


def depth(k: int) -> int:
    """How many rows a search for k rows asks for: 16, 32, 64 and so on, so that pages of one list agree."""
    return max(_LEAST_DEPTH, 1 << (k - 1).bit_length())


def effort(
    build_type: str,
    build_params: Mapping[str, Any],
    params: Mapping[str, Any],
    k: int,
    data_type: DataType = DataType.FLOAT_VECTOR,
) -> Effort:
    """The effort of a search for k rows. Raises UnexpectedError, as Milvus returns knowhere's refusals, if a parameter
    of the index type is out of range; unknown parameters are ignored.

    A graph measures all `ef` rows that it finds, so the list that pages are cut from does not depend on k.
    """
    factor = _CANDIDATES.get(build_type, 1 if data_type is DataType.FLOAT_VECTOR else 2)
    candidates, nprobe = max(DEFAULT_EF, depth(k) * factor), DEFAULT_NPROBE
    if build_type in (HNSW, HNSW_SQ, HNSW_PQ) and "ef" in params:
        given = _searched_int(params, "ef", _INT32_MAX)
        if given < k and build_type != HNSW_PQ:
            raise UnexpectedError(f"ef({given}) should be larger than k({k})")
        candidates = given if given >= k else depth(k)
    if build_type in (IVF_FLAT, IVF_SQ8, IVF_PQ, SCANN) and "nprobe" in params:
        nprobe = _searched_int(params, "nprobe", 65536)
    if build_type in (HNSW_SQ, HNSW_PQ) and "refine_k" in params:
        refined = _searched_factor(params, "refine_k")
        if build_params.get("refine"):
            candidates = math.ceil(min(candidates * refined, _INT32_MAX))
    if build_type == SCANN and "reorder_k" in params:
        candidates = _searched_int(params, "reorder_k", _INT32_MAX)
        if candidates < k:
            raise UnexpectedError(f"reorder_k({candidates}) should be larger than k({k})")
    return Effort(candidates, nprobe, candidates)


def _conflict(name: str, value: object, wanted: str) -> UnexpectedError:
    return UnexpectedError(f"Type conflict in json: param '{name}' ({_as_json(value)}) should be {wanted}")


def _as_json(value: object) -> str:
    return orjson.dumps(value).decode()


def _searched_int(params: Mapping[str, Any], name: str, high: int) -> int:
    given = params[name]
    if isinstance(given, bool) or not (isinstance(given, int) or _is_text(given, _INTEGER)):
        raise _conflict(name, given, "integer")
    value = int(given)
    if not 1 <= value <= high:
        raise UnexpectedError(f"Out of range in json: param '{name}' ({value}) should be in range [1, {high}]")
    return value


def _searched_factor(params: Mapping[str, Any], name: str) -> float:
    given = params[name]
    if isinstance(given, str) and not _NUMBER.fullmatch(given):
        raise UnexpectedError(f"invalid float value, key: '{name}', value: '{given}': invalid parameter")
    value = number(name, given)
    if not value >= 1:
        raise UnexpectedError(f"Out of range in json: param '{name}' ({value:g}) should be in range [1, 3.40282e+38]")
    return value


def number(name: str, given: object) -> float:
    """A search parameter that is a number, or text of one. Raises UnexpectedError."""
    if isinstance(given, bool) or not (isinstance(given, int | float) or _is_text(given, _NUMBER)):
        raise _conflict(name, given, "a number")
    return float(str(given))


def _is_text(given: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(given, str) and pattern.fullmatch(given) is not None
