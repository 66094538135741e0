"""The words of a search, marked in the texts of its hits. Names and messages are Milvus's (proxy/highlighter.go)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.analysis.fields import naming_field, placed_terms_of
from milvine.analysis.terms import Terms
from milvine.errors import ParameterInvalid, SearchTextNotIndexed
from milvine.model.analyzer_params import DEFAULT_ANALYZER, enables_analyzer
from milvine.model.columns import ColumnBatch
from milvine.model.functions import FunctionType
from milvine.model.records import record
from milvine.model.requests import Highlighter, Highlights, SearchRequest
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import DataType
from milvine.model.vectors.base import query_type_name
from milvine.segment.output_size import MAX_OUTPUT_BYTES, too_large
from milvine.service.reading import highlight_params
from milvine.service.reading.fragments import FragmentOptions, fragments
from milvine.service.reading.rankers import Models
from milvine.service.reading.semantic_highlighting import SemanticHighlighting, semantic_highlighting

Array = np.ndarray[Any, Any]
_LEXICAL, _SEMANTIC = 0, 1
_QUERY_TYPES = ("TextMatch",)


@record
class _Task:
    """One field. `searched`: the text of each query of the search, if its words are marked. `queried`: texts whose
    words are marked in the hits of every query. `naming`: the field that names the analyzer of each row, if there are
    several; `analyzer_name`: the one of the texts of queries."""

    field: FieldSchema
    naming: FieldSchema | None
    analyzer_name: str
    searched: tuple[str, ...] = ()
    queried: tuple[str, ...] = ()

    def terms(self, rows: ColumnBatch) -> Terms:
        """Of the field's texts in `rows`."""
        texts = rows.columns[self.field.field_id].values
        names: Sequence[str | None] = ()
        if self.naming is not None:
            column = rows.columns[self.naming.field_id]
            names = column.values.to_pylist()
        return placed_terms_of(self.field, texts, names)

    def words(self, text: str) -> Any:
        """The terms (StringArray) of a query's text."""
        return placed_terms_of(self.field, pa.array([text], pa.string()), [self.analyzer_name]).tokens


@record
class Highlighting:
    options: FragmentOptions
    tasks: tuple[_Task, ...]

    @property
    def field_ids(self) -> tuple[int, ...]:
        """The fields whose texts are needed of each hit."""
        fields = [field for task in self.tasks for field in (task.field, task.naming) if field is not None]
        return tuple(dict.fromkeys(field.field_id for field in fields))

    def results(self, rows: ColumnBatch, counts: Array) -> tuple[Highlights, ...]:
        """The fragments of each hit, by field. `counts`: the hits of each query. Raises ParameterInvalid if there is
        too much text."""
        if not rows.row_count:
            return ()
        found = []
        left = MAX_OUTPUT_BYTES
        for task in self.tasks:
            texts, left = _marked(task, rows, counts, self.options, left)
            found.append(Highlights(task.field.name, texts))
        return tuple(found)


def highlighting_of(
    highlighter: Highlighter, schema: CollectionSchema, field: FieldSchema, request: SearchRequest, models: Models
) -> Highlighting | SemanticHighlighting:
    """What to mark in the hits of a request that searches `field`. Raises ParameterInvalid and SearchTextNotIndexed."""
    if highlighter.kind == _SEMANTIC:
        return semantic_highlighting(highlighter.params, schema, models)
    if highlighter.kind != _LEXICAL:
        raise ParameterInvalid(f"unsupported highlight type: {highlighter.kind}")
    return _lexical(highlighter.params, schema, field, request)


def _lexical(
    params: Mapping[str, str], schema: CollectionSchema, field: FieldSchema, request: SearchRequest
) -> Highlighting:
    options = FragmentOptions(
        pre_tags=highlight_params.tags(params, "pre_tags", "<em>", "array"),
        post_tags=highlight_params.tags(params, "post_tags", "</em>", "list"),
        size=highlight_params.number(params, "fragment_size", 100, least=1),
        most=highlight_params.number(params, "num_of_fragments", 5),
        offset=highlight_params.number(params, "fragment_offset", 0),
    )
    marks_search = highlight_params.is_on(params, "highlight_search_text", usual=False)
    queries = _queries(params)
    analyzer_name = str(request.params.get("analyzer_name") or "") or DEFAULT_ANALYZER

    def task_of(target: FieldSchema) -> _Task:
        if not enables_analyzer(target):
            place = f"{target.name}:{target.field_id}"
            raise ParameterInvalid(f"get highlight failed, the highlight field not found, {place}")
        naming = naming_field(target)
        return _Task(target, None if naming is None else schema.by_name[naming], analyzer_name)

    tasks: dict[str, _Task] = {}
    if marks_search:
        source = _searched_field(schema, field, request.metric_type)
        if request.query_type != DataType.VARCHAR:
            sent = query_type_name(request.query_type)
            raise ParameterInvalid(f"please provide varchar/text for BM25 Function based search, got {sent}")
        texts: Any = request.queries
        tasks[source.name] = replace(task_of(source), searched=tuple(texts.to_pylist()))
    for name, text in queries:
        target = schema.by_name.get(name)
        if target is None:
            raise ParameterInvalid(f"highlight field not found in schema: {name}")
        task = tasks.get(name) or task_of(target)
        tasks[name] = replace(task, queried=(*task.queried, text))
    return Highlighting(options, tuple(tasks.values()))


def _searched_field(schema: CollectionSchema, field: FieldSchema, metric: str) -> FieldSchema:
    """The field of the texts that a search by BM25 looks into."""
    if metric.upper() != "BM25":
        raise ParameterInvalid('Search highlight only support with metric type "BM25" but was: ')
    function = schema.function_of_output.get(field.field_id)
    if function is None or function.function_type is not FunctionType.BM25:
        raise SearchTextNotIndexed
    return schema.by_name[function.inputs[0]]


def _queries(params: Mapping[str, str]) -> list[tuple[str, str]]:
    """(field, text) of each query."""
    text = params.get("highlight_query")
    if text is None:
        return []
    refusal = "unmarshal highlight queries as json array failed: "
    queries = highlight_params.decoded(text, refusal)
    if queries is None:
        return []
    if not isinstance(queries, list):
        raise ParameterInvalid(f"{refusal}it is no list")
    return [_query(query) for query in queries]


def _query(query: Any) -> tuple[str, str]:
    refusal = "unmarshal highlight queries failed: "
    if not isinstance(query, dict):
        raise ParameterInvalid(f"{refusal}item in array is not json object")
    for key in ("text", "type", "field"):
        if key not in query:
            raise ParameterInvalid(f"{refusal}must set `{key}` in query")
        if not isinstance(query[key], str):
            raise ParameterInvalid(f"{refusal}`{key}` must be string")
        if key == "type" and query[key] not in _QUERY_TYPES:
            raise ParameterInvalid(f"{refusal}invalid highlight query type: {query[key]}")
    return query["field"], query["text"]


def _marked(
    task: _Task, hits: ColumnBatch, counts: Array, options: FragmentOptions, left: int
) -> tuple[list[list[str]], int]:
    """The fragments of each hit, and how many more bytes there may be."""
    texts = hits.columns[task.field.field_id].values
    terms = task.terms(hits)
    row_of = np.repeat(np.arange(len(texts)), np.diff(terms.offsets))
    is_marked = _is_marked(task, terms.tokens, row_of, counts)
    places = np.flatnonzero(is_marked)
    rows = row_of[places]
    starts, ends = _characters(texts, rows, terms.starts[places], terms.ends[places])
    found: list[list[str]] = [[] for _ in range(len(texts))]
    bounds = np.flatnonzero(np.diff(rows, prepend=-1, append=-1)).tolist()
    for first, last in itertools.pairwise(bounds):
        row = int(rows[first])
        spans = zip(starts[first:last].tolist(), ends[first:last].tolist(), strict=True)
        found[row] = fragments(texts[row].as_py(), spans, options)
        left -= sum(map(len, found[row]))
        if left < 0:
            raise too_large("search")
    return found, left


def _is_marked(task: _Task, tokens: Any, row_of: Array, counts: Array) -> Array:
    """bool: which of the hits' tokens are words of their query, or of any query of the highlighter."""
    encoded = tokens.dictionary_encode()
    codes = encoded.indices.to_numpy()
    is_marked = np.zeros(len(codes), np.bool_)
    for text in task.queried:
        is_marked |= _are_words(encoded.dictionary, task.words(text))[codes]
    if task.searched:
        query_of = np.repeat(np.arange(len(counts)), counts)[row_of]
        bounds = np.searchsorted(query_of, np.arange(len(counts) + 1))
        for number, text in enumerate(task.searched[: len(counts)]):
            part = slice(bounds[number], bounds[number + 1])
            if part.start < part.stop:
                is_marked[part] |= _are_words(encoded.dictionary, task.words(text))[codes[part]]
    return is_marked


def _are_words(dictionary: Any, words: Any) -> Array:
    found: Array = pc.is_in(dictionary, value_set=words).to_numpy(zero_copy_only=False)
    return found


def _characters(texts: Any, rows: Array, starts: Array, ends: Array) -> tuple[Array, Array]:
    """Offsets in the bytes of the texts at `rows`, as offsets in their characters."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, 4 * texts.offset).astype(np.int64)
    data = np.zeros(0, np.uint8) if texts.buffers()[2] is None else np.frombuffer(texts.buffers()[2], np.uint8)
    is_first = data[offsets[0] : offsets[-1]] & 0xC0 != 0x80
    before = np.concatenate(([0], np.cumsum(is_first)))
    begin = offsets[rows] - offsets[0]
    return before[begin + starts] - before[begin], before[begin + ends] - before[begin]
