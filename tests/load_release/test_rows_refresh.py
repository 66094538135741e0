"""Rows RF: LoadCollection with refresh."""

from __future__ import annotations

from typing import Any

from grpc_calls import assert_ok, assert_refused, load_state
from row_calls import LOADED, NOT_LOAD, c1, found, load, loaded_c1, not_loaded, progress


def test_rf_01_a_loaded_collection_is_refreshed(stub: Any, collection_name: str) -> None:
    loaded_c1(stub, collection_name)
    assert_ok(load(stub, collection_name, refresh=True))
    shown = assert_ok(progress(stub, collection_name))
    assert (shown.progress, shown.refresh_progress) == (100, 100)
    assert load_state(stub, collection_name) == LOADED
    assert found(stub, collection_name) == [0, 1, 2, 3, 4]


def test_rf_02_an_unloaded_collection_is_not_refreshed_and_not_loaded(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name)
    refused = assert_refused(load(stub, collection_name, refresh=True), 101, "collection not loaded", legacy=1)
    assert refused.reason.endswith(not_loaded(stub, collection_name))
    assert load_state(stub, collection_name) == NOT_LOAD


def test_rf_03_a_missing_index_is_reported_before_a_missing_load(stub: Any, collection_name: str) -> None:
    c1(stub, collection_name, indexed=False)
    text = f"index not found[collection={collection_name}]"
    assert_refused(load(stub, collection_name, refresh=True), 700, text, legacy=25)
