"""The memory budget and its reservations: never exceeded, never freed twice, never lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from milvine.errors import MemoryLimitExceeded
from milvine.model.schema import CollectionSchema, FieldSchema, IndexSpec, with_field_ids
from milvine.model.segments import SegmentIndexMeta, SegmentMeta
from milvine.model.types import DataType
from milvine.querynode.budget import Budget
from milvine.querynode.reservations import Reservations
from milvine.segment.sealed import LoadSpec, part_sizes

LIMIT = 1000
COLLECTIONS = (1, 2)
SCHEMA = CollectionSchema(with_field_ids([FieldSchema(0, "id", DataType.INT64, is_primary=True)]))
SORTED = IndexSpec(900, 100, "id", "STL_SORT", None)
SPEC = LoadSpec(SCHEMA, frozenset({100}), {}, (SORTED,))
segment_ids, collection_ids = st.integers(1, 5), st.sampled_from(COLLECTIONS)


def segment(segment_id: int, index_bytes: int = 30) -> SegmentMeta:
    size = 20 * segment_id
    index = SegmentIndexMeta(900, "900.index", index_bytes)
    return SegmentMeta(segment_id, 1, 1, 1, 0, 0, size, {100: size}, {900: index})


def no_names() -> dict[int, str]:
    return {}


class BudgetModel(RuleBasedStateMachine):
    """Loads of two collections over one budget, whose openings end in every possible way."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(LIMIT)
        self.reservations = {i: Reservations(self.budget, i, no_names) for i in COLLECTIONS}
        self.opening: dict[tuple[int, int], int] = {}
        self.held: dict[tuple[int, int], int] = {}

    @initialize()
    def start(self) -> None:
        pass

    @rule(collection_id=collection_ids, needed=st.dictionaries(segment_ids, st.integers(0, 400)))
    def plan(self, collection_id: int, needed: dict[int, int]) -> None:
        reservations = self.reservations[collection_id]
        before, free = reservations.planned_bytes, self.budget.free_bytes()
        try:
            reservations.plan(needed)
        except MemoryLimitExceeded:
            assert sum(needed.values()) > before + free
            assert reservations.planned_bytes == before
        else:
            assert reservations.planned_bytes == sum(needed.values())

    @rule(collection_id=collection_ids, segment_id=segment_ids, index_bytes=st.integers(0, 300))
    def take(self, collection_id: int, segment_id: int, index_bytes: int) -> None:
        if (collection_id, segment_id) in self.opening:
            return
        meta = segment(segment_id, index_bytes)
        taken, spec = self.reservations[collection_id].take(meta, SPEC, {})
        assert taken == sum(part_sizes(meta, spec).values())
        self.opening[collection_id, segment_id] = taken

    @rule(collection_id=collection_ids, segment_id=segment_ids, again=st.booleans())
    def stop(self, collection_id: int, segment_id: int, again: bool) -> None:
        taken = self.opening.pop((collection_id, segment_id), None)
        if taken is not None and again:
            self.reservations[collection_id].take_back(segment_id, taken)
        elif taken is not None:
            self.reservations[collection_id].give_back(taken)

    @rule(collection_id=collection_ids, segment_id=segment_ids)
    def serve(self, collection_id: int, segment_id: int) -> None:
        taken = self.opening.pop((collection_id, segment_id), None)
        if taken is not None:
            self.budget.free(collection_id, segment_id)  # its old parts are closed
            self.budget.settle(collection_id, segment_id, taken, lambda: {("rows", 0): taken})
            self.held[collection_id, segment_id] = taken

    @rule(collection_id=collection_ids, segment_id=segment_ids)
    def close(self, collection_id: int, segment_id: int) -> None:
        self.budget.free(collection_id, segment_id)
        self.held.pop((collection_id, segment_id), None)

    @rule(collection_id=collection_ids, kept=st.frozensets(segment_ids))
    def keep(self, collection_id: int, kept: frozenset[int]) -> None:
        self.reservations[collection_id].keep(kept)

    @rule(collection_id=collection_ids, segment_id=segment_ids, needed=st.integers(0, 400))
    def plan_more(self, collection_id: int, segment_id: int, needed: int) -> None:
        before = self.reservations[collection_id].planned_bytes
        try:
            self.reservations[collection_id].plan_more(segment_id, needed)
        except MemoryLimitExceeded:
            assert self.reservations[collection_id].planned_bytes == before

    @invariant()
    def what_is_used_is_what_is_planned_opened_and_held(self) -> None:
        for collection_id in COLLECTIONS:
            opening = sum(size for (i, _), size in self.opening.items() if i == collection_id)
            planned = self.reservations[collection_id].planned_bytes
            assert self.budget.reserved_bytes(collection_id) == planned + opening
        assert self.budget.held_bytes() == sum(self.held.values())
        assert self.budget.held_bytes() + self.budget.reserved_bytes() <= LIMIT

    def teardown(self) -> None:
        for collection_id, segment_id in list(self.opening):
            self.stop(collection_id, segment_id, again=True)
        for collection_id, segment_id in list(self.held):
            self.close(collection_id, segment_id)
        for reservations in self.reservations.values():
            reservations.keep(frozenset())
        assert (self.budget.held_bytes(), self.budget.reserved_bytes()) == (0, 0)


TestBudget: Any = BudgetModel.TestCase
TestBudget.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_an_opening_that_no_plan_covers_leaves_its_scalar_indexes_out_and_then_maps() -> None:
    reservations = Reservations(Budget(100), 1, no_names)
    meta = segment(2, index_bytes=50)
    taken, spec = reservations.take(meta, SPEC, {})
    assert (taken, spec.without_scalar_indexes, spec.mapped) == (80, True, False)
    taken, spec = reservations.take(meta, SPEC, {})
    assert (taken, spec.mapped) == (0, True)


def test_a_planned_opening_gets_all_its_parts_in_a_full_budget() -> None:
    budget = Budget(130)
    reservations = Reservations(budget, 1, no_names)
    meta = segment(2, index_bytes=50)
    reservations.plan({2: 130})
    assert reservations.take(meta, SPEC, {}) == (130, SPEC)
    assert budget.free_bytes() == 0


def test_a_refusal_names_no_collection_of_another_database() -> None:
    budget = Budget(100)
    names = {1: "asking", 2: "mine", 3: "loading"}
    budget.reserve(2, 10, no_names)
    budget.settle(2, 20, 10, lambda: {("rows", 0): 10})
    budget.reserve(4, 30, no_names)
    budget.settle(4, 40, 30, lambda: {("rows", 0): 30})
    budget.reserve(3, 5, no_names)
    budget.reserve(5, 7, no_names)
    with pytest.raises(MemoryLimitExceeded) as refused:
        budget.reserve(1, 60, lambda: names)
    assert (
        "loading asking needs 60 bytes, 48 of 100 are free; loaded now: mine 10 bytes, other databases 30 bytes; "
        "being loaded: loading 5 bytes, other databases 7 bytes"
    ) in str(refused.value)
