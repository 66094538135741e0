"""A tour of the server with pymilvus, against MILVINE_URI with MILVINE_TOKEN: one line for each step."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from pymilvus import DataType, Function, FunctionType, MilvusClient, MilvusException
from pymilvus.client import constants

DIM = 8
ROWS = 200
BIG_ROWS, BIG_TEXT = 1600, "x" * 65_000  # 104 MB


class Absent(Exception):
    """The SDK has no such call."""


def connect(**options: Any) -> MilvusClient:
    return MilvusClient(uri=os.environ["MILVINE_URI"], token=os.environ["MILVINE_TOKEN"], **options)


client: Any = connect()


def call(name: str, *arguments: Any, **options: Any) -> Any:
    method = getattr(client, name, None)
    if method is None:
        raise Absent
    return method(*arguments, **options)


@contextmanager
def step(name: str) -> Iterator[None]:
    try:
        yield
    except Absent:
        print(f"step {name} absent", flush=True)
    except Exception as error:  # noqa: BLE001 - the report of a step is what became of it
        print(f"step {name} FAIL {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
    else:
        print(f"step {name} ok", flush=True)


@contextmanager
def lacking(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - likewise
        print(f"lacks: {name}, {' '.join(str(error).split())[:120]}", flush=True)
    else:
        print(f"step {name} ok", flush=True)


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{found!r} instead of {wanted!r}")


def vector(i: int) -> list[float]:
    return [float(i), *(1.0 for _ in range(DIM - 1))]


def row(i: int) -> dict[str, Any]:
    return {
        "id": i,
        "vec": vector(i),
        "flag": i % 2 == 0,
        "i8": i % 100,
        "i16": i,
        "i32": i,
        "i64": i,
        "f32": i / 2,
        "f64": i / 4,
        "text": f"t{i}",
        "tags": [i, i + 1],
        "doc": {"k": i},
        "color": ["red", "blue"][i % 2],
    }


def schema() -> Any:
    made = MilvusClient.create_schema(enable_dynamic_field=True)
    made.add_field("id", DataType.INT64, is_primary=True)
    made.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
    made.add_field("flag", DataType.BOOL)
    made.add_field("i8", DataType.INT8)
    made.add_field("i16", DataType.INT16)
    made.add_field("i32", DataType.INT32)
    made.add_field("i64", DataType.INT64)
    made.add_field("f32", DataType.FLOAT)
    made.add_field("f64", DataType.DOUBLE)
    made.add_field("text", DataType.VARCHAR, max_length=64)
    made.add_field("tags", DataType.ARRAY, element_type=DataType.INT64, max_capacity=8)
    made.add_field("doc", DataType.JSON)
    made.add_field("maybe", DataType.INT64, nullable=True)
    made.add_field("seven", DataType.INT64, default_value=7)
    return made


def count(name: str = "tour") -> int:
    rows = client.query(name, output_fields=["count(*)"], consistency_level="Strong")
    return int(rows[0]["count(*)"])


def ids(rows: Iterable[dict[str, Any]]) -> list[int]:
    return sorted(r["id"] for r in rows)


def index(kind: str, metric: str = "L2", **params: Any) -> Any:
    made = client.prepare_index_params()
    made.add_index("vec", index_type=kind, index_name="vec", metric_type=metric, params=params)
    return made


def pages(iterator: Any) -> int:
    seen = 0
    while batch := iterator.next():
        seen += len(batch)
    iterator.close()
    return seen


with step("version"):
    expect(client.get_server_version().startswith("v2"), True)
with step("create_collection"):
    client.create_collection("tour", schema=schema())
    expect(client.has_collection("tour"), True)
    expect("tour" in client.list_collections(), True)
with step("describe_collection"):
    expect(len(client.describe_collection("tour")["fields"]), 14)
for kind, params in (
    ("FLAT", {}),
    ("IVF_FLAT", {"nlist": 4}),
    ("IVF_SQ8", {"nlist": 4}),
    ("IVF_PQ", {"nlist": 4, "m": 4, "nbits": 8}),
    ("SCANN", {"nlist": 4}),
    ("HNSW_SQ", {"M": 8, "efConstruction": 32, "sq_type": "SQ8"}),
    ("HNSW_PQ", {"M": 8, "efConstruction": 32, "m": 4, "nbits": 8}),
    ("AUTOINDEX", {}),
    ("HNSW", {"M": 8, "efConstruction": 32}),
):
    with step(f"index_{kind.lower()}"):
        if client.list_indexes("tour"):
            client.drop_index("tour", "vec")
        client.create_index("tour", index(kind, **params))
        expect(client.describe_index("tour", "vec")["index_type"], kind)
with step("load"):
    expect(str(client.get_load_state("tour")["state"]), "NotLoad")
    client.load_collection("tour")
    expect(str(client.get_load_state("tour")["state"]), "Loaded")
with step("insert"):
    expect(client.insert("tour", [row(i) for i in range(ROWS)])["insert_count"], ROWS)
with step("upsert"):
    expect(client.upsert("tour", [{**row(3), "text": "changed"}])["upsert_count"], 1)
    expect(client.get("tour", ids=[3], output_fields=["text"])[0]["text"], "changed")
with step("delete_by_ids"):
    client.delete("tour", ids=[198])
    expect(count(), ROWS - 1)
with step("delete_by_filter"):
    client.delete("tour", filter="i64 == 199")
    expect(count(), ROWS - 2)
with step("flush"):
    client.flush("tour")
    expect(count(), ROWS - 2)
with step("statistics"):
    expect("row_count" in client.get_collection_stats("tour"), True)
with step("search"):
    expect(client.search("tour", [vector(5)], limit=1, consistency_level="Strong")[0][0]["id"], 5)
with step("search_with_filter_and_output"):
    found = client.search("tour", [vector(5)], limit=3, filter='color == "red" and i32 > 10', output_fields=["*"])[0]
    expect([h["id"] for h in found], [12, 14, 16])
    expect(found[0]["entity"]["tags"], [12, 13])
with step("search_many_queries"):
    expect([h[0]["id"] for h in client.search("tour", [vector(i) for i in (7, 8, 9)], limit=1)], [7, 8, 9])
with step("range_search"):
    found = client.search("tour", [vector(50)], limit=100, search_params={"params": {"radius": 4.5}})[0]
    expect(sorted(h["id"] for h in found), [48, 49, 50, 51, 52])
with step("query"):
    found = client.query("tour", filter="id in [1, 2] and doc['k'] >= 1", output_fields=["doc", "maybe", "seven"])
    expect(ids(found), [1, 2])
    expect((found[0]["maybe"], found[0]["seven"]), (None, 7))
with step("query_arrays_and_dynamic_field"):
    found = client.query("tour", filter='array_contains(tags, 10) and color == "red"', output_fields=["color"])
    expect(ids(found), [10])
with step("get"):
    expect(client.get("tour", ids=[11])[0]["i64"], 11)
with step("count"):
    expect(count(), ROWS - 2)
with step("query_iterator"):
    expect(pages(call("query_iterator", "tour", filter="id >= 0", batch_size=30)), ROWS - 2)
with step("search_iterator"):
    iterator = call("search_iterator", "tour", data=[vector(0)], batch_size=20, limit=60, output_fields=["id"])
    expect(pages(iterator), 60)
with step("consistency_levels"):
    for level in ("Strong", "Session", "Bounded", "Eventually"):
        client.search("tour", [vector(5)], limit=1, consistency_level=level)
with step("compact"):
    job = call("compact", "tour")
    expect(client.get_compaction_state(job) in ("Executing", "Completed"), True)
with step("segments"):
    call("list_persistent_segments", "tour")
    call("list_loaded_segments", "tour")
with step("replicas"):
    call("describe_replica", "tour")
with step("refresh_load"):
    client.refresh_load("tour")
with step("release"):
    client.release_collection("tour")
    expect(str(client.get_load_state("tour")["state"]), "NotLoad")
with step("partial_load"):
    client.load_collection("tour", load_fields=["id", "vec"], skip_load_dynamic_field=True)
    expect(client.search("tour", [vector(5)], limit=1)[0][0]["id"], 5)
    client.release_collection("tour")
    client.load_collection("tour")

with step("create_partition"):
    client.create_partition("tour", "p1")
    expect(sorted(client.list_partitions("tour")), ["_default", "p1"])
    expect(client.has_partition("tour", "p1"), True)
with step("insert_into_partition"):
    client.insert("tour", [row(1000)], partition_name="p1")
with step("search_in_partition"):
    found = client.search("tour", [vector(1)], limit=1, partition_names=["p1"], consistency_level="Strong")
    expect(found[0][0]["id"], 1000)
with step("release_partitions"):
    client.release_partitions("tour", ["p1"])
with step("load_partitions"):
    client.load_partitions("tour", ["p1"])
with step("drop_partition"):
    client.release_partitions("tour", ["p1"])
    client.drop_partition("tour", "p1")
    expect(client.list_partitions("tour"), ["_default"])

with step("create_alias"):
    client.create_alias("tour", "guide")
    expect(client.describe_alias("guide")["collection_name"], "tour")
with step("use_alias"):
    expect(count("guide"), ROWS - 2)
with step("list_aliases"):
    expect(client.list_aliases("tour")["aliases"], ["guide"])
with step("alter_alias"):
    client.create_collection("other", dimension=DIM)
    client.alter_alias("other", "guide")
    expect(client.describe_alias("guide")["collection_name"], "other")
with step("drop_alias"):
    client.drop_alias("guide")
with step("drop_collection"):
    client.drop_collection("other")
    expect(client.has_collection("other"), False)
with step("rename_collection"):
    client.rename_collection("tour", "tour2")
    expect(count("tour2"), ROWS - 2)
    client.rename_collection("tour2", "tour")
with step("alter_collection_properties"):
    call("alter_collection_properties", "tour", properties={"collection.ttl.seconds": 3600})
    expect(client.describe_collection("tour")["properties"]["collection.ttl.seconds"], "3600")
with step("drop_collection_properties"):
    call("drop_collection_properties", "tour", property_keys=["collection.ttl.seconds"])
with step("alter_field"):
    client.release_collection("tour")
    try:
        call("alter_collection_field", "tour", "text", field_params={"max_length": 128})
    finally:
        client.load_collection("tour")
with step("add_field"):
    call("add_collection_field", "tour", field_name="added", data_type=DataType.INT64, nullable=True)
    client.upsert("tour", [{**row(4), "added": 44}])
    expect(client.get("tour", ids=[4], output_fields=["added"])[0]["added"], 44)


def create_vectors(name: str, kind: DataType, indexed: tuple[str, str, dict[str, Any]], **field: Any) -> None:
    made = MilvusClient.create_schema()
    made.add_field("id", DataType.INT64, is_primary=True)
    made.add_field("vec", kind, **field)
    index_type, metric, params = indexed
    client.create_collection(name, schema=made, index_params=index(index_type, metric, **params))
    expect(client.describe_index(name, "vec")["index_type"], index_type)
    expect(str(client.get_load_state(name)["state"]), "Loaded")


def sparse(i: int) -> dict[int, float]:
    return {i: 1.0, 4_000_000_000: 0.25}


def bits(i: int) -> bytes:
    return bytes([i, 255 - i])


def in_pairs(i: int) -> list[tuple[int, float]]:
    return list(sparse(i).items())


with step("create_sparse_vectors"):
    create_vectors("sparse", DataType.SPARSE_FLOAT_VECTOR, ("SPARSE_INVERTED_INDEX", "IP", {}))
with step("insert_sparse_vectors"):
    rows = [{"id": i, "vec": in_pairs(i) if i % 2 else sparse(i)} for i in range(ROWS)]
    expect(client.insert("sparse", rows)["insert_count"], ROWS)
    expect(client.upsert("sparse", [{"id": 3, "vec": sparse(3)}])["upsert_count"], 1)
with step("search_sparse_vectors"):
    for queries in ([{5: 4.0, 7: 2.0}], [[(5, 4.0), (7, 2.0)]]):
        found = client.search("sparse", queries, limit=9, output_fields=["vec"], consistency_level="Strong")[0]
        expect([(h["id"], h["distance"], h["entity"]["vec"]) for h in found], [(5, 4, sparse(5)), (7, 2, sparse(7))])
with step("query_sparse_vectors"):
    client.flush("sparse")
    found = client.query("sparse", filter="id in [3, 9]", output_fields=["vec"], consistency_level="Strong")
    expect({r["id"]: r["vec"] for r in found}, {3: sparse(3), 9: sparse(9)})
    client.drop_collection("sparse")
with step("create_binary_vectors"):
    create_vectors("binary", DataType.BINARY_VECTOR, ("BIN_IVF_FLAT", "HAMMING", {"nlist": 2}), dim=16)
with step("insert_binary_vectors"):
    expect(client.insert("binary", [{"id": i, "vec": bits(i)} for i in range(ROWS)])["insert_count"], ROWS)
    expect(client.upsert("binary", [{"id": 3, "vec": bits(3)}])["upsert_count"], 1)
with step("search_binary_vectors"):
    options = {"search_params": {"params": {"nprobe": 2}}, "output_fields": ["vec"], "consistency_level": "Strong"}
    found = client.search("binary", [bits(5)], limit=2, **options)[0]
    expect([h["distance"] for h in found], [0, 2])
    expect((found[0]["id"], found[0]["entity"]["vec"]), (5, bits(5)))
with step("query_binary_vectors"):
    client.flush("binary")
    found = client.query("binary", filter="id in [3, 9]", output_fields=["vec"], consistency_level="Strong")
    expect({r["id"]: r["vec"] for r in found}, {3: [bits(3)], 9: [bits(9)]})
    client.drop_collection("binary")

with step("create_database"):
    client.create_database("tour_db")
    expect("tour_db" in client.list_databases(), True)
with step("use_database"):
    guest = connect(db_name="tour_db")
    guest.create_collection("inside", dimension=DIM)
    expect(guest.list_collections(), ["inside"])
    guest.drop_collection("inside")
    guest.close()
with step("alter_database"):
    call("alter_database_properties", "tour_db", properties={"database.max.collections": "10"})
    expect(client.describe_database("tour_db")["database.max.collections"], "10")
with step("drop_database"):
    client.drop_database("tour_db")

with step("create_resource_group"):
    call("create_resource_group", "tour_rg")
    expect("tour_rg" in client.list_resource_groups(), True)
with step("describe_resource_group"):
    call("describe_resource_group", "tour_rg")
with step("drop_resource_group"):
    call("drop_resource_group", "tour_rg")

with step("create_user"):
    client.create_user("tourist", "secret1")
    expect("tourist" in client.list_users(), True)
with step("update_password"):
    client.update_password("tourist", "secret1", "secret2")
with step("grant_role"):
    client.create_role("guide")
    client.grant_privilege_v2("guide", "CollectionReadOnly", collection_name="*", db_name="default")
    client.grant_role("tourist", "guide")
    expect(list(client.describe_user("tourist")["roles"]), ["guide"])
    expect(client.describe_role("guide")["privileges"][0]["privilege"], "CollectionReadOnly")
with step("privileges"):
    guided = MilvusClient(uri=os.environ["MILVINE_URI"], token="tourist:secret2")
    expect(guided.list_collections(), client.list_collections())
    refused = ""
    try:
        guided.create_collection("not_allowed", dimension=2)
    except Exception as error:  # noqa: BLE001 - the SDK raises gRPC's own error here
        refused = str(error)
    expect("PrivilegeCreateCollection: permission deny to tourist in the `default` database" in refused, True)
    guided.close()
with step("privilege_group"):
    client.create_privilege_group("tour_group")
    client.add_privileges_to_group("tour_group", ["Insert", "Query"])
    groups = {g["privilege_group"]: sorted(g["privileges"]) for g in client.list_privilege_groups()}
    expect(groups["tour_group"], ["Insert", "Query"])
    client.drop_privilege_group("tour_group")
with step("drop_role"):
    client.revoke_privilege_v2("guide", "CollectionReadOnly", collection_name="*", db_name="default")
    client.revoke_role("tourist", "guide")
    client.drop_role("guide")
with step("drop_user"):
    client.drop_user("tourist")


def big_rows() -> list[dict[str, Any]]:
    return [{"id": i, "vec": [float(i), 1.0], "text": BIG_TEXT} for i in range(BIG_ROWS)]


with step("insert_100_mb"):
    big = MilvusClient.create_schema()
    big.add_field("id", DataType.INT64, is_primary=True)
    big.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    big.add_field("text", DataType.VARCHAR, max_length=65535)
    client.create_collection("big", schema=big, index_params=index("FLAT"))
    expect(client.insert("big", big_rows())["insert_count"], BIG_ROWS)
    expect(count("big"), BIG_ROWS)
with step("deadline_of_2_s"):
    try:
        client.upsert("big", big_rows(), timeout=2)
    except (MilvusException, grpc.RpcError) as error:
        expect("deadline exceeded" in str(error).lower(), True)
    expect(count("big"), BIG_ROWS)
with step("restart"):
    print("restart me", flush=True)
    input()
    found = client.search("tour", [vector(5)], limit=1, consistency_level="Strong", timeout=30)
    expect(found[0][0]["id"], 5)
    expect(count("big"), BIG_ROWS)
client.drop_collection("big")

with step("full_text"):
    texts = MilvusClient.create_schema()
    texts.add_field("id", DataType.INT64, is_primary=True)
    texts.add_field("text", DataType.VARCHAR, max_length=99, enable_analyzer=True, enable_match=True)
    texts.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
    texts.add_field("terms", DataType.SPARSE_FLOAT_VECTOR)
    texts.add_function(Function("bm25", FunctionType.BM25, ["text"], ["terms"]))
    indexes = client.prepare_index_params()
    indexes.add_index("vec", index_type="AUTOINDEX", metric_type="L2")
    indexes.add_index("terms", index_type="AUTOINDEX", metric_type="BM25")
    client.create_collection("texts", schema=texts, index_params=indexes, consistency_level="Strong")
    sentences = {1: "a red fox", 2: "a blue hen"}
    client.insert("texts", [{"id": key, "text": text, "vec": vector(key)} for key, text in sentences.items()])
    expect([hit["id"] for hit in client.search("texts", ["Fox"], anns_field="terms", limit=3)[0]], [1])
with step("text_match"):
    expect(sorted(row["id"] for row in client.query("texts", 'text_match(text, "hen fox")')), [1, 2])
    expect([row["id"] for row in client.query("texts", 'phrase_match(text, "blue hen")')], [2])
with step("hybrid_full_text"):
    from pymilvus import AnnSearchRequest, RRFRanker

    both = [AnnSearchRequest(["hen"], "terms", {}, limit=2), AnnSearchRequest([vector(2)], "vec", {}, limit=2)]
    expect([hit["id"] for hit in client.hybrid_search("texts", both, RRFRanker(), limit=2)[0]], [2, 1])
    client.drop_collection("texts")
with step("run_analyzer"):
    found = client.run_analyzer(["The Foxes run"], {"type": "english"})[0]
    expect(list(found.tokens), ["fox", "run"])
with step("grouping"):
    found = client.search("tour", [vector(5)], limit=3, group_by_field="flag")[0]
    expect(len(found), 2)
with step("hybrid_search"):
    from pymilvus import AnnSearchRequest, RRFRanker

    request = AnnSearchRequest([vector(5)], "vec", {}, limit=2)
    expect(client.hybrid_search("tour", [request, request], RRFRanker(), limit=2)[0][0]["id"], 5)
with step("search_order"):
    if not hasattr(constants, "ORDER_BY_FIELDS"):
        raise Absent
    found = client.search("tour", [vector(50)], limit=3, order_by_fields=[{"field": "i64", "order": "desc"}])[0]
    expect([hit["id"] for hit in found], [51, 50, 49])
with step("query_order"):
    if not hasattr(constants, "QUERY_GROUP_BY_FIELDS"):
        raise Absent
    found = client.query("tour", "id < 100", output_fields=["id"], order_by_fields=["i64:desc"], limit=2)
    expect([row["id"] for row in found], [99, 98])
with step("query_aggregates"):
    if not hasattr(constants, "QUERY_GROUP_BY_FIELDS"):
        raise Absent
    names = ["i8", "count(*)", "max(i64)"]
    found = client.query("tour", "id in [50, 51, 150]", group_by_fields=["i8"], output_fields=names)
    expect(sorted(tuple(row[name] for name in names) for row in found), [(50, 2, 150), (51, 1, 51)])
with step("search_aggregation"):
    import pymilvus

    if not hasattr(pymilvus, "SearchAggregation"):
        raise Absent
    by_flag = pymilvus.SearchAggregation(["flag"], 2)
    (buckets,) = client.search("tour", [vector(50)], search_aggregation=by_flag).agg_buckets
    expect(sorted(bucket.key[0]["value"] for bucket in buckets), [False, True])
with step("snapshot"):
    client.flush("tour")
    call("create_snapshot", "monday", "tour", description="of the tour")
    expect(call("list_snapshots", "tour"), ["monday"])
    expect(call("describe_snapshot", "monday", "tour").description, "of the tour")
with step("pin_snapshot"):
    pin = call("pin_snapshot_data", "monday", "tour", ttl_seconds=60)
    try:
        client.drop_snapshot("monday", "tour")
        code = 0
    except MilvusException as error:
        code = error.code
    expect(code, 2601)
    call("unpin_snapshot_data", pin)
with step("restore_snapshot"):
    job = call("restore_snapshot", "monday", "tour", "tour_again")
    while client.get_restore_snapshot_state(job).progress < 100:
        time.sleep(0.05)
    client.load_collection("tour_again")
    expect(client.query("tour_again", "id == 5", output_fields=["id"])[0]["id"], 5)
    client.drop_collection("tour_again")
with step("drop_snapshot"):
    call("drop_snapshot", "monday", "tour")
    expect(client.list_snapshots("tour"), [])
with lacking("partial_upsert"):
    client.upsert("tour", [{"id": 5, "i64": 55}], partial_update=True)

client.drop_collection("tour")
client.close()
