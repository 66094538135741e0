"""Concurrent writes of one collection, between their append to the log and their publication."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from test_recovery import PK, VEC, insert, keys_of, load, new_collection, start

from milvine.datanode import writer
from milvine.model.collections import Collection
from milvine.model.columns import Column
from milvine.model.schema import FieldSchema, with_field_ids
from milvine.model.types import DataType
from milvine.segment.growing import make_chunk
from milvine.service.context import Engine
from milvine.storage.wal import Wal


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return start(tmp_path)


@pytest.fixture
def collection(engine: Engine) -> Collection:
    made = new_collection(engine)
    load(engine, made)
    return made


def before_next(step: str, monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> None:
    """Calls `change` when the next write has its place in the log ("write"), or when its record is written and its rows
    are prepared ("sync")."""
    real = getattr(Wal, step)

    def with_change(wal: Wal, ticket: int) -> None:
        monkeypatch.setattr(Wal, step, real)
        change()
        real(wal, ticket)

    monkeypatch.setattr(Wal, step, with_change)


def test_a_later_insert_publishes_an_earlier_one_of_a_slow_writer(
    engine: Engine, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(engine, collection, range(3))
    slow, go = threading.Event(), threading.Event()

    def hold_up() -> None:
        slow.set()
        assert go.wait(10)

    made: list[int] = []

    def counted(*arguments: Any) -> Any:
        made.append(arguments[3].row_count)
        return make_chunk(*arguments)

    before_next("write", monkeypatch, hold_up)
    monkeypatch.setattr("milvine.datanode.writer.make_chunk", counted)
    first = threading.Thread(target=insert, args=(engine, collection, range(3, 5)))
    first.start()
    assert slow.wait(10)
    insert(engine, collection, range(5, 9))
    assert keys_of(engine, collection) == list(range(9)), "a write is visible before an earlier one"
    go.set()
    first.join(10)
    assert keys_of(engine, collection) == list(range(9))
    assert sorted(made) == [2, 4], "the work for a write was done twice"


@pytest.mark.parametrize("step", ["write", "sync"])
@pytest.mark.parametrize("inserts_before", [1, 3])
def test_rows_joined_early_have_a_field_added_before_their_publication(
    engine: Engine, collection: Collection, monkeypatch: pytest.MonkeyPatch, step: str, inserts_before: int
) -> None:
    """Four inserts make one chunk, which is built during the last one's sync."""
    before = 2 * inserts_before
    for start_key in range(0, before, 2):
        insert(engine, collection, range(start_key, start_key + 2))
    fields = [*collection.schema.fields, FieldSchema(0, "more", DataType.INT64, nullable=True)]
    wider = replace(collection.schema, fields=tuple(with_field_ids(fields)))
    more = next(f.field_id for f in wider.fields if f.name == "more")
    before_next(step, monkeypatch, lambda: engine.datanode.set_schema(collection.collection_id, wider))
    insert(engine, collection, range(before, before + 2))
    (segment,) = engine.datanode.growing(collection.collection_id)
    assert len(segment.chunks) == (1 if inserts_before == 3 else 2)
    keys, firsts = list[int](), list[float]()
    for chunk in segment.chunks:
        keys += chunk.column(PK).values.tolist()
        firsts += chunk.column(VEC).values[:, 0].tolist()
        found: Column = chunk.column(more)
        assert found.validity is not None and not found.validity.any()
    assert keys == firsts == keys_of(engine, collection) == list(range(before + 2))


def test_rows_joined_early_do_not_restore_removed_rows(
    engine: Engine, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for start_key in (0, 2, 4):
        insert(engine, collection, range(start_key, start_key + 2))
    views = engine.datanode._views
    change = partial(views.replace, collection.collection_id, lambda view: replace(view, growing=()))
    before_next("sync", monkeypatch, change)
    insert(engine, collection, range(6, 8))
    assert keys_of(engine, collection) == [6, 7]


def test_rows_that_lacked_memory_are_published_before_later_writes(
    engine: Engine, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(engine, collection, range(2))

    def fails(*_: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(writer, "_written", fails)
        with pytest.raises(MemoryError):
            insert(engine, collection, range(2, 4))
    assert keys_of(engine, collection) == [0, 1]
    insert(engine, collection, range(4, 6))
    assert keys_of(engine, collection) == list(range(6))
    bytes_used = sum(s.bytes_used for s in engine.datanode.growing(collection.collection_id))
    assert engine.datanode._views.growing_bytes(collection.collection_id) == bytes_used
