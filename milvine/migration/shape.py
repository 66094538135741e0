"""What a source says of a collection, in Milvus's nouns, and what it yields of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import TYPE_CHECKING, Any, Protocol

from milvine.model.records import record
from milvine.model.types import DataType

if TYPE_CHECKING:
    import pyarrow as pa

DYNAMIC_COLUMN = "$meta"
LONGEST_TEXT = 65_535
LARGEST_ARRAY = 4_096


class MigrationError(Exception):
    """Why a migration cannot be done, in one sentence."""


@record
class Field:
    """`params` are those of pymilvus's `add_field`, such as `dim`; `origin` is what the source has in this place."""

    name: str
    data_type: DataType
    params: dict[str, Any] = field(default_factory=dict)
    element_type: DataType | None = None
    is_primary: bool = False
    is_partition_key: bool = False
    nullable: bool = False
    default: Any = None
    origin: str = ""

    @property
    def dim(self) -> int:
        return int(self.params["dim"])


@record
class Index:
    field_name: str
    index_type: str
    metric_type: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    name: str = ""


@record
class Function:
    """A function whose output is made again from its inputs; `kind` is the number of Milvus's FunctionType."""

    name: str
    kind: int
    inputs: list[str]
    outputs: list[str]
    params: dict[str, Any] = field(default_factory=dict)


@record
class Shape:
    """A collection of the source as it will be in the target.

    `rows` is None if the source does not count them. `notes` say what is changed or left out. `details` are the
    source's own: what it needs to read the rows."""

    name: str
    fields: list[Field]
    indexes: list[Index]
    rows: int | None = None
    has_dynamic_field: bool = False
    dynamic_origin: str = "dynamic field"
    auto_id: bool = False
    functions: list[Function] = field(default_factory=list)
    partitions: list[str] = field(default_factory=list)
    num_partitions: int = 0
    aliases: list[str] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)
    description: str = ""
    notes: list[str] = field(default_factory=list)
    details: Any = None

    @property
    def primary(self) -> Field:
        return next(one for one in self.fields if one.is_primary)

    @property
    def stored_fields(self) -> list[Field]:
        """Those whose values are copied; the others are outputs of functions."""
        outputs = {name for function in self.functions for name in function.outputs}
        return [one for one in self.fields if one.name not in outputs]


@record
class Batch:
    """Rows as `columns.arrow_schema` says, and the place after them: JSON that `Source.batches` takes."""

    rows: pa.RecordBatch
    place: Any
    partition: str = ""


class Source(Protocol):
    """Another database. All its methods may raise MigrationError."""

    def collections(self) -> list[str]: ...

    def shape(self, name: str) -> Shape: ...

    def batches(self, shape: Shape, place: Any, rows: int) -> Iterator[Batch]:
        """The rows after `place`, or all if it is None, in an order that is the same each time."""

    def close(self) -> None: ...
