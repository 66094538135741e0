"""Runs the functions of a schema: on rows that are written, and on the texts of searches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from milvine.analysis.fields import field_analyzer
from milvine.analysis.frequencies import term_frequencies
from milvine.analysis.minhash import Shingles, sha1_hashes, signatures_of_bytes, signatures_of_terms, xxh3_hashes
from milvine.errors import ParameterInvalid
from milvine.model.columns import Column, ColumnBatch
from milvine.model.functions import FunctionSchema, FunctionType
from milvine.model.minhash_params import minhash_params
from milvine.model.properties import INSERTED_EMBEDDINGS_PROPERTY, allows_inserted_embeddings
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.sparse_vectors import SparseVectors
from milvine.service.analyzers import naming_field, tokens_of


def check_no_output(field: FieldSchema, properties: Mapping[str, str]) -> None:
    """Raises ParameterInvalid for a field whose values only its function makes. `properties`: of the collection."""
    if field.made_by is FunctionType.BM25:
        raise ParameterInvalid("attempt to insert bm25 function output field")
    if field.is_made_here or (field.made_by is not None and not allows_inserted_embeddings(properties)):
        raise ParameterInvalid(
            f"Insert data has function output field, but collection's property `{INSERTED_EMBEDDINGS_PROPERTY}` "
            "is not enable"
        )


def with_outputs(schema: CollectionSchema, batch: ColumnBatch) -> ColumnBatch:
    """The batch with the outputs of the functions that run here, in the order of the schema. A missing text is an empty
    one."""
    if not schema.functions:
        return ColumnBatch(batch.row_count, {f.field_id: batch.columns[f.field_id] for f in schema.fields})
    columns = dict(batch.columns)
    for function in schema.functions:
        if not function.function_type.runs_here:
            continue
        (output,) = function.outputs
        field = schema.by_name[output]
        columns[field.field_id] = Column(field.data_type, _OUTPUTS[function.function_type](schema, function, columns))
    return ColumnBatch(batch.row_count, {f.field_id: columns[f.field_id] for f in schema.fields})


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
