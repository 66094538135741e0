"""The requests that both adapters pass to the service, and its results."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from milvine.model.collections import Collection
from milvine.model.columns import Column
from milvine.model.functions import FunctionSchema
from milvine.model.records import record
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.search_aggregation import SearchAggregation
from milvine.model.types import ConsistencyLevel, DataType, LoadState

Array = np.ndarray[Any, Any]


@record
class CreateCollectionRequest:
    """`schema` is the user's: no field ids, no `$meta`."""

    name: str
    schema: CollectionSchema
    num_shards: int = 0
    consistency_level: ConsistencyLevel = ConsistencyLevel.BOUNDED
    properties: Mapping[str, str] = field(default_factory=dict)
    num_partitions: int = 0


@record
class LoadRequest:
    name: str
    replica_number: int = 0
    resource_groups: tuple[str, ...] = ()
    refresh: bool = False
    load_fields: tuple[str, ...] = ()
    skip_load_dynamic_field: bool = False


@record
class InsertRequest:
    """Columns by name, as sent: not checked yet, integers as wide as on the wire.

    `partial_update` is only for upserts: rows keep their values in columns that are left out. `field_ops` are pairs of
    a field's name and the name of an operation, which makes an upsert partial unless it is REPLACE. `schema_ts`: the
    last change of the schema that the client knows; 0 if it is not given.
    """

    name: str
    partition_name: str
    row_count: int
    columns: Mapping[str, Column]
    partial_update: bool = False
    schema_ts: int = 0
    field_ops: Sequence[tuple[str, str]] = ()


@record
class DeleteRequest:
    name: str
    partition_name: str
    filter: str
    templates: Mapping[str, object] = field(default_factory=dict)


@record
class MutationResult:
    """`keys` int64 (n,) or StringArray, of the rows written; `row_count` of rows written or keys deleted."""

    keys: Any
    row_count: int
    ts: int


GROUP_PARAMS = ("group_by_field", "group_by_fields")
"""Search parameters that ask for groups."""


@record
class SearchRequest:
    """`queries`: rows, each as long as the caller sent it: (nq, dim), in the dtype of `query_type`, or bytes
    if it is not one of our types. `query_type`: the placeholder's number, mostly a vector type's. `params`: ANN
    parameters by name.

    `read_ts` 0: all acknowledged rows; otherwise the rows alive at that timestamp.

    `ids` (int64 or StringArray): the keys of the rows whose vectors are the queries, in place of `queries`.

    `shape`: equal for searches that differ only in their collection's name, `queries`, `query_type` and `read_ts`; None
    if it is not known, and with `ids`.
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
    function_score: FunctionScore | None = None
    function_chains: tuple[FunctionChain, ...] = ()
    highlighter: Highlighter | None = None
    aggregation: SearchAggregation | None = None

    def again(self, queries: Any) -> SearchRequest:
        """The same search, which has a shape, for other queries of the same type. A fifth of the cost of `replace`."""
        return SearchRequest(
            self.name,
            queries,
            self.limit,
            self.offset,
            self.anns_field,
            self.metric_type,
            self.params,
            self.round_decimal,
            self.filter,
            self.templates,
            self.output_fields,
            self.partition_names,
            self.read_ts,
            self.query_type,
            self.shape,
        )


@record
class Highlighter:
    """What to mark in the texts of hits. `kind`: the number of Milvus's HighlightType. `params` as sent."""

    kind: int
    params: Mapping[str, str]


@record
class RankFunction:
    """A function that ranks hits. `params` as sent: Milvus ignores the case of their names."""

    name: str
    input_fields: tuple[str, ...]
    params: Mapping[str, str]


@record
class FunctionScore:
    functions: tuple[RankFunction, ...]
    params: Mapping[str, str]


@record
class ChainArgument:
    """`column` None: a literal, or nothing at all if not `is_set`."""

    column: str | None
    is_set: bool = True


@record
class ChainExpression:
    """`params` are decoded; None for one without a value."""

    name: str
    arguments: tuple[ChainArgument, ...]
    params: Mapping[str, object]


@record
class ChainOperator:
    name: str
    expression: ChainExpression | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: Mapping[str, object]


@record
class FunctionChain:
    """`stage`: the number of Milvus's FunctionChainStage."""

    stage: int
    operators: tuple[ChainOperator, ...]


@record
class HybridSearchRequest:
    """Several searches whose hits become one list. The searches have the name and the partitions of the whole.

    `rank_params` as sent: strategy, params, limit, offset, round_decimal and so on. `function_score` replaces the
    strategy. `read_ts`: see SearchRequest.
    """

    name: str
    searches: tuple[SearchRequest, ...]
    rank_params: Mapping[str, str]
    function_score: FunctionScore | None = None
    output_fields: tuple[str, ...] = ()
    partition_names: tuple[str, ...] = ()
    read_ts: int = 0


@record
class OutputField:
    """A field of a result, in the order of the response."""

    field: FieldSchema
    column: Column


@record
class Highlights:
    """The fragments of a field's texts with marked words or sentences, for each hit, and the scores of sentences."""

    field_name: str
    fragments: Sequence[Sequence[str]]
    scores: Sequence[Sequence[float]] = ()


@record
class Ranking:
    """What only a search has. counts: int64 (nq,), hits of each query. keys and scores (float32, Milvus's): of each
    hit, query by query.

    `groups`: the values of each hit's group; `lists_groups`: the fields were requested as a list.

    `iterator_token` and `last_bound` are those of a step of a search iterator; the token is empty for other searches.
    """

    limit: int
    counts: Array
    scores: Array
    keys: Column
    iterator_token: str = ""
    last_bound: float = 0.0
    groups: tuple[OutputField, ...] = ()
    lists_groups: bool = False
    highlights: tuple[Highlights, ...] = ()


@record
class Buckets:
    """The buckets of one level, parent by parent.

    counts: int64 (p,), buckets of each parent, which is a query or a bucket of the level above. keys: the values of
    each field; sizes: int64 (n,), hits in each bucket; metrics: by alias. hits: int64 (m,), positions of the top hits
    among the hits of the answer, bucket by bucket; hit_counts: int64 (n,).
    """

    counts: Array
    keys: tuple[OutputField, ...]
    sizes: Array
    metrics: Mapping[str, Column]
    hits: Array
    hit_counts: Array
    sub: Buckets | None

    def built(self, make: Callable[[Bucket], Any]) -> list[Any]:
        """What `make` makes of each bucket, after those inside it."""
        inside = [] if self.sub is None else _split(self.sub.built(make), self.sub.counts)
        keys = [[(key.field, value) for value in _listed(key.column)] for key in self.keys]
        metrics = [[(alias, value) for value in _listed(column)] for alias, column in self.metrics.items()]
        top = _split(self.hits.tolist(), self.hit_counts)
        return [
            make(
                Bucket(
                    keys=[key[place] for key in keys],
                    size=size,
                    metrics={metric[place][0]: metric[place][1] for metric in metrics if metric[place][1] is not None},
                    hits=top[place],
                    sub=inside[place] if inside else [],
                )
            )
            for place, size in enumerate(self.sizes.tolist())
        ]


@record
class Bucket:
    """One bucket of an answer. A key is None for NULL; a metric of NULLs only is left out. hits: positions among those
    of the answer. sub: what was made of the buckets inside it."""

    keys: Sequence[tuple[FieldSchema, Any]]
    size: int
    metrics: Mapping[str, Any]
    hits: Sequence[int]
    sub: Sequence[Any]


def _split(values: list[Any], counts: Array) -> list[list[Any]]:
    ends = np.cumsum(counts).tolist()
    return [values[end - count : end] for end, count in zip(ends, counts.tolist(), strict=True)]


def _listed(column: Column) -> list[Any]:
    """Values of a scalar column, None for NULLs."""
    values = column.values.tolist() if isinstance(column.values, np.ndarray) else column.values.to_pylist()
    if column.validity is None:
        return list(values)
    return [value if is_valid else None for value, is_valid in zip(values, column.validity.tolist(), strict=True)]


@record
class ReadResult:
    """The rows of a search (with `ranking`) or of a query. `dynamic_keys`: requested of `$meta`, () for all. `buckets`:
    of a search that aggregates its hits; the rows are then those of all queries together."""

    primary_field: FieldSchema
    fields: tuple[OutputField, ...]
    output_names: tuple[str, ...]
    dynamic_keys: tuple[str, ...]
    ts: int
    ranking: Ranking | None = None
    buckets: Buckets | None = None


@record
class QueryIterator:
    """All pages of an iterator read at one timestamp, which the first page (`read_ts` 0) returns for the next ones.

    `collection_id` 0: the caller did not send the id of the first page's collection.
    """

    read_ts: int = 0
    collection_id: int = 0


@record
class QueryRequest:
    """`limit` None: no limit was given. `iterator` is set for a page of an iterator. `read_ts`: see SearchRequest.

    `order_by` as sent: a field, and after colons its direction and the place of NULLs. `time_params`: `timezone` and
    `time_fields` as sent.
    """

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
    order_by: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()
    time_params: Mapping[str, str] = field(default_factory=dict)


@record
class NewFunction:
    """A function that is to be added to a collection, its output field, and the index on that as requested: without a
    name or parameters by default."""

    function: FunctionSchema
    output: FieldSchema
    index_name: str = ""
    index_params: Mapping[str, str] = field(default_factory=dict)


@record
class IndexDescription:
    """One index and the progress of its build; `state` is Milvus's IndexState number."""

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


@record
class LoadStatus:
    state: LoadState
    percent: int


COUNT_FIELD = FieldSchema(0, "count(*)", DataType.INT64)
