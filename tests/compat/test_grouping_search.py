"""Grouping searches with approximate indexes, against exact search. Random ones: test_composed_reads.py."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from grpc_calls import search_request
from pymilvus import AnnSearchRequest, DataType, MilvusClient, MilvusException, RRFRanker
from sample_collections import scores, wait_indexed

ROWS, SEALED, DIM = 3000, 2400, 8
INDEXES = {"flat": ("FLAT", "L2"), "graph": ("HNSW", "L2"), "lists": ("IVF_FLAT", "COSINE")}
EFFORT = {"ef": 400, "nprobe": 64}
Row = dict[str, Any]
Hit = tuple[int, float]


class World:
    """Most rows near the first query are of one group, so that an index's first answer lacks groups. Some rows have no
    value to group by, and some are deleted."""

    def __init__(self, client: MilvusClient) -> None:
        self.client, self.name = client, f"grouping_{uuid.uuid4().hex[:8]}"
        rng = np.random.default_rng(4)
        centers = rng.normal(size=(12, DIM)) * 4
        cluster = np.minimum(rng.geometric(0.3, ROWS) - 1, 11)
        self.vectors = (centers[cluster] + rng.normal(size=(ROWS, DIM))).astype(np.float32)
        self.queries = self.vectors[[int(np.flatnonzero(cluster == 0)[0]), 17]] + np.float32(0.01)
        schema = client.create_schema(enable_dynamic_field=True)
        schema.add_field("id", DataType.INT64, is_primary=True)
        for kind in INDEXES:
            schema.add_field(kind, DataType.FLOAT_VECTOR, dim=DIM)
        schema.add_field("cluster", DataType.INT8)
        schema.add_field("text", DataType.VARCHAR, max_length=20, nullable=True)
        schema.add_field("flag", DataType.BOOL)
        schema.add_field("rare", DataType.INT64)
        schema.add_field("doc", DataType.JSON)
        client.create_collection(self.name, schema=schema)
        indexes = client.prepare_index_params()
        for kind, (index_type, metric) in INDEXES.items():
            params = {"HNSW": {"M": 16, "efConstruction": 200}, "IVF_FLAT": {"nlist": 64}}.get(index_type, {})
            indexes.add_index(kind, index_name=kind, index_type=index_type, metric_type=metric, params=params)
        client.create_index(self.name, indexes)
        self.rows: list[Row] = [
            {
                "id": i,
                "cluster": int(cluster[i]),
                "text": None if i % 11 == 0 else f"t{i % 40}",
                "flag": bool(i % 2),
                "rare": i // 2 if i > 2000 else 0,
                "doc": {"a": {"b": i % 9}, "kind": [1, "1", True, 2.5, None][i % 5]},
                "dyn": f"d{i % 6}" if i % 4 else i % 3,
            }
            for i in range(ROWS)
        ]
        for first, last in ((0, SEALED), (SEALED, ROWS)):
            sent = [{**self.rows[i], **dict.fromkeys(INDEXES, self.vectors[i].tolist())} for i in range(first, last)]
            client.insert(self.name, sent)
            if first == 0:
                client.flush(self.name)
                for kind in INDEXES:
                    wait_indexed(client, self.name, kind, SEALED)
        client.load_collection(self.name)
        client.delete(self.name, ids=list(range(0, ROWS, 17)))

    def ranked(self, kind: str, query: int, keep: Callable[[Row], bool]) -> list[Hit]:
        metric = INDEXES[kind][1]
        found = scores(self.queries[query : query + 1], self.vectors, metric)[0]
        hits = [(r["id"], float(found[r["id"]])) for r in self.rows if r["id"] % 17 and keep(r)]
        return sorted(hits, key=lambda hit: (hit[1] if metric == "L2" else -hit[1], hit[0]))

    def grouped(self, hits: list[Hit], value: Callable[[Row], Any], size: int) -> list[list[Hit]]:
        groups: dict[Any, list[Hit]] = {}
        for hit in hits:
            groups.setdefault(value(self.rows[hit[0]]), []).append(hit)
        return [members[:size] for members in groups.values()]

    def search(self, kind: str, **options: Any) -> list[list[Hit]]:
        found = self.client.search(
            self.name, self.queries.tolist(), anns_field=kind, search_params={"params": EFFORT}, **options
        )
        return [[(hit["id"], hit["distance"]) for hit in hits] for hits in found]


VALUES: dict[str, Callable[[Row], Any]] = {
    "cluster": lambda row: row["cluster"],
    "text": lambda row: row["text"],
    "flag": lambda row: row["flag"],
    "rare": lambda row: row["rare"],
    "doc['a']['b']": lambda row: row["doc"]["a"]["b"],
    "dyn": lambda row: json.dumps(row["dyn"]),
    "$meta['dyn']": lambda row: json.dumps(row["dyn"]),
    "nowhere": lambda row: None,
    "doc": lambda row: json.dumps(row["doc"]),
    "doc['kind']": lambda row: json.dumps(row["doc"]["kind"]),
    "doc['a']": lambda row: json.dumps(row["doc"]["a"]),
}
FILTERS: dict[str, Callable[[Row], bool]] = {
    "": lambda row: True,
    "cluster > 2": lambda row: row["cluster"] > 2,
    "id < 60": lambda row: row["id"] < 60,
}


def _same_rows(found: list[Hit], wanted: list[Hit]) -> None:
    assert [key for key, _ in found] == [key for key, _ in wanted]
    np.testing.assert_allclose([score for _, score in found], [score for _, score in wanted], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(25))
def test_a_grouping_search_finds_the_groups_of_exact_search(world: World, seed: int) -> None:
    chance = random.Random(seed)
    kind, name = chance.choice(sorted(INDEXES)), chance.choice(sorted(VALUES))
    text = chance.choice(sorted(FILTERS))
    limit, offset, size = chance.choice([1, 5, 12, 300]), chance.choice([0, 0, 4]), chance.choice([1, 1, 3, 10])
    found = world.search(
        kind,
        filter=text,
        limit=limit,
        offset=offset,
        group_by_field=name,
        group_size=size,
        strict_group_size=chance.random() < 0.5,
    )
    for query, hits in enumerate(found):
        groups = world.grouped(world.ranked(kind, query, FILTERS[text]), VALUES[name], size)
        _same_rows(hits, [hit for group in groups[offset : offset + limit] for hit in group])


def test_several_fields_make_one_group(world: World) -> None:
    found = world.search("graph", limit=30, group_by_fields=["flag", "text"], group_size=2)
    for query, hits in enumerate(found):
        groups = world.grouped(world.ranked("graph", query, FILTERS[""]), lambda row: (row["flag"], row["text"]), 2)
        _same_rows(hits, [hit for group in groups[:30] for hit in group])


@pytest.mark.parametrize(
    ("json_type", "value"),
    [
        ("Int64", lambda v: v if isinstance(v, int) and not isinstance(v, bool) else None),
        ("VarChar", lambda v: v if isinstance(v, str) else None),
        ("Bool", lambda v: v if isinstance(v, bool) else None),
    ],
)
def test_values_of_another_json_type_are_in_the_group_of_null(
    world: World, stub: Any, json_type: str, value: Callable[[Any], Any]
) -> None:
    request = search_request(
        world.name,
        world.queries[:1].tolist(),
        5,
        anns_field="flat",
        group_by_field="doc",
        json_path="doc['kind']",
        json_type=json_type,
    )
    results = stub.Search(request).results
    groups = world.grouped(world.ranked("flat", 0, FILTERS[""]), lambda row: value(row["doc"]["kind"]), 1)
    assert list(results.ids.int_id.data) == [group[0][0] for group in groups]
    wanted = [value(world.rows[group[0][0]]["doc"]["kind"]) for group in groups]
    data = results.group_by_field_value
    kind = data.scalars.WhichOneof("data")
    values = getattr(data.scalars, kind).data
    assert [v if ok else None for v, ok in zip(values, data.valid_data, strict=True)] == wanted
    strict = search_request(
        world.name,
        world.queries[:1].tolist(),
        5,
        anns_field="flat",
        group_by_field="doc['kind']",
        json_type=json_type,
        strict_cast="true",
    )
    assert "wrong json data inner type" in stub.Search(strict).status.reason


def test_the_answer_has_the_value_of_each_group(world: World, stub: Any) -> None:
    def results(**params: Any) -> Any:
        request = search_request(world.name, world.queries.tolist(), 4, anns_field="flat", group_size=2, **params)
        return stub.Search(request).results

    one = results(group_by_field="text")
    texts = [world.rows[key]["text"] for key in one.ids.int_id.data]
    data = one.group_by_field_value
    assert [v if ok else None for v, ok in zip(data.scalars.string_data.data, data.valid_data, strict=True)] == texts
    assert not one.group_by_field_values
    several = results(group_by_fields="text,cluster")
    assert [data.field_name for data in several.group_by_field_values] == ["text", "cluster"]
    clusters = [world.rows[key]["cluster"] for key in several.ids.int_id.data]
    assert list(several.group_by_field_values[1].scalars.int_data.data) == clusters


@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        ({"group_by_field": "flat"}, 65535, "unsupported data type VECTOR_FLOAT for group by operator"),
        ({"group_by_field": 21}, 65535, "cannot parse identifier: 21"),
        ({"group_size": 11}, 1100, "input group size:11 exceeds configured max group size:10"),
        ({"group_size": 0}, 1100, "input group size:0 is negative, failed to do search_groupby"),
        ({"group_size": "x"}, 1100, "failed to parse input group size:x"),
        ({"params": {"radius": 9}}, 1100, "Not allowed to do range-search when doing search-group-by"),
        ({"iterator": "True"}, 1100, "Not allowed to do groupBy when doing iteration"),
        (
            {"group_by_field": "", "group_by_fields": "text,doc['a']"},
            1100,
            "group_by with json path is not supported for multi-field group_by",
        ),
    ],
)
def test_what_milvus_does_not_group_is_refused_in_its_words(
    world: World, stub: Any, params: dict[str, Any], code: int, text: str
) -> None:
    given = {"group_by_field": "text", "anns_field": "flat", **params}
    answer = stub.Search(search_request(world.name, world.queries[:1].tolist(), 5, **given))
    assert answer.status.code == code
    assert text in answer.status.reason


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("doc", lambda row: json.dumps(row["doc"], separators=(",", ":"))),
        ("doc['kind']", lambda row: json.dumps(row["doc"]["kind"])),
        ("dyn", lambda row: json.dumps(row["dyn"])),
        ("nowhere", lambda row: None),
    ],
)
def test_json_values_are_groups_by_their_text(world: World, stub: Any, name: str, shown: Callable[[Row], Any]) -> None:
    request = search_request(world.name, world.queries.tolist(), 8, anns_field="flat", group_by_field=name)
    results = stub.Search(request).results
    data = results.group_by_field_value
    values = [v if ok else None for v, ok in zip(data.scalars.string_data.data, data.valid_data, strict=True)]
    assert values == [shown(world.rows[key]) for key in results.ids.int_id.data]


def test_an_unknown_field_is_not_found_without_a_dynamic_field(client: MilvusClient, collection_name: str) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("bits", DataType.BINARY_VECTOR, dim=16)
    indexes = client.prepare_index_params()
    indexes.add_index("bits", index_type="BIN_FLAT", metric_type="HAMMING")
    client.create_collection(collection_name, schema=schema, index_params=indexes)
    text = r"groupBy field not found in schema: field not found\[field=nowhere\]"
    with pytest.raises(MilvusException, match=text) as caught:
        client.search(collection_name, [b"ab"], limit=3, group_by_field="nowhere")
    assert caught.value.code == 1700
    with pytest.raises(MilvusException, match="not support search_group_by operation based on binary vector"):
        client.search(collection_name, [b"ab"], limit=3, group_by_field="id")


@pytest.mark.parametrize(
    "sent",
    [
        {"group_by_field": "cluster"},
        {"group_by_fields": "cluster,flag"},
        {"hints": "iterative_filter"},
    ],
    ids=lambda sent: next(iter(sent)),
)
def test_groups_and_iterative_filters_take_an_effort_below_the_limit(
    world: World, stub: Any, sent: dict[str, str]
) -> None:
    """Milvus asks an iterator over the index then, which has no least effort."""
    query = [world.queries[0].tolist()]
    plain = search_request(world.name, query, anns_field="graph", params={"ef": 5}, metric_type="L2")
    assert "ef(5) should be larger than k(10)" in stub.Search(plain).status.reason
    request = search_request(world.name, query, anns_field="graph", params={"ef": 5}, metric_type="L2", **sent)
    assert stub.Search(request).status.code == 0


def test_sub_searches_of_groups_take_an_effort_below_the_limit(world: World) -> None:
    subs = [
        AnnSearchRequest([world.queries[0].tolist()], "graph", {"metric_type": "L2", "params": {"ef": 5}}, limit=10),
        AnnSearchRequest([world.queries[1].tolist()], "flat", {"metric_type": "L2"}, limit=10),
    ]
    found = world.client.hybrid_search(world.name, subs, RRFRanker(), limit=5, group_by_field="cluster")[0]
    assert len({hit["id"] % 17 for hit in found}) > 1
    with pytest.raises(MilvusException, match=r"ef\(5\) should be larger than k\(10\)"):
        world.client.hybrid_search(world.name, subs, RRFRanker(), limit=5)


def test_an_unknown_scorer_of_groups_is_refused(world: World) -> None:
    request = AnnSearchRequest(world.queries[:1].tolist(), "flat", {}, 3)
    with pytest.raises(MilvusException, match='invalid group scorer "min", must be max/sum/avg'):
        world.client.hybrid_search(
            world.name, [request], RRFRanker(), limit=3, group_by_field="text", rank_group_scorer="min"
        )


def test_a_collection_without_rows_has_no_groups(client: MilvusClient, collection_name: str) -> None:
    client.create_collection(collection_name, dimension=DIM, metric_type="L2")
    assert list(client.search(collection_name, [[0.0] * DIM], limit=3, group_by_field="id")[0]) == []
