"""Writes the descriptors of Milvus's messages from the installed pymilvus to where the server reads them.

Run it after raising pymilvus in the development environment: `python scripts/vendor_messages.py`.
"""

from __future__ import annotations

from pathlib import Path

from google.protobuf import descriptor_pb2
from pymilvus.grpc_gen import milvus_pb2, rg_pb2

TARGET = Path(__file__).resolve().parents[1] / "milvine" / "grpc_api" / "milvus.binpb"


def descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    """The files of pymilvus's messages and all that they import, each after its imports."""
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(file: object) -> None:
        if file.name in found:  # type: ignore[attr-defined]
            return
        for dependency in file.dependencies:  # type: ignore[attr-defined]
            add(dependency)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)  # type: ignore[attr-defined]
        found[file.name] = proto  # type: ignore[attr-defined]

    add(milvus_pb2.DESCRIPTOR)
    add(rg_pb2.DESCRIPTOR)
    return descriptor_pb2.FileDescriptorSet(file=found.values())


if __name__ == "__main__":
    TARGET.write_bytes(descriptor_set().SerializeToString(deterministic=True))
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")
