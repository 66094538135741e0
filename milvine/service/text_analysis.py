"""Analyzers by request: the terms of texts, and the slops of phrases."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa

from milvine.analysis.fields import placed_terms_of
from milvine.analysis.hashes import term_ids
from milvine.analysis.phrases import slops
from milvine.analysis.registry import analyzer_of
from milvine.analysis.terms import Terms
from milvine.errors import AnalyzerInvalid, CollectionNotLoaded, FieldNotFound, ParameterInvalid, ParameterTooLarge
from milvine.model.analyzer_params import DEFAULT_ANALYZER, enables_analyzer, feeds
from milvine.model.functions import FunctionType
from milvine.model.records import record
from milvine.service.context import Engine, RequestContext
from milvine.service.gate import find_seen, for_every_user

MAX_TEXT_BYTES = 1 << 20
"""Of all texts of a request: each of their terms is an object in the answer."""


@record
class AnalyzerRequest:
    """Texts to analyze by `params`, or as a field of a collection. `names`: of the analyzers of a field that has
    several; one for all texts, or one for each."""

    texts: Sequence[bytes]
    params: str = ""
    collection_name: str = ""
    field_name: str = ""
    names: Sequence[str] = ()
    with_detail: bool = False
    with_hash: bool = False


@for_every_user()
def run_analyzer(engine: Engine, context: RequestContext, request: AnalyzerRequest) -> list[list[dict[str, str | int]]]:
    """For each text its terms: `token`; with detail `start_offset` and `end_offset` in bytes, `position` and
    `position_length`; with hash `hash`. Of a field only for a caller who may see its collection."""
    if not request.texts:
        return []
    if request.collection_name:
        terms = _by_field(engine, context, request)
    else:
        terms = analyzer_of(request.params).terms(_decoded(request.texts))
    columns: dict[str, list[Any]] = {"token": terms.tokens.to_pylist()}
    if request.with_detail:
        columns["start_offset"], columns["end_offset"] = terms.starts.tolist(), terms.ends.tolist()
        columns["position"], columns["position_length"] = terms.positions.tolist(), terms.lengths.tolist()
    if request.with_hash:
        columns["hash"] = term_ids(terms.tokens).tolist()
    tokens = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [tokens[first:end] for first, end in pairwise(terms.offsets.tolist())]


@for_every_user()
def phrase_slops(
    engine: Engine, context: RequestContext, params: str, phrase: str, texts: Sequence[str]
) -> list[int | None]:
    """For each text the smallest slop with which it matches; None for no match, also if `params` are empty or wrong,
    as in Milvus."""
    if not phrase or not texts:
        return []
    _check_size(sum(map(len, texts)))
    try:
        return slops(analyzer_of(params), phrase, texts) if params else [None] * len(texts)
    except AnalyzerInvalid:
        return [None] * len(texts)


def _by_field(engine: Engine, context: RequestContext, request: AnalyzerRequest) -> Terms:
    if request.params:
        raise ParameterInvalid("run analyzer can't use analyzer params and (collection,field) in same time")
    if not request.field_name:
        raise ParameterInvalid("must set field name when collection name was set")
    count = len(request.texts)
    if request.names and len(request.names) not in (1, count):
        raise ParameterInvalid(
            "only support set one analyzer name for all text or set analyzer name for each text, "
            f"but now analyzer name num: {len(request.names)}, text num: {count}"
        )
    collection = find_seen(engine, context, request.collection_name)
    field = collection.schema.by_name.get(request.field_name)
    if field is None:
        raise FieldNotFound(request.field_name)
    if not engine.loader.answers.progress(collection).is_loaded:
        raise CollectionNotLoaded(collection.collection_id)
    if not (enables_analyzer(field) or feeds(collection.schema, field, FunctionType.BM25, FunctionType.MIN_HASH)):
        raise ParameterInvalid(
            f"analyzer runner for field {field.field_id} not exist, "
            "now only support run analyzer by field if field was bm25/minhash input field"
        )
    names = [name or DEFAULT_ANALYZER for name in request.names or [DEFAULT_ANALYZER]]
    return placed_terms_of(field, _decoded(request.texts), names if len(names) == count else names * count)


def _check_size(size_bytes: int) -> None:
    if size_bytes > MAX_TEXT_BYTES:
        raise ParameterTooLarge(f"the texts of an analyzer have {size_bytes} bytes, more than {MAX_TEXT_BYTES}")


def _decoded(texts: Sequence[bytes]) -> pa.StringArray:
    _check_size(sum(map(len, texts)))
    try:
        return pa.array([text.decode() for text in texts], pa.string())
    except UnicodeDecodeError as error:
        raise ParameterInvalid(f"the texts of an analyzer should be utf-8: {error.reason}") from error
