"""The sentences of hits that fit a query by their meaning, which a rerank model scores over HTTP.

Names and messages are Milvus's (util/function/highlight/semantic_highlight.go), whose model is in Zilliz Cloud. Here it
is any of the rerankers, named by the parameters that model rankers take.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from milvine.errors import MilvineError, ParameterInvalid, ParameterMissing
from milvine.model import json_text
from milvine.model.columns import Column, ColumnBatch
from milvine.model.json_paths import values_at
from milvine.model.known_keys import unsupported
from milvine.model.records import record
from milvine.model.requests import Highlights
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import DataType
from milvine.model_services.rerankers import Reranker, reranker_of
from milvine.segment.output_size import MAX_OUTPUT_BYTES, too_large
from milvine.service.reading import highlight_params
from milvine.service.reading.rankers import Models

Array = np.ndarray[Any, Any]
_USUAL_THRESHOLD = 0.5
_SENTENCE = re.compile(
    r"""\S.*?(?:(?<![.!?…])[.!?…]++["'”’»)\]]*+(?=\s|$)|(?<![。！？])[。！？]++["”’」』）]*+|$)""", re.MULTILINE
)
"""Ends after punctuation that a blank follows, after that of Chinese and Japanese, and at the end of a line."""


@record
class _Input:
    """Texts of a field or, with `key`, of a key of the dynamic field."""

    field: FieldSchema
    key: str = ""

    @property
    def name(self) -> str:
        return self.key or self.field.name

    def texts(self, column: Column) -> list[str]:
        """ "" where there is no text."""
        if not self.key:
            plain: list[str] = column.values.to_pylist()
            validity = column.validity
            return plain if validity is None else [t if v else "" for t, v in zip(plain, validity, strict=True)]
        return [self._text(value) for value in values_at(column.values, (self.key,))]

    def _text(self, value: Any) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            kind = json_text.json_kind(value).capitalize()
            raise ParameterInvalid(f"dynamic field {self.key} is not a string type, got {kind}")
        return value


@record
class SemanticHighlighting:
    """`is_whole`: a text comes whole, with all its marked sentences, and not as the sentences alone. `deadline`: of the
    request, on time.monotonic()'s scale."""

    inputs: tuple[_Input, ...]
    queries: tuple[str, ...]
    reranker: Reranker
    threshold: float
    pre_tags: Sequence[str]
    post_tags: Sequence[str]
    is_whole: bool
    deadline: float

    @property
    def field_ids(self) -> tuple[int, ...]:
        """The fields whose texts are needed of each hit."""
        return tuple(dict.fromkeys(one.field.field_id for one in self.inputs))

    def results(self, rows: ColumnBatch, counts: Array) -> tuple[Highlights, ...]:
        """The marked sentences of each hit and their scores, by field. `counts`: the hits of each query. Raises the
        errors of the model's service, and ParameterInvalid if there is too much text."""
        if not rows.row_count:
            return ()
        return tuple(self._of_input(one, rows, counts) for one in self.inputs)

    def _of_input(self, given: _Input, rows: ColumnBatch, counts: Array) -> Highlights:
        texts = given.texts(rows.columns[given.field.field_id])
        fragments: list[list[str]] = []
        scores: list[list[float]] = []
        left = MAX_OUTPUT_BYTES
        ends = np.cumsum(counts).tolist()
        for query, end, count in zip(self.queries, ends, counts.tolist(), strict=True):
            some = texts[end - count : end]
            spans = [sentences(text) for text in some]
            pieces = [text[start:stop] for text, own in zip(some, spans, strict=True) for start, stop in own]
            found = iter(self.reranker.scores(query, pieces, self.deadline).tolist())
            for text, own in zip(some, spans, strict=True):
                marked = [(*span, score) for span in own if (score := next(found)) >= self.threshold]
                fragments.append(self._fragments(text, marked))
                own_scores = [score for _, _, score in marked]
                scores.append([max(own_scores)] if self.is_whole and own_scores else own_scores)
                left -= sum(map(len, fragments[-1]))
                if left < 0:
                    raise too_large("search")
        return Highlights(given.name, fragments, scores)

    def _fragments(self, text: str, marked: Sequence[tuple[int, int, float]]) -> list[str]:
        """`marked`: start, end and score of each sentence. The tags are used in turn."""
        pieces: list[str] = []
        at = 0
        for number, (start, end, _) in enumerate(marked):
            before = text[at:start] if self.is_whole else ""
            pre, post = (tags[number % len(tags)] for tags in (self.pre_tags, self.post_tags))
            pieces.append(f"{before}{pre}{text[start:end]}{post}")
            at = end
        return ["".join([*pieces, text[at:]])] if self.is_whole and pieces else pieces


def sentences(text: str) -> list[tuple[int, int]]:
    """The start and the end of each sentence, in characters."""
    spans = (found.span() for found in _SENTENCE.finditer(text))
    return [(start, start + len(text[start:end].rstrip())) for start, end in spans]


def semantic_highlighting(params: Mapping[str, str], schema: CollectionSchema, models: Models) -> SemanticHighlighting:
    """Raises ParameterInvalid and ParameterMissing."""
    queries = _texts(params, "queries", "parse queries failed: ")
    names = _texts(params, "input_fields", "parse input_field failed: ")
    if not queries:
        raise ParameterMissing("queries is required")
    if not names:
        raise ParameterMissing("input_field is required")
    inputs = tuple(_input(schema, name) for name in names)
    given = {key.lower(): value for key, value in params.items()}
    if "provider" not in given:
        raise ParameterMissing(
            f"{unsupported('a semantic highlighter of Zilliz Cloud (model_deployment_id)')}; "
            "the parameter provider names a rerank model, as in model rankers"
        )
    try:
        reranker = reranker_of(models.client, models.access, given)
    except MilvineError as error:
        raise error.prefixed("semantic highlighter") from error
    if len(queries) != models.nq:
        raise ParameterInvalid(
            f"nq must equal to queries size, but got nq [{models.nq}], queries size [{len(queries)}], "
            f"queries: [{' '.join(queries)}]"
        )
    return SemanticHighlighting(
        inputs=inputs,
        queries=queries,
        reranker=reranker,
        threshold=_threshold(params),
        pre_tags=highlight_params.tags(params, "pre_tags", "<em>", "array"),
        post_tags=highlight_params.tags(params, "post_tags", "</em>", "list"),
        is_whole=not highlight_params.is_on(params, "highlight_only", usual=True),
        deadline=models.deadline,
    )


def _texts(params: Mapping[str, str], key: str, refusal: str) -> tuple[str, ...]:
    found = highlight_params.decoded(params[key], refusal) if key in params else None
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ParameterInvalid(f"{refusal}it is no list of strings")
    return tuple(found)


def _input(schema: CollectionSchema, name: str) -> _Input:
    field = schema.by_name.get(name)
    if field is not None and field.data_type is DataType.VARCHAR:
        return _Input(field)
    if field is not None:
        raise ParameterInvalid(f"input_field {name} is not a VarChar or Text field")
    if schema.dynamic_field is None:
        raise ParameterInvalid(f"input_field {name} not found in schema")
    return _Input(schema.dynamic_field, name)


def _threshold(params: Mapping[str, str]) -> float:
    text = params.get("threshold")
    if text is None:
        return _USUAL_THRESHOLD
    try:
        threshold = float(text)
    except ValueError:
        threshold = np.nan
    if not isfinite(threshold):
        raise ParameterInvalid(f"invalid threshold: {text}")
    return threshold
