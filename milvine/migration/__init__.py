"""Moves collections of other databases into a server: `milvine migrate`."""
