"""What a caller asks for, as both adapters hand it to the service, and what comes back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from milvine.model.collections import Collection
from milvine.model.columns import Column, ColumnBatch
from milvine.model.records import record
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import ConsistencyLevel, DataType, LoadState

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class CreateCollectionRequest:
    """`schema` is the user's: no field ids, no `$meta`."""

    name: str
    schema: CollectionSchema
    num_shards: int = 0
    consistency_level: ConsistencyLevel = ConsistencyLevel.BOUNDED
    properties: Mapping[str, str] = field(default_factory=dict)
    num_partitions: int = 0


@dataclass(frozen=True, slots=True)
class LoadRequest:
    name: str
    replica_number: int = 0
    resource_groups: tuple[str, ...] = ()
    refresh: bool = False
    load_fields: tuple[str, ...] = ()
    skip_load_dynamic_field: bool = False


@dataclass(frozen=True, slots=True)
class InsertRequest:
    """Columns by name, as they came: not checked yet, integers as wide as the wire has them.

    `partial_update` is of upserts only: columns that are left out keep the values of the rows they belong to.
    `schema_ts`: the last change of the schema that the client wrote by; 0 if it does not say.
    """

    name: str
    partition_name: str
    row_count: int
    columns: Mapping[str, Column]
    partial_update: bool = False
    schema_ts: int = 0


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    name: str
    partition_name: str
    filter: str
    templates: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MutationResult:
    """`keys` int64 (n,) or StringArray, of the rows written; `row_count` of rows written or keys deleted."""

    keys: Any
    row_count: int
    ts: int


@record
class SearchRequest:
    """`queries`: rows, each as long as the caller sent it: (nq, dim), in the dtype of `query_type`, bytes if that is
    none of ours. `query_type`: the placeholder's number, a vector type's mostly. `params`: ANN parameters by name.

    `read_ts` 0: all that was acknowledged; else the rows that were alive at that timestamp.

    `ids` (int64 or StringArray): the keys of the rows whose vectors are the queries, in the place of `queries`.

    `shape`: equal for searches that differ by nothing but their collection's name, `queries`, `query_type` and
    `read_ts`; None where that is not known, and with `ids`.
    """

    name: str
    queries: Array
    limit: int
    offset: int = 0
    anns_field: str = ""
    metric_type: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    round_decimal: int = -1
    filter: str = ""
    templates: Mapping[str, object] = field(default_factory=dict)
    output_fields: tuple[str, ...] = ()
    partition_names: tuple[str, ...] = ()
    read_ts: int = 0
    query_type: int = DataType.FLOAT_VECTOR
    shape: Hashable = None
    ids: Any | None = None


@record
class OutputField:
    """A field of a result, in the order to be sent."""

    field: FieldSchema
    column: Column


@record
class SearchResult:
    """counts: int64 (nq,). scores: float32, Milvus's, query by query. `dynamic_keys`: asked of `$meta`, () for all.

    `iterator_token` and `last_bound` belong to a step of a search iterator; no token: it was none.
    """

    primary_field: FieldSchema
    limit: int
    counts: Array
    scores: Array
    keys: Column
    fields: tuple[OutputField, ...]
    output_names: tuple[str, ...]
    dynamic_keys: tuple[str, ...]
    ts: int
    iterator_token: str = ""
    last_bound: float = 0.0


@dataclass(frozen=True, slots=True)
class QueryIterator:
    """All pages of an iterator read at one timestamp: the first one (`read_ts` 0) tells it to the next ones.

    `collection_id` 0: the caller did not say which collection the name had meant.
    """

    read_ts: int = 0
    collection_id: int = 0


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """`limit` None: no limit was given. `iterator` is set for a page of an iterator. `read_ts`: see SearchRequest."""

    name: str
    filter: str
    limit: int | None = None
    offset: int = 0
    templates: Mapping[str, object] = field(default_factory=dict)
    output_fields: tuple[str, ...] = ()
    partition_names: tuple[str, ...] = ()
    iterator: QueryIterator | None = None
    read_ts: int = 0
    ignores_growing: bool = False


@dataclass(frozen=True, slots=True)
class QueryResult:
    """`count` is set for count(*) alone; then there are no fields."""

    primary_field: FieldSchema
    rows: ColumnBatch
    fields: tuple[OutputField, ...]
    output_names: tuple[str, ...]
    dynamic_keys: tuple[str, ...]
    ts: int
    count: int | None = None


@dataclass(frozen=True, slots=True)
class IndexDescription:
    """One index with what its build has reached; `state` is Milvus's IndexState number."""

    collection: Collection
    index_id: int
    name: str
    field_name: str
    params: Mapping[str, str]
    total_rows: int
    indexed_rows: int
    pending_rows: int
    state: int
    failure: str


@dataclass(frozen=True, slots=True)
class LoadStatus:
    state: LoadState
    percent: int


COUNT_FIELD = FieldSchema(0, "count(*)", DataType.INT64)
