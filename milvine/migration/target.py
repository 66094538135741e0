"""The server that receives the rows: one that runs, or that of a data directory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from milvine.migration.failures import sentence
from milvine.migration.shape import Field, Index, MigrationError, Shape
from milvine.model.types import DataType

_CONSISTENCY = "Strong"


class Target:
    """The calls of pymilvus that a migration makes. They raise MigrationError with the server's sentence."""

    def __init__(self, place: str, token: str, database: str) -> None:
        """`place` is the address of a server or a data directory, whose server is started."""
        try:
            import pymilvus
        except ImportError:
            raise MigrationError("milvine migrate needs Milvus's client: pip install pymilvus") from None
        from milvine.embedded import StartError, connect

        self._failure = pymilvus.MilvusException
        options: dict[str, Any] = {"token": token, "db_name": database}
        try:
            if "://" in place:
                self._client: Any = pymilvus.MilvusClient(place, **options)
            else:
                self._client = connect(Path(place), **options)
        except (self._failure, StartError) as error:
            raise MigrationError(f"{place}: {sentence(error)}") from None

    def close(self) -> None:
        self._client.close()

    def has(self, name: str) -> bool:
        return bool(self._call("has_collection", name))

    def create(self, shape: Shape) -> list[str]:
        """Makes the collection, its partitions and its indexes, empty. Returns notes of what had to differ.

        If something is refused, no collection is left."""
        self._call("create_collection", shape.name, schema=self._schema(shape), **_options(shape))
        try:
            for partition in shape.partitions:
                if partition != "_default":
                    self._call("create_partition", shape.name, partition)
            return [note for index in shape.indexes for note in self._create_index(shape.name, index)]
        except MigrationError:
            self._call("drop_collection", shape.name)
            raise

    def _schema(self, shape: Shape) -> Any:
        from pymilvus import DataType as ClientType
        from pymilvus import Function, FunctionType

        schema = self._client.create_schema(
            auto_id=shape.auto_id, enable_dynamic_field=shape.has_dynamic_field, description=shape.description
        )
        for field in shape.fields:
            schema.add_field(field.name, ClientType(int(field.data_type)), **_field_options(field))
        for one in shape.functions:
            schema.add_function(Function(one.name, FunctionType(one.kind), one.inputs, one.outputs, params=one.params))
        return schema

    def _create_index(self, name: str, index: Index) -> list[str]:
        try:
            self._index(name, index)
        except MigrationError as error:
            if index.index_type == "AUTOINDEX":
                raise
            self._index(name, Index(index.field_name, "AUTOINDEX", index.metric_type, name=index.name))
            return [f"the index of {index.field_name} is AUTOINDEX instead of {index.index_type}: {error}"]
        return []

    def _index(self, name: str, index: Index) -> None:
        params = self._client.prepare_index_params()
        params.add_index(
            index.field_name,
            index_type=index.index_type,
            index_name=index.name,
            params=index.params,
            **({"metric_type": index.metric_type} if index.metric_type else {}),
        )
        self._call("create_index", name, params, sync=False)

    def insert(self, shape: Shape, rows: Sequence[dict[str, Any]], partition: str) -> None:
        documents = [field.name for field in shape.stored_fields if field.data_type is DataType.JSON]
        if documents and _takes_texts_for_json():
            rows = [{**row, **_as_json({name: row.get(name) for name in documents})} for row in rows]
        self._call("insert", shape.name, rows, **({"partition_name": partition} if partition else {}))

    def delete(self, shape: Shape, keys: Sequence[Any]) -> None:
        self._call("delete", shape.name, **_chosen(shape, keys))

    def finish(self, shape: Shape) -> None:
        """Makes the rows durable and searchable, and gives the collection its other names."""
        self._call("flush", shape.name)
        self._call("load_collection", shape.name)
        for alias in shape.aliases:
            self._call("create_alias", shape.name, alias)

    def count(self, name: str) -> int:
        found = self._call("query", name, filter="", output_fields=["count(*)"], consistency_level=_CONSISTENCY)
        return int(found[0]["count(*)"])

    def rows(self, shape: Shape, keys: Sequence[Any]) -> list[dict[str, Any]]:
        found = self._call(
            "query", shape.name, output_fields=["*"], consistency_level=_CONSISTENCY, **_chosen(shape, keys)
        )
        return [dict(row) for row in found]

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        try:
            return getattr(self._client, method)(*arguments, **options)
        except self._failure as error:
            raise MigrationError(sentence(error)) from None


def _takes_texts_for_json() -> bool:
    """Whether the client sends a text as the JSON that it holds, as newer ones do, and not as a string."""
    from pymilvus.client.entity_helper import convert_to_json

    return bool(convert_to_json("1") == b"1")


def _as_json(values: dict[str, Any]) -> dict[str, str]:
    """Only the strings, as JSON."""
    return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items() if isinstance(value, str)}


def _chosen(shape: Shape, keys: Sequence[Any]) -> dict[str, Any]:
    """The client does not escape quotes in `ids`."""
    return {"filter": f"{shape.primary.name} in {{keys}}", "filter_params": {"keys": list(keys)}}


def _options(shape: Shape) -> dict[str, Any]:
    # With it the target keeps the ids that the source has made.
    properties = {**shape.properties, **({"allow_insert_auto_id": "true"} if shape.auto_id else {})}
    options: dict[str, Any] = {"properties": properties} if properties else {}
    if shape.num_partitions:
        options["num_partitions"] = shape.num_partitions
    return options


def _field_options(field: Field) -> dict[str, Any]:
    options: dict[str, Any] = {
        **field.params,
        "is_primary": field.is_primary,
        "is_partition_key": field.is_partition_key,
        "nullable": field.nullable,
    }
    if field.element_type is not None:
        from pymilvus import DataType as ClientType

        options["element_type"] = ClientType(int(field.element_type))
    if field.default is not None:
        options["default_value"] = field.default
    return options
