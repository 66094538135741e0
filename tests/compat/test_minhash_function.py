"""MinHash functions: their parameters, the signatures they make, and searches for texts, against a slow reference."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import requests
from conftest import Server
from grpc_calls import assert_refused
from pymilvus import DataType, Function, FunctionType, MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2
from sample_collections import add_index
from xxhash import xxh3_64_intdigest

from milvine.analysis.mersenne_twister import outputs

HASHES = 20
TEXTS = ["", "w1 w2", "the quick brown fox jumps", "The quick brown fox sleeps", "日本 ünïcode ‽ words", "a " * 400]
PRIME = 2**61 - 1


def _xxh3(shingle: bytes) -> int:
    return xxh3_64_intdigest(shingle) & 0xFFFFFFFF


def _sha1(shingle: bytes) -> int:
    return int.from_bytes(hashlib.sha1(shingle).digest()[:4], "little", signed=True) % 2**64


def _signature(tokens: list[bytes], size: int, seed: int, hashed: Callable[[bytes], int]) -> bytes:
    """As Milvus describes it, number by number."""
    numbers = outputs(seed, 2 * HASHES).tolist()
    starts = range(max(1, len(tokens) - size + 1)) if tokens else ()
    hashes = {hashed(b"".join(tokens[i : i + size])) for i in starts}
    found = [
        min([(((a % (PRIME - 1) + 1) * h + b % PRIME) % 2**64 % PRIME) & 0xFFFFFFFF for h in hashes], default=2**32 - 1)
        for a, b in zip(numbers[::2], numbers[1::2], strict=True)
    ]
    return np.array(found, "<u4").tobytes()


def _schema(client: MilvusClient, dim: int = 32 * HASHES, /, **params: Any) -> Any:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("text", DataType.VARCHAR, max_length=1000, nullable=True)
    schema.add_field("number", DataType.INT64, nullable=True)
    schema.add_field("bits", DataType.BINARY_VECTOR, dim=dim)
    schema.add_function(Function("f", FunctionType.MINHASH, ["text"], ["bits"], params=params))
    return schema


def _make(client: MilvusClient, name: str, **params: Any) -> None:
    client.create_collection(name, schema=_schema(client, **params))
    add_index(client, name, "bits", "MINHASH_LSH", "MHJACCARD", mh_lsh_band=HASHES, mh_element_bit_width=32)
    client.load_collection(name)


@pytest.fixture(scope="module")
def articles(server: Server) -> Iterator[str]:
    name = "minhash_articles"
    client = MilvusClient(server.uri)
    _make(client, name)
    client.insert(name, [{"id": key, "text": text} for key, text in enumerate(TEXTS)])
    yield name
    client.drop_collection(name)


def _stored(client: MilvusClient, name: str) -> dict[int, bytes]:
    rows = client.query(name, "id >= 0", output_fields=["bits"], consistency_level="Strong")
    return {row["id"]: bytes(row["bits"][0]) for row in rows}


def test_the_numbers_of_the_twister_are_those_of_the_cpp_standard() -> None:
    assert outputs(5489, 10_000)[-1] == 9981545732273789042


@pytest.mark.parametrize(
    ("params", "is_char", "size", "seed", "hashed"),
    [
        ({}, False, 3, 1234, _xxh3),
        ({"num_hashes": HASHES, "shingle_size": 1, "hash_function": "SHA1", "seed": -7}, False, 1, -7, _sha1),
        ({"token_level": "char", "shingle_size": 5, "seed": 42}, True, 5, 42, _xxh3),
        ({"token_level": "character", "hash_function": "sha1"}, True, 3, 1234, _sha1),
        ({"token_level": "word", "hash_function": "xxhash", "shingle_size": 2**40}, False, 2**40, 1234, _xxh3),
    ],
)
def test_signatures_are_those_of_milvus(
    client: MilvusClient, collection_name: str, params: Any, is_char: bool, size: int, seed: int, hashed: Any
) -> None:
    _make(client, collection_name, **params)
    client.insert(collection_name, [{"id": key, "text": text} for key, text in enumerate([*TEXTS, None])])
    expected = []
    for text in [*TEXTS, ""]:
        words = client.run_analyzer([text], analyzer_params={})[0].tokens
        tokens = [bytes([b]) for b in text.encode()] if is_char else [word.encode() for word in words]
        expected.append(_signature(tokens, size, seed, hashed))
    assert _stored(client, collection_name) == dict(enumerate(expected))


def test_a_flush_keeps_signatures(client: MilvusClient, collection_name: str) -> None:
    _make(client, collection_name)
    client.insert(collection_name, [{"id": key, "text": text} for key, text in enumerate(TEXTS)])
    before = _stored(client, collection_name)
    client.flush(collection_name)
    client.release_collection(collection_name)
    client.load_collection(collection_name)
    assert _stored(client, collection_name) == before
    (found,) = client.search(collection_name, [TEXTS[4]], anns_field="bits", limit=1)
    assert [hit["id"] for hit in found] == [4]


def test_a_search_for_a_text_finds_similar_texts_first(client: MilvusClient, articles: str) -> None:
    params = {"params": {"mh_search_with_jaccard": True}}
    (found,) = client.search(articles, [TEXTS[2]], anns_field="bits", limit=2, search_params=params)
    rows = _stored(client, articles)
    hashes = [np.frombuffer(rows[key], "<u4") for key in (2, 3)]
    share = float(np.mean(hashes[0] == hashes[1]))
    assert [(hit["id"], hit["distance"]) for hit in found] == [(2, 1.0), (3, pytest.approx(share))]
    assert 0 < share < 1


def test_rest_takes_texts_as_queries(server: Server, articles: str) -> None:
    body: Any = {"collectionName": articles, "data": [TEXTS[4]], "annsField": "bits", "limit": 1}
    answer = requests.post(f"{server.uri}/v2/vectordb/entities/search", json=body, timeout=30).json()
    assert [hit["id"] for hit in answer["data"]] == [4]


def test_a_partial_upsert_of_the_text_makes_the_signature_anew(client: MilvusClient, collection_name: str) -> None:
    _make(client, collection_name)
    client.insert(collection_name, [{"id": 0, "text": TEXTS[2], "number": 5}, {"id": 1, "text": TEXTS[3]}])
    before = _stored(client, collection_name)
    client.upsert(collection_name, [{"id": 0, "number": 6}], partial_update=True)
    assert _stored(client, collection_name) == before
    client.upsert(collection_name, [{"id": 0, "text": TEXTS[3]}], partial_update=True)
    assert _stored(client, collection_name) == {0: before[1], 1: before[1]}


def test_a_search_by_anything_but_texts_is_refused(client: MilvusClient, articles: str) -> None:
    wrong = "please provide varchar/text for MinHash Function based search, got BinaryVector"
    with pytest.raises(MilvusException, match=wrong):
        client.search(articles, [bytes(4 * HASHES)], anns_field="bits", limit=1)
    with pytest.raises(MilvusException, match=wrong):
        client.search(articles, ids=[1], anns_field="bits", limit=1)


def test_a_search_in_an_index_by_hamming_must_not_name_its_metric(client: MilvusClient, collection_name: str) -> None:
    client.create_collection(collection_name, schema=_schema(client))
    add_index(client, collection_name, "bits", "BIN_FLAT", "HAMMING")
    client.load_collection(collection_name)
    client.insert(collection_name, [{"id": 1, "text": TEXTS[2]}])
    (found,) = client.search(collection_name, [TEXTS[2]], anns_field="bits", limit=1)
    assert found[0]["distance"] == 0
    with pytest.raises(MilvusException, match="must use MHJACCARD metric type when searching against MinHash"):
        client.search(collection_name, [TEXTS[2]], anns_field="bits", limit=1, search_params={"metric_type": "HAMMING"})


@pytest.mark.parametrize(
    ("dim", "params", "reason"),
    [
        (640, {"num_hashes": 16}, r"dim 640 does not match expected dim 512 \(numHashes 16 \* one minhash signature"),
        (648, {}, "minhash function output field 'bits' dim 648 is not multiple of 32"),
        (640, {"num_hashes": "many"}, "param num_hashes:many is not a number"),
        (640, {"num_hashes": 0}, "param num_hashes:0 must be positive"),
        (640, {"shingle_size": -1}, "param shingle_size:-1 must be positive"),
        (640, {"shingle_size": 2**63}, f"param shingle_size:{2**63} is not a number"),
        (640, {"seed": "1.5"}, "param seed:1.5 is not a number"),
        (640, {"hash_function": "md5"}, r"unknown hash function: md5 \(expected 'xxhash64' or 'sha1'\)"),
        (640, {"token_level": "line"}, r"unknown token_level: line \(expected 'char' or 'word'\)"),
    ],
)
def test_wrong_parameters_are_refused(
    client: MilvusClient, collection_name: str, dim: int, params: Any, reason: str
) -> None:
    with pytest.raises(MilvusException, match=reason) as refused:
        client.create_collection(collection_name, schema=_schema(client, dim, **params))
    assert refused.value.code == 1100
    assert not client.has_collection(collection_name)


def test_an_analyzer_that_cannot_be_built_is_refused(client: MilvusClient, collection_name: str) -> None:
    schema = _schema(client)
    schema.fields[1].params["analyzer_params"] = {"type": "klingon"}
    with pytest.raises(MilvusException, match="klingon"):
        client.create_collection(collection_name, schema=schema)


def test_values_of_the_output_are_refused(server: Server, articles: str) -> None:
    row = {"id": 9, "text": "x", "bits": [0] * 4 * HASHES}
    body: Any = {"collectionName": articles, "data": [row]}
    answer = requests.post(f"{server.uri}/v2/vectordb/entities/insert", json=body, timeout=30).json()
    assert (answer["code"], "Insert data has function output field" in answer["message"]) == (1100, True)


def test_functions_are_dropped_with_their_fields_or_not_at_all(stub: Any, articles: str) -> None:
    def refused(name: str, with_outputs: bool) -> Any:
        request = milvus_pb2.AlterCollectionSchemaRequest(collection_name=articles)
        request.action.drop_request.function_name = name
        request.action.drop_request.drop_function_output_fields = with_outputs
        return stub.AlterCollectionSchema(request).alter_status

    assert_refused(refused("g", True), 1100, "function not found: g")
    assert_refused(refused("f", False), 1100, "detaching a function without dropping its output field is not supported")
    assert_refused(refused("f", True), 1100, "cannot drop function f: it would leave no vector field in the collection")
