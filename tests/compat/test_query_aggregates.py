"""Aggregates and groups of queries, against plain Python."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
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


@pytest.fixture(scope="module")
def world(_shared_client: MilvusClient) -> Iterator[World]:
    made = World(_shared_client)
    yield made
    _shared_client.drop_collection(made.name)


def _sum(values: list[Any]) -> Any:
    return sum(values) if values else None


OPERATIONS: dict[str, Callable[[list[Any]], Any]] = {
    "count": len,
    "sum": _sum,
    "avg": lambda values: sum(values) / len(values) if values else None,
    "min": lambda values: min(values) if values else None,
    "max": lambda values: max(values) if values else None,
}
FIELDS = {
    "count": ["small", "text", "long", "double", "doc", "tags", "flag", "vec", "*"],
    "sum": ["small", "long", "float", "double"],
    "avg": ["small", "long", "float", "double"],
    "min": ["small", "long", "float", "double", "text", "name"],
    "max": ["small", "long", "float", "double", "text", "name"],
}
FILTERS: dict[str, Callable[[Row], bool]] = {
    "": lambda row: True,
    "double > 0.5": lambda row: row["double"] > 0.5,
    "id in [1, 2, 3, 599]": lambda row: row["id"] in (1, 2, 3, 599),
    "double > 2": lambda row: False,
}


def _aggregate(name: str, rows: list[Row]) -> Any:
    operation, _, field = name.rstrip(")").partition("(")
    if field == "*":
        return len(rows)
    values = [row[field] for row in rows if row[field] is not None]
    if operation != "count" and values and isinstance(values[0], str):
        return OPERATIONS[operation]([value.encode() for value in values]).decode()
    return OPERATIONS[operation](values)


def _expected(world: World, names: list[str], groups: list[str], text: str) -> list[Row]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    rows = [row for row in world.rows if FILTERS[text](row)]
    for row in rows:
        found.setdefault(tuple(row[name] for name in groups), []).append(row)
    if not groups:
        found = {(): rows}

    def place(key: tuple[Any, ...]) -> list[Any]:
        return [(part is None, (part.encode() if isinstance(part, str) else part or 0)) for part in key]

    return [
        {name: key[groups.index(name)] if name in groups else _aggregate(name, found[key]) for name in names}
        for key in sorted(found, key=place)
    ]


def _same(found: list[Row], wanted: list[Row]) -> None:
    assert len(found) == len(wanted)
    for row, expected in zip(found, wanted, strict=True):
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            assert row[name] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), name


@pytest.mark.parametrize("seed", range(60))
def test_aggregates_of_groups_agree_with_python(world: World, seed: int) -> None:
    chance = random.Random(seed)
    groups = chance.sample(["small", "text", "long"], chance.choice([0, 1, 1, 2]))
    operations = chance.choices(sorted(OPERATIONS), k=chance.choice([1, 3]))
    names = list(dict.fromkeys(f"{operation}({chance.choice(FIELDS[operation])})" for operation in operations))
    names += [name for name in groups if chance.random() < 0.8]
    chance.shuffle(names)
    text = chance.choice(sorted(FILTERS))
    found = world.query(filter=text, output_fields=names, group_by_fields=groups)
    _same(found, _expected(world, names, groups, text))


def test_pages_of_groups_are_slices_of_one_list(world: World) -> None:
    names, groups = ["text", "small", "count(*)"], ["text", "small"]
    whole = _expected(world, names, groups, "")
    assert len(whole) == 20
    for limit, offset in ((3, 0), (4, 5), (100, 18)):
        found = world.query(output_fields=names, group_by_fields=groups, limit=limit, offset=offset)
        _same(found, whole[offset : offset + limit])


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
