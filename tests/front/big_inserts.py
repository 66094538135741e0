"""Insert requests of any size, made from numpy's bytes: protobuf's own loop would take longer than the server."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
from conftest import Server
from pymilvus import DataType
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

Array = np.ndarray[Any, Any]
INSERT = "/milvus.proto.milvus.MilvusService/Insert"
MIB = 1 << 20


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _nested(number: int, *pieces: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return b"".join([_varint(number << 3 | 2), _varint(sum(map(len, pieces))), *pieces])


def _number(message: Any, name: str) -> int:
    number: int = message.DESCRIPTOR.fields_by_name[name].number
    return number


def insert_message(name: str, first_id: int, vectors: Array) -> bytes:
    """An InsertRequest with keys from first_id on in `id`, and `vectors` in `vec`."""
    count, dim = vectors.shape
    keys = schema_pb2.FieldData(type=schema_pb2.Int64, field_name="id")
    keys.scalars.long_data.data.extend(range(first_id, first_id + count))
    head = milvus_pb2.InsertRequest(collection_name=name, num_rows=count, fields_data=[keys])
    field = schema_pb2.FieldData(type=schema_pb2.FloatVector, field_name="vec")
    size = schema_pb2.VectorField(dim=dim)
    floats = _nested(_number(schema_pb2.FloatArray, "data"), vectors.astype("<f4").tobytes())
    data = _nested(_number(schema_pb2.VectorField, "float_vector"), floats)
    vector_field = _nested(_number(schema_pb2.FieldData, "vectors"), size.SerializeToString(), data)
    column = _nested(_number(milvus_pb2.InsertRequest, "fields_data"), field.SerializeToString(), vector_field)
    return bytes(head.SerializeToString()) + column


def send(server: Server, message: bytes) -> Any:
    """Send a ready-made InsertRequest. Raises grpc.RpcError as gRPC does."""
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.address, options=options) as channel:
        call = channel.unary_unary(INSERT, response_deserializer=milvus_pb2.MutationResult.FromString)
        return call(message, timeout=60)


def make_plain(server: Server, name: str, dim: int, *, load: bool = True, index_type: str = "FLAT") -> None:
    """id, vec; indexed for L2; loaded unless `load` is False."""
    client = server.client()
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=dim)
    client.create_collection(name, schema=schema)
    indexes = client.prepare_index_params()
    indexes.add_index("vec", index_type=index_type, metric_type="L2")
    client.create_index(name, indexes, sync=False)
    if load:
        client.load_collection(name)
    client.close()
