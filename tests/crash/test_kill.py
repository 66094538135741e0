"""kill -9 under load: acknowledged writes are there once; others are there whole or not at all."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from crash_load import (
    KEYS_PER_ROUND,
    LASTING,
    TOGGLED,
    WRITTEN,
    Load,
    check_searches,
    create,
    row_of,
    settle,
    vector_of,
)
from pymilvus import MilvusClient

pytestmark = pytest.mark.long
ROUNDS = int(os.environ.get("MILVINE_CRASH_ROUNDS", "4"))
SEED = int(os.environ.get("MILVINE_CRASH_SEED", str(random.SystemRandom().randrange(10**6))))
LOADED_SECONDS = 20.0
TOGGLED_ROWS = 200


def wait_for_state(client: MilvusClient, name: str, wanted: str) -> None:
    deadline = time.monotonic() + LOADED_SECONDS
    while (state := client.get_load_state(name)["state"].name) != wanted:
        assert time.monotonic() < deadline, f"{name} is {state} after {LOADED_SECONDS} s, not {wanted}"
        time.sleep(0.02)


def check_survivors(client: MilvusClient, load: Load, round_number: int, kept: dict[int, Any]) -> None:
    """Compares all rows with the acknowledged ones; surviving rows go to `kept` and must not change again."""
    low = round_number * KEYS_PER_ROUND
    rows = client.query(LASTING, filter=f"id >= {low}", output_fields=WRITTEN)
    found = {row["id"]: row for row in rows}
    wrong: list[str] = []
    fresh: dict[int, Any] = {}
    for batch in load.batches:
        alive, complaints = settle(batch, found)
        fresh |= alive
        wrong += complaints
    assert not wrong, "\n".join(wrong[:20])
    assert found.keys() == fresh.keys(), "rows that no writer wrote"
    older = client.query(LASTING, filter=f"id < {low}", output_fields=["id", "name", "number"])
    expected = {k: {"id": k, "name": row["name"], "number": row["number"]} for k, row in kept.items()}
    assert {row["id"]: dict(row) for row in older} == expected, "rows of earlier rounds changed"
    kept |= fresh
    counted = client.query(LASTING, filter="", output_fields=["count(*)"])[0]["count(*)"]
    assert counted == len(kept), "a row is there twice"


@pytest.mark.timeout(60 + 20 * ROUNDS)
def test_acknowledged_writes_survive_kill_and_batches_are_never_torn(new_server: Callable[..., Any]) -> None:
    rng = random.Random(SEED)
    print(f"MILVINE_CRASH_SEED={SEED} MILVINE_CRASH_ROUNDS={ROUNDS}")  # noqa: T201
    server = new_server()
    client = MilvusClient(uri=server.uri)
    create(client, LASTING, "AUTOINDEX")
    create(client, TOGGLED, "FLAT")
    client.insert(TOGGLED, [row_of(k, "toggled") for k in range(TOGGLED_ROWS)])
    client.flush(TOGGLED)
    kept: dict[int, Any] = {}
    for round_number in range(ROUNDS):
        client.close()
        load = Load(server.uri, rng.randrange(2**32), round_number)
        delay = rng.uniform(0.05, 0.6)
        with load.running():
            time.sleep(delay)
            load.ending()
            server.kill()
        assert not load.errors, f"round {round_number}: {load.errors}"
        if rng.random() < 0.3:  # and again, while it recovers
            server.spawn()
            time.sleep(rng.uniform(0.3, 1.2))
            server.kill()
        server.start()
        client = MilvusClient(uri=server.uri)
        wait_for_state(client, LASTING, "Loaded")
        check_survivors(client, load, round_number, kept)
        if load.toggled_loaded is not None:
            wait_for_state(client, TOGGLED, "Loaded" if load.toggled_loaded else "NotLoad")
        client.load_collection(TOGGLED)
        assert client.query(TOGGLED, filter="", output_fields=["count(*)"])[0]["count(*)"] == TOGGLED_ROWS
        for key in rng.sample(sorted(kept), min(5, len(kept))):
            hits = client.search(LASTING, [vector_of(key)], anns_field="vec", limit=3, output_fields=["name"])[0]
            assert hits[0]["id"] == key and hits[0]["distance"] == 0
            assert hits[0]["entity"]["name"] == kept[key]["name"]
        check_searches(client, LASTING, kept, rng.randrange(2**32))
    client.close()
    assert len(kept) > 20 * ROUNDS, "the writers wrote too little to test anything"
