"""Milvus's messages, made at import from its compiled .proto files (`milvus.binpb`, see `scripts/vendor_messages.py`).

They are in a descriptor pool of their own, so any version of pymilvus may be imported in the same process.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper


def _files() -> dict[str, Any]:
    """The files by their names, without folders and ending, each with its messages and enums."""
    compiled = descriptor_pb2.FileDescriptorSet.FromString(Path(__file__).with_name("milvus.binpb").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in compiled.file:
        pool.AddSerializedFile(file.SerializeToString())
    return {Path(file.name).stem: _made(pool.FindFileByName(file.name)) for file in compiled.file}


def _made(file: Any) -> SimpleNamespace:
    messages = {name: message_factory.GetMessageClass(found) for name, found in file.message_types_by_name.items()}
    enums = {name: EnumTypeWrapper(found) for name, found in file.enum_types_by_name.items()}
    return SimpleNamespace(DESCRIPTOR=file, **messages, **enums)


_FILES = _files()
milvus_pb2, schema_pb2, common_pb2, rg_pb2 = (_FILES[name] for name in ("milvus", "schema", "common", "rg"))
SERVICE_NAME = "milvus.proto.milvus.MilvusService"
PROXY_SERVICE_NAME = "milvus.proto.milvus.ProxyService"
TELEMETRY_SERVICE_NAME = "milvus.proto.milvus.ClientTelemetryService"
_METHODS = {
    name: method
    for service in milvus_pb2.DESCRIPTOR.services_by_name.values()
    for name, method in service.methods_by_name.items()
}


@cache
def request_class(method: str) -> Any:
    """The request message class of an RPC."""
    return getattr(milvus_pb2, _METHODS[method].input_type.name)


def has_field(descriptor: Any, path: str) -> bool:
    """Whether a message has a field of text, also inside other messages: `role.name`."""
    name, _, inner = path.partition(".")
    field = descriptor.fields_by_name.get(name)
    if field is None or not inner:
        return field is not None and field.type == field.TYPE_STRING
    return field.message_type is not None and not _is_repeated(field) and has_field(field.message_type, inner)


def _is_repeated(field: Any) -> bool:
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(field.label == field.LABEL_REPEATED)  # protobuf before 6


def response_class(method: str) -> Any:
    """The response message class of an RPC."""
    return message_factory.GetMessageClass(_METHODS[method].output_type)
