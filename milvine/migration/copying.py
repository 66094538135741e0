"""Copies a collection batch by batch, and compares counts and sampled rows afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.migration.columns import rows_of
from milvine.migration.shape import Batch, Field, MigrationError, Shape, Source
from milvine.migration.state import Progress, State
from milvine.migration.target import Target
from milvine.model.records import record
from milvine.model.types import DataType

_SAMPLES = 200
_SEED = 7


@record
class Copied:
    """`differences` are sentences; none if the target has what was read."""

    name: str
    rows: int
    compared: int
    differences: list[str]
    notes: list[str] = field(default_factory=list)


@record
class Migration:
    """Moves collections from `source` to `target`; `report` is told the rows of a collection so far."""

    source: Source
    target: Target
    state: State
    batch_rows: int
    report: Callable[[Shape, int], None]

    def check(self, shapes: Sequence[Shape]) -> None:
        """Raises MigrationError if the target has one of the collections, and not from this migration."""
        for shape in shapes:
            if self.state.of(shape.name) is None and self.target.has(shape.name):
                raise MigrationError(f"the target has a collection {shape.name} already")

    def copy(self, shape: Shape) -> Copied:
        """Goes on where the state says, or begins again if the collection is gone. Raises MigrationError."""
        progress = self.state.of(shape.name)
        if progress is not None and progress.is_made and not self.target.has(shape.name):
            progress = None  # it was dropped meanwhile, or with its server's directory
        if progress is None:
            # Saved before: a collection that this migration makes is known to be its own.
            progress = Progress(batch_rows=self.batch_rows)
            self.state.save(shape.name, progress)
        if not progress.is_made:
            if self.target.has(shape.name):
                raise MigrationError(
                    f"the target has a collection {shape.name} that an interrupted migration left without its indexes; "
                    "drop it and run the command again"
                )
            progress.notes = self.target.create(shape)
            progress.is_made = True
            self.state.save(shape.name, progress)
        if not progress.is_copied:
            self._copy_rows(shape, progress)
            self.target.finish(shape)
            progress.is_copied = True
            self.state.save(shape.name, progress)
        differences = self._differences(shape, progress)
        return Copied(shape.name, progress.rows, len(progress.samples), differences, progress.notes)

    def _copy_rows(self, shape: Shape, progress: Progress) -> None:
        # The batch after the saved place may have been inserted before the interruption.
        may_be_there = progress.place is not None or progress.rows == 0
        chosen = np.random.default_rng(_SEED)
        for batch in _with_reasons(shape, self.source.batches(shape, progress.place, progress.batch_rows)):
            rows = rows_of(batch.rows, shape.stored_fields)
            if may_be_there:
                self.target.delete(shape, [row[shape.primary.name] for row in rows])
                may_be_there = False
            try:
                self.target.insert(shape, rows, batch.partition)
            except MigrationError as error:
                first = progress.rows
                raise MigrationError(f"{shape.name}, rows {first:,} to {first + len(rows):,}: {error}") from None
            _sample(progress, rows, shape, chosen)
            progress.rows += len(rows)
            progress.place = batch.place
            self.state.save(shape.name, progress)
            self.report(shape, progress.rows)

    def _differences(self, shape: Shape, progress: Progress) -> list[str]:
        differences = []
        count = self.target.count(shape.name)
        if count != progress.rows:
            differences.append(f"{progress.rows:,} rows were read, and the target has {count:,}")
        if shape.rows is not None and shape.rows != progress.rows:
            differences.append(f"the source counts {shape.rows:,} rows, and {progress.rows:,} were read")
        keys = [json.loads(key) for key in progress.samples]
        found = {json.dumps(row[shape.primary.name]): row for row in self.target.rows(shape, keys)} if keys else {}
        for key, digests in progress.samples.items():
            if key not in found:
                differences.append(f"the row {key} is not in the target")
                continue
            now = _digests(found[key], shape.stored_fields)
            others = sorted(name for name in digests.keys() | now.keys() if digests.get(name) != now.get(name))
            if others:
                differences.append(f"the row {key} differs in {', '.join(others)}")
        return differences


def _with_reasons(shape: Shape, batches: Any) -> Any:
    """The batches; a value that does not fit its field ends them with the collection's name."""
    try:
        batch: Batch
        for batch in batches:
            if batch.rows.num_rows:
                yield batch
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise MigrationError(f"{shape.name}: {error}") from None


def _sample(progress: Progress, rows: Sequence[dict[str, Any]], shape: Shape, chosen: np.random.Generator) -> None:
    """Keeps each row so far with the same chance."""
    numbers = progress.rows + np.arange(1, len(rows) + 1)
    for i in np.flatnonzero(chosen.random(len(rows)) * numbers < _SAMPLES):
        if len(progress.samples) >= _SAMPLES:
            kept = list(progress.samples)
            del progress.samples[kept[int(chosen.integers(len(kept)))]]
        row = rows[int(i)]
        progress.samples[json.dumps(row[shape.primary.name])] = _digests(row, shape.stored_fields)


def _digests(row: Mapping[str, Any], fields: Sequence[Field]) -> dict[str, str]:
    """Of each value of a row, also of the dynamic ones. What is NULL has none, nor what has its field's default."""
    by_name = {one.name: one for one in fields}
    defaults = {one.name: one.default for one in fields if one.default is not None}
    return {
        name: hashlib.sha256(_canonical(value, by_name.get(name))).hexdigest()[:16]
        for name, value in row.items()
        if value is not None and not (name in defaults and value == defaults[name])
    }


def _canonical(value: Any, described: Field | None) -> bytes:
    """Equal for equal values, as a row to insert and as a row of an answer."""
    kind = described.data_type if described else None
    if kind in (DataType.FLOAT_VECTOR, DataType.FLOAT):
        return np.asarray(value, np.float32).tobytes()
    if kind is DataType.INT8_VECTOR and not isinstance(value, list):
        return np.asarray(value, np.int8).tobytes() if isinstance(value, np.ndarray) else bytes(value)
    if kind is DataType.SPARSE_FLOAT_VECTOR:
        pairs = sorted((int(place), float(np.float32(number))) for place, number in dict(value).items())
        return json.dumps(pairs).encode()
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, bytes):
        return value
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], bytes):
        return bytes(value[0])
    if described and described.element_type is DataType.FLOAT:
        return np.asarray(value, np.float32).tobytes()
    return json.dumps(_plain(value), sort_keys=True).encode()


def _plain(value: Any) -> Any:
    """The value without numpy's types and the containers of pymilvus."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    if isinstance(value, np.generic):
        return value.item()
    return [_plain(one) for one in value]
