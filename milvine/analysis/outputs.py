"""The outputs of a schema's functions that run here: of rows that are written, of stored rows, and of texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from milvine.analysis.fields import field_analyzer, naming_field, text_blocks, tokens_of
from milvine.analysis.frequencies import term_frequencies
from milvine.analysis.minhash import Shingles, sha1_hashes, signatures_of_bytes, signatures_of_terms, xxh3_hashes
from milvine.model.columns import Column, ColumnBatch, concat_columns, lacking_column
from milvine.model.functions import FunctionSchema, FunctionType
from milvine.model.minhash_params import minhash_params
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.sparse_vectors import SparseVectors


def with_outputs(schema: CollectionSchema, batch: ColumnBatch) -> ColumnBatch:
    """The batch with the outputs of the functions that run here, in the order of the schema. A missing text is an empty
    one."""
    columns = dict(batch.columns)
    for field in schema.made_fields:
        columns[field.field_id] = output_column(schema, field, columns)
    return ColumnBatch(batch.row_count, {f.field_id: columns[f.field_id] for f in schema.fields})


def with_lacking_outputs(schema: CollectionSchema, batch: ColumnBatch) -> ColumnBatch:
    """The batch with the outputs of functions that were added after its rows were written."""
    lacking = [f for f in schema.made_fields if f.field_id not in batch.columns]
    if not lacking:
        return batch
    columns = dict(batch.columns)
    for field in lacking:
        inputs = input_fields(schema, field)
        known = {f.field_id: columns.get(f.field_id) or lacking_column(f, batch.row_count) for f in inputs}
        columns[field.field_id] = output_column(schema, field, known)
    return ColumnBatch(batch.row_count, columns)


def input_fields(schema: CollectionSchema, field: FieldSchema) -> tuple[FieldSchema, ...]:
    """The fields from whose values those of a field are made."""
    source = _source(schema, schema.function_of_output[field.field_id])
    name = naming_field(source)
    return (source,) if name is None else (source, schema.by_name[name])


def output_column(schema: CollectionSchema, field: FieldSchema, columns: Mapping[int, Column]) -> Column:
    """The values of a field that a function makes. `columns`: at least its inputs. Many texts are analyzed in blocks,
    which bounds the memory."""
    function = schema.function_of_output[field.field_id]
    make = _OUTPUTS[function.function_type]
    inputs = input_fields(schema, field)
    given = {f.field_id: columns[f.field_id] for f in inputs}
    texts = given[inputs[0].field_id].values
    blocks = list(text_blocks(texts))
    if len(blocks) < 2:
        return Column(field.data_type, make(schema, function, given))
    parts = [{i: column.slice(*block) for i, column in given.items()} for block in blocks]
    return concat_columns([Column(field.data_type, make(schema, function, part)) for part in parts])


def query_terms(schema: CollectionSchema, field: FieldSchema, texts: pa.StringArray, analyzer: str) -> SparseVectors:
    """The terms of the texts of a BM25 search. `analyzer`: the name of one of several, or empty."""
    source = _source(schema, schema.function_of_output[field.field_id])
    return term_frequencies(*tokens_of(source, texts, [analyzer or None] * len(texts)))


def query_signatures(schema: CollectionSchema, field: FieldSchema, texts: pa.StringArray) -> Any:
    """uint8 (n, dim / 8): the signatures of the texts of a search in the output of a MinHash function."""
    return _signatures_of(schema, schema.function_of_output[field.field_id], texts)


def _source(schema: CollectionSchema, function: FunctionSchema) -> FieldSchema:
    return schema.by_name[function.inputs[0]]


def _texts(column: Column) -> pa.StringArray:
    values: pa.StringArray = column.values
    return values if column.validity is None else pc.if_else(pa.array(column.validity), values, "")


def _frequencies(schema: CollectionSchema, function: FunctionSchema, columns: Mapping[int, Column]) -> SparseVectors:
    source = _source(schema, function)
    name = naming_field(source)
    names = [] if name is None else _names(columns[schema.by_name[name].field_id])
    return term_frequencies(*tokens_of(source, _texts(columns[source.field_id]), names))


def _names(column: Column) -> list[str | None]:
    names: list[str | None] = _texts(column).to_pylist()
    return names


def _signatures(schema: CollectionSchema, function: FunctionSchema, columns: Mapping[int, Column]) -> Any:
    return _signatures_of(schema, function, _texts(columns[_source(schema, function).field_id]))


def _signatures_of(schema: CollectionSchema, function: FunctionSchema, texts: pa.StringArray) -> Any:
    params = minhash_params(function, schema.by_name[function.outputs[0]])
    shingles = Shingles(params.shingle_size, sha1_hashes if params.uses_sha1 else xxh3_hashes)
    if params.uses_bytes:
        found = signatures_of_bytes(texts, shingles, params.hash_count, params.seed)
    else:
        offsets, tokens = field_analyzer(_source(schema, function)).tokens(texts)
        found = signatures_of_terms(offsets, tokens, shingles, params.hash_count, params.seed)
    return found.astype("<u4", copy=False).view("u1")


_OUTPUTS: Mapping[FunctionType, Callable[[CollectionSchema, FunctionSchema, Mapping[int, Column]], Any]] = {
    FunctionType.BM25: _frequencies,
    FunctionType.MIN_HASH: _signatures,
}
