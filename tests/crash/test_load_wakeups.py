"""The loader's pool may run a load before the call that asked for it has returned."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_recovery import PK, insert, load, new_collection, start

from milvine.model.collections import Collection, LoadConfig


class _AtOnce(ThreadPoolExecutor):
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        fn(*args, **kwargs)
        return Future()


def test_a_load_that_runs_at_once_is_not_mistaken_for_a_waiting_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start(tmp_path)
    collection = new_collection(engine)
    insert(engine, collection, range(100))
    engine.datanode.flush(collection.collection_id)
    load(engine, collection)
    monkeypatch.setattr(engine.loader._comparison, "_collections", _AtOnce(1))

    def only_keys(current: Collection) -> LoadConfig:
        assert current.load is not None
        return replace(current.load, field_ids=frozenset({PK}))

    engine.loader.load_chosen(collection.collection_id, only_keys)
    assert engine.loader.answers.wait_loaded(collection.collection_id, 0)
