"""Which small segments and chunks a search scans as one, and the memory of their blocks.

A block is kept for the next search. It is used again while most of it is still read: rows that are gone are masked,
and a few new row sets are scanned beside it. It ends when one of its segments is closed, when the collection is
released, or when a load lacks memory.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from milvine.in_flight import InFlight
from milvine.index.index_type import MIN_INDEXED_ROWS
from milvine.model.columns import joinable
from milvine.querynode.budget import Budget
from milvine.segment.joined_rows import Block, JoinedRows, block_bytes, make_block
from milvine.segment.plans import SearchPlan
from milvine.segment.rows import RowSet

FEW = 16
"""So many row sets are read one by one at least as fast."""
_MOST_BESIDE = 32
_MOST_BLOCKS = 8
"""Of one collection: of its fields, of growing and sealed rows, and of sets of partitions."""


class RowSets(Sequence[RowSet]):
    """Row sets of one collection that reads see together until one of them is replaced."""

    def __init__(self, collection_id: int, row_sets: Sequence[RowSet]) -> None:
        self.collection_id = collection_id
        self.readers = InFlight()
        self.joined: dict[tuple[int, frozenset[int] | None], Sequence[RowSet]] = {}
        """What a search reads in place of these, by field and partitions."""
        self._row_sets = row_sets

    def __len__(self) -> int:
        return len(self._row_sets)

    def __iter__(self) -> Iterator[RowSet]:
        return iter(self._row_sets)

    def __getitem__(self, place):  # type: ignore[no-untyped-def]
        return self._row_sets[place]


class Blocks:
    """The blocks of all collections."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._building = threading.Lock()
        self._numbers = itertools.count(1)
        self._blocks: dict[int, dict[int, Block]] = {}
        """By collection and number in the budget, the oldest first."""
        self._users: weakref.WeakSet[RowSets] = weakref.WeakSet()
        self._drops = 0
        budget.spare = self.drop_all

    @property
    def bytes_used(self) -> int:
        """Of all blocks."""
        with self._lock:
            return sum(block.bytes_used for blocks in self._blocks.values() for block in blocks.values())

    def for_search(self, row_sets: RowSets, plan: SearchPlan) -> Sequence[RowSet]:
        """The row sets to search: small ones joined, if the same hits come from them."""
        if len(row_sets) < FEW or plan.rescoring is not None:  # which changes the nearest rows of each segment
            return row_sets
        key = (plan.field_id, plan.partition_ids)
        known = row_sets.joined.get(key)
        if known is not None:
            return known
        if not self._building.acquire(blocking=False):
            return row_sets
        try:
            drops = self._drops
            found = self._join(row_sets, plan)
            with self._lock:
                self._users.add(row_sets)
                if drops == self._drops:
                    row_sets.joined[key] = found
            return found
        finally:
            self._building.release()

    def _join(self, row_sets: RowSets, plan: SearchPlan) -> Sequence[RowSet]:
        wanted = [
            r for r in row_sets if r.row_count and (plan.partition_ids is None or r.partition_id in plan.partition_ids)
        ]
        # One array of texts holds at most 2 GB, and beside so many bytes the steps of a search are cheap.
        small = next(joinable(r for r in wanted if _is_small(r, plan.field_id)), ())
        if len(small) < FEW:
            return wanted
        joined = self._joined_with(row_sets.collection_id, small, plan.field_id)
        if joined is None:
            return wanted
        inside = set(map(id, small))
        return [*(r for r in wanted if id(r) not in inside), *joined]

    def _joined_with(self, collection_id: int, small: Sequence[RowSet], field_id: int) -> Sequence[RowSet] | None:
        """A known block, or a new one, over most of the row sets, and the others; None if there is no memory."""
        by_source = {r.identity: r for r in small}
        with self._lock:
            known = [b for b in self._blocks.get(collection_id, {}).values() if b.field_id == field_id]
        for block in known:
            members = [by_source.get(source) for source in block.sources]
            seen = sum(r.row_count for r in members if r is not None)
            beside = len(small) - sum(r is not None for r in members)
            if beside <= _MOST_BESIDE and 2 * seen >= block.row_count:
                inside = {r.identity for r in members if r is not None}
                return [cast(RowSet, JoinedRows(block, members)), *(r for r in small if r.identity not in inside)]
        made = self._new_block(collection_id, small, field_id)
        return None if made is None else [cast(RowSet, JoinedRows(made, small))]

    def _new_block(self, collection_id: int, small: Sequence[RowSet], field_id: int) -> Block | None:
        number, drops = -next(self._numbers), self._drops
        part = ("block", field_id)
        if not self._budget.try_hold(collection_id, number, part, block_bytes(small, field_id)):
            return None
        try:
            block = make_block(small, field_id)
            self._budget.measure_again(collection_id, number, lambda: {part: block.bytes_used})
        except BaseException:
            self._budget.free(collection_id, number)
            raise
        with self._lock:
            blocks = self._blocks.setdefault(collection_id, {})
            if len(blocks) >= _MOST_BLOCKS:
                self._end(collection_id, [next(iter(blocks))])
            if drops == self._drops:
                blocks[number] = block
                return block
        self._budget.free(collection_id, number)
        return block

    def _end(self, collection_id: int, numbers: Iterable[int]) -> None:
        """The caller holds the lock."""
        for number in numbers:
            del self._blocks[collection_id][number]
            self._budget.free(collection_id, number)
        for row_sets in list(self._users):
            if row_sets.collection_id == collection_id:
                row_sets.joined = {}

    def drop(self, collection_id: int) -> None:
        """Ends the blocks of a collection, and those being made."""
        with self._lock:
            self._drops += 1
            if collection_id in self._blocks:
                self._end(collection_id, list(self._blocks[collection_id]))
                del self._blocks[collection_id]

    def drop_all(self) -> None:
        """Ends all blocks, since a load lacks memory."""
        for collection_id in list(self._blocks):
            self.drop(collection_id)


def _is_small(rows: RowSet, field_id: int) -> bool:
    return rows.row_count < MIN_INDEXED_ROWS and rows.index(field_id) is None and rows.is_resident(field_id)
