"""What crosses from the head to nodes and back: a closed set of records, and errors with their codes and texts."""

from __future__ import annotations

from typing import Any, get_args

from milvine import errors
from milvine.analysis import dictionaries
from milvine.errors import MilvineError
from milvine.expr import predicate, tree
from milvine.expr.bloom import BloomFilter
from milvine.index import minhash
from milvine.index.base import Effort
from milvine.index.by_distance import Band
from milvine.index.exact import Exact, exact_of_family
from milvine.index.term_queries import TermQueries, TermStatistics
from milvine.model.closed_codec import ClosedCodec, Form
from milvine.model.columns import Column, ColumnBatch, ConstantColumn
from milvine.model.functions import FunctionSchema, FunctionType
from milvine.model.properties import Placement, Populate
from milvine.model.schema import CollectionSchema, FieldSchema, IndexSpec
from milvine.model.segments import DeleteBatch, DeltaMeta, SegmentIndexMeta, SegmentMeta
from milvine.model.sparse_vectors import SparseVectors
from milvine.model.types import DataType, MetricType
from milvine.querynode.node import NodeBehind, SegmentNotHeld
from milvine.segment import aggregation, boosting, chains, decay, groups, ordering
from milvine.segment.plans import Hits, QueryPlan, SearchPlan, SegmentSearchStats
from milvine.segment.retrieve import FoundRows
from milvine.segment.sealed import LoadSpec
from milvine.segment.tree_models import TreeScores
from milvine.storage.arrow_batches import from_arrow, to_arrow

_CLASSES: tuple[type, ...] = (
    # Plans
    SearchPlan,
    QueryPlan,
    aggregation.Aggregation,
    aggregation.Aggregate,
    aggregation.Operation,
    Effort,
    Band,
    MetricType,
    DataType,
    SparseVectors,
    TermQueries,
    ordering.SortKey,
    groups.GroupFilter,
    groups.GroupField,
    boosting.Boost,
    boosting.BoostFunction,
    boosting.RandomScore,
    chains.SegmentChain,
    chains.MapOperator,
    chains.NumCombine,
    chains.DecayFactor,
    chains.RoundDecimal,
    decay.Decay,
    decay.Curve,
    # Filters
    *get_args(predicate.Predicate),
    predicate.Target,
    predicate.LiteralSet,
    tree.Comparator,
    tree.Operation,
    tree.ContainsMode,
    # Results
    Hits,
    SegmentSearchStats,
    FoundRows,
    TermStatistics,
    # Segments
    SegmentMeta,
    SegmentIndexMeta,
    DeltaMeta,
    DeleteBatch,
    LoadSpec,
    Placement,
    Populate,
    CollectionSchema,
    FieldSchema,
    FunctionSchema,
    FunctionType,
    IndexSpec,
)


def _column_parts(column: Column) -> tuple[Any, ...]:
    return column.data_type, to_arrow(column)


def _exact(name: str, *parameters: Any) -> Exact:
    if name != minhash.COMPARISON:
        return exact_of_family(name)
    hash_bytes, bands, by_similarity = parameters
    return minhash.comparison(hash_bytes, bands, by_similarity=by_similarity)


_COLUMN: Form = (_column_parts, from_arrow)
_FORMS: dict[type, Form] = {
    Column: _COLUMN,
    ConstantColumn: _COLUMN,
    ColumnBatch: (lambda batch: (batch.row_count, dict(batch.columns)), ColumnBatch),
    Exact: (lambda exact: exact.origin, _exact),
    # Each process reads the file itself.
    TreeScores: (
        lambda scores: (scores.name, scores.is_raw),
        lambda name, is_raw: TreeScores(dictionaries.installed(), name, is_raw),
    ),
    BloomFilter: (lambda bloom: (bloom.blob,), lambda blob: BloomFilter(blob, 0)),
}
codec = ClosedCodec(_CLASSES, _FORMS)
_OK, _ERROR = 0, 1


def _known_errors(kind: type[MilvineError]) -> dict[str, type[MilvineError]]:
    found = {kind.__name__: kind}
    for more in kind.__subclasses__():
        found |= _known_errors(more)
    return found


_OTHERS: dict[str, type[Exception]] = {one.__name__: one for one in (SegmentNotHeld, NodeBehind)}


def encode_result(result: Any) -> bytes:
    return codec.encode((_OK, result))


def encode_error(error: Exception) -> bytes:
    """Classes that no caller knows arrive as UnexpectedError."""
    name = type(error).__name__
    if name in _OTHERS:
        return codec.encode((_ERROR, name, str(error), {}))
    if not isinstance(error, MilvineError):
        text = f"{name}: {error}"
        kind = errors.IoFailed if isinstance(error, OSError) else errors.UnexpectedError
        error = kind(text)
    return codec.encode((_ERROR, type(error).__name__, error.message, dict(error.__dict__)))


def decode_result(content: bytes) -> Any:
    """The result, or raises the error that was sent."""
    kind, *rest = codec.decode(content)
    if kind == _OK:
        return rest[0]
    raise _error(*rest)


def _error(name: str, message: str, attributes: dict[str, Any]) -> Exception:
    if name in _OTHERS:
        return _OTHERS[name](message)
    known = _known_errors(MilvineError).get(name)
    return errors.UnexpectedError(message) if known is None else errors.restored(known, message, attributes)
