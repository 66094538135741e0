"""The tables of the catalog. A change of one needs a step in `migrations`."""

from __future__ import annotations

import sqlalchemy as sa

from milvine.catalog.texts import Text

metadata = sa.MetaData()
versions = sa.Table("catalog_version", metadata, sa.Column("version", sa.Integer, nullable=False))
databases = sa.Table(
    "databases",
    metadata,
    sa.Column("database_id", sa.BigInteger, primary_key=True),
    sa.Column("name", Text, nullable=False, unique=True),
    sa.Column("created_ts", sa.BigInteger, nullable=False),
    sa.Column("properties", sa.JSON, nullable=False),
)
collections = sa.Table(
    "collections",
    metadata,
    sa.Column("collection_id", sa.BigInteger, primary_key=True),
    sa.Column("database", Text, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("schema", sa.JSON, nullable=False),
    sa.Column("created_ts", sa.BigInteger, nullable=False),
    sa.Column("consistency_level", sa.Integer, nullable=False),
    sa.Column("num_shards", sa.Integer, nullable=False),
    sa.Column("properties", sa.JSON, nullable=False),
    sa.Column("load_config", sa.JSON(none_as_null=True)),
    sa.Column("checkpoint_file", sa.BigInteger, nullable=False),
    sa.Column("folded_ts", sa.BigInteger, nullable=False, default=0),
    sa.UniqueConstraint("database", "name"),
)
aliases = sa.Table(
    "aliases",
    metadata,
    sa.Column("database", Text, primary_key=True),
    sa.Column("name", Text, primary_key=True),
    sa.Column("collection_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("created_ts", sa.BigInteger, nullable=False),
)
resource_groups = sa.Table(
    "resource_groups",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("config", sa.JSON, nullable=False),
    sa.Column("has_node", sa.Boolean, nullable=False),
)
partitions = sa.Table(
    "partitions",
    metadata,
    sa.Column("partition_id", sa.BigInteger, primary_key=True),
    sa.Column("collection_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("name", Text, nullable=False),
    sa.Column("created_ts", sa.BigInteger, nullable=False),
)
indexes = sa.Table(
    "indexes",
    metadata,
    sa.Column("index_id", sa.BigInteger, primary_key=True),
    sa.Column("collection_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("field_id", sa.BigInteger, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("index_type", Text, nullable=False),
    sa.Column("metric_type", Text),
    sa.Column("params", sa.JSON, nullable=False),
    sa.Column("build_type", Text, nullable=False),
    sa.Column("build_params", sa.JSON, nullable=False),
)
segments = sa.Table(
    "segments",
    metadata,
    sa.Column("segment_id", sa.BigInteger, primary_key=True),
    sa.Column("collection_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("partition_id", sa.BigInteger, nullable=False),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("min_ts", sa.BigInteger, nullable=False),
    sa.Column("max_ts", sa.BigInteger, nullable=False),
    sa.Column("rows_bytes", sa.BigInteger, nullable=False),
    sa.Column("field_bytes", sa.JSON, nullable=False),
    sa.Column("folded_ts", sa.BigInteger, nullable=False),
    sa.Column("compacted_from", sa.JSON, nullable=False),
)
segment_indexes = sa.Table(
    "segment_indexes",
    metadata,
    sa.Column("segment_id", sa.BigInteger, primary_key=True),
    sa.Column("index_id", sa.BigInteger, primary_key=True),
    sa.Column("file_name", Text, nullable=False),
    sa.Column("file_bytes", sa.BigInteger, nullable=False),
    sa.Column("is_scan", sa.Boolean, nullable=False),
)
deltas = sa.Table(
    "deltas",
    metadata,
    sa.Column("delta_id", sa.BigInteger, primary_key=True),
    sa.Column("collection_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("max_ts", sa.BigInteger, nullable=False),
    sa.Column("file_bytes", sa.BigInteger, nullable=False),
)

users = sa.Table(
    "users",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("password_hash", Text, nullable=False),
    sa.Column("created_ts", sa.BigInteger, nullable=False),
    sa.Column("description", Text, nullable=False),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("key_id", Text, primary_key=True),
    sa.Column("user", Text, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("digest", Text, nullable=False),
    sa.Column("roles", sa.JSON(none_as_null=True)),
    sa.Column("created_ts", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("user", "name"),
)

file_resources = sa.Table(
    "file_resources",
    metadata,
    sa.Column("resource_id", sa.BigInteger, primary_key=True),
    sa.Column("name", Text, nullable=False, unique=True),
    sa.Column("path", Text, nullable=False),
    sa.Column("file_bytes", sa.BigInteger, nullable=False),
)

import_jobs = sa.Table(
    "import_jobs",
    metadata,
    sa.Column("job_id", sa.BigInteger, primary_key=True),
    sa.Column("collection_id", sa.BigInteger, nullable=False),
    sa.Column("collection_name", Text, nullable=False),
    sa.Column("database", Text, nullable=False),
    sa.Column("partition_id", sa.BigInteger, nullable=False),
    sa.Column("files", sa.JSON, nullable=False),
    sa.Column("options", sa.JSON, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("state", Text, nullable=False),
    sa.Column("reason", Text, nullable=False),
    sa.Column("ended_ms", sa.BigInteger, nullable=False),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("stats", sa.JSON, nullable=False),
    sa.Column("segments", sa.JSON, nullable=False),
)

roles = sa.Table(
    "roles",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("description", Text, nullable=False),
)
user_roles = sa.Table(
    "user_roles",
    metadata,
    sa.Column("user", Text, primary_key=True),
    sa.Column("role", Text, primary_key=True),
)
grants = sa.Table(
    "grants",
    metadata,
    sa.Column("role", Text, primary_key=True),
    sa.Column("object_type", Text, primary_key=True),
    sa.Column("object_name", Text, primary_key=True),
    sa.Column("database", Text, primary_key=True),
    sa.Column("privilege", Text, primary_key=True),
    sa.Column("grantor", Text, nullable=False),
)
privilege_groups = sa.Table(
    "privilege_groups",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("privileges", sa.JSON, nullable=False),
)

snapshots = sa.Table(
    "snapshots",
    metadata,
    sa.Column("snapshot_id", sa.BigInteger, primary_key=True),
    sa.Column("collection_id", sa.BigInteger, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("description", Text, nullable=False),
    sa.Column("created_ts", sa.BigInteger, nullable=False),
    sa.Column("collection", sa.JSON, nullable=False),
    sa.Column("segments", sa.JSON, nullable=False),
    sa.Column("deltas", sa.JSON, nullable=False),
    sa.Column("protected_until_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("collection_id", "name"),
)
snapshot_pins = sa.Table(
    "snapshot_pins",
    metadata,
    sa.Column("pin_id", sa.BigInteger, primary_key=True),
    sa.Column("snapshot_id", sa.BigInteger, nullable=False, index=True),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
)
history = sa.Table(
    "history",
    metadata,
    sa.Column("entry_id", sa.BigInteger, primary_key=True),
    sa.Column("ts", sa.BigInteger, nullable=False),
    sa.Column("collection_id", sa.BigInteger, nullable=False),
    sa.Column("collection", sa.JSON(none_as_null=True)),
    sa.Column("gained", sa.JSON, nullable=False),
    sa.Column("emptied_at", sa.BigInteger),
)
backup_runs = sa.Table(
    "backup_runs",
    metadata,
    sa.Column("run", Text, primary_key=True),
    sa.Column("ts", sa.BigInteger, nullable=False),
)
restore_jobs = sa.Table(
    "restore_jobs",
    metadata,
    sa.Column("job_id", sa.BigInteger, primary_key=True),
    sa.Column("snapshot_id", sa.BigInteger, nullable=False),
    sa.Column("snapshot_name", Text, nullable=False),
    sa.Column("collection_id", sa.BigInteger, nullable=False),
    sa.Column("database", Text, nullable=False),
    sa.Column("collection_name", Text, nullable=False),
    sa.Column("state", sa.Integer, nullable=False),
    sa.Column("reason", Text, nullable=False),
    sa.Column("started_ms", sa.BigInteger, nullable=False),
    sa.Column("ended_ms", sa.BigInteger, nullable=False),
)
