"""Messages between head and nodes: what arrives is what was sent, and nothing else can be sent."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from milvine.analysis import dictionaries
from milvine.errors import IoFailed, UnexpectedError
from milvine.expr.predicate import Always, Compare, In, Or, literal_set
from milvine.expr.predicate import Target as FilterTarget
from milvine.expr.tree import Comparator
from milvine.index import minhash
from milvine.index.base import Effort
from milvine.index.by_distance import Band
from milvine.index.exact import exact_of_family
from milvine.index.term_queries import TermQueries, TermStatistics
from milvine.model.closed_codec import ClosedCodec, NotDecodable
from milvine.model.columns import Column, ColumnBatch, json_column, lacking_column
from milvine.model.properties import MAPPED, RESIDENT
from milvine.model.schema import CollectionSchema, FieldSchema, IndexSpec
from milvine.model.segments import DeltaMeta, SegmentIndexMeta, SegmentMeta, make_deletes
from milvine.model.sparse_vectors import SparseVectors
from milvine.model.types import DataType, MetricType
from milvine.querynode.node import NodeBehind, SegmentNotHeld
from milvine.querynode.remote.messages import codec, decode_result, encode_error, encode_result
from milvine.segment.aggregation import Aggregate, Aggregation, Operation
from milvine.segment.boosting import Boost, BoostFunction, RandomScore
from milvine.segment.chains import DecayFactor, MapOperator, NumCombine, RoundDecimal, SegmentChain
from milvine.segment.decay import Curve, Decay
from milvine.segment.groups import GroupField, GroupFilter
from milvine.segment.ordering import SortKey
from milvine.segment.plans import Hits, QueryPlan, SearchPlan, SegmentSearchStats
from milvine.segment.retrieve import FoundRows
from milvine.segment.sealed import LoadSpec
from milvine.segment.tree_models import TreeScores

_FILTER = Or(
    (
        In(FilterTarget(100, DataType.INT64), literal_set([1, 2.5, True, "a"])),
        Compare(FilterTarget(105, DataType.JSON, path=("a", 1)), Comparator.GT, 2**64),
    )
)
_SPARSE = SparseVectors(np.array([0, 1]), np.array([7], np.uint32), np.array([0.5], np.float32))
_BATCH = ColumnBatch(
    2,
    {
        100: Column(DataType.INT64, np.array([1, 2])),
        101: Column(DataType.VARCHAR, pa.array(["ä", ""]), np.array([True, False])),
        102: Column(DataType.FLOAT_VECTOR, np.ones((2, 3), np.float32)),
        103: Column(DataType.SPARSE_FLOAT_VECTOR, _SPARSE[np.array([0, 0])]),
        104: Column(DataType.BOOL, np.array([True, False]), np.array([False, True])),
        105: json_column(pa.array([b'{"a": 1}', b"null"], pa.binary())),
        106: lacking_column(FieldSchema(106, "new", DataType.INT8, default_value=3), 2),
        107: Column(DataType.ARRAY, pa.array([[1, 2], []], pa.list_(pa.int32()))),
    },
)
_SCHEMA = CollectionSchema((FieldSchema(100, "id", DataType.INT64, is_primary=True, properties={"a": "b"}),))
_SEARCH = SearchPlan(
    102,
    np.ones((1, 3), np.float32),
    5,
    MetricType.L2,
    exact_of_family("dense"),
    Effort(1, 2, 3, 0.5),
    2**62,
    _FILTER,
    frozenset({1, 2}),
    (100,),
    100,
    Band(np.float32(-1), np.float32(2)),
    groups=GroupFilter((GroupField(101, ("a", 1), DataType.INT64),), (pa.array([1, None]),), True),
)
_CHAIN = SegmentChain(
    (
        MapOperator(NumCombine("sum", (0.5, 1.0)), ("a", "$score"), "b"),
        MapOperator(DecayFactor(Decay(Curve.GAUSS, 1.0, 2.0, 0.0, 0.5)), ("b",), "b"),
        MapOperator(TreeScores(dictionaries.installed(), "trees", False), ("b",), "b"),
        MapOperator(RoundDecimal(2), ("b",), "$score"),
    ),
    {"a": 100},
    100,
)
_BOOST = Boost((BoostFunction(2.0, Always(True), RandomScore(2**63, None)),), True, False)
SAMPLES: dict[str, Any] = {
    "search": _SEARCH,
    "search of terms": dataclasses.replace(
        _SEARCH, queries=TermQueries(_SPARSE, 1.2, 0.75), exact=exact_of_family("terms"), rescoring=_CHAIN
    ),
    "boosted search": dataclasses.replace(_SEARCH, exact=exact_of_family("binary"), rescoring=_BOOST),
    "query": QueryPlan(1, None, pa.array(["a"]), None, None, (100,), 100, order=(SortKey(101, True, False, ("a",)),)),
    "aggregation": Aggregation((100,), (Aggregate(Operation.SUM, 104), Aggregate(Operation.COUNT, None))),
    "hits": Hits(
        np.array([2]),
        np.array([0.5, np.inf], np.float32),
        _BATCH,
        (SegmentSearchStats(1, False, 2, 2, "scan", 0, 1, 0.5),),
    ),
    "rows": FoundRows(_BATCH, np.array([2**62, 1])),
    "statistics": TermStatistics(3, 4.5, np.array([1, 2])),
    "no rows": ColumnBatch(0, {}),
    "segment": SegmentMeta(1, 2, 3, 4, 5, 6, 7, {100: 8}, {9: SegmentIndexMeta(9, "a", 10)}, 11, (12,)),
    "delta": DeltaMeta(1, 2, 3, 4, 5),
    "deletes": make_deletes(pa.array(["a", "b"]), 7, -1),
    "spec": LoadSpec(
        _SCHEMA,
        frozenset({100}),
        {100: IndexSpec(1, 100, "i", "HNSW", MetricType.IP, {"M": "8"}, "HNSW", {"M": 8})},
        placements={("rows", 0): RESIDENT, ("scan", 100): MAPPED},
    ),
    "nothing": None,
    "table": pa.table({"g0": [1, 2], "a0": ["x", None]}),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_what_arrives_is_what_was_sent(name: str) -> None:
    received = decode_result(encode_result(SAMPLES[name]))
    assert type(received) is type(SAMPLES[name])
    content = encode_result(received)
    assert encode_result(decode_result(content)) == content
    if name not in ("hits", "rows"):  # where the values of NULLs become those of zeros
        assert encode_result(SAMPLES[name]) == content


def test_columns_and_numbers_arrive_as_they_were() -> None:
    received = decode_result(encode_result(SAMPLES["rows"]))
    assert received.insert_ts.dtype == np.int64
    assert received.insert_ts.flags.writeable
    for field_id, column in _BATCH.columns.items():
        arrived = received.rows.columns[field_id]
        assert arrived.data_type is column.data_type
        assert len(arrived) == 2
    assert received.rows.columns[101].values.to_pylist() == ["ä", ""]
    assert received.rows.columns[106].values.tolist() == [3, 3]
    assert codec.decode(codec.encode("a\ud800")) == "a\ud800"


def test_comparisons_are_those_of_the_other_process() -> None:
    for name in ("dense", "binary", "sparse", "terms"):
        assert codec.decode(codec.encode(exact_of_family(name))) is exact_of_family(name)
    received = codec.decode(codec.encode(minhash.comparison(8, 2, by_similarity=True)))
    vectors = np.arange(32, dtype=np.uint8).reshape(2, 16)
    distances, rows = received.scan(vectors, None, vectors[:1], 1, MetricType.MHJACCARD, None)
    assert (distances.tolist(), rows.tolist()) == ([[-1.0]], [[0]])


@dataclass
class _Stranger:
    value: int


@pytest.mark.parametrize(
    "last", [0, -(2**63), 2**64 - 1, 2**64, -(2**70), True, 1.5, None, "\ud800", (1, 2), [3], np.int64(4)]
)
def test_long_tuples_arrive_as_short_ones_do(last: Any) -> None:
    sent = (*range(470_811_354_618_134_528, 470_811_354_618_134_628), last)
    received = codec.decode(codec.encode(sent))
    assert received == sent
    assert [type(one) for one in received] == [type(one) for one in sent]


@pytest.mark.parametrize("value", [_Stranger(1), Path("/"), np.array([object()]), {"a": [{1: _Stranger(2)}]}])
def test_other_classes_are_not_sent(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        codec.encode(value)


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x92\x08\xa8os.system", codec.encode((1, 2))[:-1]])
def test_other_bytes_are_not_read(content: bytes) -> None:
    with pytest.raises(NotDecodable):
        codec.decode(content)


def test_another_set_of_classes_has_another_fingerprint() -> None:
    assert ClosedCodec([_Stranger], {}).fingerprint != ClosedCodec([DeltaMeta], {}).fingerprint
    with pytest.raises(NotDecodable):
        codec.decode(ClosedCodec([_Stranger], {}).encode(_Stranger(1)))


@pytest.mark.parametrize(
    ("sent", "kind", "text"),
    [
        (SegmentNotHeld(7), SegmentNotHeld, "7"),
        (NodeBehind("3 are missing"), NodeBehind, "3 are missing"),
        (OSError(28, "No space"), IoFailed, "No space"),
        (KeyError("x"), UnexpectedError, "KeyError: 'x'"),
    ],
)
def test_failures_of_nodes_arrive_as_errors(sent: Exception, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        decode_result(encode_error(sent))
