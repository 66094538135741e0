"""What milvus-backup calls to back up a collection in its format of snapshots, and to restore it elsewhere.

The calls and their order are those of its clients, `internal/client/milvus`, with the database in the metadata.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import Server, ServerFactory
from grpc_calls import pairs
from pymilvus import DataType
from pymilvus.grpc_gen import common_pb2, milvus_pb2

ROWS = 50
NAME = "books"
ENDS_AFTER = 60
Call = Callable[..., Any]


def calls_of(server: Server) -> Call:
    """Sends a request as milvus-backup does, and returns an answer whose status is a success."""

    def call(method: str, database: str = "", code: int = 0, **fields: Any) -> Any:
        name = {"BackupRBAC": "BackupRBACMeta", "RestoreRBAC": "RestoreRBACMeta"}.get(method, method)
        metadata = (("dbname", database),) if database else ()
        answer = getattr(server.stub, method)(getattr(milvus_pb2, f"{name}Request")(**fields), metadata=metadata)
        status = getattr(answer, "status", answer)
        assert status.code == code, f"{method}: {status.reason}"
        return answer

    return call


def ended(call: Call, method: str, job_id: int) -> Any:
    """The info of a job that is completed."""
    ends_at = time.monotonic() + ENDS_AFTER
    while True:
        info = call(method, job_id=job_id).info
        if info.state == 3:
            return info
        assert info.state != 4, info.reason
        assert time.monotonic() < ends_at
        time.sleep(0.1)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    return {"MILVINE_SNAPSHOT_PATH": str(tmp_path)}


@pytest.fixture
def source(new_server: ServerFactory, places: dict[str, str]) -> Iterator[Server]:
    server = new_server(env=places)
    client = server.client()
    client.create_database("shop")
    client.use_database("shop")
    client.create_collection(NAME, dimension=2, properties={"mmap.enabled": "false", "collection.ttl.seconds": "9999"})
    client.create_partition(NAME, "old")
    client.insert(NAME, [{"id": i, "vector": [i, 1], "note": f"n{i}"} for i in range(ROWS)])
    client.create_role("reader")
    client.create_user("ann", "ann-secret")
    client.grant_role("ann", "reader")
    client.close()
    yield server


def test_a_collection_is_backed_up_and_restored_by_the_calls_of_milvus_backup(
    source: Server, new_server: ServerFactory, places: dict[str, str], tmp_path: Path
) -> None:
    call = calls_of(source)
    info = call("Connect", client_info=common_pb2.ClientInfo(sdk_type="BackupToolCustomSDK"))
    assert info.server_info.build_tags == call("GetVersion").version
    assert sorted(call("ListDatabases").db_names) == ["default", "shop"]
    assert call("DescribeDatabase", "shop", db_name="shop").db_name == "shop"
    assert list(call("ShowCollections", "shop").collection_names) == [NAME]
    described = call("DescribeCollection", "shop", collection_name=NAME)
    assert described.schema.name == NAME and described.shards_num == 1
    (index,) = call("DescribeIndex", "shop", collection_name=NAME).index_descriptions
    assert list(call("ShowPartitions", "shop", collection_name=NAME).partition_names) == ["_default", "old"]
    assert call("GetLoadingProgress", "shop", collection_name=NAME).progress == 100

    flushed = call("FlushAll")
    times = {channel: int(message.properties["_tt"], 36) for channel, message in flushed.flush_all_msgs.items()}
    assert list(times) == list(flushed.cluster_info.pchannels) != []
    assert call("GetFlushAllState", flush_all_tss=times).flushed
    one = call("Flush", "shop", collection_names=[NAME])
    ids, ts = one.coll_segIDs[NAME].data, one.coll_flush_ts[NAME]
    assert call("GetFlushState", "shop", segmentIDs=ids, flush_ts=ts, collection_name=NAME).flushed
    segments = call("GetPersistentSegmentInfo", "shop", collectionName=NAME).infos
    assert sum(segment.num_rows for segment in segments) == ROWS
    asked = {"dbName": "shop", "collectionId": described.collectionID, "segmentIDs": [segments[0].segmentID]}
    answer = requests.post(f"{source.uri}/v2/vectordb/segments/describe", json=asked, timeout=30).json()
    assert answer["code"] == 0, answer

    target = {"target_s3_path": f"{tmp_path}/backup/bundle"}
    call("CreateSnapshot", "shop", collection_name=NAME, name="mbk_nightly")
    assert call("DescribeSnapshot", "shop", collection_name=NAME, name="mbk_nightly").create_ts >= ts
    job_id = call("ExportSnapshot", "shop", collection_name=NAME, name="mbk_nightly", **target).job_id
    exported = ended(call, "GetExportSnapshotState", job_id)
    assert exported.snapshot_metadata_uri.startswith(f"{tmp_path}/backup/bundle/")
    assert exported.total_files == exported.copied_files > 0 and exported.total_bytes > 0
    call("DropSnapshot", "shop", collection_name=NAME, name="mbk_nightly")
    rbac = call("BackupRBAC").RBAC_meta
    assert [user.user for user in rbac.users] == ["ann"] and [role.name for role in rbac.roles] == ["reader"]
    call("GetReplicateConfiguration")
    refused = source.stub.ReplicateMessage(milvus_pb2.ReplicateMessageRequest(channel_name="x")).status
    assert refused.code != 0, "it logs that and goes on"

    there = new_server(env=places)
    call = calls_of(there)
    call("CreateDatabase", db_name="shop")
    assert not call("HasCollection", "shop", collection_name=NAME).value
    back = {"target_collection_name": NAME, "snapshot_metadata_uri": exported.snapshot_metadata_uri}
    job_id = call("RestoreExternalSnapshot", "shop", **back).job_id
    ended(call, "GetRestoreSnapshotState", job_id)
    call("AlterCollection", "shop", collection_name=NAME, delete_keys=["collection.ttl.seconds"])
    call("AlterCollection", "shop", collection_name=NAME, properties=pairs({"collection.description": "back"}))
    call("AlterCollectionField", "shop", collection_name=NAME, field_name="vector", delete_keys=["mmap.enabled"])
    named = {"collection_name": NAME, "index_name": index.index_name}
    call("AlterIndex", "shop", **named, delete_keys=["mmap.enabled"])
    call("RestoreRBAC", RBAC_meta=rbac)
    client = there.client(db_name="shop")
    assert client.describe_collection(NAME)["description"] == "back"
    assert "collection.ttl.seconds" not in client.describe_collection(NAME)["properties"]
    client.load_collection(NAME)
    assert client.query(NAME, filter=f"id == {ROWS - 1}", output_fields=["note"])[0]["note"] == f"n{ROWS - 1}"
    assert client.query(NAME, filter="", output_fields=["count(*)"])[0]["count(*)"] == ROWS
    assert client.describe_user("ann")["roles"] == ("reader",)
    client.close()
    call("DropIndex", "shop", code=1100, **named)  # of a loaded collection, as in Milvus
    call("DropCollection", "shop", collection_name=NAME)


def test_a_server_without_collections_has_a_flush_to_wait_for(server: Server) -> None:
    """milvus-backup asks until all is flushed, for ever."""
    call = calls_of(server)
    flushed = call("FlushAll", db_name="default")
    times = {channel: int(message.properties["_tt"], 36) for channel, message in flushed.flush_all_msgs.items()}
    assert list(times.values()) == [flushed.flush_all_ts]
    assert call("GetFlushAllState", flush_all_tss=times).flushed


def test_a_collection_without_an_index_has_the_code_that_milvus_backup_knows(server: Server) -> None:
    client = server.client()
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    client.create_collection("no_index", schema=schema)
    answer = calls_of(server)("DescribeIndex", code=700, collection_name="no_index")
    assert answer.status.error_code == common_pb2.ErrorCode.IndexNotExist
    client.drop_collection("no_index")
    client.close()
