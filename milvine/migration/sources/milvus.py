"""A Milvus server, or a file of Milvus Lite 3, by Milvus's own client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from milvine.migration.columns import batch_of, json_text
from milvine.migration.failures import sentence
from milvine.migration.shape import (
    DYNAMIC_COLUMN,
    Batch,
    Field,
    Function,
    Index,
    MigrationError,
    Shape,
)
from milvine.migration.sources.options import SourceOptions
from milvine.model.types import DataType

_KEPT_PROPERTIES = ("collection.ttl.seconds", "mmap.enabled", "partitionkey.isolation", "timezone")
_LOADED = "Loaded"
_BY_KEYS = {"iterator": "True", "reduce_stop_for_best": "True"}
"""With these the server answers the rows with the smallest keys, in their order."""
_OWN_KEYS = ("index_type", "metric_type", "field_name", "index_name", "params", "mmap.enabled")
_STATES = ("total_rows", "indexed_rows", "pending_index_rows", "state")


class MilvusSource:
    def __init__(self, place: str, options: SourceOptions) -> None:
        from pymilvus import MilvusClient, MilvusException

        self._failure = MilvusException
        self._loaded_here: list[str] = []
        try:
            self._client = MilvusClient(place, token=options.token, db_name=options.database)
        except MilvusException as error:
            raise MigrationError(f"{place}: {sentence(error)}") from None

    def close(self) -> None:
        for name in self._loaded_here:
            self._call("release_collection", name)
        self._client.close()

    def collections(self) -> list[str]:
        return sorted(self._call("list_collections"))

    def shape(self, name: str) -> Shape:
        described = self._call("describe_collection", name)
        notes: list[str] = []
        fields = [field for raw in described["fields"] for field in _fields(raw, notes)]
        functions = [_function(one) for one in described.get("functions", [])]
        by_partition_key = any(field.is_partition_key for field in fields)
        partitions = [] if by_partition_key else list(self._call("list_partitions", name))
        properties = {key: str(value) for key, value in (described.get("properties") or {}).items()}
        return Shape(
            name,
            fields,
            self._indexes(name, fields, notes),
            rows=self._count(name),
            has_dynamic_field=bool(described.get("enable_dynamic_field")),
            auto_id=bool(described.get("auto_id")),
            functions=functions,
            partitions=partitions,
            num_partitions=int(described.get("num_partitions") or 0) if by_partition_key else 0,
            aliases=list(described.get("aliases") or []),
            properties={key: properties[key] for key in _KEPT_PROPERTIES if key in properties},
            description=described.get("description", ""),
            notes=notes,
        )

    def _indexes(self, name: str, fields: list[Field], notes: list[str]) -> list[Index]:
        indexes = []
        known = {field.name for field in fields}
        for index_name in self._call("list_indexes", name):
            raw = self._call("describe_index", name, index_name)
            params = {key: value for key, value in raw.items() if key not in (*_OWN_KEYS, *_STATES)}
            if raw["field_name"] in known or "json_path" in params:
                kind, metric = raw.get("index_type", "AUTOINDEX"), raw.get("metric_type", "")
                indexes.append(Index(raw["field_name"], kind, metric, params, index_name))
        indexed = {index.field_name for index in indexes}
        for field in fields:
            if field.data_type.is_vector and field.name not in indexed:
                notes.append(f"{field.name} has no index: AUTOINDEX is made")
                indexes.append(Index(field.name, "AUTOINDEX", _metric(field)))
        return indexes

    def _count(self, name: str) -> int | None:
        """The rows, for which the collection is loaded if it is not."""
        if self._call("get_load_state", name)["state"].name != _LOADED:
            self._call("load_collection", name)
            self._loaded_here.append(name)
        found = self._call("query", name, filter="", output_fields=["count(*)"], consistency_level="Strong")
        return int(found[0]["count(*)"])

    def batches(self, shape: Shape, place: Any, rows: int) -> Iterator[Batch]:
        """By partitions, and by keys in each of them."""
        first, key = place or ("", None)
        partitions: list[str] = shape.partitions or [""]
        for partition in partitions[partitions.index(first) if first in partitions else 0 :]:
            yield from self._of_partition(shape, partition, key, rows)
            key = None

    def _of_partition(self, shape: Shape, partition: str, key: Any, rows: int) -> Iterator[Batch]:
        """Pages as pymilvus's query iterator asks for them, which does not escape quotes in keys."""
        primary = shape.primary.name
        while True:
            found = self._call(
                "query",
                shape.name,
                filter="" if key is None else f"{primary} > {json_text(key)}",
                output_fields=["*"],
                limit=rows,
                consistency_level="Strong",
                **_BY_KEYS,
                **({"partition_names": [partition]} if partition else {}),
            )
            if not found:
                return
            key = found[-1][primary]
            yield Batch(batch_of(shape, _columns(shape, found)), [partition, key], partition)

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        try:
            return getattr(self._client, method)(*arguments, **options)
        except self._failure as error:
            raise MigrationError(f"{arguments[0] if arguments else 'the source'}: {error.message}") from None


def _fields(raw: Mapping[str, Any], notes: list[str]) -> Iterator[Field]:
    """The field; none if its type is not served here."""
    try:
        kind = DataType(int(raw["type"]))
        element = DataType(int(raw["element_type"])) if raw.get("element_type") else None
    except ValueError:
        notes.append(f"{raw['name']} is left out: its type is not served")
        return
    yield Field(
        raw["name"],
        kind,
        dict(raw.get("params") or {}),
        element if kind is DataType.ARRAY else None,
        is_primary=bool(raw.get("is_primary")),
        is_partition_key=bool(raw.get("is_partition_key")),
        nullable=bool(raw.get("nullable")),
        default=_default(raw.get("default_value")),
        origin=kind.milvus_name,
    )


def _function(raw: Mapping[str, Any]) -> Function:
    inputs, outputs = list(raw["input_field_names"]), list(raw["output_field_names"])
    return Function(raw["name"], int(raw["type"]), inputs, outputs, dict(raw["params"]))


def _default(raw: Any) -> Any:
    """Milvus's message of a value has one field set, `int_data` for example."""
    if raw is None or not hasattr(raw, "WhichOneof"):
        return raw
    name = raw.WhichOneof("data")
    return getattr(raw, name) if name else None


def _metric(field: Field) -> str:
    if field.data_type is DataType.SPARSE_FLOAT_VECTOR:
        return "IP"
    return "HAMMING" if field.data_type is DataType.BINARY_VECTOR else "COSINE"


def _columns(shape: Shape, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    fields = shape.stored_fields
    columns = {field.name: [_read(field, row.get(field.name)) for row in rows] for field in fields}
    if shape.has_dynamic_field:
        known = {field.name for field in shape.fields}
        columns[DYNAMIC_COLUMN] = [json_text({k: v for k, v in row.items() if k not in known}) for row in rows]
    return columns


_IN_BYTES = (DataType.BINARY_VECTOR, DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR)


def _read(field: Field, value: Any) -> Any:
    """The value without the forms that versions of the client wrap it in."""
    if value is None:
        return None
    if field.data_type is DataType.JSON:
        return json_text(value)
    if field.data_type is DataType.ARRAY:
        return list(value)
    if field.data_type in _IN_BYTES:
        inner = value[0] if isinstance(value, list) and len(value) == 1 else value
        return inner if isinstance(inner, bytes) else inner.tobytes()
    if field.data_type is DataType.INT8_VECTOR and isinstance(value, list) and isinstance(value[0], bytes):
        return memoryview(value[0]).cast("b")
    return value
