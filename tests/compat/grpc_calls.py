"""Raw gRPC requests, for what an SDK hides: codes, legacy codes, texts, and input that an SDK would refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2

LOAD_STATE = common_pb2.LoadState
STRONG = 0


def pairs(values: Mapping[str, object]) -> list[Any]:
    return [common_pb2.KeyValuePair(key=k, value=str(v)) for k, v in values.items()]


def field(name: str, data_type: Any, *, primary: bool = False, **params: object) -> Any:
    """A field of a schema; auto_id, nullable, is_partition_key go to the field, the rest are type params."""
    flags = {k: params.pop(k) for k in ("nullable", "autoID", "is_partition_key", "default_value") if k in params}
    return schema_pb2.FieldSchema(
        name=name, data_type=data_type, is_primary_key=primary, type_params=pairs(params), **flags
    )


def create_request(name: str, fields: Sequence[Any], *, dynamic: bool = False, **others: Any) -> Any:
    schema = schema_pb2.CollectionSchema(name=name, fields=fields, enable_dynamic_field=dynamic)
    return milvus_pb2.CreateCollectionRequest(collection_name=name, schema=schema.SerializeToString(), **others)


_SCALARS = {
    schema_pb2.Bool: "bool_data",
    schema_pb2.Int8: "int_data",
    schema_pb2.Int16: "int_data",
    schema_pb2.Int32: "int_data",
    schema_pb2.Int64: "long_data",
    schema_pb2.Float: "float_data",
    schema_pb2.Double: "double_data",
    schema_pb2.VarChar: "string_data",
    schema_pb2.JSON: "json_data",
}


def scalars(name: str, data_type: Any, values: Sequence[object]) -> Any:
    data = schema_pb2.FieldData(type=data_type, field_name=name)
    getattr(data.scalars, _SCALARS[data_type]).data.extend(values)
    return data


def vectors(name: str, rows: Sequence[Sequence[float]]) -> Any:
    data = schema_pb2.FieldData(type=schema_pb2.FloatVector, field_name=name)
    data.vectors.dim = len(rows[0])
    data.vectors.float_vector.data.extend(x for row in rows for x in row)
    return data


def bit_vectors(name: str, rows: Sequence[bytes | None]) -> Any:
    """Of a nullable field; the first row has a vector."""
    valid = [row for row in rows if row is not None]
    data = schema_pb2.FieldData(type=schema_pb2.BinaryVector, field_name=name)
    data.valid_data.extend(row is not None for row in rows)
    data.vectors.dim = 8 * len(valid[0])
    data.vectors.binary_vector = b"".join(valid)
    return data


def sparse_vectors(name: str, rows: Sequence[Mapping[int, float]]) -> Any:
    data = schema_pb2.FieldData(type=schema_pb2.SparseFloatVector, field_name=name)
    data.vectors.dim = 1 + max(index for row in rows for index in row)
    data.vectors.sparse_float_vector.dim = data.vectors.dim
    data.vectors.sparse_float_vector.contents.extend(map(sparse_bytes, rows))
    return data


def sparse_bytes(row: Mapping[int, float]) -> bytes:
    return np.array(sorted(row.items()), dtype=[("index", "<u4"), ("value", "<f4")]).tobytes()


def insert_request(name: str, row_count: int, *columns: Any) -> Any:
    return milvus_pb2.InsertRequest(collection_name=name, num_rows=row_count, fields_data=columns)


def search_request(
    name: str,
    queries: Sequence[Sequence[float] | bytes | Mapping[int, float]],
    limit: object = 10,
    *,
    anns_field: str = "vec",
    filter_text: str = "",
    output_fields: Sequence[str] = (),
    params: Mapping[str, object] | None = None,
    **given: object,
) -> Any:
    holder = common_pb2.PlaceholderValue(tag="$0", type=common_pb2.PlaceholderType.FloatVector)
    for query in queries:
        if isinstance(query, bytes):
            holder.type = common_pb2.PlaceholderType.BinaryVector
            holder.values.append(query)
        elif isinstance(query, Mapping):
            holder.type = common_pb2.PlaceholderType.SparseFloatVector
            holder.values.append(sparse_bytes(query))
        else:
            holder.values.append(np.asarray(query, np.float32).tobytes())
    search_params = {"anns_field": anns_field, "topk": limit, "params": json.dumps(params or {}), **given}
    return milvus_pb2.SearchRequest(
        collection_name=name,
        dsl=filter_text,
        placeholder_group=common_pb2.PlaceholderGroup(placeholders=[holder]).SerializeToString(),
        dsl_type=common_pb2.DslType.BoolExprV1,
        output_fields=output_fields,
        search_params=pairs(search_params),
        nq=len(queries),
        consistency_level=STRONG,
    )


def query_request(name: str, filter_text: str, output_fields: Sequence[str] = (), **params: object) -> Any:
    return milvus_pb2.QueryRequest(
        collection_name=name,
        expr=filter_text,
        output_fields=output_fields,
        query_params=pairs(params),
        consistency_level=STRONG,
    )


def status_of(response: Any) -> Any:
    return response if isinstance(response, common_pb2.Status) else response.status


def assert_ok(response: Any) -> Any:
    status = status_of(response)
    assert (status.code, status.error_code, status.reason) == (0, 0, "")
    return response


def assert_refused(response: Any, code: int, text: str, *, legacy: int | None = None, retriable: bool = False) -> Any:
    """The status is an error to every SDK: both codes are set, and the text is there for people."""
    status = status_of(response)
    assert (status.code, text in status.reason) == (code, True), f"{status.code} {status.reason!r}"
    assert status.error_code != 0, "old SDKs read only the legacy code"
    if legacy is not None:
        assert status.error_code == legacy
    assert status.retriable is retriable
    return response


def collection_id(stub: Any, name: str) -> int:
    described = stub.DescribeCollection(milvus_pb2.DescribeCollectionRequest(collection_name=name))
    number: int = assert_ok(described).collectionID
    return number


def load_state(stub: Any, name: str, **others: Any) -> Any:
    response = stub.GetLoadState(milvus_pb2.GetLoadStateRequest(collection_name=name, **others))
    return assert_ok(response).state


def count(stub: Any, name: str) -> int:
    """Visible rows of a loaded collection."""
    response = assert_ok(stub.Query(query_request(name, "", ["count(*)"])))
    number: int = response.fields_data[0].scalars.long_data.data[0]
    return number
