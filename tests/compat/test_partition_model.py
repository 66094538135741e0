"""A random walk over the partitions of one collection, compared with plain dictionaries after each step."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from grpc_calls import LOAD_STATE, assert_ok, load_state
from partition_calls import Partitions, make_partitions
from pymilvus.grpc_gen import milvus_pb2

STEPS = int(os.environ.get("MILVINE_MODEL_STEPS", "600")) // 10
SEED = int(os.environ.get("MILVINE_MODEL_SEED", str(random.SystemRandom().randrange(10**6))))
ENVIRONMENT = {"MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "1", "MILVINE_COMMON_RETENTIONDURATION": "0"}
DEFAULT = "_default"
NAMES = [DEFAULT, "p1", "p2", "p3"]
KEY_SPACE = 60
LOADING = LOAD_STATE.Value("LoadStateLoading")


class Walk:
    """`rows`: the keys in each partition. `loaded`: the partitions to read."""

    def __init__(self, server: Any, rng: random.Random) -> None:
        self.server = server
        self.rng = rng
        self.made = make_partitions(server.client(), server.stub, "walk")
        self.rows: dict[str, set[int]] = {DEFAULT: set()}
        self.loaded: set[str] = set()

    def some(self) -> list[str]:
        there = sorted(self.rows)
        return self.rng.sample(there, self.rng.randint(1, len(there)))

    def one(self) -> str:
        return self.rng.choice(sorted(self.rows))

    def keys(self) -> list[int]:
        return sorted(self.rng.sample(range(KEY_SPACE), self.rng.choice([1, 4, 20])))

    # steps

    def create(self) -> None:
        name = self.rng.choice(NAMES)
        assert_ok(self.made.create(name))
        if name not in self.rows:
            self.rows[name] = set()
            if self.loaded:
                self.loaded.add(name)

    def drop(self) -> None:
        name = self.rng.choice(NAMES[1:])
        code = self.made.drop(name).code
        assert code == (1100 if name in self.loaded else 0)
        if not code:
            self.rows.pop(name, None)

    def insert(self) -> None:
        name = self.one()
        keys = [k for k in self.keys() if k not in self.rows[name]]
        if keys:
            assert_ok(self.made.insert(keys, name))
            self.rows[name] |= set(keys)

    def upsert(self) -> None:
        name, keys = self.one(), self.keys()
        assert_ok(self.made.upsert(keys, name))
        self.rows[name] |= set(keys)

    def delete(self) -> None:
        keys = self.keys()
        named = self.rng.choice([None, self.one()])
        assert_ok(self.made.delete(f"id in {keys}", named or ""))
        for name in self.rows if named is None else [named]:
            self.rows[name] -= set(keys)

    def delete_filter(self) -> None:
        name, low = self.one(), self.rng.randrange(KEY_SPACE)
        code = self.made.delete(f"a >= {10 * low} and a < {10 * low + 100}", name).status.code
        assert code == (0 if name in self.loaded else 201 if self.loaded else 101)
        if not code:
            self.rows[name] -= set(range(low, low + 10))

    def flush(self) -> None:
        assert_ok(self.made.flush())

    def compact(self) -> None:
        assert_ok(self.made.stub.ManualCompaction(milvus_pb2.ManualCompactionRequest(collection_name="walk")))

    def load(self) -> None:
        names = self.some()
        assert_ok(self.made.load(*names))
        self.loaded |= set(names)

    def load_all(self) -> None:
        assert_ok(self.made.load_all())
        self.loaded = set(self.rows)

    def release(self) -> None:
        names = self.some()
        assert_ok(self.made.release(*names))
        self.loaded -= set(names)

    def release_all(self) -> None:
        assert_ok(self.made.release_all())
        self.loaded = set()

    def truncate(self) -> None:
        assert_ok(self.made.truncate())
        self.rows = {name: set() for name in self.rows}

    def kill(self) -> None:
        self.server.kill()
        self.server.start()
        self.made = Partitions(self.server.stub, "walk")
        assert set(assert_ok(self.made.show()).partition_names) == self.rows.keys()

    # comparisons

    def check(self) -> None:
        names = self.some() if self.rng.random() < 0.5 else []
        read = set(names) or self.loaded
        if not self.loaded or not read <= self.loaded:
            code = 201 if self.loaded else 101
            assert (self.made.search(*names).status.code, self.made.query(*names).status.code) == (code, code)
            return
        expected = sorted(key for name in read for key in self.rows[name])
        assert self.made.count(*names) == len(expected)
        assert self.made.ids(*names) == sorted(set(expected)), names
        assert sorted(self.made.hits(*names)) == sorted(set(expected)), "a key is in an answer once, as in Milvus"
        assert load_state(self.made.stub, "walk", partition_names=sorted(read)) > LOADING

    def memory_is_given_back(self) -> None:
        self.release_all()
        request = milvus_pb2.GetQuerySegmentInfoRequest(collectionName="walk")
        deadline = time.monotonic() + 10
        while assert_ok(self.made.stub.GetQuerySegmentInfo(request)).infos:
            assert time.monotonic() < deadline
            time.sleep(0.02)


WEIGHTS = {
    "create": 3,
    "drop": 3,
    "insert": 12,
    "upsert": 6,
    "delete": 6,
    "delete_filter": 3,
    "flush": 6,
    "compact": 0.5,
    "load": 4,
    "load_all": 2,
    "release": 4,
    "release_all": 1,
    "truncate": 0.7,
    "kill": 0.3,
}


@pytest.mark.timeout(90 + STEPS // 5)
def test_partitions_agree_with_dictionaries_after_each_of_many_random_steps(
    new_server: Callable[..., Any],
) -> None:
    print(f"MILVINE_MODEL_SEED={SEED} MILVINE_MODEL_STEPS={STEPS}")  # noqa: T201
    rng = random.Random(SEED)
    walk = Walk(new_server(env=ENVIRONMENT), rng)
    history: list[str] = []
    for number in range(STEPS):
        history.append(rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0])
        try:
            getattr(walk, history[-1])()
            walk.check()
        except BaseException:
            print(f"step {number} after {history[-12:]}")  # noqa: T201
            raise
    walk.kill()
    walk.load_all()
    walk.check()
    walk.memory_is_given_back()
