"""The segments of a collection that should be open, and the difference from the open ones. Pure functions."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping, MutableMapping, Set
from dataclasses import replace

from milvine.model.collections import Collection, LoadConfig
from milvine.model.properties import PartKey, PartKind, placements
from milvine.model.records import record
from milvine.model.segments import SegmentMeta
from milvine.segment.sealed import LoadSpec, part_plans, part_sizes
from milvine.segment.view import ReadView

Held = Mapping[int, tuple[SegmentMeta, LoadSpec]]
"""Open segments by id, with their records and specs."""


@record
class LoadTarget:
    """The target of a load configuration and a view: `segments`, each to be opened by `spec`."""

    config: LoadConfig
    spec: LoadSpec
    segments: MutableMapping[int, SegmentMeta]
    """Nobody changes it."""

    def with_successor(self, meta: SegmentMeta) -> LoadTarget:
        """The target once the view names a successor, if its partition is to be loaded."""
        if meta.segment_id in self.segments or meta.partition_id not in self.config.partition_ids:
            return self
        return replace(self, segments=ChainMap({meta.segment_id: meta}, self.segments))

    def wants(self, meta: SegmentMeta, spec: LoadSpec) -> bool:
        """Whether `spec` opens the parts of the segment that this target wants; its schema may have more fields."""
        wanted = self.segments.get(meta.segment_id)
        if wanted is meta and spec is self.spec:
            return True
        return wanted is not None and part_plans(meta, spec) == part_plans(wanted, self.spec)

    def is_open(self, held: Held) -> bool:
        """Whether all segments are open as wanted, or with less for lack of memory."""
        return all(i in held and not _differs(held[i], meta, self.spec) for i, meta in self.segments.items())


@record
class Difference:
    """The segments to open and to close. `short`: those opened with less than wanted for lack of memory."""

    to_open: tuple[SegmentMeta, ...]
    to_close: frozenset[int]
    short: tuple[SegmentMeta, ...]


def load_spec(
    collection: Collection,
    database_properties: Mapping[str, str],
    mmap_by_default: Mapping[PartKind, bool],
    config: LoadConfig,
    *,
    serves_unlisted_fields: bool,
) -> LoadSpec:
    all_ids = collection.schema.field_ids
    field_ids = config.field_ids & all_ids
    return LoadSpec(
        collection.schema,
        field_ids,
        collection.index_by_field,
        tuple(i for i in collection.scalar_indexes if i.field_id in field_ids),
        unlisted_field_ids=all_ids - field_ids if serves_unlisted_fields else frozenset(),
        placements=placements(collection, database_properties, mmap_by_default),
    )


def load_target(
    config: LoadConfig, spec: LoadSpec, view: ReadView | None, partition_ids: frozenset[int] | None = None
) -> LoadTarget:
    """The target of some partitions, or of all that the configuration names."""
    wanted = config.partition_ids if partition_ids is None else partition_ids
    metas = () if view is None else view.sealed
    return LoadTarget(config, spec, {m.segment_id: m for m in metas if m.partition_id in wanted})


def difference(target: LoadTarget | None, held: Held, prepared: Set[int] = frozenset()) -> Difference:
    """The segments to open and close for a target (None: load nothing). `prepared`: successors that the view does not
    name yet; they stay open if their partition is to be loaded."""
    if target is None:
        return Difference((), frozenset(held), ())
    partition_ids = target.config.partition_ids
    coming = {i for i in prepared & held.keys() if held[i][0].partition_id in partition_ids}
    to_open = tuple(m for i, m in target.segments.items() if i not in held or _differs(held[i], m, target.spec))
    opening = {m.segment_id for m in to_open}
    short = tuple(m for i, m in target.segments.items() if i in held and _is_short(held[i][1]) and i not in opening)
    return Difference(to_open, frozenset(held.keys() - target.segments.keys() - coming), short)


def _is_short(spec: LoadSpec) -> bool:
    return spec.mapped or spec.without_scalar_indexes


def _differs(held: tuple[SegmentMeta, LoadSpec], meta: SegmentMeta, spec: LoadSpec) -> bool:
    """Whether an open segment has fewer or more parts than wanted, apart from those left out for lack of memory."""
    held_meta, held_spec = held
    if _is_short(held_spec):
        held_spec = replace(held_spec, mapped=False, without_scalar_indexes=False)
    if held_meta is meta and held_spec == spec:
        return False
    return held_spec.schema != spec.schema or part_plans(held_meta, held_spec) != part_plans(meta, spec)


def reads_files(held: tuple[SegmentMeta, LoadSpec] | None, meta: SegmentMeta, spec: LoadSpec) -> bool:
    """Whether opening the segment needs a part that the open one does not share."""
    if held is None:
        return True
    shared = part_plans(*held)
    return any(
        key not in shared or shared[key].placement != plan.placement for key, plan in part_plans(meta, spec).items()
    )


def held_sizes(held: Held) -> dict[int, dict[PartKey, int]]:
    """Estimated bytes of the open parts, by segment; 0 for those that are only mapped."""
    return {i: part_sizes(meta, spec) for i, (meta, spec) in held.items()}


def lacking_bytes(sizes: Mapping[PartKey, int], held: Mapping[PartKey, int]) -> int:
    """Bytes that making the parts resident adds (`held` has 0 for parts that are only mapped)."""
    return sum(size for key, size in sizes.items() if not held.get(key))


def needed_bytes(target: LoadTarget, held: Held) -> dict[int, int]:
    """Bytes that loading adds, by segment."""
    sizes = held_sizes(held)
    return {i: lacking_bytes(part_sizes(meta, target.spec), sizes.get(i, {})) for i, meta in target.segments.items()}


def resting_config(config: LoadConfig) -> LoadConfig:
    """What is to be open while a collection rests: nothing."""
    return replace(config, partition_ids=frozenset())


def common_config(first: LoadConfig, second: LoadConfig) -> LoadConfig:
    """The common part of two configurations."""
    partition_ids, field_ids = first.partition_ids & second.partition_ids, first.field_ids & second.field_ids
    return replace(second, partition_ids=partition_ids, field_ids=field_ids)


def percent_of(target: LoadTarget, held: Held, opened: Mapping[int, int]) -> int:
    """Percent of the bytes to be resident that are, 0..99. `opened`: bytes of segments that are not served yet. Read it
    before `held`, since a segment is added to `held` before it leaves `opened`."""
    sizes = held_sizes(held)
    total = done = 0
    for segment_id, meta in target.segments.items():
        wanted = part_sizes(meta, target.spec)
        size = sum(wanted.values())
        total += size
        done += min(size, size - lacking_bytes(wanted, sizes.get(segment_id, {})) + opened.get(segment_id, 0))
    return min(99, 100 * done // total) if total else 0


def oldest_first(metas: Iterable[SegmentMeta]) -> list[SegmentMeta]:
    return sorted(metas, key=lambda m: m.min_ts)
