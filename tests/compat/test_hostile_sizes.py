"""Absurd numbers and sizes are refused with a message and cost the server little memory."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from typing import Any

import grpc
import psutil  # type: ignore[import-untyped]
import pytest
import requests
from grpc_calls import assert_refused, insert_request, query_request, scalars, search_request, vectors
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2
from sample_collections import c1_rows, make_c1, make_text_keys

ORIGIN = [0.0, 0.0, 0.0, 0.0]
MOST_CPU_SECONDS = 20.0
MOST_BYTES = 300 << 20


@pytest.fixture
def loaded(client: MilvusClient, collection_name: str) -> str:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(5))
    return collection_name


@pytest.fixture(autouse=True)
def _bounded(server: Any) -> Any:
    """Every refusal here takes no memory, and little enough CPU, which does not depend on the load of the machine as
    time does."""
    process = psutil.Process(server.pid)
    before, started = process.memory_info().rss, process.cpu_times().user
    yield
    assert process.cpu_times().user - started < MOST_CPU_SECONDS
    assert process.memory_info().rss - before < MOST_BYTES


@pytest.mark.parametrize("number", [2**31, 2**63, 2**64, 10**30, "9" * 5000], ids=lambda n: f"{len(str(n))} digits")
def test_huge_limits_and_offsets_are_refused(stub: Any, loaded: str, number: Any) -> None:
    assert_refused(stub.Search(search_request(loaded, [ORIGIN], number)), 1100, "is invalid")
    assert_refused(stub.Search(search_request(loaded, [ORIGIN], 1, offset=number)), 1100, "is invalid")
    assert_refused(stub.Query(query_request(loaded, "id > 0", limit=number)), 1100, "invalid")
    assert_refused(stub.Query(query_request(loaded, "id > 0", limit=1, offset=number)), 1100, "invalid")


def test_a_million_empty_queries_are_refused(stub: Any, loaded: str) -> None:
    request = search_request(loaded, [ORIGIN], 1)
    holder = common_pb2.PlaceholderValue(tag="$0", type=101, values=[b""] * 1_000_000)
    request.placeholder_group = common_pb2.PlaceholderGroup(placeholders=[holder]).SerializeToString()
    assert_refused(stub.Search(request), 1100, "nq [1000000] is invalid")


@pytest.mark.parametrize("auto_id", [False, True], ids=["own keys", "automatic ids"])
def test_a_row_count_of_billions_is_refused_before_memory_is_taken(
    client: MilvusClient, stub: Any, collection_name: str, auto_id: bool
) -> None:
    schema = client.create_schema(auto_id=auto_id, enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("n", DataType.INT64, nullable=True)
    schema.add_field("d", DataType.INT64, default_value=1)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection(collection_name, schema=schema)
    billions = 2**32 - 1
    columns = [vectors("vec", [ORIGIN])]
    if not auto_id:
        columns.append(scalars("id", schema_pb2.Int64, [1]))
    text = f"is not equal to passed num_rows ({billions})"
    assert_refused(stub.Insert(insert_request(collection_name, billions, *columns)), 1100, text)
    without = insert_request(collection_name, billions, *columns[1:])
    assert_refused(stub.Insert(without), 1100, "num_rows" if columns[1:] else "fieldSchema(vec)")


def test_a_filter_nested_too_deep_is_refused(stub: Any, loaded: str) -> None:
    request = query_request(loaded, "not " * 50_000 + "id == 1")
    assert_refused(stub.Query(request), 1100, "expression is nested deeper than 128 levels")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" or ".join(["id == 1"] * 60_000), "expression has more than 200000 tokens"),
        ("(" * 300_000, "expression has more than 200000 tokens"),
        ("id == '" + "x" * 2_000_000, "invalid expression"),
        ("id in [" * 300_000, "expression has more than 200000 tokens"),
        ("id == " + "9" * 2_000_000, "int64 overflow"),
        ("id" + "[0]" * 300_000 + " == 1", "data type not supported accessed with []"),
        ("x" * 2_000_000 + " == 1", "not exist"),
        ("id == '" + "x" * 2_000_000 + "'", "comparisons between"),
    ],
    ids=["chain", "parentheses", "open string", "open lists", "digits", "path", "name", "string"],
)
def test_a_filter_of_megabytes_is_refused(stub: Any, loaded: str, text: str, reason: str) -> None:
    answer = stub.Query(query_request(loaded, text))
    assert_refused(answer, 1100, reason)
    assert len(answer.status.reason) < 50_000, "the filter is not echoed whole"


def test_a_delete_by_a_filter_of_megabytes_is_refused(stub: Any, loaded: str) -> None:
    """Deletes have the parser of queries."""
    deletion = milvus_pb2.DeleteRequest(collection_name=loaded, expr="id == " + "9" * 2_000_000)
    answer = stub.Delete(deletion)
    assert_refused(answer, 1100, "int64 overflow")
    assert len(answer.status.reason) < 50_000


def test_a_list_of_very_many_keys_is_not_too_large(client: MilvusClient, loaded: str) -> None:
    text = f"id in [{','.join(map(str, range(500_000)))}]"
    assert len(client.query(loaded, filter=text)) == 5


def test_a_pattern_of_megabytes_is_refused_or_matches(client: MilvusClient, stub: Any, collection_name: str) -> None:
    make_text_keys(client, collection_name, "id", 4, 8)
    request = query_request(collection_name, f"id like '{'a%b_' * 500_000}'")
    assert_refused(stub.Query(request), 1100, "invalid like pattern, it is longer than 16384 characters")
    request = query_request(collection_name, f"id like '{'%x' * 101}y'")
    assert_refused(stub.Query(request), 1100, "invalid like pattern, it has more than 100 wildcards")
    assert client.query(collection_name, filter=f"id like '{'a' * 2_000_000}%'") == []


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)], ids=["gzip", "deflate"]
)
def test_a_message_that_unpacks_to_more_than_the_limit_is_refused(
    server: Any, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    """A whole frame of a few hundred kilobytes that would unpack to 400 MB."""
    packed = compress(bytes(400 << 20))
    answer = requests.post(
        f"{server.uri}/milvus.proto.milvus.MilvusService/HasCollection",
        data=struct.pack(">BI", 1, len(packed)) + packed,
        headers={"content-type": "application/grpc", "grpc-encoding": encoding, "te": "trailers"},
        timeout=30,
    )
    assert answer.headers["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    assert "after decompression larger than max" in answer.headers["grpc-message"]
