"""Milvus's enumerations, with the numbers that travel on the wire and live in files."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class DataType(IntEnum):
    """Field types this server stores; numbers are `schema.DataType`'s."""

    BOOL = 1
    INT8 = 2
    INT16 = 3
    INT32 = 4
    INT64 = 5
    FLOAT = 10
    DOUBLE = 11
    VARCHAR = 21
    ARRAY = 22
    JSON = 23
    TIMESTAMPTZ = 26
    BINARY_VECTOR = 100
    FLOAT_VECTOR = 101
    FLOAT16_VECTOR = 102
    BFLOAT16_VECTOR = 103
    SPARSE_FLOAT_VECTOR = 104
    INT8_VECTOR = 105

    @property
    def milvus_name(self) -> str:
        """The spelling of Milvus's messages and REST bodies, such as `Int64` or `FloatVector`."""
        return _MILVUS_NAMES[self]

    @property
    def is_vector(self) -> bool:
        return self >= DataType.BINARY_VECTOR

    @property
    def is_integer(self) -> bool:
        return DataType.INT8 <= self <= DataType.INT64

    @property
    def is_number(self) -> bool:
        return self.is_integer or self.is_floating

    @property
    def is_floating(self) -> bool:
        return self in (DataType.FLOAT, DataType.DOUBLE)


_MILVUS_NAMES = {
    DataType.BOOL: "Bool",
    DataType.INT8: "Int8",
    DataType.INT16: "Int16",
    DataType.INT32: "Int32",
    DataType.INT64: "Int64",
    DataType.FLOAT: "Float",
    DataType.DOUBLE: "Double",
    DataType.VARCHAR: "VarChar",
    DataType.ARRAY: "Array",
    DataType.JSON: "JSON",
    DataType.TIMESTAMPTZ: "Timestamptz",
    DataType.BINARY_VECTOR: "BinaryVector",
    DataType.FLOAT_VECTOR: "FloatVector",
    DataType.FLOAT16_VECTOR: "Float16Vector",
    DataType.BFLOAT16_VECTOR: "BFloat16Vector",
    DataType.SPARSE_FLOAT_VECTOR: "SparseFloatVector",
    DataType.INT8_VECTOR: "Int8Vector",
}


class MetricType(StrEnum):
    """How near two vectors are. Inside, a distance is always smaller-is-nearer."""

    L2 = "L2"
    IP = "IP"
    COSINE = "COSINE"
    HAMMING = "HAMMING"
    JACCARD = "JACCARD"
    SUBSTRUCTURE = "SUBSTRUCTURE"
    SUPERSTRUCTURE = "SUPERSTRUCTURE"
    MHJACCARD = "MHJACCARD"
    BM25 = "BM25"

    def __init__(self, name: str) -> None:
        self.larger_is_nearer = name in ("IP", "COSINE", "MHJACCARD", "BM25")
        """Whether Milvus's score for this metric grows as rows get nearer."""


class SegmentState(IntEnum):
    """The values of `common.SegmentState` that occur here."""

    GROWING = 2
    SEALED = 3
    FLUSHED = 4
    FLUSHING = 5


class LoadState(IntEnum):
    """`common.LoadState`; NOT_EXIST is the protobuf default."""

    NOT_EXIST = 0
    NOT_LOAD = 1
    LOADING = 2
    LOADED = 3

    @property
    def milvus_name(self) -> str:
        """The protobuf name, as REST and the Node SDK print it."""
        return _LOAD_STATE_NAMES[self]


_LOAD_STATE_NAMES = {
    LoadState.NOT_EXIST: "LoadStateNotExist",
    LoadState.NOT_LOAD: "LoadStateNotLoad",
    LoadState.LOADING: "LoadStateLoading",
    LoadState.LOADED: "LoadStateLoaded",
}


class ConsistencyLevel(IntEnum):
    STRONG = 0
    SESSION = 1
    BOUNDED = 2
    EVENTUALLY = 3
    CUSTOMIZED = 4

    @property
    def milvus_name(self) -> str:
        return self.name.capitalize()


class IndexState(IntEnum):
    """`common.IndexState`."""

    NONE = 0
    UNISSUED = 1
    IN_PROGRESS = 2
    FINISHED = 3
    FAILED = 4

    @property
    def milvus_name(self) -> str:
        return {0: "IndexStateNone", 1: "Unissued", 2: "InProgress", 3: "Finished", 4: "Failed"}[self]
