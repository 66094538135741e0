"""No request is silently ignored: each key that Milvus knows is served, harmless or refused, as listed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import pytest
from conftest import Server
from google.protobuf import message_factory
from grpc_calls import (
    create_request,
    field,
    insert_request,
    pairs,
    query_request,
    scalars,
    search_request,
    status_of,
    vectors,
)
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from world import PLAIN, QUERY, World, answer_of, make_world

from milvine.grpc_api.servicer import RPCS
from milvine.grpc_api.unserved import (
    ABSENT,
    REFUSED_BY_MILVUS,
    WITHOUT_CODE_IN_MILVUS,
    WITHOUT_STATUS,
)
from milvine.model import known_keys
from milvine.model.known_keys import KEYS, REMOVED_BY_MILVUS, Known, Verdict
from milvine.rest_api.app import ROUTES, VERSIONS

METHODS = milvus_pb2.DESCRIPTOR.services_by_name["MilvusService"].methods_by_name
SCHEMAS = {name: schema_pb2.DESCRIPTOR.message_types_by_name[name] for name in ("CollectionSchema", "FieldSchema")}
KEY = field("id", schema_pb2.Int64, primary=True)
VECTOR = field("vec", schema_pb2.FloatVector, dim=4)
TEXT = field("s", schema_pb2.VarChar, max_length=9)


@pytest.fixture(scope="module")
def world(server: Server) -> Iterator[World]:
    with make_world(server) as made:
        yield made


def _requests() -> dict[str, Any]:
    return {METHODS[method].input_type.name: METHODS[method].input_type for method in RPCS}


def test_every_field_of_every_request_is_listed() -> None:
    for name, descriptor in {**_requests(), **SCHEMAS}.items():
        assert set(KEYS[name]) == {f.name for f in descriptor.fields}, name


def test_every_rest_body_is_listed() -> None:
    kinds = {route.kind for version in VERSIONS for route in version.routes.values()} - {"MemoryReq"}
    assert kinds <= set(KEYS), kinds - set(KEYS)


def test_every_refused_or_harmless_key_has_a_reason() -> None:
    for place, keys in KEYS.items():
        for key, known in keys.items():
            assert (known.verdict is Verdict.SERVED) == (known.text == ""), (place, key)


def test_every_rpc_is_served_or_listed_as_absent() -> None:
    listed = [*RPCS, *ABSENT, *REFUSED_BY_MILVUS, *REMOVED_BY_MILVUS, *WITHOUT_STATUS, *WITHOUT_CODE_IN_MILVUS]
    assert sorted(METHODS) == sorted(listed), "an RPC is missing, or in two tables"


@pytest.mark.parametrize("method", sorted(ABSENT))
def test_an_absent_rpc_answers_with_a_status_that_every_sdk_raises(stub: Any, method: str) -> None:
    answer = getattr(stub, method)(message_factory.GetMessageClass(METHODS[method].input_type)())
    status = status_of(next(answer) if METHODS[method].server_streaming else answer)
    assert (status.code, status.error_code) == (10, 1)
    assert f"{ABSENT[method]} is not supported by this version of Milvine" in status.reason


@pytest.mark.parametrize("method", sorted(REFUSED_BY_MILVUS))
def test_an_rpc_that_milvus_refuses_is_refused_in_its_words(stub: Any, method: str) -> None:
    status = status_of(getattr(stub, method)(message_factory.GetMessageClass(METHODS[method].input_type)()))
    assert (status.code, status.retriable) == (2, True)
    assert status.reason == f"service unavailable: {REFUSED_BY_MILVUS[method]}"


@pytest.mark.parametrize("method", sorted(REMOVED_BY_MILVUS))
def test_an_rpc_that_milvus_serves_no_longer_is_refused_in_its_words(stub: Any, method: str) -> None:
    status = status_of(getattr(stub, method)(message_factory.GetMessageClass(METHODS[method].input_type)()))
    assert (status.code, status.reason) == (1100, f"{REMOVED_BY_MILVUS[method]}: invalid parameter")


@pytest.mark.parametrize("method", sorted(WITHOUT_STATUS))
def test_an_absent_rpc_whose_answer_has_no_status_fails_in_words(stub: Any, method: str) -> None:
    request = getattr(milvus_pb2, METHODS[method].input_type.name)()
    with pytest.raises(grpc.RpcError) as caught:
        next(getattr(stub, method)(iter([request])))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details() == f"{WITHOUT_STATUS[method]} is not supported by this version of Milvine"


@pytest.mark.parametrize("method", sorted(WITHOUT_CODE_IN_MILVUS))
def test_an_rpc_that_milvus_only_declares_is_refused_in_its_words(stub: Any, method: str) -> None:
    request = getattr(milvus_pb2, METHODS[method].input_type.name)()
    answer = getattr(stub, method)(request)
    status = getattr(answer, "status", answer)
    assert (status.code, status.reason) == (10, f"method {method} not implemented: service unimplemented")


# Properties and parameters: a value of each, and the code if it must fail.

TRUE, NUMBER = "true", "3"
SAMPLES: dict[str, dict[str, Any]] = {
    known_keys.DATABASE: {
        "database.resource_groups": "__default_resource_group",
        "timezone": "Asia/Tokyo",
        "warmup.scalarField": "sync",
        "cipher.enabled": "false",
    },
    known_keys.COLLECTION: {
        "collection.description": "words",
        "collection.resource_groups": "__default_resource_group",
        "collection.replica.number": "1",
        "consistency_level": "Strong",
        "collection.autocompaction.enabled": "false",
        "local_format": "vortex",
        "partitionkey.isolation": "false",
        "allow_insert_auto_id": "false",
        "disable_func_runtime_check": "true",
        "query_mode": "large_topk",
        "timezone": "Asia/Tokyo",
        "namespace.sharding.enabled": "false",
        "max_field_id": ("7", 1100),
        "ttl_field": ("s", 1100),
        **{f"warmup.{kind}": "sync" for kind in ("scalarField", "scalarIndex", "vectorField", "vectorIndex")},
    },
    known_keys.FIELD: {
        "dim": "4",
        "warmup": "sync",
        "local_format": "vortex",
        "analyzer_params": '{"type": "english"}',
        "multi_analyzer_params": '{"by_field": "s"}',
        "field.skipLoad": "false",
        **{f"warmup.{kind}": "sync" for kind in ("scalarField", "scalarIndex", "vectorField", "vectorIndex")},
    },
    known_keys.SEARCH: {
        "anns_field": "vec",
        "metric_type": "L2",
        "params": '{"ef": 64}',
        "ignore_growing": "false",
        "iterator": "false",
        "search_iter_v2": "false",
        "search_iter_id": "",
        "search_iter_last_bound": "",
        "range_filter": ("0", 1100),
        "radius": 3.5,
        "hints": "disable",
        "timezone": "Asia/Tokyo",
        "time_fields": "year,month",
        "order_by_fields": "s:asc",
        "collection_id": "0",
        "ef": 64,
        "group_by_field": "s",
        "group_by_fields": "s",
    },
    known_keys.RANK: {
        "strategy": "rrf",
        "params": "{}",
        "timezone": "Asia/Tokyo",
        "time_fields": "year,month",
        "group_by_field": "s",
        "group_by_fields": "s",
        "rank_group_scorer": "avg",
        "order_by_fields": ("s:asc", 1100),
    },
    known_keys.QUERY: {
        "iterator": "false",
        "reduce_stop_for_best": "true",
        "ignore_growing": "false",
        "timezone": "Asia/Tokyo",
        "time_fields": "year,month",
        "group_by_fields": "id",
        "order_by_fields": "s:asc",
        "collection_id": "0",
        "offset": "1",
    },
    known_keys.LOAD: {"load_priority": "low"},
}


def _sample(place: str, key: str) -> tuple[Any, int]:
    value = SAMPLES.get(place, {}).get(key, TRUE if key.endswith(("enabled", "Encoding", "ddl")) else NUMBER)
    return value if isinstance(value, tuple) else (value, 0)


def _cases(place: str) -> list[Any]:
    return [pytest.param(key, known, id=key) for key, known in KEYS[place].items()]


def _check(answer: tuple[int, str, Any], known: Known, wanted_code: int) -> None:
    code, text, _ = answer
    if known.verdict is Verdict.REFUSED:
        assert (code, known.text in text) == (1100, True), f"{code} {text!r}"
    else:
        assert code == wanted_code, f"{code} {text!r}"


@pytest.mark.parametrize(("key", "known"), _cases(known_keys.COLLECTION))
def test_a_property_of_a_collection_is_served_harmless_or_refused(world: World, key: str, known: Known) -> None:
    value, code = _sample(known_keys.COLLECTION, key)
    name = world.fresh()

    def alter(_: World) -> Any:
        request = milvus_pb2.AlterCollectionRequest(collection_name=name, properties=pairs({key: value}))
        return world.stub.AlterCollection(request)

    def create(_: World) -> Any:
        return world.stub.CreateCollection(
            create_request(f"{name}_new", [KEY, VECTOR, TEXT], properties=pairs({key: value}))
        )

    _check(answer_of(alter, world), known, 1100 if key == "namespace.sharding.enabled" else code)
    _check(answer_of(create, world), known, 0 if key == "max_field_id" else code)


@pytest.mark.parametrize(("key", "known"), _cases(known_keys.DATABASE))
def test_a_property_of_a_database_is_served_harmless_or_refused(world: World, key: str, known: Known) -> None:
    value, code = _sample(known_keys.DATABASE, key)

    def create(_: World) -> Any:
        return world.stub.CreateDatabase(
            milvus_pb2.CreateDatabaseRequest(db_name="contract_database", properties=pairs({key: value}))
        )

    try:
        _check(answer_of(create, world), known, code)
    finally:
        world.client.drop_database("contract_database")


@pytest.mark.parametrize(("key", "known"), _cases(known_keys.FIELD))
def test_a_parameter_of_a_field_is_served_harmless_or_refused(world: World, key: str, known: Known) -> None:
    value, code = _sample(known_keys.FIELD, key)
    name = f"contract_field_{key.replace('.', '_')}"
    text = schema_pb2.FieldSchema(name="s", data_type=schema_pb2.VarChar)
    text.type_params.extend(pairs({"max_length": 9, key: value}))
    create = create_request(name, [KEY, VECTOR, text])
    _check(answer_of(lambda w: w.stub.CreateCollection(create), world), known, code)
    params = {"max_length": 9, key: value}
    fields = [
        {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
        {"fieldName": "vec", "dataType": "FloatVector", "elementTypeParams": {"dim": 4}},
        {"fieldName": "s", "dataType": "VarChar", "elementTypeParams": params},
    ]
    body = {"collectionName": f"{name}_rest", "schema": {"fields": fields}}
    _check(answer_of(lambda w: w.rest.post("collections/create", body), world), known, code)


@pytest.mark.parametrize(("key", "known"), _cases(known_keys.INDEX))
def test_a_parameter_of_an_index_is_served_harmless_or_refused(world: World, key: str, known: Known) -> None:
    given: dict[str, object] = {"index_type": "HNSW", "metric_type": "L2"}
    values = {"params": '{"M": 8}', "mmap.enabled": TRUE, "warmup": "sync", "indexoffsetcache.enabled": "false"}
    if key not in given:
        value = {"json_path": "s", "json_cast_type": "varchar", "with_raw_data": TRUE}.get(key, values.get(key, NUMBER))
        given[key] = value
    request = milvus_pb2.CreateIndexRequest(
        collection_name=world.fresh(), field_name="vec", extra_params=pairs(given), index_name="v"
    )
    _check(answer_of(lambda w: w.stub.CreateIndex(request), world), known, 0)


@pytest.mark.parametrize(("key", "known"), _cases(known_keys.SEARCH))
def test_a_parameter_of_a_search_is_served_harmless_or_refused(world: World, key: str, known: Known) -> None:
    value, code = _sample(known_keys.SEARCH, key)
    plain = search_request(PLAIN, [QUERY], params={})
    in_params = search_request(PLAIN, [QUERY], params={key: value})
    beside = search_request(PLAIN, [QUERY], params={})
    del beside.search_params[:]
    given = {"anns_field": "vec", "topk": 10, "params": "{}", key: value}
    beside.search_params.extend(pairs(given))
    without = list(world.stub.Search(plain).results.ids.int_id.data)
    for request in [beside] + ([in_params] if known.verdict is not Verdict.SERVED else []):
        answer = answer_of(lambda w, request=request: w.stub.Search(request), world)  # type: ignore[misc]
        _check(answer, known, code)
        if known.verdict is Verdict.HARMLESS:
            assert list(answer[2].results.ids.int_id.data) == without


@pytest.mark.parametrize(("key", "known"), _cases(known_keys.QUERY))
def test_a_parameter_of_a_query_is_served_harmless_or_refused(world: World, key: str, known: Known) -> None:
    value, code = _sample(known_keys.QUERY, key)
    request = query_request(PLAIN, "id >= 0", ["id"], **{"limit": 5, key: value})
    _check(answer_of(lambda w: w.stub.Query(request), world), known, code)


@pytest.mark.parametrize(
    ("call", "place"), [("search", known_keys.SEARCH), ("query", known_keys.QUERY)], ids=["search", "query"]
)
def test_an_unknown_time_zone_is_refused_with_milvus_text(world: World, call: str, place: str) -> None:
    request: Any = query_request(PLAIN, "", ["id"], limit=5, timezone="Mars")
    if call == "search":
        request = search_request(PLAIN, [QUERY], timezone="Mars")
    answer = answer_of(lambda w: w.stub.Query(request) if call == "query" else w.stub.Search(request), world)
    assert answer[:2] == (1100, "unknown or invalid IANA Time Zone ID: Mars: invalid parameter")


def test_a_parameter_of_a_load_is_harmless(world: World) -> None:
    for key in KEYS[known_keys.LOAD]:
        value, _ = _sample(known_keys.LOAD, key)
        request = milvus_pb2.LoadCollectionRequest(collection_name=PLAIN, load_params={key: value})
        assert world.stub.LoadCollection(request).code == 0


# Fields of requests


def _hybrid_request(**rank_params: object) -> Any:
    return milvus_pb2.HybridSearchRequest(
        collection_name=PLAIN,
        requests=[search_request(PLAIN, [QUERY])],
        rank_params=pairs({"strategy": "rrf", "limit": 5, **rank_params}),
    )


@pytest.mark.parametrize(("key", "known"), _cases(known_keys.RANK))
def test_a_parameter_of_a_ranker_is_served_harmless_or_refused(world: World, key: str, known: Known) -> None:
    value, code = _sample(known_keys.RANK, key)
    answer = answer_of(lambda w: w.stub.HybridSearch(_hybrid_request(**{key: value})), world)
    _check(answer, known, code)


def _base_requests(world: World) -> dict[str, Any]:
    """A valid request of each message that has a field that is not served."""
    rows = [scalars("id", schema_pb2.Int64, [901]), vectors("vec", [QUERY])]
    insert = insert_request(PLAIN, 1, *rows)
    upsert = milvus_pb2.UpsertRequest(collection_name=PLAIN, num_rows=1, fields_data=rows)
    collection = {"collection_name": PLAIN}
    return {
        "DeleteRequest": milvus_pb2.DeleteRequest(expr="id == 902", **collection),
        "InsertRequest": insert,
        "UpsertRequest": upsert,
        "QueryRequest": query_request(PLAIN, "id == 1", ["id"]),
        "SearchRequest": search_request(PLAIN, [QUERY]),
        "HybridSearchRequest": _hybrid_request(),
        "ManualCompactionRequest": milvus_pb2.ManualCompactionRequest(**collection),
        "DescribeCollectionRequest": milvus_pb2.DescribeCollectionRequest(**collection),
        "DescribeIndexRequest": milvus_pb2.DescribeIndexRequest(**collection),
        "HasCollectionRequest": milvus_pb2.HasCollectionRequest(**collection),
        "ShowCollectionsRequest": milvus_pb2.ShowCollectionsRequest(),
        "ShowPartitionsRequest": milvus_pb2.ShowPartitionsRequest(**collection),
        "GetReplicasRequest": milvus_pb2.GetReplicasRequest(**collection),
        "ConnectRequest": milvus_pb2.ConnectRequest(),
        "GetCompactionPlansRequest": milvus_pb2.GetCompactionPlansRequest(**collection),
        "AlterDatabaseRequest": milvus_pb2.AlterDatabaseRequest(
            db_name="default", properties=pairs({"database.max.collections": 65536})
        ),
        "ExportSnapshotRequest": milvus_pb2.ExportSnapshotRequest(name="s", target_s3_path="x", **collection),
        "RestoreExternalSnapshotRequest": milvus_pb2.RestoreExternalSnapshotRequest(
            target_collection_name="t", snapshot_metadata_uri="x"
        ),
        "GetIndexStatisticsRequest": milvus_pb2.GetIndexStatisticsRequest(**collection),
        "AlterCollectionRequest": milvus_pb2.AlterCollectionRequest(properties=pairs({"mine": 1}), **collection),
    }


_RPC_OF = {METHODS[method].input_type.name: method for method in RPCS}
_RPC_OF["ManualCompactionRequest"] = "ManualCompaction"
_TRIED_ELSEWHERE = (
    "AddCollectionFieldRequest",
    "AlterCollectionFunctionRequest",
    "AlterCollectionSchemaRequest",
    "CreateCredentialRequest",
    "GetReplicateInfoRequest",
    "ImportRequest",
    "ListImportTasksRequest",
    "RestoreSnapshotRequest",
    "UpdateCredentialRequest",
)


def _set(message: Any, name: str) -> None:
    described = message.DESCRIPTOR.fields_by_name[name]
    repeated = not hasattr(getattr(message, name), "DESCRIPTOR") and hasattr(getattr(message, name), "extend")
    if repeated and described.message_type is not None:
        getattr(message, name).add()
    elif repeated:
        getattr(message, name).append("x" if described.type == described.TYPE_STRING else 1)
    elif described.message_type is not None:
        getattr(message, name).SetInParent()
    elif described.type == described.TYPE_STRING:
        setattr(message, name, "x")
    else:
        setattr(message, name, True if described.type == described.TYPE_BOOL else 1)


@pytest.mark.parametrize(
    ("message", "name", "known"),
    [
        pytest.param(message, name, known, id=f"{message}.{name}")
        for message in _requests()
        for name, known in KEYS[message].items()
        if known.verdict is not Verdict.SERVED and name != "base" and message not in _TRIED_ELSEWHERE
        if (message, name) != ("BatchDescribeCollectionRequest", "collectionID")
    ],
)
def test_a_field_of_a_request_is_harmless_or_refused(world: World, message: str, name: str, known: Known) -> None:
    request = _base_requests(world)[message]
    rpc = getattr(world.stub, _RPC_OF[message])
    if name == "nq":
        request.nq = 7
    else:
        _set(request, name)
    _check(answer_of(lambda _: rpc(request), world), known, 0)


@pytest.mark.parametrize(
    ("message", "name", "known"),
    [
        pytest.param(message, name, known, id=f"{message}.{name}")
        for message in SCHEMAS
        for name, known in KEYS[message].items()
        if known.verdict is not Verdict.SERVED
    ],
)
def test_a_field_of_a_schema_is_harmless_or_refused(world: World, message: str, name: str, known: Known) -> None:
    made = f"contract_schema_{message}_{name}".lower()
    schema = schema_pb2.CollectionSchema(name=made, fields=[KEY, VECTOR, TEXT])
    _set(schema if message == "CollectionSchema" else schema.fields[2], name)
    request = milvus_pb2.CreateCollectionRequest(collection_name=made, schema=schema.SerializeToString())
    _check(answer_of(lambda w: w.stub.CreateCollection(request), world), known, 0)


# REST bodies

_FIELDS = [
    {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
    {"fieldName": "vec", "dataType": "FloatVector", "elementTypeParams": {"dim": 4}},
]
_HYBRID_BODY = {
    "collectionName": PLAIN,
    "search": [{"data": [QUERY], "annsField": "vec", "limit": 5}],
    "rerank": {"strategy": "rrf"},
}
_BODIES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "CollectionIDReq": ("entities/get", {"collectionName": PLAIN, "id": 1}),
    "CollectionReq": ("collections/create", {"collectionName": "contract_rest_body", "dimension": 4}),
    "SearchReqV2": ("entities/search", {"collectionName": PLAIN, "data": [QUERY]}),
    "HybridSearchReq": ("entities/hybrid_search", _HYBRID_BODY),
    "IndexReq": ("indexes/describe", {"collectionName": PLAIN, "indexName": "vec"}),
    "GetSegmentsInfoReq": ("segments/describe", {"segmentIDs": [1]}),
    "JobIDReq": ("jobs/import/describe", {"jobId": "7"}),
    "ExportSnapshotReq": (
        "jobs/snapshot/export",
        {"collectionName": PLAIN, "snapshotName": "s", "targetS3Path": "s3://bucket/s"},
    ),
    "RestoreExternalSnapshotReq": (
        "jobs/snapshot/restore_external",
        {"targetCollectionName": "contract_rest_restored", "snapshotMetadataURI": "s3://bucket/s/metadata.json"},
    ),
}
_VALUES: dict[str, Any] = {
    "orderByFields": ["s:asc"],
    "groupByFields": ["s"],
    "functionChains": [{"name": "x"}],
    "searchAggregation": {"fields": ["s"]},
    "params": {"x": 1.0},
    "groupSize": 3,
    "strictGroupSize": True,
    "isClusteringKey": True,
    "structFields": [{}],
    "functions": [{}],
    "fields": [{}],
    "timestamp": 7,
}


@pytest.mark.parametrize(
    ("kind", "key", "known"),
    [
        pytest.param(kind, key, known, id=f"{kind}.{key}")
        for kind in (*_BODIES, "CollectionReq.schema", "CollectionReq.schema.fields", "HybridSearchReq.search")
        for key, known in KEYS[kind].items()
        if known.verdict is not Verdict.SERVED
    ],
)
def test_a_key_of_a_rest_body_is_harmless_or_refused(world: World, kind: str, key: str, known: Known) -> None:
    value = _VALUES.get(key, "x")
    path, body = _BODIES.get(
        kind.removesuffix(".search"), ("collections/create", {"collectionName": "contract_rest_schema"})
    )
    sent = json.loads(json.dumps(body))
    if kind == "CollectionReq.schema":
        sent["schema"] = {"fields": _FIELDS, key: value}
    elif kind == "CollectionReq.schema.fields":
        sent["schema"] = {"fields": [*_FIELDS, {"fieldName": "n", "dataType": "Int64", key: value}]}
    elif kind == "HybridSearchReq.search":
        sent["search"][0][key] = value
    else:
        sent[key] = value
    _check(answer_of(lambda w: w.rest.post(path, sent), world), known, 2101 if kind == "JobIDReq" else 0)


def test_every_rest_body_with_a_refused_or_harmless_key_is_tried() -> None:
    with_other_verdicts = {
        route.kind
        for route in ROUTES.values()
        if any(known.verdict is not Verdict.SERVED for known in KEYS[route.kind].values())
    }
    assert with_other_verdicts == {*_BODIES, "TransferReplicaReq"}


@pytest.mark.parametrize("value", [False, "false", "", None, [], {}])
def test_a_refused_key_is_accepted_with_a_value_that_asks_for_nothing(world: World, value: Any) -> None:
    searches = [{"data": [QUERY], "annsField": "vec", "limit": 3}]
    body = {"collectionName": PLAIN, "search": searches, "rerank": {"strategy": "rrf"}, "functionChains": value}
    assert world.rest.post("entities/hybrid_search", body)["code"] == 0


def test_default_keyword_arguments_of_sdks_are_accepted(world: World) -> None:
    """pymilvus sends every keyword argument; these are its defaults."""
    found = world.client.search(
        PLAIN,
        [QUERY],
        anns_field="vec",
        limit=3,
        search_params={"metric_type": "L2", "params": {}},
        group_by_field=None,
        timezone=None,
        ranker=None,
        highlighter=None,
    )
    assert len(found[0]) == 3
    rows = world.client.query(PLAIN, filter="id < 3", timezone=None, order_by_fields=None, group_by_fields=[])
    assert len(rows) == 3
