"""Vectors of every element type, with NULLs: growing, sealed and indexed, after merges and a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import requests
from conftest import Server
from grpc_calls import assert_ok, assert_refused, create_request, insert_request, scalars, search_request
from grpc_calls import field as field_of
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2
from sample_collections import add_index, clustered, nearest, recall, scores, wait_indexed

Array = np.ndarray[Any, Any]
DIM, K = 8, 10
ROWS = {"HNSW": 1700, "IVF_FLAT": 3300, "growing": 400}
"""So many that searching the index is cheaper than looking at all rows."""
HEAVY = {"HNSW": {"M": 5, "efConstruction": 200}, "IVF_FLAT": {"nlist": 64}}


@dataclass(frozen=True)
class Kind:
    """A vector field. `stored`: rows in the type's own dtype, by key; a missing key has NULL."""

    name: str
    data_type: DataType
    nullable: bool
    metric: str
    stored: dict[int, Array] = field(default_factory=dict)

    def native(self, vectors: Array) -> Array:
        if self.data_type is DataType.INT8_VECTOR:
            whole: Array = np.clip(vectors * 30, -128, 127).astype(np.int8)
            return whole
        if self.data_type is DataType.FLOAT16_VECTOR:
            return vectors.astype(np.float16)
        if self.data_type is DataType.BFLOAT16_VECTOR:
            bits: Array = vectors.view(np.uint32) >> 16
            return bits.astype(np.uint16)
        return vectors

    def float64(self, native: Array) -> Array:
        bits = native.astype(np.uint32) << 16
        wide: Array = bits.view(np.float32) if self.data_type is DataType.BFLOAT16_VECTOR else native
        return wide.astype(np.float64)

    def sent(self, row: Array) -> Any:
        """The vector as pymilvus accepts it."""
        if self.data_type is DataType.FLOAT_VECTOR:
            return row.tolist()
        return row.tobytes() if self.data_type is DataType.BFLOAT16_VECTOR else row

    def received(self, value: Any) -> bytes:
        """The bytes of a vector returned by pymilvus."""
        if self.data_type is DataType.FLOAT_VECTOR:
            return np.array(value, np.float32).tobytes()
        (data,) = value if isinstance(value, list) else (value,)
        return bytes(data)


F32, F16, BF16, I8 = (
    DataType.FLOAT_VECTOR,
    DataType.FLOAT16_VECTOR,
    DataType.BFLOAT16_VECTOR,
    DataType.INT8_VECTOR,
)
GRAPHS = [
    ("f32n", F32, True, "L2"),
    ("f16", F16, False, "COSINE"),
    ("f16n", F16, True, "IP"),
    ("bf16", BF16, False, "L2"),
    ("bf16n", BF16, True, "COSINE"),
    ("i8", I8, False, "L2"),
    ("i8n", I8, True, "COSINE"),
]
LISTS = [("f32n", F32, True, "COSINE"), ("f16n", F16, True, "COSINE"), ("bf16", BF16, False, "L2")]
WORLDS = {"HNSW": GRAPHS, "IVF_FLAT": LISTS, "growing": GRAPHS}


class World:
    """One collection and what is true of it: no key is a multiple of 19, and of every fourth NULLs are allowed."""

    def __init__(self, client: MilvusClient, state: str) -> None:
        self.client, self.state, self.name = client, state, f"types_{state}"
        self.kinds = {name: Kind(name, *rest) for name, *rest in WORLDS[state]}
        schema = client.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        for kind in self.kinds.values():
            schema.add_field(kind.name, kind.data_type, dim=DIM, nullable=kind.nullable)
        client.create_collection(self.name, schema=schema)
        index_type = "HNSW" if state == "growing" else state
        for kind in self.kinds.values():
            add_index(client, self.name, kind.name, index_type, kind.metric, **HEAVY[index_type])
        client.load_collection(self.name)

    def write(self, keys: Sequence[int], seed: int, *, upsert: bool = False, missing: bool = False) -> None:
        """`missing`: where a NULL is allowed the field is not in the row at all."""
        native = {k.name: k.native(clustered(len(keys), DIM, seed)) for k in self.kinds.values()}
        rows: list[dict[str, Any]] = []
        for place, key in enumerate(keys):
            row: dict[str, Any] = {"id": key}
            for kind in self.kinds.values():
                kind.stored.pop(key, None)
                if kind.nullable and (missing or (key + seed) % 4 == 0):
                    if not missing:
                        row[kind.name] = None
                else:
                    kind.stored[key] = native[kind.name][place]
                    row[kind.name] = kind.sent(native[kind.name][place])
            rows.append(row)
        (self.client.upsert if upsert else self.client.insert)(self.name, rows)

    def delete(self, keys: Sequence[int]) -> None:
        self.client.delete(self.name, filter=f"id in {list(keys)}")
        for kind in self.kinds.values():
            for key in keys:
                kind.stored.pop(key, None)


def _plan(server: Server, world: World, kind: Kind) -> set[str]:
    data = [[0.5] * DIM] if kind.data_type is not I8 else [[5] * DIM]
    body = {"collectionName": world.name, "annsField": kind.name, "data": data, "limit": 3}
    answer = requests.post(f"{server.uri}/milvine/v1/explain", json=body, timeout=30).json()
    assert answer["code"] == 0, answer
    return {look["plan"] for look in answer["data"]}


def _fill(world: World) -> None:
    rows = ROWS[world.state]
    for seed, keys in enumerate((range(rows // 2), range(rows // 2, rows)), 1):
        world.write(keys, seed)
        if world.state == "HNSW":
            world.client.flush(world.name)
    if world.state == "IVF_FLAT":
        world.client.flush(world.name)
    if world.state == "HNSW":
        job = world.client.compact(world.name)
        deadline = time.monotonic() + 60
        while job != -1 and world.client.get_compaction_state(job) != "Completed":
            assert time.monotonic() < deadline
            time.sleep(0.02)
    world.write(range(0, 60, 3), 3, upsert=True)
    world.write(range(60, 70), 4, upsert=True, missing=True)
    world.delete(range(0, rows, 19))


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, World]]]:
    """A server killed and restarted after all rows were written and all indexes built."""
    server = Server(tmp_path_factory.mktemp("vector-types"))
    server.start()
    try:
        made = {state: World(server.client(), state) for state in WORLDS}
        for world in made.values():
            _fill(world)
        for state in HEAVY:
            for kind in made[state].kinds.values():
                wait_indexed(made[state].client, made[state].name, kind.name, ROWS[state])
        server.kill()
        server.start()
        for world in made.values():
            world.client = server.client()
            world.client.load_collection(world.name)
        yield server, made
    finally:
        server.close()


CASES = [(state, kind[0]) for state, kinds in WORLDS.items() for kind in kinds]


@pytest.fixture(params=CASES, ids="-".join)
def case(request: Any, worlds: tuple[Server, dict[str, World]]) -> tuple[Server, World, Kind]:
    server, made = worlds
    state, name = request.param
    return server, made[state], made[state].kinds[name]


def _queries(kind: Kind) -> Array:
    rng = np.random.default_rng(9)
    keys = rng.choice(sorted(kind.stored), 8, replace=False)
    near = np.stack([kind.float64(kind.stored[k]) for k in keys]).astype(np.float32)
    if kind.data_type is I8:
        return (near + rng.integers(-3, 4, near.shape)).clip(-128, 127).astype(np.int8)
    return kind.native(near + rng.normal(size=near.shape).astype(np.float32) / 20)


def _check(world: World, kind: Kind, keys: list[int], wanted: float, filter_text: str = "") -> None:
    """Checks the recall among `keys`, and every score to float32 precision."""
    queries = _queries(kind)
    base = np.stack([kind.float64(kind.stored[key]) for key in keys])
    truth = scores(kind.float64(queries), base, kind.metric)
    params = {"params": {"ef": 80, "nprobe": 16}}
    data = [kind.sent(q) for q in queries]
    found = world.client.search(
        world.name, data, anns_field=kind.name, limit=K, filter=filter_text, search_params=params
    )
    expected = np.array(keys)[nearest(truth, kind.metric, K)]
    assert recall([[hit["id"] for hit in hits] for hits in found], expected) >= wanted
    for number, hits in enumerate(found):
        assert len(hits) == K
        exact = [truth[number, keys.index(hit["id"])] for hit in hits]
        assert np.allclose([hit["distance"] for hit in hits], exact, rtol=1e-4, atol=1e-4)


def test_the_nearest_rows_are_found_and_their_scores_are_exact(case: tuple[Server, World, Kind]) -> None:
    server, world, kind = case
    keys = sorted(kind.stored)
    _check(world, kind, keys, 1.0 if world.state == "growing" else 0.95)
    few = [key for key in keys if key < 100]
    _check(world, kind, few, 1.0, "id < 100")
    if world.state != "growing":
        assert world.state in _plan(server, world, kind)


def test_a_row_with_null_is_never_a_hit(case: tuple[Server, World, Kind]) -> None:
    _, world, kind = case
    hits = world.client.search(world.name, [kind.sent(_queries(kind)[0])], anns_field=kind.name, limit=4000)[0]
    assert {hit["id"] for hit in hits} == set(kind.stored)


def test_vectors_come_back_bit_for_bit_and_nulls_as_none(case: tuple[Server, World, Kind]) -> None:
    _, world, kind = case
    rows = world.client.query(world.name, filter="id >= 0", output_fields=[kind.name])
    got = {row["id"]: None if row[kind.name] is None else kind.received(row[kind.name]) for row in rows}
    nulls = {key for key, value in got.items() if value is None}
    assert got == {key: vector.tobytes() for key, vector in kind.stored.items()} | dict.fromkeys(nulls)
    assert bool(nulls) == kind.nullable
    others = [k for k in world.kinds if k != kind.name]
    hit = world.client.search(
        world.name, [kind.sent(_queries(kind)[0])], anns_field=kind.name, limit=5, output_fields=others
    )[0][0]
    for other in others:
        value, stored = hit["entity"][other], world.kinds[other].stored.get(hit["id"])
        assert (value is None) == (stored is None)
        assert stored is None or world.kinds[other].received(value) == stored.tobytes()


def test_a_range_search_gives_exactly_the_rows_inside(case: tuple[Server, World, Kind]) -> None:
    _, world, kind = case
    keys, query = sorted(kind.stored), _queries(kind)[:1]
    truth = scores(kind.float64(query), np.stack([kind.float64(kind.stored[k]) for k in keys]), kind.metric)[0]
    ordered = np.sort(truth if kind.metric == "L2" else -truth)
    edges = [float((ordered[n] + ordered[n + 1]) / 2) for n in (4, 24)]
    inside = (truth if kind.metric == "L2" else -truth) > edges[0]
    inside &= (truth if kind.metric == "L2" else -truth) < edges[1]
    near, far = edges if kind.metric == "L2" else [-edge for edge in edges]
    params = {"params": {"radius": far, "range_filter": near, "ef": 300, "nprobe": 64}}
    hits = world.client.search(
        world.name, [kind.sent(query[0])], anns_field=kind.name, limit=100, search_params=params
    )[0]
    assert {hit["id"] for hit in hits} == {key for key, there in zip(keys, inside, strict=True) if there}


@pytest.mark.parametrize("name", ["f16n", "bf16"])
def test_float32_vectors_are_converted_in_rows_and_in_searches(
    worlds: tuple[Server, dict[str, World]], name: str
) -> None:
    world = worlds[1]["growing"]
    kind, vector = world.kinds[name], np.array([0.1, 0.2, 0.3, 1 / 3, 5, 6, 7, 8.01], np.float32)
    others = {k.name: k.sent(next(iter(k.stored.values()))) for k in world.kinds.values() if not k.nullable}
    key = 10_000 + len(name)
    world.client.insert(world.name, [{"id": key, **others, name: vector.tolist()}])
    (row,) = world.client.query(world.name, filter=f"id == {key}", output_fields=[name])
    assert kind.received(row[name]) == kind.native(vector[None]).tobytes()
    hit = world.client.search(world.name, [vector.tolist()], anns_field=name, limit=1, filter=f"id == {key}")[0][0]
    expected = kind.float64(kind.native(vector[None]))
    assert hit["distance"] == pytest.approx(scores(expected, expected, kind.metric)[0, 0], rel=1e-6, abs=1e-9)
    world.client.delete(world.name, ids=[key])


def test_fields_of_a_partial_load_are_searched_alone(worlds: tuple[Server, dict[str, World]]) -> None:
    world = worlds[1]["IVF_FLAT"]
    world.client.release_collection(world.name)
    world.client.load_collection(world.name, load_fields=["id", "f16n"])
    try:
        kind = world.kinds["f16n"]
        _check(world, kind, sorted(kind.stored), 0.95)
        with pytest.raises(MilvusException, match='ann field "bf16" not loaded'):
            world.client.search(
                world.name, [world.kinds["bf16"].sent(_queries(world.kinds["bf16"])[0])], anns_field="bf16"
            )
    finally:
        world.client.release_collection(world.name)
        world.client.load_collection(world.name)


def test_a_column_of_only_nulls_is_kept_and_flushed_and_finds_nothing(
    client: MilvusClient, collection_name: str
) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    kinds = {"f32": F32, "f16": F16, "i8": I8}
    for name, data_type in kinds.items():
        schema.add_field(name, data_type, dim=DIM, nullable=True)
    client.create_collection(collection_name, schema=schema)
    for name in kinds:
        add_index(client, collection_name, name, "HNSW")
    client.insert(collection_name, [{"id": i, **dict.fromkeys(kinds)} for i in range(1100)])
    client.flush(collection_name)
    client.load_collection(collection_name)
    for name in kinds:
        wait_indexed(client, collection_name, name, 1100)
    query = {"f32": [0.5] * DIM, "f16": [0.5] * DIM, "i8": np.ones(DIM, np.int8)}
    assert [client.search(collection_name, [query[n]], anns_field=n, limit=5)[0] for n in kinds] == [[], [], []]
    rows = client.query(collection_name, filter="id in [0, 1099]", output_fields=["*"])
    assert rows == [{"id": i, **dict.fromkeys(kinds)} for i in (0, 1099)]


def _plain(name: str, kind: str, data: bytes, *, dim: int = 2, valid: Sequence[bool] = ()) -> Any:
    types = {"float16_vector": 102, "bfloat16_vector": 103, "int8_vector": 105}
    made = schema_pb2.FieldData(type=types[kind], field_name=name, valid_data=valid)
    made.vectors.dim = dim
    setattr(made.vectors, kind, data)
    return made


@pytest.fixture
def small(stub: Any, client: MilvusClient, collection_name: str) -> str:
    fields = [
        field_of("id", schema_pb2.Int64, primary=True),
        field_of("f16", schema_pb2.Float16Vector, dim=2),
        field_of("i8", schema_pb2.Int8Vector, dim=2, nullable=True),
    ]
    assert_ok(stub.CreateCollection(create_request(collection_name, fields)))
    add_index(client, collection_name, "f16")
    add_index(client, collection_name, "i8", "HNSW")
    client.load_collection(collection_name)
    return collection_name


HALF = np.array([1, 2], np.float16).tobytes()
BAD_COLUMNS = {
    "float16 vector contain nan or infinity value.": [
        _plain("f16", "float16_vector", np.array([1, np.nan], np.float16).tobytes())
    ],
    "the dim (1) of field data(f16) is not equal to schema dim (2)": [_plain("f16", "float16_vector", HALF[:2], dim=1)],
    "the length(3) of float16 data should divide the row width(4)": [_plain("f16", "float16_vector", HALF[:3])],
    "float16 vector field 'f16' is illegal, array type mismatch": [_plain("f16", "int8_vector", b"ab")],
    "nullable vector field i8 has 0 valid rows, but compact physical payload rows is 1": [
        _plain("f16", "float16_vector", HALF),
        _plain("i8", "int8_vector", b"ab", valid=[False]),
    ],
    "fieldSchema(f16) has no corresponding fieldData pass in": [],
}


@pytest.mark.parametrize("text", BAD_COLUMNS)
def test_a_column_that_does_not_fit_is_refused_with_milvus_text(stub: Any, small: str, text: str) -> None:
    request = insert_request(small, 1, scalars("id", schema_pb2.Int64, [1]), *BAD_COLUMNS[text])
    assert_refused(stub.Insert(request), 1100, text)


def test_float32_that_float16_cannot_hold_is_refused(client: MilvusClient, small: str) -> None:
    with pytest.raises(MilvusException, match="float16 vector contain nan or infinity value"):
        client.insert(small, [{"id": 1, "f16": [1e6, 0.0]}])


BAD_QUERIES = {
    "vector type must be the same: field type Float16Vector, search type Int8Vector": ("f16", 105, b"ab"),
    "vector type must be the same, field i8 - type VECTOR_INT8, search ph type VECTOR_FLOAT": ("i8", 101, b"a" * 8),
    "vector dimension mismatch, expected vector size(byte) 4, actual 6": ("f16", 102, HALF + HALF[:2]),
    "vector dimension mismatch, expected vector size(byte) 2, actual 1": ("i8", 105, b"a"),
}


@pytest.mark.parametrize("text", BAD_QUERIES)
def test_a_query_of_another_type_or_size_is_refused_with_milvus_text(stub: Any, small: str, text: str) -> None:
    name, number, data = BAD_QUERIES[text]
    request = search_request(small, [[0.0, 0.0]], 1, anns_field=name)
    holder = common_pb2.PlaceholderValue(tag="$0", type=number, values=[data])
    request.placeholder_group = common_pb2.PlaceholderGroup(placeholders=[holder]).SerializeToString()
    assert_refused(stub.Search(request), 1100, text)


def test_int8_vectors_have_graphs_only_and_nulls_of_vectors_cannot_be_asked_for(
    client: MilvusClient, stub: Any, small: str
) -> None:
    client.release_collection(small)
    client.drop_index(small, "i8")
    for index_type in ("FLAT", "IVF_FLAT", "SCANN"):
        with pytest.raises(MilvusException, match=f"data type Int8Vector can't build with this index {index_type}"):
            add_index(client, small, "i8", index_type)
    with pytest.raises(MilvusException, match="int vector index does not support metric type: HAMMING"):
        add_index(client, small, "i8", "HNSW", "HAMMING")
    add_index(client, small, "i8", "HNSW_SQ", sq_type="sq8")
    client.load_collection(small)
    with pytest.raises(MilvusException, match="IsNull/IsNotNull operations are not supported on vector fields"):
        client.query(small, filter="i8 is null")


def test_a_small_request_of_nulls_cannot_take_unbounded_memory(stub: Any, collection_name: str) -> None:
    fields = [
        field_of("id", schema_pb2.Int64, primary=True),
        field_of("vec", schema_pb2.FloatVector, dim=32768, nullable=True),
    ]
    assert_ok(stub.CreateCollection(create_request(collection_name, fields)))
    ids = scalars("id", schema_pb2.Int64, range(5000))
    nulls = schema_pb2.FieldData(type=schema_pb2.FloatVector, field_name="vec", valid_data=[False] * 5000)
    for columns in ([ids], [ids, nulls]):
        refused = stub.Insert(insert_request(collection_name, 5000, *columns))
        assert_refused(refused, 1100, "5000 rows with NULLs of field vec take 655360000 bytes")
    empty = assert_ok(
        stub.GetCollectionStatistics(milvus_pb2.GetCollectionStatisticsRequest(collection_name=collection_name))
    )
    assert {pair.key: pair.value for pair in empty.stats}["row_count"] == "0"
