"""What each kind of vector refuses: rows, queries, metrics, index types and search parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests
from conftest import Server
from grpc_calls import assert_ok, assert_refused, count, create_request, insert_request, pairs, scalars, search_request
from grpc_calls import field as field_of
from pymilvus import MilvusClient
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2

NAME, DIM = "bad_vectors", 8
TYPES = {
    "f32": schema_pb2.FloatVector,
    "f16": schema_pb2.Float16Vector,
    "bf16": schema_pb2.BFloat16Vector,
    "i8": schema_pb2.Int8Vector,
    "bits": schema_pb2.BinaryVector,
    "sparse": schema_pb2.SparseFloatVector,
}
MEMBERS = {"f16": "float16_vector", "bf16": "bfloat16_vector", "i8": "int8_vector", "bits": "binary_vector"}
ROW_BYTES = {"f32": 4 * DIM, "f16": 2 * DIM, "bf16": 2 * DIM, "i8": DIM, "bits": DIM // 8, "sparse": 8}
INDEXES = {
    "f32": ("IVF_FLAT", "L2"),
    "f16": ("HNSW_SQ", "COSINE"),
    "bf16": ("FLAT", "IP"),
    "i8": ("HNSW", "L2"),
    "bits": ("BIN_IVF_FLAT", "HAMMING"),
    "sparse": ("SPARSE_INVERTED_INDEX", "IP"),
}


def _sparse(*items: tuple[int, float]) -> bytes:
    return np.array(list(items), dtype=[("index", "<u4"), ("value", "<f4")]).tobytes()


def column(name: str, content: Any = None, *, dim: int = DIM, valid: list[bool] | None = None) -> Any:
    """The vectors of two rows, valid ones without `content`."""
    made = schema_pb2.FieldData(type=TYPES[name], field_name=name, valid_data=valid or [])
    if name == "sparse":
        rows = [_sparse((1, 0.5)), _sparse((2, 0.5))] if content is None else content
        made.vectors.sparse_float_vector.contents.extend(rows)
        made.vectors.sparse_float_vector.dim = made.vectors.dim = 10
        return made
    made.vectors.dim = dim
    if name == "f32":
        made.vectors.float_vector.data.extend([1.0] * 2 * DIM if content is None else content)
    else:
        setattr(made.vectors, MEMBERS[name], bytes(2 * ROW_BYTES[name]) if content is None else content)
    return made


KEYS = scalars("id", schema_pb2.Int64, [1, 2])
GOOD = {name: column(name) for name in TYPES}
HALVES = {"f16": np.array([1, np.nan], np.float16), "bf16": np.array([0x3F80, 0x7FC0], np.uint16)}
PADDING = bytes(4 * DIM - 4)


def _fields() -> list[Any]:
    dims: dict[str, Any] = {name: {"dim": DIM} for name in TYPES if name != "sparse"}
    vectors = [field_of(name, data_type, **dims.get(name, {})) for name, data_type in TYPES.items()]
    return [field_of("id", schema_pb2.Int64, primary=True), *vectors]


@pytest.fixture(scope="module")
def made(server: Server, _shared_client: MilvusClient) -> Iterator[str]:
    """All kinds, indexed, loaded and empty; nothing is nullable."""
    assert_ok(server.stub.CreateCollection(create_request(NAME, _fields())))
    for name, (index_type, metric) in INDEXES.items():
        assert_ok(_index(server.stub, NAME, name, index_type=index_type, metric_type=metric))
    _shared_client.load_collection(NAME)
    yield NAME
    _shared_client.drop_collection(NAME)


@pytest.fixture
def bare(stub: Any, collection_name: str) -> str:
    """All kinds without an index."""
    assert_ok(stub.CreateCollection(create_request(collection_name, _fields())))
    return collection_name


def _index(stub: Any, collection: str, field_name: str, **params: object) -> Any:
    request = milvus_pb2.CreateIndexRequest(collection_name=collection, field_name=field_name, index_name=field_name)
    request.extra_params.extend(pairs(params))
    return stub.CreateIndex(request)


def _other_type(name: str, member: str) -> Any:
    """A column of a field whose message holds the vectors of another kind."""
    made = schema_pb2.FieldData(type=TYPES[name], field_name=name)
    made.vectors.dim = DIM
    setattr(made.vectors, member, bytes(2 * DIM))
    return made


def _one_row(name: str) -> Any:
    return {"f32": [1.0] * DIM, "sparse": [_sparse((1, 1.0))]}.get(name, bytes(ROW_BYTES[name]))


BAD_ROWS: list[tuple[Any, str]] = [
    (column("f16", dim=4), "the dim (4) of field data(f16) is not equal to schema dim (8)"),
    (column("bf16", dim=4), "the dim (4) of field data(bf16) is not equal to schema dim (8)"),
    (column("i8", dim=4), "the dim (4) of field data(i8) is not equal to schema dim (8)"),
    (column("bits", dim=16), "the dim (16) of field data(bits) is not equal to schema dim (8)"),
    (column("f32", [1.0] * 15), "the length(15) of float data should divide the dim(8)"),
    (column("f16", bytes(31)), "the length(31) of float16 data should divide the row width(16)"),
    (column("bf16", bytes(31)), "the length(31) of bfloat data should divide the row width(16)"),
    (column("i8", bytes(15)), "the length(15) of int8 data should divide the dim(8)"),
    *(
        (column(name, _one_row(name)), f"the num_rows (1) of field ({name}) is not equal to passed num_rows (2)")
        for name in TYPES
    ),
    (column("f32", [np.inf, *[0.0] * 15]), "value '+Inf' is not a number or infinity"),
    *(
        (column(name, HALVES[name].tobytes() + PADDING), f"{noun} vector contain nan or infinity value.")
        for name, noun in (("f16", "float16"), ("bf16", "bfloat16"))
    ),
    (column("sparse", [b"", _sparse((1, np.nan))]), "value 'NaN' is not a number or infinity"),
    (column("sparse", [b"", _sparse((1, np.inf))]), "value '+Inf' is not a number or infinity"),
    (column("sparse", [b"", _sparse((1, -0.5))]), "negative value in sparse float vector"),
    (column("sparse", [b"", _sparse((2, 1), (1, 1))]), "unsorted or same indices in sparse float vector"),
    (column("sparse", [b"", _sparse((1, 1), (1, 1))]), "unsorted or same indices in sparse float vector"),
    (
        column("sparse", [_sparse((2**32 - 1, 1)), b""]),
        "invalid index in sparse float vector: must be less than 2^32-1",
    ),
    (column("sparse", [b"1234567", b""]), "invalid data length in sparse float vector: 7"),
    (_other_type("f32", "int8_vector"), "float vector field 'f32' is illegal, array type mismatch"),
    (_other_type("f16", "int8_vector"), "float16 vector field 'f16' is illegal, array type mismatch"),
    (_other_type("bf16", "float16_vector"), "bfloat16 vector field 'bf16' is illegal, array type mismatch"),
    (_other_type("i8", "binary_vector"), "int8 vector field 'i8' is illegal, array type mismatch"),
    (_other_type("bits", "int8_vector"), "binary vector field 'bits' is illegal, array type mismatch"),
    (_other_type("sparse", "int8_vector"), "sparse float vector field 'sparse' is illegal, array type mismatch"),
    *(
        (
            column(name, _one_row(name), valid=[True, False]),
            f"the length of valid_data of field({name}) is wrong: invalid parameter[expected=0][actual=2]",
        )
        for name in TYPES
    ),
    *(
        (schema_pb2.FieldData(type=schema_pb2.Int64, field_name=name), f"{noun} vector field '{name}' is illegal")
        for name, noun in (("f32", "float"), ("bits", "binary"), ("sparse", "sparse float"))
    ),
]


@pytest.mark.parametrize(("changed", "text"), BAD_ROWS, ids=[f"{c.field_name}-{t[:40]}" for c, t in BAD_ROWS])
def test_bad_vectors_are_refused_and_write_nothing(stub: Any, made: str, changed: Any, text: str) -> None:
    columns = list({**GOOD, changed.field_name: changed}.values())
    assert_refused(stub.Insert(insert_request(made, 2, KEYS, *columns)), 1100, text)
    upsert = milvus_pb2.UpsertRequest(collection_name=made, num_rows=2, fields_data=[KEYS, *columns])
    assert_refused(stub.Upsert(upsert), 1100, text)
    assert count(stub, made) == 0


@pytest.mark.parametrize("name", TYPES)
def test_a_missing_column_is_refused(stub: Any, made: str, name: str) -> None:
    columns = [column for other, column in GOOD.items() if other != name]
    refused = stub.Insert(insert_request(made, 2, KEYS, *columns))
    assert_refused(refused, 1100, f"fieldSchema({name}) has no corresponding fieldData pass in")
    assert count(stub, made) == 0


def test_the_valid_rows_that_the_bad_ones_are_made_from_are_accepted(stub: Any, bare: str) -> None:
    assert assert_ok(stub.Insert(insert_request(bare, 2, KEYS, *GOOD.values()))).insert_cnt == 2


BAD_JSON: list[tuple[str, Any]] = [
    ("f32", [1] * 7),
    ("f32", "text"),
    ("f32", [*[1] * 7, "1"]),
    ("f16", [1] * 7),
    ("bf16", [1] * 7),
    ("bf16", [*[1] * 7, None]),
    ("i8", [1] * 7),
    ("i8", [128, *[1] * 7]),
    ("i8", [0.5, *[1] * 7]),
    ("bits", [1, 2]),
    ("bits", [256]),
    ("bits", [-1]),
    ("bits", "not base64!"),
    ("bits", {"1": 1}),
    ("sparse", {"1": -1}),
    ("sparse", {"-1": 1}),
    ("sparse", {"a": 1}),
    ("sparse", {"1": "1"}),
    ("sparse", {"4294967295": 1}),
    ("sparse", {"indices": [1, 2], "values": [1]}),
    ("sparse", {"indices": [1, 1], "values": [1, 1]}),
    ("sparse", [1, 2]),
    *((name, None) for name in TYPES),
]


@pytest.mark.parametrize(("name", "value"), BAD_JSON, ids=repr)
def test_bad_vectors_in_json_are_refused_and_write_nothing(
    server: Server, stub: Any, made: str, name: str, value: Any
) -> None:
    row: dict[str, Any] = {
        "id": 1,
        "f32": [1] * 8,
        "f16": [1] * 8,
        "bf16": [1] * 8,
        "i8": [1] * 8,
        "bits": [1],
        "sparse": {"1": 1},
    }
    for call in ("insert", "upsert"):
        body: dict[str, Any] = {"collectionName": made, "data": [{**row, "id": 2}, {**row, name: value}]}
        answer = requests.post(f"{server.uri}/v2/vectordb/entities/{call}", json=body, timeout=30).json()
        assert answer["code"] == 1804, answer
        assert answer["message"].startswith("fail to deal the insert data"), answer
    assert count(stub, made) == 0


PLACEHOLDERS = {"bits": 100, "f32": 101, "f16": 102, "bf16": 103, "sparse": 104, "i8": 105}
QUERIES = {**{name: bytes(size) for name, size in ROW_BYTES.items()}, "sparse": _sparse((1, 1.0))}


def _search(stub: Any, name: str, placeholder: str, content: bytes, **options: Any) -> Any:
    request = search_request(NAME, [[0.0] * DIM], 5, anns_field=name, **options)
    holder = common_pb2.PlaceholderValue(tag="$0", type=PLACEHOLDERS[placeholder], values=[content])
    request.placeholder_group = common_pb2.PlaceholderGroup(placeholders=[holder]).SerializeToString()
    return stub.Search(request)


@pytest.mark.parametrize("name", TYPES)
def test_queries_of_other_kinds_and_sizes_are_refused(stub: Any, made: str, name: str) -> None:
    converted = {("f16", "f32"), ("bf16", "f32")}
    for other in TYPES:
        answer = _search(stub, name, other, QUERIES[other])
        if other == name or (name, other) in converted:
            assert_ok(answer)
        else:
            assert_refused(answer, 1100, "vector type must be the same")
    if name == "sparse":
        return
    size = ROW_BYTES[name]
    text = f"vector dimension mismatch, expected vector size(byte) {size}, actual {2 * size}"
    assert_refused(_search(stub, name, name, bytes(2 * size)), 1100, text)


@pytest.mark.parametrize("name", TYPES)
def test_a_search_by_another_metric_than_the_indexs_is_refused(stub: Any, made: str, name: str) -> None:
    metric = INDEXES[name][1]
    for other in {"L2", "IP", "HAMMING"} - {metric}:
        answer = _search(stub, name, name, QUERIES[name], metric_type=other)
        text = f"metric type not match: invalid parameter[expected={metric}][actual={other}]"
        assert_refused(answer, 1100, text)


@pytest.mark.parametrize(
    ("name", "params", "text"),
    [
        ("f32", {"nprobe": 0}, "Out of range in json: param 'nprobe' (0) should be in range [1, 65536]"),
        ("f32", {"nprobe": "x"}, "Type conflict in json: param 'nprobe' (\"x\") should be integer"),
        ("f16", {"ef": 4}, "ef(4) should be larger than k(5)"),
        ("f16", {"refine_k": 0.5}, "Out of range in json: param 'refine_k' (0.5) should be in range"),
        ("i8", {"ef": 4}, "ef(4) should be larger than k(5)"),
        ("i8", {"ef": 0}, "Out of range in json: param 'ef' (0) should be in range [1, 2147483647]"),
        ("bits", {"nprobe": 65537}, "Out of range in json: param 'nprobe' (65537) should be in range [1, 65536]"),
        ("bits", {"nprobe": 1.5}, "Type conflict in json: param 'nprobe' (1.5) should be integer"),
        ("sparse", {"drop_ratio_search": -0.1}, "param 'drop_ratio_search' (-0.1) should be in range [0.000000, 1.0"),
        ("sparse", {"drop_ratio_search": "x"}, "Type conflict in json: param 'drop_ratio_search' (\"x\") should be"),
    ],
)
def test_search_parameters_are_checked_for_each_kind(
    stub: Any, made: str, name: str, params: dict[str, Any], text: str
) -> None:
    assert_refused(_search(stub, name, name, QUERIES[name], params=params), 65535, text)


FLOATS = ("f32", "f16", "bf16")
DENSE_TYPES = (
    "IVF_FLAT",
    "IVF_SQ8",
    "IVF_PQ",
    "IVF_RABITQ",
    "FLAT",
    "SCANN",
    "DISKANN",
    "HNSW_SQ",
    "HNSW_PQ",
    "HNSW_PRQ",
)
REFUSED_TYPES = {
    **dict.fromkeys(FLOATS, ("BIN_FLAT", "BIN_IVF_FLAT", "SPARSE_INVERTED_INDEX", "SPARSE_WAND")),
    "i8": ("IVF_FLAT", "IVF_SQ8", "FLAT", "DISKANN", "BIN_FLAT", "BIN_IVF_FLAT", "SPARSE_INVERTED_INDEX"),
    "bits": (*DENSE_TYPES, "SPARSE_INVERTED_INDEX", "SPARSE_WAND"),
    "sparse": (*DENSE_TYPES, "HNSW", "BIN_FLAT", "BIN_IVF_FLAT"),
}
SCALAR_TYPES = ("INVERTED", "BITMAP", "STL_SORT", "Trie", "NGRAM")


@pytest.mark.parametrize("name", TYPES)
def test_index_types_of_other_kinds_are_refused(client: MilvusClient, stub: Any, bare: str, name: str) -> None:
    wanted, metric = schema_pb2.DataType.Name(TYPES[name]), INDEXES[name][1]
    for index_type in (*REFUSED_TYPES[name], *SCALAR_TYPES):
        params = {"nlist": 4, "m": 4, "min_gram": 1, "max_gram": 2}
        answer = _index(stub, bare, name, index_type=index_type, metric_type=metric, **params)
        assert_refused(answer, 1100, f"data type {wanted} can't build with this index {index_type}")
    for index_type in ("NOPE", "GPU_CAGRA", "hnsw", "HYBRID"):
        answer = _index(stub, bare, name, index_type=index_type, metric_type=metric)
        text = f"invalid parameter[expected=valid index][actual=invalid index type: {index_type}]"
        assert_refused(answer, 1100, text)
    assert client.list_indexes(bare) == []


METRIC_TEXTS = {
    **dict.fromkeys(FLOATS, "float vector index does not support metric type: {}"),
    "i8": "int vector index does not support metric type: {}",
    "bits": "binary vector index does not support metric type: {}",
    "sparse": "only IP&BM25 is the supported metric type for sparse index",
}


@pytest.mark.parametrize("name", TYPES)
def test_metrics_of_other_kinds_are_refused(client: MilvusClient, stub: Any, bare: str, name: str) -> None:
    for metric in ("HAMMING", "JACCARD", "NOPE") if name != "bits" else ("L2", "IP", "COSINE", "NOPE"):
        for index_type in (INDEXES[name][0], "AUTOINDEX"):
            answer = _index(stub, bare, name, index_type=index_type, metric_type=metric)
            text = f"{METRIC_TEXTS[name].format(metric)}: invalid parameter[expected=valid index params]"
            assert_refused(answer, 1100, text)
    answer = _index(stub, bare, name, index_type="AUTOINDEX", metric_type=INDEXES[name][1], M=8)
    assert_refused(answer, 1100, "only metric type can be passed when use AutoIndex")
    assert client.list_indexes(bare) == []


@pytest.mark.parametrize(
    ("name", "params", "text"),
    [
        ("i8", {"index_type": "HNSW", "M": 1}, "Out of range in json: param 'M' (1) should be in range [2, 2048]"),
        ("bf16", {"index_type": "IVF_PQ", "m": 3}, "should be a multiple of the number of subquantizers (m)."),
        ("bits", {"index_type": "HNSW", "M": 2049}, "param 'M' (2049) should be in range [2, 2048]"),
        ("bits", {"index_type": "BIN_IVF_FLAT", "nlist": 0}, "param 'nlist' (0) should be in range [1, 65536]"),
        ("bits", {"index_type": "BIN_IVF_FLAT", "nlist": "x"}, "invalid integer value, key: 'nlist', value: 'x'"),
        (
            "bits",
            {"index_type": "HNSW", "metric_type": "SUPERSTRUCTURE"},
            "metric type SUPERSTRUCTURE not found or not supported",
        ),
        (
            "sparse",
            {"index_type": "SPARSE_INVERTED_INDEX", "drop_ratio_build": -1},
            "should be in range [0.000000, 1.0",
        ),
        (
            "sparse",
            {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "BM25"},
            "only BM25 Function output field support BM25 metric type",
        ),
        ("sparse", {"index_type": "SPARSE_WAND", "inverted_index_algo": "WAND"}, "sparse inverted index algo WAND"),
    ],
)
def test_index_parameters_are_checked_for_each_kind(
    client: MilvusClient, stub: Any, bare: str, name: str, params: dict[str, Any], text: str
) -> None:
    assert_refused(_index(stub, bare, name, **{"metric_type": INDEXES[name][1], **params}), 1100, text)
    assert client.list_indexes(bare) == []
