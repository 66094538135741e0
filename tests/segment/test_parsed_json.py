"""Values parsed from JSON text for filters are cached within a limit and removed with their rows."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pyarrow as pa
import pytest

from milvine.model.columns import Column, json_column
from milvine.segment.rows import ExtractedPaths, parsed_json
from milvine.sized_cache import SizedCache


def test_a_cache_stays_within_its_limit_and_drops_the_least_recently_used() -> None:
    cache: SizedCache[int, str] = SizedCache("test", 100)
    for key in range(4):
        cache.put(key, f"value {key}", 25)
    assert cache.get(0) == "value 0"
    cache.put(4, "value 4", 30)
    assert [cache.get(key) for key in range(5)] == ["value 0", None, None, "value 3", "value 4"]
    cache.put(4, "larger than all", 101)
    assert cache.get(4) is None
    assert cache.bytes_used == 50
    cache.put(3, "again", 10)
    assert cache.bytes_used == 35
    cache.remove(lambda key: key == 0)
    assert (cache.get(0), cache.bytes_used) == (None, 10)
    cache.set_limit(5)
    assert cache.bytes_used == 0


def test_a_finalizer_that_runs_inside_the_cache_removes_keys_without_waiting() -> None:
    cache: SizedCache[Any, str] = SizedCache("test", 100)
    cache.put("gone", "value", 25)

    class Key:
        hashed = 0

        def __hash__(self) -> int:  # a garbage collection may start anywhere, also under the lock
            self.hashed += 1
            if self.hashed == 1:
                remover = threading.Thread(target=cache.remove, args=(lambda key: key == "gone",), daemon=True)
                remover.start()
                remover.join(10)
                assert not remover.is_alive()
            return 1

    cache.put(Key(), "other", 25)
    assert cache.get("gone") is None
    assert cache.bytes_used == 25


@pytest.fixture
def column() -> Column:
    return json_column(pa.array([b'{"a": [%d, 2, 3]}' % i for i in range(1000)], pa.binary()))


def test_elements_parsed_from_text_are_counted_and_freed_with_their_rows(column: Column) -> None:
    gc.collect()
    before = parsed_json.bytes_used
    extracted = ExtractedPaths()
    first = extracted.find_elements(1, column, ("a",), 1)
    assert extracted.find_elements(1, column, ("a",), 1) is first
    value = extracted.find(1, column, ("a", 0))
    assert extracted.find(1, column, ("a", 0)) is value
    assert parsed_json.bytes_used == before + first.bytes_used + value.bytes_used
    del extracted
    gc.collect()
    assert parsed_json.bytes_used == before


def test_paths_of_many_segments_share_one_limit(column: Column, monkeypatch: pytest.MonkeyPatch) -> None:
    one = ExtractedPaths().find_elements(1, column, ("a",), 1).bytes_used
    monkeypatch.setattr(parsed_json, "_limit_bytes", 5 * one)
    segments = [ExtractedPaths() for _ in range(20)]
    for segment in segments:
        segment.find_elements(1, column, ("a",), 1)
        assert parsed_json.bytes_used <= 5 * one
