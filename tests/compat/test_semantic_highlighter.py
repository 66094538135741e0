"""Semantic highlighters, with a small local model server."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from model_server import ModelServer, model_server, score_of
from pymilvus import DataType, MilvusClient, MilvusException, SemanticHighlighter

from milvine.service.reading.semantic_highlighting import sentences

TEXTS = [
    "abc abc. xyz xyz! ab?\nbca",
    "No such letters... x 3.14 y. 山abc。川abc！",
    "",
    None,
    'He said "abc." Then cab',
]
SENTENCES = [
    ["abc abc.", "xyz xyz!", "ab?", "bca"],
    ["No such letters...", "x 3.14 y.", "山abc。", "川abc！"],
    [],
    [],
    ['He said "abc."', "Then cab"],
]
QUERY = "abc"


class Highlighter(SemanticHighlighter):  # type: ignore[misc]
    """As docs/models.md shows: pymilvus's own has no parameters for the model."""

    def __init__(self, *args: Any, model: Mapping[str, Any], **given: Any) -> None:
        super().__init__(*args, **given)
        self._model = model

    @property
    def params(self) -> dict[str, Any]:
        return {**super().params, **self._model}


class World:
    def __init__(self, client: MilvusClient, service: ModelServer) -> None:
        self.client, self.service, self.name = client, service, f"semantic_{uuid.uuid4().hex[:8]}"
        schema = client.create_schema(enable_dynamic_field=True)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
        schema.add_field("text", DataType.VARCHAR, max_length=200, nullable=True)
        schema.add_field("number", DataType.INT32)
        indexes = client.prepare_index_params("vector", index_type="FLAT", metric_type="L2")
        client.create_collection(self.name, schema=schema, index_params=indexes)
        rows: list[Any] = [{"id": i, "vector": [i, 0], "text": text, "number": i} for i, text in enumerate(TEXTS)]
        rows[0]["more"], rows[1]["more"] = "cab. nothing", 5
        client.insert(self.name, rows)

    def marked(self, *, limit: int = 5, nq: int = 1, fields: list[str] | None = None, **given: Any) -> list[Any]:
        """The highlights of each hit, in the order of ids."""
        model = {"provider": "tei", "endpoint": self.service.url, **given.pop("model", {})}
        highlighter = Highlighter(given.pop("queries", [QUERY]), fields or ["text"], model=model, **given)
        found = self.client.search(self.name, [[0, 0]] * nq, limit=limit, highlighter=highlighter)
        return [[hit["highlight"] for hit in hits] for hits in found]


@pytest.fixture(scope="module")
def world(_shared_client: MilvusClient) -> Iterator[World]:
    with model_server() as service:
        made = World(_shared_client, service)
        yield made
        _shared_client.drop_collection(made.name)


def _wanted(row: int, threshold: float, query: str = QUERY) -> tuple[list[str], list[float]]:
    scored = [(sentence, score_of(query, sentence)) for sentence in SENTENCES[row]]
    kept = [(f"<em>{sentence}</em>", score) for sentence, score in scored if score >= threshold]
    return [sentence for sentence, _ in kept], [score for _, score in kept]


def test_sentences_above_the_threshold_come_with_their_scores(world: World) -> None:
    for threshold in (None, 0.9, 0.3):
        (hits,) = world.marked(threshold=threshold)
        for row, hit in enumerate(hits):
            fragments, scores = _wanted(row, 0.5 if threshold is None else threshold)
            assert hit["text"]["fragments"] == fragments
            assert hit["text"]["scores"] == pytest.approx(scores, rel=1e-5)


def test_each_query_marks_its_own_hits_in_batches_of_texts(world: World) -> None:
    world.service.requests.clear()
    found = world.marked(nq=2, queries=["abc", "xyz"], limit=2, max_client_batch_size=3)
    for query, hits in zip(["abc", "xyz"], found, strict=True):
        assert [hit["text"]["fragments"] for hit in hits] == [_wanted(row, 0.5, query)[0] for row in range(2)]
    sent = [body for _, _, body in world.service.requests]
    assert [len(body["texts"]) for body in sent] == [3, 3, 2] * 2
    assert [body["query"] for body in sent] == ["abc"] * 3 + ["xyz"] * 3


def test_a_whole_text_has_its_sentences_marked_by_tags_in_turn(world: World) -> None:
    (hits,) = world.marked(highlight_only=False, pre_tags=["<", "{"], post_tags=[">", "}"], limit=2)
    assert hits[0]["text"]["fragments"] == ["<abc abc.> xyz xyz! {ab?}\n<bca>"]
    assert hits[0]["text"]["scores"] == pytest.approx([score_of(QUERY, "bca")])
    (nothing,) = world.marked(highlight_only=False, threshold=2.0, limit=1)
    assert nothing[0]["text"] == {"fragments": [], "scores": []}


def test_a_key_of_the_dynamic_field_is_marked(world: World) -> None:
    (hits,) = world.marked(fields=["more"], limit=1)
    assert hits[0]["more"]["fragments"] == ["<em>cab.</em>"]
    with pytest.raises(MilvusException, match="dynamic field more is not a string type, got Number"):
        world.marked(fields=["more"], limit=2)


def test_a_failing_model_fails_the_search(world: World) -> None:
    world.service.failures.append((400, b"too long"))
    with pytest.raises(MilvusException, match="too long"):
        world.marked()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"queries": []}, "queries is required"),
        ({"queries": ["a", "b"]}, r"nq must equal to queries size, but got nq \[1\], queries size \[2\]"),
        ({"fields": ["number"]}, "input_field number is not a VarChar or Text field"),
        ({"threshold": "x"}, "invalid threshold: x"),
        ({"pre_tags": []}, "pre_tags cannot be empty list"),
        ({"model": {"provider": "nobody"}}, "unknown rerank model provider:nobody"),
        ({"model": {"endpoint": "ftp://a"}}, "is not a valid http/https link"),
    ],
)
def test_wrong_parameters_are_refused(world: World, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(MilvusException, match=reason):
        world.marked(**given)


def test_a_model_of_zilliz_cloud_is_refused_in_words(world: World) -> None:
    highlighter = SemanticHighlighter([QUERY], ["text"], model_deployment_id="some")
    with pytest.raises(MilvusException, match=r"of Zilliz Cloud .* is not supported .* the parameter provider"):
        world.client.search(world.name, [[0, 0]], limit=1, highlighter=highlighter)


def test_sentences_of_hostile_texts_are_found_at_once() -> None:
    for text in ("." * 65535 + "a", "a" * 65535, ". " * 32767, '."' * 32767 + "a", "。" * 21845, "\n" * 65535):
        started = time.process_time()
        found = "".join(text[start:end] for start, end in sentences(text))
        assert time.process_time() - started < 1
        assert "".join(found.split()) == "".join(text.split())
