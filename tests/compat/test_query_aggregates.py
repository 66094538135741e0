"""Aggregates and groups of queries: names, pages, types, and what is refused. Random ones: test_composed_reads.py."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from typing import Any

import pytest
from composed_reads import SortKey, sorted_by
from grpc_calls import assert_refused, query_request
from pymilvus import DataType, MilvusClient

ROWS, SEALED = 600, 400
Row = dict[str, Any]


class World:
    """Sealed and growing rows with NULLs; some are deleted."""

    def __init__(self, client: MilvusClient) -> None:
        self.client, self.name = client, f"aggregates_{uuid.uuid4().hex[:8]}"
        schema = client.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
        schema.add_field("small", DataType.INT8, nullable=True)
        schema.add_field("text", DataType.VARCHAR, max_length=20, nullable=True)
        schema.add_field("name", DataType.VARCHAR, max_length=20, nullable=True)
        schema.add_field("long", DataType.INT64, nullable=True)
        schema.add_field("float", DataType.FLOAT, nullable=True)
        schema.add_field("double", DataType.DOUBLE)
        schema.add_field("flag", DataType.BOOL)
        schema.add_field("doc", DataType.JSON, nullable=True)
        schema.add_field("tags", DataType.ARRAY, element_type=DataType.INT64, max_capacity=4)
        indexes = client.prepare_index_params()
        indexes.add_index("vec", index_type="FLAT", metric_type="L2")
        client.create_collection(self.name, schema=schema, index_params=indexes)
        chance = random.Random(2)
        rows: list[Row] = [
            {
                "id": i,
                "vec": [0.0, 0.0],
                "small": chance.choice([None, -3, 0, 5]),
                "text": chance.choice([None, "", "a", "b", "ä"]),
                "name": chance.choice([None, "x", "yy", "z"]) if i % 5 else None,
                "long": chance.choice([None, 7, -8, 10**12]),
                "float": chance.choice([None, 1.5, -2.25]),
                "double": chance.random(),
                "flag": i % 2 == 0,
                "doc": None if i % 3 else {"a": 1},
                "tags": [i],
            }
            for i in range(ROWS)
        ]
        client.insert(self.name, rows[:SEALED])
        client.flush(self.name)
        client.insert(self.name, rows[SEALED:])
        client.delete(self.name, ids=list(range(0, ROWS, 7)))
        self.rows = [row for row in rows if row["id"] % 7]

    def query(self, **options: Any) -> list[Row]:
        return [dict(row) for row in self.client.query(self.name, **options)]


def _counts(world: World, groups: list[str]) -> list[Row]:
    """The number of rows of each group, in the order of the groups."""
    counts = Counter(tuple(row[name] for name in groups) for row in world.rows)
    order = [SortKey(str(place)) for place in range(len(groups))]
    keys = sorted_by(counts, order, lambda key, place: key[int(place)])
    return [dict(zip([*groups, "count(*)"], [*key, counts[key]], strict=True)) for key in keys]


def test_pages_of_groups_are_slices_of_one_list(world: World) -> None:
    names, groups = ["text", "small", "count(*)"], ["text", "small"]
    whole = _counts(world, groups)
    assert len(whole) == 20
    for limit, offset in ((3, 0), (4, 5), (100, 18)):
        found = world.query(output_fields=names, group_by_fields=groups, limit=limit, offset=offset)
        assert found == whole[offset : offset + limit]


def test_groups_come_in_the_requested_order(world: World) -> None:
    found = world.query(
        output_fields=["text", "small", "sum(double)"],
        group_by_fields=["text", "small"],
        order_by_fields=["small:desc:nulls_last", "text:asc"],
        limit=7,
    )
    smalls = [row["small"] for row in found]
    assert smalls == [5, 5, 5, 5, 5, 0, 0]
    assert [row["text"] for row in found] == ["", "a", "b", "ä", None, "", "a"]


def test_names_of_operations_are_read_in_any_case_and_come_back_as_sent(world: World) -> None:
    (row,) = world.query(output_fields=["COUNT( * )", "Max(id)"])
    assert row == {"COUNT( * )": len(world.rows), "Max(id)": world.rows[-1]["id"]}


def test_types_of_results_are_those_of_milvus(world: World, stub: Any) -> None:
    names = ["sum(small)", "sum(float)", "avg(small)", "min(small)", "max(float)", "min(text)", "count(doc)"]
    answer = stub.Query(query_request(world.name, "", names))
    kinds = {data.field_name: DataType(data.type) for data in answer.fields_data}
    assert list(kinds) == list(answer.output_fields) == names
    wanted = [DataType.INT64, DataType.DOUBLE, DataType.DOUBLE, DataType.INT8]
    assert list(kinds.values()) == [*wanted, DataType.FLOAT, DataType.VARCHAR, DataType.INT64]


def test_a_collection_without_rows_has_one_row_of_totals_and_no_groups(
    client: MilvusClient, collection_name: str
) -> None:
    client.create_collection(collection_name, dimension=2)
    assert [dict(row) for row in client.query(collection_name, output_fields=["count(id)", "sum(id)"])] == [
        {"count(id)": 0, "sum(id)": None}
    ]
    assert list(client.query(collection_name, output_fields=["count(*)"], group_by_fields=["id"])) == []


def test_too_many_groups_are_refused(client: MilvusClient, collection_name: str) -> None:
    client.create_collection(collection_name, dimension=2)
    rows = [{"id": i, "vector": [0.0, 0.0]} for i in range(100_001)]
    client.insert(collection_name, rows[:50_000])
    client.insert(collection_name, rows[50_000:])
    options: dict[str, Any] = {"output_fields": ["max(id)"], "group_by_fields": ["id"]}
    assert len(client.query(collection_name, filter="id < 5000", **options)) == 5000
    with pytest.raises(Exception, match=r"GROUP BY produced too many groups \(100001\)"):
        client.query(collection_name, **options)


@pytest.mark.parametrize(
    ("names", "options", "text"),
    [
        (["sum(text)"], {}, "aggregation operator sum does not support data type VarChar"),
        (["avg(flag)"], {}, "aggregation operator avg does not support data type Bool"),
        (["min(doc)"], {}, "aggregation operator min does not support data type JSON"),
        (["max(*)"], {}, "max(*) is not supported, only count(*) is allowed"),
        (["sum(nowhere)"], {}, "target field nowhere for aggregation:sum does not exist"),
        (["count(*)", "id"], {}, "output field 'id' is not allowed: when using aggregation functions (e.g., count(*))"),
        (
            ["text", "id"],
            {"group_by_fields": "text"},
            "output field 'id' is not allowed: when using GROUP BY, output_fields can only contain "
            "group_by fields ([text]) or aggregation expressions",
        ),
        (["count(*)"], {"group_by_fields": "vec"}, "group by field vec has unsupported data type FloatVector"),
        (["count(*)"], {"group_by_fields": "double"}, "group by field double has unsupported data type Double"),
        (["count(*)"], {"group_by_fields": "doc"}, "group by field doc has unsupported data type JSON"),
        (["count(*)"], {"group_by_fields": "nowhere"}, "field nowhere not exist"),
        (["count(*)", "sum(id)"], {"limit": 3}, "count entities with pagination is not allowed"),
        (
            ["count(*)"],
            {"group_by_fields": "text", "order_by_fields": "count(*)", "limit": 3},
            "ORDER BY on aggregate expression 'count(*)' is not yet supported",
        ),
        (
            ["count(*)"],
            {"group_by_fields": "text", "order_by_fields": "long:asc", "limit": 3},
            "ORDER BY field 'long' is not valid: when using GROUP BY or aggregates, ORDER BY can only reference "
            "GROUP BY columns. Valid targets are: [text]",
        ),
        (["text"], {"group_by_fields": "text"}, "empty expression should be used with limit"),
    ],
)
def test_a_bad_aggregate_is_refused_in_milvus_words(
    world: World, stub: Any, names: list[str], options: dict[str, Any], text: str
) -> None:
    answer = stub.Query(query_request(world.name, "", names, **options))
    assert answer.status.code == 1100
    assert text in answer.status.reason


def test_an_output_that_is_no_aggregate_is_an_unknown_field(world: World, stub: Any) -> None:
    for name in ("median(long)", "count(long", "count()"):
        answer = stub.Query(query_request(world.name, "", ["text", name], group_by_fields="text", limit=3))
        assert answer.status.code == 1100
    assert_refused(
        stub.Query(query_request(world.name, "", ["median(long)"], limit=3)).status,
        1100,
        "field median(long) not exist: invalid parameter",
    )
