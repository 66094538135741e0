"""What readers of files give: batches of rows, whose columns are converted when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from milvine.errors import ImportFailed, InputError, MilvineError
from milvine.model.columns import Column
from milvine.model.functions import FunctionType
from milvine.model.properties import INSERTED_EMBEDDINGS_PROPERTY, allows_inserted_embeddings, allows_inserted_ids
from milvine.model.records import record
from milvine.model.schema import CollectionSchema, FieldSchema

BATCH_BYTES = 16 << 20
_T = TypeVar("_T")
Convert = Callable[[int, int], Column]
"""The column of some rows of a batch, as they are in the file: not checked for more than its type."""


@record
class RawBatch:
    """`columns`: by the names of the fields that the file has. `read_bytes`: of the file, up to the batch's end."""

    row_count: int
    columns: Mapping[str, Convert]
    read_bytes: int


class Reader(Protocol):
    """One group of files. `row_count` is 0 if the file does not say it."""

    size: int
    row_count: int

    def batches(self) -> Iterator[RawBatch]: ...


@dataclass(frozen=True)
class Rules:
    """What the fields of a collection take from files."""

    schema: CollectionSchema
    properties: Mapping[str, str]

    def may_be_missing(self, field: FieldSchema) -> bool:
        is_made = field.made_by is not None or (field.is_primary and field.auto_id)
        return is_made or field.is_dynamic or field.nullable or field.default_value is not None

    def check_given(self, names: Collection[str]) -> None:
        """Raises ImportFailed for a field whose values files may not have."""
        for field in self.schema.fields:
            if field.name not in names:
                continue
            if field.is_primary and field.auto_id and not allows_inserted_ids(self.properties):
                raise ImportFailed(f"the primary key '{field.name}' is auto-generated, no need to provide")
            if field.made_by is FunctionType.BM25:
                raise ImportFailed(f"not allowed to provide data for BM25 function output field '{field.name}'")
            if field.made_by is not None and (field.is_made_here or not allows_inserted_embeddings(self.properties)):
                raise ImportFailed(
                    f"not allowed to provide data for function output field '{field.name}', "
                    f"set collection property '{INSERTED_EMBEDDINGS_PROPERTY}' to enable"
                )

    def missing(self, names: Collection[str]) -> FieldSchema | None:
        """The first field that the file must have and has not."""
        return next((f for f in self.schema.fields if f.name not in names and not self.may_be_missing(f)), None)


def located(convert: Callable[[int, int], _T], row_count: int, first_row: int) -> _T:
    """The result for all rows of a batch. If rows are refused, raises the refusal of the first of them as ImportFailed
    with its number in the file, from 0."""
    try:
        return convert(0, row_count)
    except InputError as error:
        low, high, refusal = 0, row_count, error
        while high - low > 1:
            middle = (low + high) // 2
            try:
                convert(low, middle)
                low = middle
            except InputError as found:
                high, refusal = middle, found
        try:
            convert(low, high)
        except InputError as found:
            refusal = found
        text = refusal.message
        for numbered in ("row number: 0, ", ", row number: 0", "row 0: "):
            text = text.replace(numbered, "")
        text = text.removesuffix(f": {ImportFailed.text}")
        raise ImportFailed(f"{text}, row number: {first_row + low}") from error


def reason(error: BaseException) -> str:
    """The text of an error of a library, in one line."""
    text = error.message if isinstance(error, MilvineError) else str(error)
    return text.strip().partition("\n")[0][:500]


def go_value(value: Any) -> str:
    """A decoded JSON value as Go's `%v` writes it. A long one is cut."""
    text = _go_text(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _go_text(value: Any) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_go_text(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_go_text, value))}]"
    return str(value)
