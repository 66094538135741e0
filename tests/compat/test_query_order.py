"""Queries in the order of fields: keys among values, and what is refused. Random orders: test_composed_reads.py."""

from __future__ import annotations

import random
import uuid
from typing import Any

import pytest
from composed_reads import SortKey, sorted_by, value_at
from grpc_calls import assert_refused, query_request
from pymilvus import DataType, MilvusClient

ROWS, SEALED = 400, 300


class World:
    """Sealed and growing rows with many equal values and NULLs; some are deleted, some written twice."""

    def __init__(self, client: MilvusClient) -> None:
        self.client, self.name = client, f"order_{uuid.uuid4().hex[:8]}"
        schema = client.create_schema(enable_dynamic_field=True)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=9)
        schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
        schema.add_field("flag", DataType.BOOL, nullable=True)
        schema.add_field("small", DataType.INT8)
        schema.add_field("long", DataType.INT64, nullable=True)
        schema.add_field("float", DataType.FLOAT)
        schema.add_field("double", DataType.DOUBLE, nullable=True)
        schema.add_field("text", DataType.VARCHAR, max_length=20, nullable=True)
        schema.add_field("doc", DataType.JSON)
        schema.add_field("tags", DataType.ARRAY, element_type=DataType.INT64, max_capacity=4)
        indexes = client.prepare_index_params()
        indexes.add_index("vec", index_type="FLAT", metric_type="L2")
        client.create_collection(self.name, schema=schema, index_params=indexes)
        chance = random.Random(1)
        self.rows: list[dict[str, Any]] = [
            {
                "id": f"k{chance.randrange(10**6)}",
                "vec": [0.0, 0.0],
                "flag": chance.choice([True, False, None]),
                "small": chance.randrange(-128, 128),
                "long": chance.choice([None, -(2**63), 2**63 - 1, 5, 6]),
                "float": chance.choice([-1.5, 0.0, 2.25, 3.5]),
                "double": chance.choice([None, -1e300, 0.1, 1e300]),
                "text": chance.choice([None, "", "a", "ä", "z", "zz", "Z"]),
                "doc": {},
                "tags": [1],
            }
            for _ in range(ROWS)
        ]
        client.insert(self.name, self.rows[:SEALED])
        client.flush(self.name)
        client.upsert(self.name, [{**row, "small": 7} for row in self.rows[:40]])
        for row in self.rows[:40]:
            row["small"] = 7
        client.insert(self.name, self.rows[SEALED:])
        gone = {row["id"] for row in self.rows[::13]}
        client.delete(self.name, ids=sorted(gone))
        self.rows = [row for row in self.rows if row["id"] not in gone]


def test_a_filter_of_keys_is_ordered_too(world: World) -> None:
    keys = sorted(row["id"] for row in world.rows)[:20]
    found = world.client.query(world.name, filter=f"id in {keys}", limit=5, order_by_fields=["small:desc", "text"])
    order = [SortKey("small", descends=True), SortKey("text")]
    rows = sorted((row for row in world.rows if row["id"] in keys), key=lambda row: str(row["id"]))
    assert [row["id"] for row in found] == [row["id"] for row in sorted_by(rows, order, value_at)][:5]


@pytest.mark.parametrize(
    ("specs", "text"),
    [
        ("nowhere", "order_by field 'nowhere' does not exist in collection schema"),
        ("vec:asc", "order_by field 'vec' has type FloatVector which is not sortable"),
        ("doc", "order_by field 'doc' has type JSON which is not sortable"),
        ("tags", "order_by field 'tags' has type Array which is not sortable"),
        ("text:up", "invalid order direction 'up' for field 'text', must be 'asc' or 'desc'"),
        ("text:asc:first", "invalid null ordering 'first', must be 'nulls_first' or 'nulls_last'"),
    ],
)
def test_a_bad_order_is_refused_in_milvus_words(world: World, stub: Any, specs: str, text: str) -> None:
    answer = stub.Query(query_request(world.name, "", ["id"], limit=3, order_by_fields=specs))
    assert_refused(answer.status, 1100, f"{text}: invalid parameter")


def test_an_order_needs_a_limit_and_no_iterator(world: World, stub: Any) -> None:
    answer = stub.Query(query_request(world.name, "small > 0", ["id"], order_by_fields="text"))
    assert_refused(answer.status, 1100, "ORDER BY requires explicit limit: invalid parameter")
    answer = stub.Query(query_request(world.name, "", ["id"], limit=3, iterator="True", order_by_fields="text"))
    assert_refused(answer.status, 1100, "ORDER BY with iterator is not supported: invalid parameter")
