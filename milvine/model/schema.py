"""The fields and the frozen schema of a collection."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from milvine.errors import ParameterInvalid
from milvine.model import json_text
from milvine.model.functions import FIRST_FUNCTION_ID, FunctionSchema, FunctionType
from milvine.model.records import record
from milvine.model.types import DataType, MetricType

DYNAMIC_FIELD_NAME = "$meta"
FIRST_FIELD_ID = 100
"""Milvus reserves ids below 100 (0 row id, 1 timestamp)."""


@record
class FieldSchema:
    """One field. `dim` is set for vectors only, `max_length` (bytes of UTF-8) for VARCHAR and ARRAY of it only.

    `element_type` and `max_capacity` (elements per row) are ARRAY's. `default_value` None: there is none.
    `properties`: type parameters that say how the field is loaded (see `model.properties`) and how its texts are
    divided into terms (see `model.analyzer_params`). `made_by`: the type of the function whose output the field is.
    """

    field_id: int
    name: str
    data_type: DataType
    description: str = ""
    is_primary: bool = False
    auto_id: bool = False
    is_dynamic: bool = False
    nullable: bool = False
    dim: int | None = None
    max_length: int | None = None
    element_type: DataType | None = None
    max_capacity: int | None = None
    default_value: bool | int | float | str | None = None
    properties: Mapping[str, str] = field(default_factory=dict, hash=False)
    is_partition_key: bool = False
    made_by: FunctionType | None = None

    @property
    def is_made_here(self) -> bool:
        """Whether the engine makes the values from those of other fields."""
        return self.made_by is not None and self.made_by.runs_here


@dataclass(frozen=True)
class CollectionSchema:
    """Fields in the order of creation; with a dynamic field, `$meta` is the last of them.

    `version` counts the changes since the collection was created; the last one was at `updated_ts`. Files and the log
    may still hold columns of `dropped_fields`, whose ids are never reused.
    """

    fields: tuple[FieldSchema, ...]
    description: str = ""
    enable_dynamic_field: bool = False
    version: int = field(default=0, compare=False)
    updated_ts: int = field(default=0, compare=False)
    dropped_fields: tuple[FieldSchema, ...] = ()
    functions: tuple[FunctionSchema, ...] = ()

    @cached_property
    def by_name(self) -> dict[str, FieldSchema]:
        return {f.name: f for f in self.fields}

    @cached_property
    def by_id(self) -> dict[int, FieldSchema]:
        """All fields, including dropped ones, which reads that began before the drop still use."""
        return {f.field_id: f for f in (*self.fields, *self.dropped_fields)}

    @cached_property
    def field_ids(self) -> frozenset[int]:
        """Without dropped fields."""
        return frozenset(f.field_id for f in self.fields)

    @property
    def max_field_id(self) -> int:
        """The highest id that any field has had."""
        return max(self.by_id)

    @cached_property
    def primary_field(self) -> FieldSchema:
        return next(f for f in self.fields if f.is_primary)

    @cached_property
    def dynamic_field(self) -> FieldSchema | None:
        return next((f for f in self.fields if f.is_dynamic), None)

    @cached_property
    def partition_key(self) -> FieldSchema | None:
        """The field whose values decide the partition of a row."""
        return next((f for f in self.fields if f.is_partition_key), None)

    @cached_property
    def vector_fields(self) -> tuple[FieldSchema, ...]:
        return tuple(f for f in self.fields if f.data_type.is_vector)

    @cached_property
    def function_of_output(self) -> dict[int, FunctionSchema]:
        """By the ids of their output fields."""
        return {self.by_name[name].field_id: f for f in self.functions for name in f.outputs}

    @cached_property
    def made_fields(self) -> tuple[FieldSchema, ...]:
        """The fields whose values the engine makes."""
        return tuple(f for f in self.fields if f.is_made_here)

    @cached_property
    def user_fields(self) -> tuple[FieldSchema, ...]:
        """The fields that the user declared: all except `$meta`."""
        return tuple(f for f in self.fields if not f.is_dynamic)


TERMS_INDEX = "TERMS"
"""The type of the indexes that fields with `enable_match` have by themselves."""


@dataclass(frozen=True)
class IndexSpec:
    """An index as requested. `params` are the user's strings, `build_params` the parameters of the build.

    A scalar index has no metric. SDKs may nest parameters as JSON under `params`; `named_params` has all by name.
    """

    index_id: int
    field_id: int
    name: str
    index_type: str
    metric_type: MetricType | None
    params: dict[str, str] = field(default_factory=dict)
    build_type: str = ""
    build_params: dict[str, Any] = field(default_factory=dict)

    @property
    def is_internal(self) -> bool:
        """Whether the index came with its field; callers do not see it."""
        return self.index_type == TERMS_INDEX

    @cached_property
    def named_params(self) -> dict[str, str]:
        return flatten_params(self.params)


def flatten_params(params: Mapping[str, str]) -> dict[str, str]:
    """Index parameters by name, including those in the JSON object `params`; parameters beside it take precedence."""
    flat = {key: value for key, value in params.items() if key != "params"}
    nested = params.get("params")
    if not nested:
        return flat
    try:
        inner = json_text.loads(nested)
    except json_text.NotJson as error:
        raise ParameterInvalid(f"failed to unmarshal index params {nested}: {error}") from error
    if not isinstance(inner, dict):
        return flat
    given = {k: v for k, v in inner.items() if v is not None}
    return {k: v if isinstance(v, str) else json_text.dumps(v).decode() for k, v in given.items()} | flat


def with_function(schema: CollectionSchema, function: FunctionSchema, output: FieldSchema, ts: int) -> CollectionSchema:
    """The schema with one more function and its output, each under the next free id."""
    number = max((f.function_id for f in schema.functions), default=FIRST_FUNCTION_ID) + 1
    widened = with_field(schema, replace(output, made_by=function.function_type), ts)
    return replace(widened, functions=(*schema.functions, replace(function, function_id=number)))


def with_field(schema: CollectionSchema, added: FieldSchema, ts: int) -> CollectionSchema:
    """The schema with one more field, under the next free id and before `$meta`."""
    numbered = replace(added, field_id=schema.max_field_id + 1)
    fields = (*schema.user_fields, numbered, *(f for f in schema.fields if f.is_dynamic))
    dynamic = schema.enable_dynamic_field or added.is_dynamic
    return replace(schema, fields=fields, enable_dynamic_field=dynamic, version=schema.version + 1, updated_ts=ts)


def without_fields(schema: CollectionSchema, field_ids: Set[int], ts: int) -> CollectionSchema:
    """The schema with some fields among the dropped ones, and without the functions that make them."""
    dropped = tuple(f for f in schema.fields if f.field_id in field_ids)
    names = {f.name for f in dropped}
    return replace(
        schema,
        fields=tuple(f for f in schema.fields if f.field_id not in field_ids),
        enable_dynamic_field=schema.enable_dynamic_field and not any(f.is_dynamic for f in dropped),
        version=schema.version + 1,
        updated_ts=ts,
        dropped_fields=(*schema.dropped_fields, *dropped),
        functions=tuple(f for f in schema.functions if names.isdisjoint(f.outputs)),
    )


def with_field_ids(fields: list[FieldSchema]) -> tuple[FieldSchema, ...]:
    """Number fields from FIRST_FIELD_ID on, in order, as Milvus does."""
    return tuple(replace(f, field_id=FIRST_FIELD_ID + i) for i, f in enumerate(fields))


def with_function_ids(schema: CollectionSchema) -> CollectionSchema:
    """The schema of a new collection with numbered functions and marked output fields."""
    functions = tuple(replace(f, function_id=FIRST_FUNCTION_ID + i) for i, f in enumerate(schema.functions))
    types = {name: f.function_type for f in functions for name in f.outputs}
    fields = tuple(replace(f, made_by=types.get(f.name)) for f in schema.fields)
    return replace(schema, fields=fields, functions=functions)
