"""RunAnalyzer, its REST route, and ComputePhraseMatchSlop."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
import requests
from conftest import Server
from pymilvus import DataType, Function, FunctionType, MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2

TEXT = "The 数据 Dogs"
ENGLISH = {"type": "english"}


def test_run_analyzer_gives_terms_places_and_hashes(client: MilvusClient) -> None:
    found = client.run_analyzer([TEXT, ""], ENGLISH, with_detail=True, with_hash=True)
    assert [[token.dict for token in result.tokens] for result in found] == [
        [
            {
                "token": "数据",
                "start_offset": 4,
                "end_offset": 10,
                "position": 1,
                "position_length": 1,
                "hash": zlib.crc32("数据".encode()),
            },
            {
                "token": "dog",
                "start_offset": 11,
                "end_offset": 15,
                "position": 2,
                "position_length": 1,
                "hash": zlib.crc32(b"dog"),
            },
        ],
        [],
    ]
    assert list(client.run_analyzer(TEXT).tokens) == ["the", "数据", "dogs"]
    assert client.run_analyzer([], ENGLISH) == []


def test_the_route_gives_what_was_asked_for(server: Server) -> None:
    def post(**body: Any) -> Any:
        return requests.post(f"{server.uri}/v2/vectordb/common/run_analyzer", json=body, timeout=30).json()

    params = json.dumps({"tokenizer": "whitespace"})
    plain = post(text=["a b", ""], analyzerParams=params)
    assert plain == {"code": 0, "data": {"results": [{"tokens": [{"token": "a"}, {"token": "b"}]}, {"tokens": []}]}}
    detailed = post(text=["é b"], analyzerParams=params, withDetail=True, withHash=True)
    assert detailed["data"]["results"][0]["tokens"][1] == {
        "token": "b",
        "startOffset": 3,
        "endOffset": 4,
        "position": 1,
        "positionLength": 1,
        "hash": zlib.crc32(b"b"),
    }
    assert post(analyzerParams=params)["code"] == 1802
    assert post(text=["a"], analyzerParams="{")["code"] == 2000


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        ({"analyzer_params": {"tokenizer": "x"}}, 2000, "unsupported tokenizer: x"),
        (
            {"analyzer_params": ENGLISH, "collection_name": "c", "field_name": "f"},
            1100,
            "run analyzer can't use analyzer params and (collection,field) in same time",
        ),
        ({"collection_name": "c"}, 1100, "must set field name when collection name was set"),
        (
            {"collection_name": "c", "field_name": "f", "analyzer_names": ["a", "b", "c"]},
            1100,
            "but now analyzer name num: 3, text num: 1",
        ),
        ({"texts": "x" * (1 << 20) + "y"}, 1102, "have 1048577 bytes, more than 1048576"),
        ({"collection_name": "absent_collection", "field_name": "f"}, 100, "collection not found"),
    ],
)
def test_a_wrong_request_is_refused(client: MilvusClient, arguments: dict[str, Any], code: int, reason: str) -> None:
    with pytest.raises(MilvusException) as refused:
        client.run_analyzer(**{"texts": "a b", **arguments})
    assert (refused.value.code, reason in refused.value.message) == (code, True), refused.value.message


def test_a_field_that_feeds_no_function_has_no_analyzer(client: MilvusClient, collection_name: str) -> None:
    client.create_collection(collection_name, dimension=2, id_type="string", max_length=9)

    def run(field: str) -> MilvusException:
        with pytest.raises(MilvusException) as refused:
            client.run_analyzer("a b", collection_name=collection_name, field_name=field)
        return refused.value

    assert "now only support run analyzer by field if field was bm25/minhash input field" in run("id").message
    assert run("absent").code == 1700
    client.release_collection(collection_name)
    assert run("id").code == 101


def test_a_field_that_feeds_bm25_is_analyzed_by_its_names(client: MilvusClient, collection_name: str) -> None:
    several = {
        "by_field": "language",
        "analyzers": {"default": {"tokenizer": "whitespace"}, "en": ENGLISH},
        "alias": {"english": "en"},
    }
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("language", DataType.VARCHAR, max_length=9)
    schema.add_field("text", DataType.VARCHAR, max_length=99, enable_analyzer=True, multi_analyzer_params=several)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["sparse"]))
    index = client.prepare_index_params()
    index.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    client.create_collection(collection_name, schema=schema, index_params=index)

    def run(*names: str) -> list[list[str]]:
        options = {"analyzer_names": [*names]} if names else {}
        found = client.run_analyzer(
            ["The Dogs", "The Cats"], collection_name=collection_name, field_name="text", **options
        )
        return [list(result.tokens) for result in found]

    assert run() == [["The", "Dogs"], ["The", "Cats"]]
    assert run("english") == [["dog"], ["cat"]]
    assert run("en", "other") == [["dog"], ["The", "Cats"]]


def test_invalid_utf8_is_refused(stub: Any) -> None:
    answer = stub.RunAnalyzer(milvus_pb2.RunAnalyzerRequest(placeholder=[b"\xff"]))
    assert answer.status.code == 1100
    assert "utf-8" in answer.status.reason


def test_a_slop_is_answered_for_each_text(stub: Any) -> None:
    def slops(params: str, phrase: str, *texts: str) -> tuple[list[bool], list[int]]:
        request = milvus_pb2.ComputePhraseMatchSlopRequest(analyzer_params=params, query_text=phrase, data_texts=texts)
        answer = stub.ComputePhraseMatchSlop(request)
        assert answer.status.code == 0, answer.status
        return list(answer.is_match), list(answer.slops)

    standard = '{"type": "standard"}'
    assert slops(standard, "a c", "A b c", "c A", "a b", "a c") == ([True, True, False, True], [1, 2, -1, 0])
    assert slops('{"type": "x"}', "a c", "a c") == ([False], [-1])
    assert slops(standard, "", "a c") == ([], [])


def test_a_field_with_a_wrong_analyzer_is_refused_by_its_name(client: MilvusClient, collection_name: str) -> None:
    several = {"by_field": "id", "analyzers": {"default": {}, "odd": {"tokenizer": "x"}}}
    for params, text in (
        (
            {"analyzer_params": {"tokenizer": "x"}},
            "validate analyzer failed for field: id, error: Tokenizer creation failed",
        ),
        ({"multi_analyzer_params": several}, "validate analyzer failed for field: id, name: odd, error: Tokenizer"),
    ):
        schema = client.create_schema()
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=9, enable_analyzer=True, **params)
        schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
        with pytest.raises(MilvusException) as refused:
            client.create_collection(collection_name, schema=schema)
        assert (refused.value.code, text in refused.value.message) == (1100, True), refused.value
    assert not client.has_collection(collection_name)
