"""The cache of prepared searches is bounded."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests
from pymilvus import MilvusClient
from sample_collections import c1_rows, make_c1


def _cached_bytes(server: Any, cache: str) -> float:
    found = re.search(
        rf'^milvine_cache_bytes{{cache="{cache}"}} (\S+)$', requests.get(f"{server.uri}/metrics").text, re.M
    )
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize(("characters", "count"), [(1_700_000, 22), (10_000, 3)], ids=["long", "short"])
def test_cached_searches_with_long_filters_stay_within_their_bound(
    client: MilvusClient, server: Any, collection_name: str, characters: int, count: int
) -> None:
    """22 long filters are more than the larger bound."""
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(5))
    for number in range(count):
        keys = ",".join(str(key) for key in range(10**9 + number, 10**9 + number + characters // 11))
        found = client.search(collection_name, [[0.0] * 4], filter=f"id in [1,{keys}]", limit=3)
        assert [hit["id"] for hit in found[0]] == [1]
        assert _cached_bytes(server, "prepared_searches") <= 32 << 20
        assert _cached_bytes(server, "parsed_filters") <= 16 << 20
    assert _cached_bytes(server, "prepared_searches") > 0
