"""The difference between a load target and the open segments: properties for every target and state."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from milvine.model.collections import LoadConfig
from milvine.model.schema import CollectionSchema, FieldSchema, IndexSpec, with_field_ids
from milvine.model.segments import SegmentIndexMeta, SegmentMeta
from milvine.model.types import DataType, MetricType
from milvine.querynode.load_targets import (
    Held,
    LoadTarget,
    common_config,
    difference,
    load_target,
    needed_bytes,
    percent_of,
    reads_files,
)
from milvine.segment.sealed import LoadSpec
from milvine.segment.view import ReadView

KEY, VEC, A = 100, 101, 102
SCHEMA = CollectionSchema(
    with_field_ids(
        [
            FieldSchema(0, "id", DataType.INT64, is_primary=True),
            FieldSchema(0, "vec", DataType.FLOAT_VECTOR, dim=4),
            FieldSchema(0, "a", DataType.INT64),
        ]
    )
)
WIDER = CollectionSchema((*SCHEMA.fields, FieldSchema(103, "b", DataType.INT64, nullable=True)))
GRAPH, SORTED = (
    IndexSpec(900, VEC, "vec", "HNSW", MetricType.L2, build_type="HNSW"),
    IndexSpec(901, A, "a", "STL_SORT", None),
)

configs = st.builds(
    LoadConfig,
    st.frozensets(st.integers(1, 3)),
    st.sampled_from([frozenset({KEY, VEC}), frozenset({KEY, VEC, A})]),
)


@st.composite
def metas(draw: st.DrawFn, segment_id: int) -> SegmentMeta:
    built = draw(st.sets(st.sampled_from([GRAPH.index_id, SORTED.index_id])))
    indexes = {i: SegmentIndexMeta(i, f"{i}.index", 50 + i) for i in built}
    rows = draw(st.integers(1, 100))
    sizes = {KEY: 8 * rows, VEC: 16 * rows, A: 8 * rows}
    return SegmentMeta(segment_id, 1, segment_id % 3 + 1, rows, 0, 0, 24 * rows, sizes, indexes)


@st.composite
def views(draw: st.DrawFn) -> ReadView:
    segment_ids = draw(st.frozensets(st.integers(1, 12)))
    return ReadView(1, SCHEMA, sealed=tuple(draw(metas(i)) for i in sorted(segment_ids)))


@st.composite
def targets(draw: st.DrawFn) -> LoadTarget:
    config = draw(configs)
    schema = draw(st.sampled_from([SCHEMA, WIDER]))
    scalar = (SORTED,) if A in config.field_ids and draw(st.booleans()) else ()
    return load_target(config, LoadSpec(schema, config.field_ids, {VEC: GRAPH}, scalar), draw(views()))


def opened(target: LoadTarget, held: Held) -> Held:
    """The open segments after the difference is applied."""
    found = difference(target, held)
    kept = {i: one for i, one in held.items() if i not in found.to_close}
    return kept | {m.segment_id: (m, target.spec) for m in found.to_open}


@given(targets(), targets())
def test_applying_the_difference_once_leaves_none(before: LoadTarget, after: LoadTarget) -> None:
    held = opened(after, opened(before, {}))
    assert held.keys() == after.segments.keys()
    assert after.is_open(held)
    found = difference(after, held)
    assert (found.to_open, found.to_close, found.short) == ((), frozenset(), ())
    assert sum(needed_bytes(after, held).values()) == 0


@given(targets(), targets())
def test_parts_that_are_not_served_as_wanted_are_opened(before: LoadTarget, after: LoadTarget) -> None:
    held = opened(before, {})
    found = difference(after, held)
    assert after.is_open(held) == (not found.to_open)
    assert found.to_close.isdisjoint(after.segments)
    for meta in found.to_open:
        shared = held.get(meta.segment_id)
        if not reads_files(shared, meta, after.spec):
            assert shared is not None
            assert needed_bytes(after, held)[meta.segment_id] == 0


@given(targets(), st.booleans())
def test_parts_mapped_for_lack_of_memory_are_served_and_not_reopened(target: LoadTarget, mapped: bool) -> None:
    spec = replace(target.spec, mapped=mapped, without_scalar_indexes=not mapped)
    held = {i: (meta, spec) for i, meta in target.segments.items()}
    found = difference(target, held)
    assert target.is_open(held)
    assert (found.to_open, found.to_close) == ((), frozenset())
    assert {m.segment_id for m in found.short} == held.keys()


@given(targets())
def test_unwanted_segments_do_not_stay_open(target: LoadTarget) -> None:
    held = opened(target, {})
    assert difference(None, held, frozenset(held)).to_close == held.keys()


@given(targets(), st.frozensets(st.integers(1, 12)))
def test_a_successor_stays_open_while_its_partition_is_to_be_loaded(
    target: LoadTarget, prepared: frozenset[int]
) -> None:
    held = opened(target, {})
    empty = replace(target, segments={})
    closing = difference(empty, held, prepared).to_close
    assert closing == held.keys() - prepared, "all of the target's segments are in partitions to be loaded"
    elsewhere = replace(empty, config=replace(target.config, partition_ids=frozenset()))
    assert difference(elsewhere, held, prepared).to_close == held.keys()


@given(targets(), targets())
def test_an_opening_continues_only_if_the_new_target_wants_the_same_parts(
    before: LoadTarget, after: LoadTarget
) -> None:
    for segment_id, meta in before.segments.items():
        wanted = after.wants(meta, before.spec)
        if segment_id not in after.segments:
            assert not wanted
        if wanted:
            held = {segment_id: (meta, before.spec)}
            one = replace(after, segments={segment_id: after.segments[segment_id]})
            assert not reads_files(held[segment_id], one.segments[segment_id], after.spec)
            assert needed_bytes(one, held) == {segment_id: 0}


@given(targets())
def test_progress_grows_with_every_segment_and_is_a_hundred_only_when_loaded(target: LoadTarget) -> None:
    held: dict[int, tuple[SegmentMeta, LoadSpec]] = {}
    seen = [percent_of(target, held, {})]
    for segment_id, meta in target.segments.items():
        seen.append(percent_of(target, held, {segment_id: 1}))
        held[segment_id] = (meta, target.spec)
        seen.append(percent_of(target, held, {}))
    assert seen == sorted(seen)
    assert (seen[0], max(seen)) == (0, 99 if target.segments else 0)


@given(configs, configs)
def test_the_common_configuration_is_in_both(first: LoadConfig, second: LoadConfig) -> None:
    common = common_config(first, second)
    assert common.partition_ids == first.partition_ids & second.partition_ids
    assert common.field_ids == first.field_ids & second.field_ids
