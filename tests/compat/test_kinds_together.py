"""One collection with a vector field of each kind: loads of some fields, estimates, memory and explanations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import Server
from grpc_calls import assert_refused, search_request
from load_calls import estimate, loaded, memory, ours
from load_calls import release as release_
from pymilvus import DataType, MilvusClient, MilvusException
from sample_collections import add_index, wait_indexed
from vector_fields import FIELDS, VectorField, received

NAME = "kinds_together"
SEALED, GROWING = 1200, 40
K = 15
Rows = dict[int, dict[str, Any]]
NULLABLE = {field: place % 2 == 0 for place, field in enumerate(FIELDS)}
each_kind = pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)


def _rows(keys: range) -> Rows:
    numbers = np.random.default_rng(keys.start)
    rows: Rows = {}
    for key in keys:
        kinds = {f.name: None if NULLABLE[f] and key % 5 == 0 else f.draw(numbers) for f in FIELDS}
        rows[key] = {"id": key, "vec": [float(key), 1.0], **kinds}
    return rows


def _write(client: MilvusClient, rows: Rows) -> None:
    sent = [{**row, **{f.name: f.sent(row[f.name]) for f in FIELDS}} for row in rows.values()]
    client.insert(NAME, sent)


@pytest.fixture(scope="module")
def written(_shared_client: MilvusClient) -> Iterator[Rows]:
    """Indexed and growing rows; every seventh is deleted."""
    client = _shared_client
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    for field, nullable in NULLABLE.items():
        field.add_to(schema, nullable=nullable)
    client.create_collection(NAME, schema=schema)
    add_index(client, NAME, "vec", "FLAT")
    for field in FIELDS:
        field.add_index(client, NAME)
    rows = _rows(range(SEALED))
    _write(client, rows)
    client.flush(NAME)
    for field in FIELDS:
        wait_indexed(client, NAME, field.name, SEALED)
    growing = _rows(range(SEALED, SEALED + GROWING))
    _write(client, growing)
    client.delete(NAME, filter="id in [" + ", ".join(str(k) for k in range(0, SEALED + GROWING, 7)) + "]")
    yield {key: row for key, row in {**rows, **growing}.items() if key % 7}
    client.drop_collection(NAME)


@pytest.fixture(autouse=True)
def released(server: Server, written: Rows) -> Iterator[None]:
    yield
    release_(server.stub, NAME)


def _check(client: MilvusClient, field: VectorField, rows: Rows, filter: str = "") -> None:
    query = field.draw(np.random.default_rng(4))
    field.check_search(client, NAME, query, rows, K, filter=filter)


@each_kind
def test_a_load_of_one_kind_serves_it_and_refuses_the_others(
    client: MilvusClient, server: Server, written: Rows, field: VectorField
) -> None:
    loaded(server.stub, NAME, load_fields=["id", field.name])
    _check(client, field, written)
    _check(client, field, {key: row for key, row in written.items() if key < 300}, "id < 300")
    rows = client.query(NAME, filter="id in [5, 6, 1201]", output_fields=[field.name])
    assert {r["id"]: received(r)[field.name] for r in rows} == {k: written[k][field.name] for k in (5, 6, 1201)}
    for other in FIELDS:
        if other is field:
            continue
        query, name = other.sent(other.draw(np.random.default_rng(1))), other.name
        with pytest.raises(MilvusException, match=f'failed to create query plan: ann field "{name}" not loaded'):
            client.search(NAME, [query], anns_field=name, limit=1)
        with pytest.raises(MilvusException, match=f"field {name} is not loaded"):
            client.query(NAME, filter="id < 9", output_fields=[name])
        with pytest.raises(MilvusException, match=f"field {name} is not loaded"):
            client.search(NAME, ids=[6], anns_field=name, limit=1)
    assert_refused(server.stub.Search(search_request(NAME, [[0.0, 1.0]], 1)), 1100, 'ann field "vec" not loaded')


@pytest.mark.one_process("it compares the memory of one replica in one process")
@each_kind
def test_an_estimate_of_one_kind_is_what_the_load_then_measures(
    server: Server, written: Rows, field: VectorField
) -> None:
    before = estimate(server, NAME, loadFields=["id", field.name])
    assert {part["name"] for part in before["parts"]} == {"rows", "id", field.name}
    assert before["neededBytes"] == before["estimatedBytes"]
    loaded(server.stub, NAME, load_fields=["id", field.name])
    after = estimate(server, NAME, loadFields=["id", field.name])
    assert (after["neededBytes"], after["estimatedBytes"]) == (0, before["estimatedBytes"])
    _check_parts(after)


def _check_parts(found: dict[str, Any]) -> None:
    """`rows` also holds the marks of rows that were deleted after the flush, which no estimate knows."""
    for part in found["parts"]:
        if part["kind"] != "rows":
            assert 0.8 * part["estimatedBytes"] <= part["measuredBytes"] <= part["estimatedBytes"], part


@pytest.mark.one_process("it compares the memory of one replica in one process")
def test_all_kinds_are_counted_by_field_and_index(client: MilvusClient, server: Server, written: Rows) -> None:
    whole = estimate(server, NAME)
    assert {part["name"] for part in whole["parts"]} == {"rows", "id", "vec", *(f.name for f in FIELDS)}
    loaded(server.stub, NAME)
    loaded_now = estimate(server, NAME)
    _check_parts(loaded_now)
    (held,) = (c for c in memory(server)["collections"] if c["collectionName"] == NAME)
    assert held["measuredBytes"] == loaded_now["measuredBytes"]
    for field in FIELDS:
        _check(client, field, written)


@each_kind
def test_a_search_by_each_kind_is_explained(server: Server, written: Rows, field: VectorField) -> None:
    loaded(server.stub, NAME)
    query = field.draw(np.random.default_rng(2))
    data = {str(k): v for k, v in query.items()} if isinstance(query, dict) else list(query)

    answer = ours(server, "explain", collectionName=NAME, annsField=field.name, data=[data], limit=3)
    assert answer["code"] == 0, answer
    looks = {look["state"]: look for look in answer["data"]}
    assert set(looks) == {"sealed", "growing"}
    assert looks["growing"]["plan"] == "scan"
    searched = [key for key, row in written.items() if row[field.name] is not None and key < SEALED]
    assert looks["sealed"]["rowsKept"] == len(searched)
    assert looks["sealed"]["plan"] in ("scan", field.index_type)
