"""Which of index, field, collection, database and settings decides the placement of a part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from milvine.model.collections import Collection
from milvine.model.properties import MAPPED, RESIDENT, PartKey, PartKind, Placement, Populate, placements
from milvine.model.schema import CollectionSchema, FieldSchema, IndexSpec, with_field_ids
from milvine.model.types import ConsistencyLevel, DataType, MetricType

KEY, VEC, A = 100, 101, 102
INDEX = 900
USUAL = {
    PartKind.VECTOR_FIELD: True,
    PartKind.VECTOR_INDEX: False,
    PartKind.SCALAR_FIELD: False,
    PartKind.SCALAR_INDEX: False,
}
YES, NO = {"mmap.enabled": "true"}, {"mmap.enabled": "false"}


def _placed(
    collection: Mapping[str, str] | None = None,
    field: Mapping[str, str] | None = None,
    index: Mapping[str, str] | None = None,
    database: Mapping[str, str] | None = None,
    **settings: bool,
) -> dict[PartKey, Placement]:
    """`field`: properties of the vector field."""
    fields = [
        FieldSchema(0, "id", DataType.INT64, is_primary=True),
        FieldSchema(0, "vec", DataType.FLOAT_VECTOR, dim=4, properties=field or {}),
        FieldSchema(0, "a", DataType.INT64),
    ]
    spec = IndexSpec(INDEX, VEC, "vec", "HNSW", MetricType.L2, dict(index or {}))
    made = Collection(
        1,
        "default",
        "c",
        CollectionSchema(with_field_ids(fields)),
        1,
        ConsistencyLevel.STRONG,
        properties=collection or {},
        indexes=(spec,),
    )
    return placements(made, database or {}, {**USUAL, **{PartKind(k): v for k, v in settings.items()}})


def test_placement_without_any_property() -> None:
    placed = _placed()
    assert placed["field", VEC] == MAPPED
    assert {placed[k] for k in placed if k != ("field", VEC)} == {RESIDENT}
    assert placed.keys() == {("rows", 0), ("field", KEY), ("field", VEC), ("field", A), ("index", INDEX), ("scan", VEC)}


@pytest.mark.parametrize(
    ("given", "mapped"),
    [
        (
            {"collection": YES},
            {("rows", 0), ("field", KEY), ("field", VEC), ("field", A), ("index", INDEX), ("scan", VEC)},
        ),
        (
            {"database": YES},
            {("rows", 0), ("field", KEY), ("field", VEC), ("field", A), ("index", INDEX), ("scan", VEC)},
        ),
        ({"database": YES, "collection": NO}, set()),
        ({"collection": YES, "index": NO}, {("rows", 0), ("field", KEY), ("field", VEC), ("field", A)}),
        ({"collection": NO, "index": YES}, {("index", INDEX), ("scan", VEC)}),
        ({"collection": NO, "field": YES}, {("field", VEC), ("scan", VEC)}),
        ({"field": YES, "index": NO}, {("field", VEC)}),
        ({"scalarField": True}, {("rows", 0), ("field", KEY), ("field", VEC), ("field", A)}),
        ({"vectorIndex": True, "vectorField": False}, {("index", INDEX), ("scan", VEC)}),
    ],
)
def test_the_property_nearest_to_the_part_decides(given: dict[str, Any], mapped: set[PartKey]) -> None:
    placed = _placed(**given)
    assert {k for k, p in placed.items() if not p.in_memory} == mapped


@pytest.mark.parametrize(
    ("policy", "mmap", "expected"),
    [
        ("sync", NO, RESIDENT),
        ("sync", YES, Placement(False, Populate.NOW)),
        ("async", NO, Placement(True, Populate.LATER)),
        ("async", YES, Placement(False, Populate.LATER)),
        ("disable", NO, MAPPED),
        ("disable", YES, MAPPED),
    ],
)
def test_warmup_decides_when_pages_are_read(policy: str, mmap: dict[str, str], expected: Placement) -> None:
    assert _placed(collection={**mmap, "warmup.vectorIndex": policy})["index", INDEX] == expected
    assert _placed(collection={**mmap, "warmup.vectorIndex": "x"}, index={"warmup": policy})["index", INDEX] == expected
    other = _placed(collection={**mmap, "warmup.vectorIndex": policy})["field", A]
    assert other == (RESIDENT if mmap == NO else MAPPED)
