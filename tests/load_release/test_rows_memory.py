"""Row ME: a load that does not fit."""

from __future__ import annotations

from typing import Any

from grpc_calls import assert_refused, load_state
from row_calls import NOT_LOAD, c1, flush, load, not_loaded, progress


def test_me_01_a_load_that_does_not_fit_is_refused_and_leaves_its_reason(new_server: Any) -> None:
    stub = new_server(env={"MILVINE_MEMORY_LIMIT": "100kb"}).stub
    c1(stub, "c", rows=10_000)
    flush(stub, "c")
    assert_refused(load(stub, "c"), 3, "memory limit exceeded", legacy=52)
    assert load_state(stub, "c") == NOT_LOAD
    refused = assert_refused(progress(stub, "c"), 101, "segment request resource failed[resourceType=Memory]", legacy=1)
    assert refused.status.reason.endswith(f": {not_loaded(stub, 'c')}")
