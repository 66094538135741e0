"""The raw RPCs of partitions, and the collection that their tests start from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grpc_calls import assert_ok, insert_request, query_request, scalars, search_request, vectors
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from sample_collections import make_c1

IN_MEMORY = milvus_pb2.ShowType.InMemory
LIMIT = 1000


class Partitions:
    """Calls on one collection; each returns the raw response."""

    def __init__(self, stub: Any, name: str) -> None:
        self.stub = stub
        self.name = name

    def create(self, partition: str) -> Any:
        request = milvus_pb2.CreatePartitionRequest(collection_name=self.name, partition_name=partition)
        return self.stub.CreatePartition(request)

    def drop(self, partition: str) -> Any:
        request = milvus_pb2.DropPartitionRequest(collection_name=self.name, partition_name=partition)
        return self.stub.DropPartition(request)

    def has(self, partition: str) -> Any:
        request = milvus_pb2.HasPartitionRequest(collection_name=self.name, partition_name=partition)
        return self.stub.HasPartition(request)

    def show(self, *partitions: str, **others: Any) -> Any:
        request = milvus_pb2.ShowPartitionsRequest(collection_name=self.name, partition_names=partitions, **others)
        return self.stub.ShowPartitions(request)

    def row_count(self, partition: str) -> Any:
        request = milvus_pb2.GetPartitionStatisticsRequest(collection_name=self.name, partition_name=partition)
        return self.stub.GetPartitionStatistics(request)

    def load(self, *partitions: str, **others: Any) -> Any:
        request = milvus_pb2.LoadPartitionsRequest(collection_name=self.name, partition_names=partitions, **others)
        return self.stub.LoadPartitions(request)

    def release(self, *partitions: str) -> Any:
        request = milvus_pb2.ReleasePartitionsRequest(collection_name=self.name, partition_names=partitions)
        return self.stub.ReleasePartitions(request)

    def load_all(self, **others: Any) -> Any:
        return self.stub.LoadCollection(milvus_pb2.LoadCollectionRequest(collection_name=self.name, **others))

    def release_all(self) -> Any:
        return self.stub.ReleaseCollection(milvus_pb2.ReleaseCollectionRequest(collection_name=self.name))

    def flush(self) -> Any:
        return self.stub.Flush(milvus_pb2.FlushRequest(collection_names=[self.name]))

    def truncate(self) -> Any:
        return self.stub.TruncateCollection(milvus_pb2.TruncateCollectionRequest(collection_name=self.name))

    def state(self, *partitions: str) -> Any:
        request = milvus_pb2.GetLoadStateRequest(collection_name=self.name, partition_names=partitions)
        return self.stub.GetLoadState(request)

    def progress(self, *partitions: str) -> Any:
        request = milvus_pb2.GetLoadingProgressRequest(collection_name=self.name, partition_names=partitions)
        return self.stub.GetLoadingProgress(request)

    def insert(self, keys: Sequence[int], partition: str = "") -> Any:
        return self.stub.Insert(self.rows(keys, partition))

    def rows(self, keys: Sequence[int], partition: str = "") -> Any:
        """c1_rows, as an insert."""
        request = insert_request(
            self.name,
            len(keys),
            scalars("id", schema_pb2.Int64, keys),
            vectors("vec", [[float(k), 0.0, 0.0, 0.0] for k in keys]),
            scalars("a", schema_pb2.Int64, [10 * k for k in keys]),
        )
        request.partition_name = partition
        return request

    def upsert(self, keys: Sequence[int], partition: str = "") -> Any:
        inserted = self.rows(keys, partition)
        request = milvus_pb2.UpsertRequest(
            collection_name=self.name,
            partition_name=partition,
            num_rows=inserted.num_rows,
            fields_data=inserted.fields_data,
        )
        return self.stub.Upsert(request)

    def delete(self, text: str, partition: str = "") -> Any:
        request = milvus_pb2.DeleteRequest(collection_name=self.name, partition_name=partition, expr=text)
        return self.stub.Delete(request)

    def search(self, *partitions: str, limit: int = LIMIT, **options: Any) -> Any:
        request = search_request(self.name, [[0.0, 0.0, 0.0, 0.0]], limit, **options)
        request.partition_names.extend(partitions)
        return self.stub.Search(request)

    def query(self, *partitions: str, text: str = "id >= 0", fields: Sequence[str] = ("id",), **params: Any) -> Any:
        request = query_request(self.name, text, fields, **params)
        request.partition_names.extend(partitions)
        return self.stub.Query(request)

    def ids(self, *partitions: str, text: str = "id >= 0") -> list[int]:
        data = assert_ok(self.query(*partitions, text=text)).fields_data
        return [] if not data else list(data[0].scalars.long_data.data)

    def hits(self, *partitions: str) -> list[int]:
        return list(assert_ok(self.search(*partitions)).results.ids.int_id.data)

    def count(self, *partitions: str) -> int:
        response = assert_ok(self.query(*partitions, text="", fields=["count(*)"]))
        number: int = response.fields_data[0].scalars.long_data.data[0]
        return number

    def partition_id(self, partition: str) -> int:
        shown = assert_ok(self.show())
        number: int = dict(zip(shown.partition_names, shown.partitionIDs, strict=True))[partition]
        return number


def make_partitions(client: MilvusClient, stub: Any, name: str, *others: str) -> Partitions:
    """C1 with an index and partitions beside `_default`, not loaded, empty."""
    make_c1(client, name)
    made = Partitions(stub, name)
    for partition in others:
        assert_ok(made.create(partition))
    return made
