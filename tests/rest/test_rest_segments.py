"""REST: compact, its state, segments."""

from __future__ import annotations

import time
from typing import Any

import pytest
from rest_client import Rest


@pytest.fixture
def rest(server: Any) -> Rest:
    return Rest(server.uri)


def test_compact_its_state_and_the_segments_over_rest(rest: Rest, collection_name: str, client: Any) -> None:
    rest.quick_create(collection_name, 2)
    for start in (0, 5):
        rows = [{"id": k, "vector": [k, 1.0]} for k in range(start, start + 5)]
        rest.ok("entities/insert", {"collectionName": collection_name, "data": rows})
        rest.ok("collections/flush", {"collectionName": collection_name})
    sources = [s.segment_id for s in client.list_persistent_segments(collection_name)]
    collection_id = client.describe_collection(collection_name)["collection_id"]
    asked = {"collectionID": collection_id, "segmentIDs": sources}
    infos = rest.ok("segments/describe", asked)["segmentInfos"]
    assert [(i["segmentID"], i["numRows"], i["state"]) for i in infos] == [(s, 5, 4) for s in sources]
    job = rest.ok("collections/compact", {"collectionName": collection_name})["compactionID"]
    deadline = time.monotonic() + 20
    while (state := rest.ok("collections/get_compaction_state", {"jobID": job}))["state"] != "Completed":
        assert state["state"] == "Executing" and time.monotonic() < deadline
        time.sleep(0.05)
    assert (state["compactionID"], state["completedPlanNumber"], state["executingPlanNumber"]) == (job, 1, 0)
    assert rest.ok("segments/describe", asked)["segmentInfos"] == []
    assert rest.count(collection_name) == 10


def test_compact_and_its_state_refuse_invalid_requests(rest: Rest) -> None:
    assert rest.post("collections/compact", {})["code"] == 1802
    assert rest.post("collections/compact", {"collectionName": "absent"})["code"] == 100
    assert rest.post("collections/get_compaction_state", {"jobID": "x"})["code"] == 1801
