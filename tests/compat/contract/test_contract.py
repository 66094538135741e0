"""Calls answer as in Milvus: one row per call, with Milvus's answer and where its source says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from conftest import Server, ServerFactory
from grpc_calls import create_request, field, insert_request, pairs, scalars, search_request, vectors
from pymilvus import DataType, MilvusException
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from world import ISOLATED, KEYED, PLAIN, QUERY, World, add_index, answer_of, make, make_world, random_rows, search

KEY = field("id", schema_pb2.Int64, primary=True)
VECTOR = field("vec", schema_pb2.FloatVector, dim=4)


@dataclass(frozen=True)
class Row:
    """`text` is part of the message of an error; with code 0 `result`, if any, must hold for the answer."""

    what: str
    call: Callable[[World], Any]
    code: int
    text: str
    source: str
    result: Callable[[Any], bool] | None = None


@pytest.fixture(scope="module")
def world(server: Server) -> Iterator[World]:
    with make_world(server) as made:
        yield made


def _index(name: str, field_name: str, **params: object) -> Callable[[World], Any]:
    request = milvus_pb2.CreateIndexRequest(collection_name=name, field_name=field_name, extra_params=pairs(params))
    return lambda world: world.stub.CreateIndex(request)


def _index_of_dim(dim: int, **params: Any) -> Callable[[World], Any]:
    return lambda world: add_index(world.client, world.fresh(dim=dim), "vec", metric_type="L2", **params)


def _create(*fields: Any, **others: Any) -> Callable[[World], Any]:
    return lambda world: world.stub.CreateCollection(create_request("contract_refused", fields, **others))


def _create_with(properties: dict[str, object], *fields: Any) -> Callable[[World], Any]:
    return _create(KEY, VECTOR, *fields, properties=pairs(properties))


def _described_params(index_type: str, field_name: str, **params: object) -> Callable[[World], Any]:
    """Name and value of each parameter of a new index, as described."""

    def call(world: World) -> Any:
        name = world.fresh()
        given = {"index_type": index_type, **params} if index_type else dict(params)
        assert _index(name, field_name, **given)(world).code == 0
        described = world.stub.DescribeIndex(milvus_pb2.DescribeIndexRequest(collection_name=name))
        return {p.key: p.value for p in described.index_descriptions[0].params}

    return call


def _altered_index(world: World) -> Any:
    name = world.fresh(index="FLAT")
    add_index(world.client, name, "s", index_type="BITMAP", index_name="bits")
    world.client.alter_index_properties(name, "bits", {"indexoffsetcache.enabled": True})
    return world.client.describe_index(name, "bits")


def _same_index_again(world: World, **more: object) -> Any:
    name = world.fresh()
    given = {"index_type": "HNSW", "metric_type": "L2", "params": '{"M": 8, "efConstruction": 64}'}
    assert _index(name, "vec", **given)(world).code == 0
    world.client.alter_index_properties(name, "vec", {"mmap.enabled": True})
    return _index(name, "vec", **given, **more)(world)


def _switched_iterator(world: World) -> Any:
    first, second = world.fresh(index="FLAT"), world.fresh(index="FLAT")
    for name in (first, second):
        world.client.insert(name, [{"id": i, "vec": [float(i), 0, 0, 0]} for i in range(20)])
        world.client.load_collection(name)
    world.client.create_alias(first, "contract_alias")
    pages = world.client.search_iterator("contract_alias", [QUERY], batch_size=5, anns_field="vec")
    assert pages.next()
    world.client.alter_alias(second, "contract_alias")
    return pages.next()


def _sorted_segments(world: World) -> Any:
    name = world.fresh(index="FLAT")
    world.client.insert(name, [{"id": i, "vec": [float(i), 0, 0, 0]} for i in (3, 1, 2)])
    world.client.flush(name)
    world.client.load_collection(name)
    loaded = world.stub.GetQuerySegmentInfo(milvus_pb2.GetQuerySegmentInfoRequest(collectionName=name))
    return [segment.is_sorted for segment in loaded.infos]


def _default_properties(properties: dict[str, str], database: str = "") -> Callable[[World], Any]:
    def call(world: World) -> Any:
        client = world.client
        if database:
            client.create_database(database, {"timezone": "Asia/Tokyo"})
            client = world.server.client(db_name=database)
        client.create_collection("contract_defaults", 4, properties=properties)
        described = client.describe_collection("contract_defaults")["properties"]
        client.drop_collection("contract_defaults")
        if database:
            client.close()
            world.client.drop_database(database)
        return described

    return call


def _max_field_id_grows(world: World) -> Any:
    name = world.fresh()
    world.client.add_collection_field(name, "later", DataType.INT64, nullable=True)
    return world.client.describe_collection(name)["properties"]["max_field_id"]


def _dynamic_field_disabled(world: World) -> Any:
    name = world.fresh(dynamic=True)
    world.client.alter_collection_properties(name, {"dynamicfield.enabled": False})
    described = world.client.describe_collection(name)
    return described["enable_dynamic_field"], described["properties"]["max_field_id"]


def _alter(name: str, properties: dict[str, object], delete: tuple[str, ...] = ()) -> Callable[[World], Any]:
    request = milvus_pb2.AlterCollectionRequest(
        collection_name=name, properties=pairs(properties), delete_keys=list(delete)
    )
    return lambda world: world.stub.AlterCollection(request)


def _delete(name: str, expression: str, partition: str = "") -> Callable[[World], Any]:
    request = milvus_pb2.DeleteRequest(collection_name=name, partition_name=partition, expr=expression)
    return lambda world: world.stub.Delete(request)


def _insert(*columns: Any) -> Callable[[World], Any]:
    return lambda world: world.stub.Insert(insert_request(world.fresh(), 2, *columns))


def _isolated(expression: str) -> Callable[[World], Any]:
    return search(ISOLATED, filter=expression)


def _raw_search(**params: Any) -> Callable[[World], Any]:
    return lambda world: world.stub.Search(search_request(PLAIN, [QUERY], **params))


def _empty_vector() -> Any:
    data = schema_pb2.FieldData(type=schema_pb2.FloatVector, field_name="vec")
    data.vectors.dim = 4
    data.vectors.float_vector.SetInParent()
    return data


def _keyed(world: World) -> Any:
    schema = world.client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    schema.add_field("key", DataType.INT64, is_partition_key=True)
    return schema


LARGEST = {"num_partitions": 1024, "num_shards": 16}


def _counted(expression: str) -> Callable[[World], Any]:
    """How many of the rows with d = 1.5, -1.5 and 2 pass the filter."""

    def call(world: World) -> Any:
        name = world.fresh(index="FLAT", dynamic=True)
        rows = [{"id": i, "vec": QUERY, "d": d} for i, d in enumerate((1.5, -1.5, 2.0))]
        world.client.insert(name, rows)
        world.client.load_collection(name)
        return world.client.query(name, filter=expression, output_fields=["count(*)"])[0]["count(*)"]

    return call


def _insert_above_quota(collection: str = "", database: str = "", verb: str = "insert") -> Callable[[World], Any]:
    """Inserts rows into a collection with flushed rows, in its own database."""

    def call(world: World) -> Any:
        world.client.create_database("contract_quota", {"database.diskQuota.mb": database} if database else {})
        client = world.server.client(db_name="contract_quota")
        try:
            make(client, "rows")
            client.insert("rows", random_rows(100, 4))
            client.flush("rows")
            if collection:
                client.alter_collection_properties("rows", {"collection.diskProtection.diskQuota.mb": collection})
            return client.delete("rows", ids=[1]) if verb == "delete" else client.insert("rows", random_rows(1, 4))
        finally:
            client.drop_collection("rows")
            client.close()
            world.client.drop_database("contract_quota")

    return call


GRAMMAR = "internal/parser/planparserv2/Plan.g4 FloatingConstant"
QUOTA = "quota exceeded[reason=disk quota exceeded, please allocate more resources]"
IDS = scalars("id", schema_pb2.Int64, [1, 2])
CHECKER = "internal/util/exprutil/expr_checker.go"
NO_KEY = "partition key not found in expr or the expr is invalid when validating partition key isolation"
IVF = {"index_type": "IVF_FLAT", "metric_type": "L2"}

ROWS = [
    Row("a filter on one value of the key", _isolated("key == 't1'"), 0, "", CHECKER, lambda r: len(r[0]) == 5),
    Row("joined with another by and", _isolated("id > 3 and key == 't1'"), 0, "", CHECKER, lambda r: len(r[0]) == 5),
    Row("no filter under isolation", _isolated(""), 1100, NO_KEY, CHECKER),
    Row("a filter on another field under isolation", _isolated("id > 3"), 1100, NO_KEY, CHECKER),
    Row("in under isolation", _isolated("key in ['t1']"), 1100, "isolation does not support IN", CHECKER),
    Row("or under isolation", _isolated("key == 't1' or id > 3"), 1100, "isolation does not support OR", CHECKER),
    Row("not under isolation", _isolated("not (key == 't1')"), 1100, "isolation does not support NOT", CHECKER),
    Row("a range under isolation", _isolated("'a' < key < 'b'"), 1100, "does not support BinaryRange", CHECKER),
    Row("!= under isolation", _isolated("key != 't1'"), 1100, "isolation does not support NotEqual", CHECKER),
    Row("> under isolation", _isolated("key > 't1'"), 1100, "isolation does not support GreaterThan", CHECKER),
    Row("like under isolation", _isolated("key like 't%'"), 1100, "does not support PrefixMatch", CHECKER),
    Row(
        "isolation without a partition key",
        _create_with({"partitionkey.isolation": True}),
        105,
        "partition key isolation mode is enabled but no partition key field is set",
        "internal/proxy/task.go validatePartitionKeyIsolation",
    ),
    Row(
        "a time zone that is none, of a new collection",
        _create_with({"timezone": "Mars/Olympus"}),
        1100,
        "unknown or invalid IANA Time Zone ID: Mars/Olympus",
        "internal/proxy/task.go createCollectionTask",
    ),
    Row(
        "namespace.sharding.enabled of a new collection",
        _create_with({"namespace.sharding.enabled": "maybe"}),
        1100,
        'invalid namespace.sharding.enabled value "maybe", valid values: [true,false]',
        "pkg/common/common.go",
    ),
    Row(
        "namespace.sharding.enabled altered",
        _alter(PLAIN, {"namespace.sharding.enabled": "true"}),
        1100,
        "cannot alter namespace.sharding.enabled after collection creation",
        "pkg/common/common.go",
    ),
    Row(
        "namespace.sharding.enabled deleted",
        _alter(PLAIN, {}, ("namespace.sharding.enabled",)),
        1100,
        "cannot delete namespace.sharding.enabled after collection creation",
        "pkg/common/common.go",
    ),
    Row(
        "the properties of every new collection",
        _default_properties({}),
        0,
        "",
        "test_milvus_client_collection.py:4268",
        lambda r: r == {"max_field_id": "102", "namespace.sharding.enabled": "false", "timezone": "UTC"},
    ),
    Row(
        "a collection's time zone is its database's",
        _default_properties({}, "contract_tokyo"),
        0,
        "",
        "internal/rootcoord/create_collection_task.go",
        lambda r: r["timezone"] == "Asia/Tokyo",
    ),
    Row(
        "unless it has its own",
        _default_properties({"timezone": "Europe/Berlin"}, "contract_berlin"),
        0,
        "",
        "internal/rootcoord/create_collection_task.go",
        lambda r: r["timezone"] == "Europe/Berlin",
    ),
    Row("max_field_id after a field was added", _max_field_id_grows, 0, "", "internal/rootcoord/util.go", "103".__eq__),
    Row(
        "max_field_id after the dynamic field was disabled",
        _dynamic_field_disabled,
        0,
        "",
        "internal/rootcoord/ddl_callbacks_alter_collection_properties.go",
        (False, "103").__eq__,
    ),
    Row(
        "IVF_PQ without m",
        _index_of_dim(4, index_type="IVF_PQ"),
        1100,
        "param 'm' not exist in json",
        "knowhere's ivf_config.h",
    ),
    Row(
        "SCANN on an odd dimension",
        _index_of_dim(3, index_type="SCANN"),
        1100,
        "The dimension of a vector (dim) should be a multiple of sub_dim. Dimension:3, sub_dim:2",
        "testcases/test_index.py:2329",
    ),
    Row(
        "a vector index of some type without a metric",
        _index(PLAIN, "vec", index_type="Trie"),
        1100,
        "metric type not set for vector index: invalid parameter[expected=valid index params]",
        "internal/proxy/task_index.go",
    ),
    Row(
        "parameters that were sent as JSON are described as JSON",
        _described_params("IVF_FLAT", "vec", metric_type="L2", params='{"nlist": 99}'),
        0,
        "",
        "internal/proxy/task_index.go describeIndexTask",
        {**IVF, "params": '{"nlist": 99}'}.__eq__,
    ),
    Row(
        "parameters that were sent one by one are described one by one",
        _described_params("IVF_FLAT", "vec", metric_type="L2", nlist=99),
        0,
        "",
        "internal/proxy/task_index.go describeIndexTask",
        {**IVF, "nlist": "99"}.__eq__,
    ),
    Row(
        "a scalar index of no type is described without one",
        _described_params("", "s"),
        0,
        "",
        "testcases/test_index.py:290",
        {}.__eq__,
    ),
    Row(
        "a vector index of no type is AUTOINDEX",
        _described_params("", "vec"),
        0,
        "",
        "internal/util/indexparamcheck/index_params_validation.go",
        {"index_type": "AUTOINDEX", "metric_type": "COSINE"}.__eq__,
    ),
    Row(
        "indexoffsetcache.enabled of a BITMAP index",
        _altered_index,
        0,
        "",
        "internal/util/indexparamcheck/index_type.go:101",
        lambda r: r["indexoffsetcache.enabled"] == "True",
    ),
    Row(
        "indexoffsetcache.enabled of another index",
        lambda w: w.client.alter_index_properties(w.fresh(index="FLAT"), "vec", {"indexoffsetcache.enabled": True}),
        1100,
        "only bitmap index support indexoffsetcache.enabled now",
        "internal/util/indexparamcheck/index_type.go:101",
    ),
    Row("the same index after altering it", _same_index_again, 0, "", "internal/datacoord/index_meta.go:350"),
    Row(
        "the same index with what could be altered",
        lambda world: _same_index_again(world, **{"mmap.enabled": "true"}),
        1100,
        "at most one distinct index is allowed per field",
        "internal/datacoord/index_meta.go:350",
    ),
    Row(
        "a page of an iterator after its alias was switched",
        _switched_iterator,
        1100,
        "in the request is not consistent to that in the search context,alias or database may have been changed: ",
        "internal/proxy/task_search.go:1166",
    ),
    Row("flushed segments are sorted", _sorted_segments, 0, "", "testcases/test_utility.py:1457", [True].__eq__),
    Row(
        "properties of a collection of an impossible name",
        _alter("%$#", {"mmap.enabled": "true"}),
        100,
        "collection not found[database=default][collection=%$#]",
        "test_milvus_client_alter.py",
    ),
    Row(
        "properties dropped of a collection of an impossible name",
        _alter("%$#", {}, ("mmap.enabled",)),
        100,
        "collection not found[database=default][collection=%$#]",
        "test_milvus_client_alter.py",
    ),
    Row(
        "a search in a collection of an impossible name",
        search("12-s"),
        100,
        "collection not found[database=default][collection=12-s]",
        "test_milvus_client_search.py:92",
    ),
    Row(
        "a quick collection of one dimension",
        lambda world: world.client.create_collection("contract_refused", 1),
        1100,
        "invalid dimension: 1. should be in range 2 ~ 32768",
        "internal/proxy/util.go:433",
    ),
    Row(
        "a delete from a partition that is not there",
        _delete(PLAIN, "id == 1", "absent"),
        200,
        "Failed to get partition id: partition not found[partition=absent]",
        "internal/proxy/task_delete.go:396",
    ),
    Row(
        "a radius that is a list",
        search(search_params={"params": {"radius": [0.1]}}),
        65535,
        "type must be number",
        "test_milvus_client_search.py:878",
    ),
    Row(
        "a radius that is a word",
        search(search_params={"params": {"radius": "str"}}),
        65535,
        "type must be number",
        "test_milvus_client_search.py:878",
    ),
    Row(
        "a metric that is a list",
        _raw_search(metric_type="[]"),
        1100,
        "metric type not match: invalid parameter[expected=L2][actual=[]]",
        "test_milvus_client_search.py:250",
    ),
    Row(
        "a field of type STRING",
        _create(KEY, VECTOR, field("s", schema_pb2.String)),
        1100,
        "string data type not supported yet, please use VarChar type instead",
        "internal/proxy/util.go:578",
    ),
    Row(
        "an array of type STRING",
        _create(
            KEY,
            VECTOR,
            schema_pb2.FieldSchema(name="a", data_type=schema_pb2.Array, element_type=schema_pb2.String),
        ),
        1100,
        "string data type not supported yet, please use VarChar type instead",
        "internal/proxy/util.go:567",
    ),
    Row(
        "a field of no type",
        _create(KEY, VECTOR, field("n", schema_pb2.DataType.Value("None"))),
        1100,
        "data type None is not valid",
        "internal/proxy/util.go:580",
    ),
    Row(
        "a vector that is too long",
        _insert(IDS, vectors("vec", [[0.0] * 5] * 2)),
        1100,
        "the length(10) of float data should divide the dim(4)",
        "pkg/util/funcutil/func.go:452",
    ),
    Row(
        "no vectors where there must be some",
        _insert(IDS, _empty_vector()),
        1100,
        "float vector field 'vec' is illegal, array type mismatch: "
        "invalid parameter[expected=need float vector][actual=got nil]",
        "internal/proxy/validate_util.go:835",
    ),
    Row(
        "256 fields",
        lambda w: w.stub.CreateCollection(
            create_request("contract_wide", [KEY, VECTOR, *(field(f"f{i}", schema_pb2.Int8) for i in range(254))])
        ),
        0,
        "",
        "configs/milvus.yaml proxy.maxFieldNum",
    ),
    Row(
        "257 fields",
        _create(KEY, VECTOR, *(field(f"f{i}", schema_pb2.Int8) for i in range(255))),
        1100,
        "maximum field's number should be limited to 256",
        "configs/milvus.yaml proxy.maxFieldNum",
    ),
    Row(
        "more than 65536 partitions times shards",
        lambda w: [w.client.create_collection(f"contract_{n}", schema=_keyed(w), **LARGEST) for n in range(4)],
        250,
        "failed checking constraint: sum_collections(parition*shard) exceeding the max general capacity:: "
        "general capacity exceeded[newGeneralSize=",
        "internal/rootcoord/util.go checkGeneralCapacity",
    ),
    Row("a hexadecimal float", _counted("d == 0x1.8p0"), 0, "", GRAMMAR, (1).__eq__),
    Row("a hexadecimal float without a point", _counted("d == -0x3p-1"), 0, "", GRAMMAR, (1).__eq__),
    Row("hexadecimal floats in a list", _counted("d in [0x1.8p0, -0x.cp1, 0x10]"), 0, "", GRAMMAR, (2).__eq__),
    Row("a hexadecimal float that is too large", _counted("d == 0x1p9999"), 1100, "value out of range", GRAMMAR),
    Row(
        "an insert above the quota of a collection",
        _insert_above_quota(collection="0"),
        9,
        QUOTA,
        "internal/rootcoord/quota_center.go checkDiskQuota",
    ),
    Row(
        "an insert above the quota of a database",
        _insert_above_quota(database="0.0001"),
        9,
        QUOTA,
        "internal/rootcoord/quota_center.go checkDBDiskQuota",
    ),
    Row(
        "an insert within the quotas",
        _insert_above_quota(collection="10", database="20"),
        0,
        "",
        "internal/rootcoord/quota_center.go checkDiskQuota",
    ),
    Row(
        "a delete above the quota",
        _insert_above_quota(collection="0", verb="delete"),
        0,
        "",
        "internal/rootcoord/quota_center.go forceDenyWriting",
    ),
    Row(
        "a partition of a collection with a partition key",
        lambda world: world.client.create_partition(KEYED, "p"),
        1100,
        "disable create partition if partition key mode is used",
        "internal/proxy/task.go createPartitionTask",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_a_call_is_answered_as_milvus_answers_it(world: World, row: Row) -> None:
    code, text, result = answer_of(row.call, world)
    assert (code, row.text in text) == (row.code, True), f"{code} {text!r}, but {row.source} has {row.text!r}"
    if row.result is not None:
        assert row.result(result), f"{result!r} is not what {row.source} has"


def test_the_health_page_is_json_when_json_is_asked_for(server: Server) -> None:
    """internal/http/healthz/healthz_handler.go"""
    answer = requests.get(f"{server.uri}/healthz", headers={"Content-Type": "application/json"}, timeout=30)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json() == {"state": "OK", "detail": [{"name": "standalone", "code": 1}]}
    assert requests.get(f"{server.uri}/healthz", timeout=30).text == "OK"


def test_a_rest_answer_has_a_trace_id(world: World) -> None:
    """internal/distributed/proxy/httpserver/utils.go TraceIDHandlerFunc"""
    found = [world.rest.send("collections/list", b"{}").headers["X-Milvus-Trace-Id"] for _ in range(2)]
    assert found[0] != found[1] and all(len(bytes.fromhex(trace)) == 16 for trace in found)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    sent = world.rest.send("collections/list", b"{}", traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    assert sent.headers["X-Milvus-Trace-Id"] == trace


@pytest.mark.parametrize(
    ("settings", "denied", "text"),
    [
        ({"LIMITWRITING_FORCEDENY": "true"}, "insert", "administrator: config force deny writing]"),
        ({"LIMITREADING_FORCEDENY": "true"}, "search", "administrator: config force deny reading]"),
        ({"LIMITWRITING_DISKPROTECTION_DISKQUOTA": "0"}, "insert", QUOTA),
        ({"LIMITWRITING_DISKPROTECTION_DISKQUOTAPERDB": "0"}, "insert", QUOTA),
        ({"LIMITWRITING_DISKPROTECTION_DISKQUOTAPERCOLLECTION": "0"}, "insert", QUOTA),
    ],
    ids=["writing", "reading", "disk", "disk of a database", "disk of a collection"],
)
def test_settings_deny_calls_of_a_kind(
    new_server: ServerFactory, settings: dict[str, str], denied: str, text: str
) -> None:
    """internal/rootcoord/quota_center.go"""
    server = new_server(env={f"MILVINE_QUOTAANDLIMITS_{key}": value for key, value in settings.items()})
    client = server.client()
    make(client, "rows")
    calls: dict[str, Callable[[], Any]] = {
        "insert": lambda: client.insert("rows", random_rows(1, 4)),
        "search": lambda: client.search("rows", [QUERY], anns_field="vec"),
    }
    with pytest.raises(MilvusException) as caught:
        calls.pop(denied)()
    assert (caught.value.code, text in caught.value.message) == (9, True), caught.value.message
    for call in calls.values():
        call()
