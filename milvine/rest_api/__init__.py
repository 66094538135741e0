"""Milvus over REST v2: JSON <-> service, beside gRPC on the same port."""
