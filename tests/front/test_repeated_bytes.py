"""Searches recognised by their bytes, against decoding them whole. The servers of all tests compare the two."""

from __future__ import annotations

import random
import struct
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from milvine.errors import MilvineError
from milvine.grpc_api import decode
from milvine.grpc_api.proto import common_pb2, milvus_pb2
from milvine.grpc_api.repeated import RepeatedSearches

TS = 451_234_567_890_123_456
ROUNDS = 60


def framed(message: Any) -> bytes:
    payload: bytes = message.SerializeToString()
    return struct.pack(">BI", 0, len(payload)) + payload


def search(values: list[bytes], name: str = "c", kind: int = 101, **others: Any) -> Any:
    group = common_pb2.PlaceholderGroup(placeholders=[common_pb2.PlaceholderValue(tag="$0", type=kind, values=values)])
    message = milvus_pb2.SearchRequest(
        collection_name=name, placeholder_group=group.SerializeToString(), nq=len(values), **others
    )
    for key, value in (("anns_field", "vec"), ("topk", "10"), ("params", '{"ef": 64}')):
        message.search_params.add(key=key, value=value)
    return message


def random_search(rng: random.Random) -> Any:
    size = rng.choice([8, 128, 512])
    values = [rng.randbytes(size) for _ in range(rng.choice([1, 1, 1, 2, 7]))]
    others: dict[str, Any] = {}
    if rng.random() < 0.5:
        others["dsl"] = f"a > {rng.randrange(3)}"
    if rng.random() < 0.5:
        others["output_fields"] = rng.sample(["a", "b", "id", "vec"], rng.randrange(1, 4))
    if rng.random() < 0.5:
        others["guarantee_timestamp"] = rng.choice([0, 1, 2, 77, TS + rng.randrange(1000)])
    others["consistency_level"] = rng.choice([0, 1, 2, 3])
    others["use_default_consistency"] = rng.random() < 0.3
    if rng.random() < 0.3:
        others["partition_names"] = ["p1", "p2"][: rng.randrange(1, 3)]
    if rng.random() < 0.3:
        others["db_name"] = rng.choice(["default", "other"])
    return search(values, rng.choice(["c", "d", "longer"]), rng.choice([101, 101, 100, 102, 105]), **others)


def learnt(searches: RepeatedSearches, message: Any) -> bytes:
    body = framed(message)
    for _ in range(2):
        searches.learn(body, message)
    return body


def decoded_whole(body: bytes) -> Any:
    """None if it is no search that the long way would answer."""
    try:
        return decode.search(milvus_pb2.SearchRequest.FromString(body[5:]))
    except (DecodeError, MilvineError):
        return None


def assert_found_is_right(searches: RepeatedSearches, body: bytes) -> bool:
    """Whether it was found; then both ways must agree."""
    found = searches.find(body)
    if found is None:
        return False
    whole = decoded_whole(body)
    assert whole is not None
    found.check(body, found.cut.values(body))
    mine = found.decoded(body).queries
    assert (mine.dtype, mine.shape, mine.tobytes()) == (
        whole.queries.dtype,
        whole.queries.shape,
        whole.queries.tobytes(),
    )
    return True


@pytest.mark.parametrize("seed", range(3))
def test_a_search_that_is_found_is_decoded_as_a_whole_one_is(seed: int) -> None:
    rng = random.Random(seed)
    searches = RepeatedSearches()
    hits = 0
    for _ in range(ROUNDS):
        body = learnt(searches, random_search(rng))
        assert_found_is_right(searches, body)
        for _ in range(40):
            changed = bytearray(body)
            for _ in range(rng.choice([1, 1, 2, 9])):
                changed[rng.randrange(5, len(changed))] = rng.randrange(256)
            hits += assert_found_is_right(searches, bytes(changed))
        hits += assert_found_is_right(searches, framed(random_search(rng)))
    assert hits > ROUNDS


@pytest.mark.parametrize("count", [1, 5])
def test_other_vectors_and_another_session_timestamp_are_the_same_search(count: int) -> None:
    def one(seed: int) -> Any:
        vectors = np.random.default_rng(seed).random((count, 16), np.float32)
        return search([v.tobytes() for v in vectors], guarantee_timestamp=TS + seed, consistency_level=1)

    searches = RepeatedSearches()
    learnt(searches, one(1))
    body = framed(one(2))
    found = searches.find(body)
    assert found is not None
    assert found.decoded(body).queries.tobytes() == decoded_whole(body).queries.tobytes()


def test_a_named_time_ids_and_iterators_take_the_long_way() -> None:
    vector = [bytes(64)]
    with_ids = search(vector)
    with_ids.ids.int_id.data.append(1)
    iterator = search(vector)
    iterator.search_params.add(key="iterator", value="True")
    timed = search(vector, consistency_level=4, guarantee_timestamp=TS)
    twice = milvus_pb2.SearchRequest.FromString(search(vector).SerializeToString())
    searches = RepeatedSearches()
    for message in (with_ids, iterator, timed):
        assert searches.find(learnt(searches, message)) is None
    payload = (
        twice.SerializeToString()
        + milvus_pb2.SearchRequest(placeholder_group=search([bytes(32)]).placeholder_group).SerializeToString()
    )
    body = struct.pack(">BI", 0, len(payload)) + payload
    message = milvus_pb2.SearchRequest.FromString(payload)
    for _ in range(2):
        searches.learn(body, message)
    assert searches.find(body) is None


def test_memory_is_bounded() -> None:
    searches = RepeatedSearches()
    for number in range(9000):
        learnt(searches, search([bytes(4 * (2 + number % 50))], f"collection{number}"))
    assert searches.bytes_used <= 16 << 20
    assert searches.find(learnt(searches, search([bytes(64)]))) is not None
