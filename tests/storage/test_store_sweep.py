"""Which objects a sweep removes, and which copies a cache, over a store in memory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from milvine.storage.objects import Place
from milvine.storage.segment_files import SegmentPaths
from milvine.storage.store import CachedStore, open_copies, open_store

pytest.importorskip("obstore")


def stored(root: Path) -> CachedStore:
    """With one file of segment 2 of collection 1, and one delta."""
    (root / "segments").mkdir()
    store = open_store(SegmentPaths(root), Place("memory:///"), 1 << 20)
    assert isinstance(store, CachedStore)
    segment, delta = store.paths.segment(1, 2), store.paths.delta(1, 3)
    segment.mkdir(parents=True)
    for path in (segment / "rows.seg", delta):
        path.write_bytes(b"content")
    with store.storing([segment, delta]):
        pass
    return store


def test_objects_of_a_segment_wait_until_every_node_has_released_it(tmp_path: Path) -> None:
    store = stored(tmp_path)
    held = {(1, 2)}
    store.is_held = lambda collection_id, segment_id: (collection_id, segment_id) in held
    assert store.sweep(dict, 0.0) == 1
    assert list(store.objects.sizes()) == ["segments/1/2/rows.seg"]
    held.clear()
    assert store.sweep(dict, 0.0) == 1
    assert store.objects.sizes() == {}


def test_objects_wait_until_they_have_been_unnamed_for_long_enough(tmp_path: Path) -> None:
    store = stored(tmp_path)
    assert store.sweep(dict, 60.0) == 0
    assert len(store.objects.sizes()) == 2
    named = {store.paths.delta(1, 3): 7}
    assert store.sweep(lambda: named, 0.0) == 1
    assert list(store.objects.sizes()) == ["segments/1/3.delta"]


def test_copies_of_a_cache_that_is_full_at_the_start_stay_until_it_grows(tmp_path: Path) -> None:
    opened, other, fetched = (tmp_path / "segments" / "1" / "2" / name for name in ("opened", "other", "fetched"))
    opened.parent.mkdir(parents=True)
    opened.write_bytes(bytes(400))
    other.write_bytes(bytes(700))
    store = open_copies(SegmentPaths(tmp_path), Place("memory:///"), 1000)
    assert isinstance(store, CachedStore)
    time.sleep(0.3)  # an eviction at the start would have ended
    assert opened.exists()
    assert other.exists()
    store.read([opened], lambda: None)
    fetched.write_bytes(bytes(300))
    with store.storing([fetched]):
        pass
    deadline = time.monotonic() + 30
    while other.exists():
        assert time.monotonic() < deadline, "nothing is evicted"
        time.sleep(0.02)
    assert opened.exists()
