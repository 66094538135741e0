"""All settings: key, default, format and meaning.

A value comes from a flag, else from the environment (`MILVINE_` and the key in capitals, dots as underscores), else
from the YAML file (Milvus's nesting), else from the default. Unknown keys are ignored unless they are misspelt, since
Milvus's own configuration files have many that are not used here.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from milvine import config_file, logs
from milvine.model.records import record
from milvine.rate_settings import RATE_KEYS, Rates, read_rates

ENVIRONMENT_PREFIX = "MILVINE_"
_SETTINGS_VARIABLE = "MILVINE_SETTINGS_JSON"
_PYTHON_VARIABLE = "MILVINE_PYTHON"
_FRONT_VARIABLES = ("LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "PYTHONHOME", "PYTHONPATH")
_SAVED_PREFIX = "MILVINE_OUTER_"
# Requests run in parallel; further threads of libraries would only contend with them.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_LARGEST_REQUEST_BYTES = 257 << 20
STRICT, HINT = "strict", "hint"
REFUSE, LRU = "refuse", "lru"
VECTORS, CODES = "vectors", "codes"
LOCAL_STORE = "file://"
LOCAL_LOG, OBJECT_LOG = "local", "object"
"""Where logs are."""
_CATALOG_SCHEMES = ("postgresql", "postgresql+psycopg")
_SECRETS = {"password", "sslpassword"}
_STORE_SCHEMES = ("s3", "gs", "az")
BY_COMMON_NAME, BY_SUBJECT, BY_URI = "commonName", "subject", "uri"
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_bool(value: object) -> bool:
    """`true` or `false`, as YAML or as text."""
    text = str(value).strip().lower()
    if text in ("true", "1"):
        return True
    if text in ("false", "0", ""):
        return False
    raise ValueError("it must be true or false")


def parse_tls_mode(value: object) -> int:
    mode = parse_whole(value)
    if mode not in (0, 1, 2):
        raise ValueError("it must be 0, 1 or 2")
    return mode


def _parse_user_source(value: object) -> str:
    text = str(value or "")
    if text not in ("", BY_COMMON_NAME, BY_SUBJECT, BY_URI):
        raise ValueError(f"it must be {BY_COMMON_NAME}, {BY_SUBJECT} or {BY_URI}")
    return text


def _parse_users(value: object) -> dict[str, str]:
    """A mapping, or text that is one in JSON."""
    users = orjson.loads(value) if isinstance(value, str) and value else value or {}
    if not isinstance(users, dict) or not all(isinstance(v, str) and v for pair in users.items() for v in pair):
        raise ValueError("it must map texts to names of users")
    return users


def _parse_tables(value: object) -> dict[str, dict[str, str]]:
    """Mappings by names in small letters, or text that is such a mapping in JSON. What is empty is left out."""
    tables = orjson.loads(value) if isinstance(value, str) and value else value or {}
    if not isinstance(tables, dict) or not all(isinstance(one, dict | None) for one in tables.values()):
        raise ValueError("it must map names to mappings")
    return {
        str(name).lower(): {str(key): str(one) for key, one in (table or {}).items() if one is not None}
        for name, table in tables.items()
    }


def _parse_seconds(value: object) -> float:
    """`30s`, `500ms`, `2m`, or a number of seconds; more than 0."""
    text = str(value).strip().lower()
    unit = next((unit for unit in ("ms", "s", "m") if text.endswith(unit)), "")
    seconds = parse_number(text.removesuffix(unit)) * {"ms": 0.001, "m": 60.0}.get(unit, 1.0)
    if not 0 < seconds < float("inf"):
        raise ValueError("it must be a time such as 30s, more than 0")
    return seconds


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address or a name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parse_path(value: object) -> str:
    return str(Path(str(value)).resolve()) if value else ""


def _parse_places(value: object) -> str:
    """Absolute directories and URIs, separated by commas."""
    places = [text.strip() for text in str(value or "").split(",")]
    return ",".join(_parse_place(text) for text in places if text)


def _parse_place(text: str) -> str:
    parts = urlsplit(text)
    if not parts.scheme:
        return _parse_path(text)
    if parts.scheme not in (*_STORE_SCHEMES, "http", "https") or not parts.netloc:
        raise ValueError(f"{text} must be a directory or begin with s3://, gs://, az://, http:// or https://")
    if "@" in parts.netloc or parts.query:
        raise ValueError("credentials are read from the environment, not from the URI")
    return text.rstrip("/")


def _parse_store(value: object) -> str:
    uri = str(value)
    if uri == LOCAL_STORE:
        return uri
    parts = urlsplit(uri)
    if parts.scheme == "file":
        raise ValueError("files are in the data directory, localStorage.path; without an object store it is file://")
    if parts.scheme not in _STORE_SCHEMES or not parts.netloc:
        raise ValueError("it must be file://, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX")
    if "@" in parts.netloc or parts.query:
        raise ValueError("credentials are read from the environment, not from the URI")
    return uri


def _parse_catalog(value: object) -> str:
    uri = str(value)
    if not uri:
        return uri
    parts = urlsplit(uri)
    if parts.scheme not in _CATALOG_SCHEMES or not parts.path.strip("/"):
        raise ValueError("it must be postgresql://USER@HOST:PORT/DATABASE, or empty")
    if parts.password is not None or not _SECRETS.isdisjoint(parse_qs(parts.query)):
        raise ValueError("the password is read from PGPASSWORD or a file of PGPASSFILE, not from the URI")
    return uri


def _parse_log_store(value: object) -> str:
    if value not in (LOCAL_LOG, OBJECT_LOG):
        raise ValueError(f"it must be {LOCAL_LOG} or {OBJECT_LOG}")
    return str(value)


def cgroup_memory_limits(root: Path = Path("/")) -> list[int]:
    """Limits of this process's memory cgroup, version 1 or 2, and of its parents, without unlimited ones."""
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in memberships:
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            mount, file = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            mount, file = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # Inside a container the name may be that of the host, and only the mount itself exists.
        group = Path(name.lstrip("/"))
        for one in (group, *group.parents):
            path = mount / one / file
            if path.is_file() and (text := path.read_text().strip()).isdigit():
                limits.append(int(text))
    return limits


def machine_memory_bytes() -> int:
    """Memory of this machine, or of the cgroup if that is smaller."""
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *cgroup_memory_limits()])


def parse_bytes(value: object) -> int:
    """`512MB`, `2G`, a number of bytes, or, if at most 1 (`0.9`), a share of the machine's memory."""
    text = str(value).strip().lower().removesuffix("b").removesuffix("i")
    factor = 1
    if text and text[-1] in _UNITS:
        factor = _UNITS[text[-1]]
        text = text[:-1]
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ValueError("it must be a size such as 512MB, a number of bytes, or a share such as 0.9")
    if factor == 1 and 0 < number <= 1:
        return int(number * machine_memory_bytes())
    return int(number * factor)


def parse_request_limit(value: object) -> int:
    """At least the largest request that is accepted."""
    return max(parse_bytes(value), _LARGEST_REQUEST_BYTES)


def parse_whole(value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise ValueError("it must be a whole number") from None


def parse_number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise ValueError("it must be a number") from None


def parse_port(value: object) -> int:
    port = parse_whole(value)
    if not 0 <= port < 1 << 16:
        raise ValueError("a port is a number from 0 to 65535")
    return port


def parse_count(value: object) -> int:
    """A whole number of at least 1."""
    count = parse_whole(value)
    if count < 1:
        raise ValueError("it must be at least 1")
    return count


def _parse_level(value: object) -> str:
    level = logs.LEVELS.get(str(value).lower())
    if level is None:
        raise ValueError("it must be debug, info, warning or error")
    return level


def _parse_format(value: object) -> str:
    style = str(value).lower()
    if style not in (logs.TEXT, logs.JSON):
        raise ValueError(f"it must be {logs.TEXT} or {logs.JSON}")
    return style


def _parse_names(value: object) -> str:
    """A list, or text with commas, as text with commas."""
    names = value if isinstance(value, list) else str(value).split(",")
    return ",".join(str(name).strip() for name in names)


def _load_fields_mode(value: object) -> str:
    if value not in (STRICT, HINT):
        raise ValueError(f"it must be {STRICT} or {HINT}")
    return str(value)


def _memory_policy(value: object) -> str:
    if value not in (REFUSE, LRU):
        raise ValueError(f"it must be {REFUSE} or {LRU}")
    return str(value)


def _autoindex_memory_policy(value: object) -> str:
    if value not in (VECTORS, CODES):
        raise ValueError(f"it must be {VECTORS} or {CODES}")
    return str(value)


def _parse_idle_seconds(value: object) -> float:
    return _parse_seconds(value) if str(value).strip() != "0" else 0.0


def _parse_trace_exporter(value: object) -> str:
    """Empty for none."""
    exporter = str(value).lower()
    if exporter not in ("noop", "otlp"):
        raise ValueError("it must be noop or otlp")
    return exporter.removeprefix("noop")


def _parse_trace_method(value: object) -> str:
    if str(value).lower() != "http":
        raise ValueError("it must be http")
    return "http"


def _parse_share(value: object) -> float:
    share = parse_number(value)
    if not 0 <= share <= 1:
        raise ValueError("it must be a number from 0 to 1")
    return share


@record
class Setting:
    """`name` is the attribute of Settings, `key` the YAML path; `alias` is another key, read after it."""

    name: str
    key: str
    default: object
    parse: Callable[[Any], Any]
    help: str
    alias: str = ""


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "data_dir",
        "localStorage.path",
        "./milvine-data",
        lambda v: str(Path(v).resolve()),
        "the data directory",
    ),
    Setting(
        "store_uri",
        "store.uri",
        LOCAL_STORE,
        _parse_store,
        "where segment files are: file:// (the data directory), or an object store, s3://BUCKET/PREFIX, gs:// or az://",
    ),
    Setting(
        "catalog_uri",
        "catalog.uri",
        "",
        _parse_catalog,
        "where the catalog is: postgresql://USER@HOST:PORT/DATABASE; empty: a file in the data directory",
    ),
    Setting(
        "standby",
        "mixCoord.enableActiveStandby",
        False,
        parse_bool,
        "whether this head waits while another one serves, and takes over from it",
        "rootCoord.enableActiveStandby",
    ),
    Setting(
        "session_seconds",
        "common.session.ttl",
        5,
        _parse_seconds,
        "of a head that can be replaced: how long it answers without a word from the catalog's PostgreSQL",
    ),
    Setting(
        "log_store",
        "log.store",
        LOCAL_LOG,
        _parse_log_store,
        "where logs are: local (the data directory), or object (the object store of store.uri)",
    ),
    Setting("store_endpoint", "store.endpoint", "", str, "the address of the store; empty: AWS, Google or Azure"),
    Setting("store_region", "store.region", "", str, "the region of the bucket; empty: that of the environment"),
    Setting(
        "store_cache_bytes",
        "store.cache.limit",
        "32GB",
        parse_bytes,
        "with an object store: copies of segment files in the data directory; those in use may exceed it",
    ),
    Setting(
        "store_removal_seconds",
        "store.removal.seconds",
        600,
        parse_number,
        "how long objects that the catalog does not name any more are kept",
    ),
    Setting("host", "proxy.host", "", str, "address to listen on; empty: loopback, 127.0.0.1 and ::1"),
    Setting("port", "proxy.port", 19530, parse_port, "gRPC and REST; 0 picks a free one"),
    Setting("cluster_host", "cluster.host", "127.0.0.1", str, "address on which query nodes reach this head"),
    Setting("cluster_port", "cluster.port", 0, parse_port, "its port; 0: all segments are in this process"),
    Setting(
        "cluster_ray_address",
        "cluster.ray.address",
        "",
        str,
        "a cluster of Ray that starts query nodes; needs cluster.port; empty: nodes are started by hand",
    ),
    Setting(
        "cluster_ray_directory",
        "cluster.ray.directory",
        "/var/tmp/milvine-nodes",
        str,
        "the copies of its nodes, on each machine; there MILVINE_LOCALSTORAGE_PATH comes first",
    ),
    Setting(
        "internal_ca_pem_path", "internaltls.caPemPath", "", _parse_path, "the authority of certificates of a cluster"
    ),
    Setting(
        "internal_server_pem_path", "internaltls.serverPemPath", "", _parse_path, "the certificate of this head or node"
    ),
    Setting("internal_server_key_path", "internaltls.serverKeyPath", "", _parse_path, "its private key"),
    Setting(
        "internal_tls_name", "internaltls.sni", "", str, "the name in these certificates; empty: that of the address"
    ),
    Setting("metrics_port", "common.metricsPort", 9091, parse_port, "/healthz and /metrics; 0 is off"),
    Setting(
        "memory_limit_bytes",
        "memory.limit",
        0.9,
        parse_bytes,
        "bytes, or a share of the machine, that loading may take",
    ),
    Setting(
        "memory_policy",
        "memory.policy",
        REFUSE,
        _memory_policy,
        "what a load that does not fit does: refuse it, or lru: let the collections rest that are unread for longest",
    ),
    Setting(
        "autoindex_memory_policy",
        "autoindex.memory.policy",
        VECTORS,
        _autoindex_memory_policy,
        "what new AUTOINDEX graphs over float vectors hold: the vectors, or their codes of one byte a dimension",
    ),
    Setting(
        "idle_release_seconds",
        "collection.idle.release.seconds",
        0,
        _parse_idle_seconds,
        "loaded collections unread for so long give their memory back until the next read; 0: none does",
    ),
    Setting(
        "json_cache_bytes",
        "memory.jsonCache.limit",
        "256MB",
        parse_bytes,
        "the cache of values that filters parse from JSON text is at most this large",
    ),
    Setting(
        "segment_seal_bytes",
        "segment.seal.bytes",
        "128MB",
        parse_bytes,
        "growing rows and deletes of a collection are sealed at this size",
    ),
    Setting(
        "wal_limit_bytes",
        "wal.limit",
        "256MB",
        parse_bytes,
        "a collection's log is checkpointed at this size",
    ),
    Setting(
        "wal_keep_hours",
        "wal.keepHours",
        0,
        parse_number,
        "how long logs are kept after their rows are sealed, for `milvine restore --to`",
    ),
    Setting(
        "segment_seal_seconds",
        "dataCoord.segment.maxLife",
        86400,
        parse_whole,
        "growing rows are sealed when the oldest reaches this age",
    ),
    Setting(
        "write_buffer_bytes",
        "write_buffer.limit",
        0.1,
        parse_bytes,
        "growing rows and deletes of all collections; above it the largest is sealed, at twice this size writes fail",
    ),
    Setting(
        "segment_max_rows", "segment.max.rows", 1_000_000, parse_count, "small segments are merged up to this many rows"
    ),
    Setting("segment_max_bytes", "segment.max.bytes", "512MB", parse_bytes, "and up to this size"),
    Setting(
        "merge_idle_seconds",
        "segment.merge.idle.seconds",
        20,
        parse_whole,
        "the last small segments are merged after this long without a new segment",
    ),
    Setting(
        "retention_seconds",
        "common.retentionDuration",
        30,
        parse_whole,
        "deleted rows are kept at least this long for reads at an old timestamp",
    ),
    Setting("mmap_vector_field", "queryNode.mmap.vectorField", True, parse_bool, "vectors beside an index are mapped"),
    Setting("mmap_vector_index", "queryNode.mmap.vectorIndex", False, parse_bool, "vector indexes are mapped"),
    Setting("mmap_scalar_field", "queryNode.mmap.scalarField", False, parse_bool, "other fields and keys are mapped"),
    Setting("mmap_scalar_index", "queryNode.mmap.scalarIndex", False, parse_bool, "indexes of other fields are mapped"),
    Setting(
        "scrub_bytes_per_second",
        "scrub.bytesPerSecond",
        "8MB",
        parse_bytes,
        "how fast sealed files are read to verify their checksums; 0 is off",
    ),
    Setting(
        "scrub_interval_seconds",
        "scrub.interval.seconds",
        604800,
        parse_number,
        "each file is verified once per interval",
    ),
    Setting(
        "request_limit_bytes",
        "requests.limit",
        "512MB",
        parse_request_limit,
        "bytes that the bodies of all requests in progress may hold together",
    ),
    Setting(
        "deny_writing",
        "quotaAndLimits.limitWriting.forceDeny",
        False,
        parse_bool,
        "inserts, upserts and deletes are refused",
    ),
    Setting(
        "deny_reading", "quotaAndLimits.limitReading.forceDeny", False, parse_bool, "searches and queries are refused"
    ),
    Setting(
        "disk_quota_mb",
        "quotaAndLimits.limitWriting.diskProtection.diskQuota",
        -1,
        parse_number,
        "MB of flushed rows above which writes are refused; negative: no quota",
    ),
    Setting(
        "database_disk_quota_mb",
        "quotaAndLimits.limitWriting.diskProtection.diskQuotaPerDB",
        -1,
        parse_number,
        "the same for each database without a `database.diskQuota.mb`",
    ),
    Setting(
        "collection_disk_quota_mb",
        "quotaAndLimits.limitWriting.diskProtection.diskQuotaPerCollection",
        -1,
        parse_number,
        "the same for each collection without a `collection.diskProtection.diskQuota.mb`",
    ),
    Setting(
        "limits_enabled",
        "quotaAndLimits.enabled",
        True,
        parse_bool,
        "whether rates, disk quotas and denied kinds of calls hold at all",
    ),
    Setting(
        "max_insert_bytes",
        "quotaAndLimits.limits.maxInsertSize",
        -1,
        parse_whole,
        "bytes of the rows of one insert or upsert; negative: no limit",
    ),
    Setting(
        "max_collections", "quotaAndLimits.limits.maxCollectionNum", 65536, parse_whole, "collections of all databases"
    ),
    Setting(
        "max_collections_per_database",
        "quotaAndLimits.limits.maxCollectionNumPerDB",
        65536,
        parse_whole,
        "collections of a database without a `database.max.collections`",
    ),
    Setting("max_databases", "rootCoord.maxDatabaseNum", 64, parse_whole, "databases beside the default one"),
    Setting("max_partitions", "rootCoord.maxPartitionNum", 1024, parse_whole, "partitions of a collection"),
    Setting(
        "max_general_capacity",
        "rootCoord.maxGeneralCapacity",
        65536,
        parse_whole,
        "partitions times shards, summed over all collections",
    ),
    Setting("max_shards", "proxy.maxShardNum", 16, parse_whole, "shards of a collection"),
    Setting(
        "worker_threads",
        "proxy.workerThreads",
        4 * (os.cpu_count() or 1),
        parse_count,
        "requests handled at the same time",
    ),
    Setting(
        "authorization_enabled",
        "common.security.authorizationEnabled",
        False,
        parse_bool,
        "whether every call must name a user and the right password",
        "security.authorization_enabled",
    ),
    Setting(
        "super_users",
        "common.security.superUsers",
        "",
        str,
        "users, separated by commas, who may change passwords without the old ones",
    ),
    Setting(
        "root_needs_role",
        "common.security.rootShouldBindRole",
        False,
        parse_bool,
        "whether root may do only what its roles allow",
    ),
    Setting(
        "public_privileges",
        "common.security.enablePublicPrivilege",
        True,
        parse_bool,
        "whether each start grants DescribeCollection, ListAliases and IndexDetail to the role public",
    ),
    Setting("max_roles", "proxy.maxRoleNum", 10, parse_whole, "roles, including admin and public"),
    Setting(
        "default_root_password",
        "common.security.defaultRootPassword",
        "Milvus",
        str,
        "password of the first user, root, at the first start",
    ),
    Setting(
        "tls_mode", "common.security.tlsMode", 0, parse_tls_mode, "0: no TLS, 1: TLS, 2: clients need certificates"
    ),
    Setting("tls_server_pem_path", "tls.serverPemPath", "", _parse_path, "the server's certificate"),
    Setting("tls_server_key_path", "tls.serverKeyPath", "", _parse_path, "its private key"),
    Setting("tls_ca_pem_path", "tls.caPemPath", "", _parse_path, "the authority that signs client certificates"),
    Setting(
        "tls_user_from",
        "tls.clientUser.from",
        "",
        _parse_user_source,
        "the part of a client's certificate that names a user to calls without a token: commonName, subject or uri; "
        "empty: none",
    ),
    Setting(
        "tls_users",
        "tls.clientUser.users",
        {},
        _parse_users,
        "users by that part of the certificate; empty: the common name is the user",
    ),
    Setting(
        "credentials",
        "credential",
        {},
        _parse_tables,
        "keys of model services by name, each with its `apikey`",
    ),
    Setting(
        "rerank_providers",
        "function.rerank.model.providers",
        {},
        _parse_tables,
        "of each provider of rerankers: `enable`, `credential` (a name), `url`",
    ),
    Setting(
        "embedding_providers",
        "function.textEmbedding.providers",
        {},
        _parse_tables,
        "of each provider of embedding models: `enable`, `credential` (a name), `url`, `resource_name`",
    ),
    Setting(
        "embedding_batches",
        "function.batch_factor",
        5,
        parse_count,
        "calls of a model that one insert, upsert or search may make for each embedded field",
    ),
    Setting(
        "model_request_seconds",
        "function.model.requestTimeout",
        "30s",
        _parse_seconds,
        "how long a call of a model service may take",
    ),
    Setting(
        "model_hosts",
        "function.model.allowedHosts",
        "",
        _parse_names,
        "hosts that functions may name as the endpoint of a model, separated by commas",
    ),
    Setting(
        "file_resource_path",
        "fileResource.path",
        "",
        _parse_path,
        "the directory that file resources are copied from; empty: the object store, if there is one",
    ),
    Setting(
        "import_path",
        "import.path",
        "",
        _parse_places,
        "directories and URIs of object stores that imports may read below, separated by commas; empty: store.uri",
    ),
    Setting(
        "snapshot_path",
        "snapshot.path",
        "",
        _parse_places,
        "directories and URIs of object stores below which snapshots are exported and restored, separated by commas",
    ),
    Setting("import_memory_bytes", "import.memory", "1GB", parse_bytes, "an import that needs more memory fails"),
    Setting(
        "rest_allowed_origins",
        "rest.allowedOrigins",
        "",
        _parse_names,
        "origins of other web pages that may use REST, separated by commas",
    ),
    Setting(
        "rest_allowed_hosts",
        "rest.allowedHosts",
        "",
        _parse_names,
        "further host names under which REST may be reached on loopback, separated by commas",
    ),
    Setting("audit_enabled", "audit.enabled", False, parse_bool, "whether calls are written to the audit log"),
    Setting("audit_path", "audit.path", "", _parse_path, "its file; empty: audit.log in the data directory"),
    Setting("audit_max_bytes", "audit.maxBytes", "64MB", parse_bytes, "a new file is begun at this size"),
    Setting("audit_files", "audit.files", 8, parse_count, "files that are kept, with the current one"),
    Setting(
        "metrics_token",
        "metrics.token",
        "",
        str,
        "what `Authorization: Bearer` must hold to read /metrics; empty: everyone may read it",
    ),
    Setting(
        "load_fields_mode",
        "load_fields_mode",
        "strict",
        _load_fields_mode,
        "strict: fields that a load does not list cannot be read; hint: they are served from their mapped files",
    ),
    Setting(
        "ends_when_unused",
        "embedded.endsWhenUnused",
        False,
        parse_bool,
        "whether the server ends once no process uses its directory by `milvine.connect`",
    ),
    Setting("log_level", "log.level", "info", _parse_level, "debug, info, warning or error"),
    Setting("log_format", "log.format", logs.TEXT, _parse_format, "text or json"),
    Setting(
        "slow_request_seconds",
        "proxy.slowQuerySpanInSeconds",
        1,
        parse_number,
        "requests that take as long are logged as slow; of a search, as long for each of its vectors",
    ),
    Setting(
        "trace_exporter",
        "trace.exporter",
        "noop",
        _parse_trace_exporter,
        "otlp: each request is a span of OpenTelemetry (pip install 'milvine[trace]'); noop: none is",
    ),
    Setting(
        "trace_endpoint",
        "trace.otlp.endpoint",
        "",
        str,
        "where spans are sent, such as http://localhost:4318/v1/traces; empty: OTEL_EXPORTER_OTLP_ENDPOINT",
    ),
    Setting("trace_method", "trace.otlp.method", "http", _parse_trace_method, "how spans are sent: http"),
    Setting(
        "trace_sample_share",
        "trace.sampleFraction",
        1,
        _parse_share,
        "the share of the requests without a client's span that are sent; with one, the client decides",
    ),
    Setting("access_log_enabled", "proxy.accessLog.enable", False, parse_bool, "whether each request is written down"),
    Setting(
        "access_log_file", "proxy.accessLog.filename", "", str, "the name of the access log's file; empty: on stdout"
    ),
    Setting("access_log_path", "proxy.accessLog.localPath", "", str, "its directory, seen from the data directory"),
    Setting("access_log_max_mb", "proxy.accessLog.maxSize", 64, parse_count, "MB at which a new file is begun"),
)


@record
class Settings:
    """The current values; see SETTINGS for each, and `rate_settings` for the rates."""

    data_dir: str
    store_uri: str
    catalog_uri: str
    standby: bool
    session_seconds: float
    log_store: str
    store_endpoint: str
    store_region: str
    store_cache_bytes: int
    store_removal_seconds: float
    host: str
    port: int
    cluster_host: str
    cluster_port: int
    cluster_ray_address: str
    cluster_ray_directory: str
    internal_ca_pem_path: str
    internal_server_pem_path: str
    internal_server_key_path: str
    internal_tls_name: str
    metrics_port: int
    memory_limit_bytes: int
    memory_policy: str
    autoindex_memory_policy: str
    idle_release_seconds: float
    json_cache_bytes: int
    segment_seal_bytes: int
    wal_limit_bytes: int
    wal_keep_hours: float
    segment_seal_seconds: int
    write_buffer_bytes: int
    segment_max_rows: int
    segment_max_bytes: int
    merge_idle_seconds: int
    retention_seconds: int
    mmap_vector_field: bool
    mmap_vector_index: bool
    mmap_scalar_field: bool
    mmap_scalar_index: bool
    scrub_bytes_per_second: int
    scrub_interval_seconds: float
    request_limit_bytes: int
    deny_writing: bool
    deny_reading: bool
    disk_quota_mb: float
    database_disk_quota_mb: float
    collection_disk_quota_mb: float
    limits_enabled: bool
    max_insert_bytes: int
    max_collections: int
    max_collections_per_database: int
    max_databases: int
    max_partitions: int
    max_general_capacity: int
    max_shards: int
    worker_threads: int
    authorization_enabled: bool
    super_users: str
    root_needs_role: bool
    public_privileges: bool
    max_roles: int
    default_root_password: str
    tls_mode: int
    tls_server_pem_path: str
    tls_server_key_path: str
    tls_ca_pem_path: str
    tls_user_from: str
    tls_users: dict[str, str]
    credentials: dict[str, dict[str, str]]
    rerank_providers: dict[str, dict[str, str]]
    embedding_providers: dict[str, dict[str, str]]
    embedding_batches: int
    model_request_seconds: float
    model_hosts: str
    file_resource_path: str
    import_path: str
    snapshot_path: str
    import_memory_bytes: int
    rest_allowed_origins: str
    rest_allowed_hosts: str
    audit_enabled: bool
    audit_path: str
    audit_max_bytes: int
    audit_files: int
    metrics_token: str
    load_fields_mode: str
    ends_when_unused: bool
    log_level: str
    log_format: str
    slow_request_seconds: float
    trace_exporter: str
    trace_endpoint: str
    trace_method: str
    trace_sample_share: float
    access_log_enabled: bool
    access_log_file: str
    access_log_path: str
    access_log_max_mb: int
    rates: Rates


def _lookup(tree: object, key: str) -> object | None:
    for step in key.split("."):
        if not isinstance(tree, Mapping) or step not in tree:
            return None
        tree = tree[step]
    return tree


def variable(key: str) -> str:
    """The environment variable of a key."""
    return ENVIRONMENT_PREFIX + key.upper().replace(".", "_")


def _known_keys() -> dict[str, str]:
    """The right key by each name of a setting: its attribute, its key and its alias."""
    known = {setting.name: setting.key for setting in SETTINGS}
    keys = [key for setting in SETTINGS for key in (setting.key, setting.alias) if key]
    return known | {key: key for key in (*keys, *RATE_KEYS)}


def load_settings(flags: Mapping[str, object | None], environment: Mapping[str, str], file: Path | None) -> Settings:
    """Reads the current settings. Raises ValueError with one sentence if a value cannot be read."""
    known = _known_keys()
    # Kubernetes sets MILVINE_PORT=tcp://... and others in all containers beside a service called "milvine".
    given = [n for n, value in environment.items() if n.startswith(ENVIRONMENT_PREFIX) and "://" not in value]
    config_file.check_environment(given, {variable(name): variable(key) for name, key in known.items()})
    tree: Mapping[str, object] = {}
    if file is not None:
        tree = config_file.read_tree(file)
        config_file.check_file(file, tree, known)

    def lookup(*keys: str) -> object | None:
        """The value of the first key that the environment or else the file has."""
        values: list[object | None] = [environment.get(variable(key)) for key in keys]
        values += [_lookup(tree, key) for key in keys]
        return next((value for value in values if value is not None), None)

    values: dict[str, Any] = {}
    for setting in SETTINGS:
        found: Any = flags.get(setting.name)
        if found is None:
            found = lookup(setting.key, *filter(None, (setting.alias,)))
        if found is None:
            found = setting.default
        try:
            values[setting.name] = setting.parse(found)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"setting {setting.key}: cannot read {found!r}: {error}") from error
    values["rates"] = read_rates(lookup, parse_bool, parse_number)
    if values["cluster_ray_address"] and not values["cluster_port"]:
        raise ValueError("setting cluster.ray.address needs cluster.port: nodes register there")
    return Settings(**values)


def keys_without_effect(file: Path) -> list[str]:
    """The keys of a file that `load_settings` has read and that mean nothing here."""
    return config_file.without_effect(config_file.read_tree(file), _known_keys())


def front_environment(settings: Settings, front: Mapping[str, str]) -> dict[str, str]:
    """The environment of the front's process, with the settings and the saved variables that the front overrides."""
    saved = {_SAVED_PREFIX + name: os.environ[name] for name in _FRONT_VARIABLES if name in os.environ}
    return {
        **os.environ,
        **front,
        **saved,
        **ONE_THREAD,
        _SETTINGS_VARIABLE: orjson.dumps(asdict(settings)).decode(),
        _PYTHON_VARIABLE: sys.executable,
    }


def settings_of_this_process() -> Settings:
    """The settings that `front_environment` sent."""
    return Settings(**orjson.loads(os.environ[_SETTINGS_VARIABLE]))


def child_command(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a Python child process.

    In the front's process `sys.executable` is not this environment's Python, and the variables that embed
    the interpreter must not reach a child. Nor must Python files of the working directory, which come first without -P.
    """
    environment = {k: v for k, v in os.environ.items() if k not in (*_FRONT_VARIABLES, *ONE_THREAD)}
    for name in _FRONT_VARIABLES:
        if _SAVED_PREFIX + name in environment:
            environment[name] = environment.pop(_SAVED_PREFIX + name)
    return [os.environ.get(_PYTHON_VARIABLE, sys.executable), "-P", "-m", module, *arguments], environment
