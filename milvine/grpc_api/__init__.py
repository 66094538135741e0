"""Milvus over gRPC: protobuf <-> service."""
