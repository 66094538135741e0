"""PostgreSQL with pgvector: each table that has a column of vectors and a primary key of one column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from milvine.migration.columns import batch_of
from milvine.migration.shape import Batch, Field, Index, MigrationError, Shape
from milvine.migration.sources.options import SourceOptions
from milvine.migration.sources.tables import READERS, TEXT, array_field, text_field
from milvine.model.types import DataType

_TABLES = """
SELECT DISTINCT n.nspname, c.relname FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
WHERE t.typname IN ('vector', 'halfvec', 'sparsevec') AND c.relkind IN ('r', 'p') AND NOT a.attisdropped
AND NOT c.relispartition ORDER BY 1, 2
"""
_COLUMNS = """
SELECT a.attname, t.typname, a.atttypmod, format_type(a.atttypid, a.atttypmod), e.typname, a.attnotnull
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_KEYS = """
SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
WHERE i.indrelid = %s::regclass AND i.indisprimary
"""
_INDEXES = """
SELECT a.attname, o.opcname FROM pg_index i JOIN pg_opclass o ON o.oid = i.indclass[0]
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] WHERE i.indrelid = %s::regclass
"""
_SCALARS = {
    "bool": DataType.BOOL,
    "int2": DataType.INT16,
    "int4": DataType.INT32,
    "int8": DataType.INT64,
    "float4": DataType.FLOAT,
    "float8": DataType.DOUBLE,
    "numeric": DataType.DOUBLE,
    "text": DataType.VARCHAR,
    "varchar": DataType.VARCHAR,
    "bpchar": DataType.VARCHAR,
    "uuid": DataType.VARCHAR,
    "json": DataType.JSON,
    "jsonb": DataType.JSON,
}
_TEXTS = ("date", "time", "timetz", "timestamp", "timestamptz", "interval", "inet", "citext")
_METRICS = (("_cosine_", "COSINE"), ("_ip_", "IP"), ("_l2_", "L2"), ("hamming", "HAMMING"), ("jaccard", "JACCARD"))
_VECTORS = {
    "vector": DataType.FLOAT_VECTOR,
    "halfvec": DataType.FLOAT16_VECTOR,
    "sparsevec": DataType.SPARSE_FLOAT_VECTOR,
}
_PUBLIC = "public"


class PgvectorSource:
    def __init__(self, place: str, options: SourceOptions) -> None:
        try:
            password = {"password": options.token} if options.token else {}
            self._db = psycopg.connect(place, **password)
            # All tables are read as they are at one moment.
            self._db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            self._db.read_only = True
        except psycopg.Error as error:
            raise MigrationError(str(error).strip()) from None

    def close(self) -> None:
        self._db.close()

    def collections(self) -> list[str]:
        found = self._rows(_TABLES)
        return [table if schema == _PUBLIC else f"{schema}.{table}" for schema, table in found]

    def shape(self, name: str) -> Shape:
        table = sql.Identifier(*name.split(".")) if "." in name else sql.Identifier(_PUBLIC, name)
        quoted = table.as_string(self._db)
        keys = [key for (key,) in self._rows(_KEYS, quoted)]
        if len(keys) != 1:
            raise MigrationError(f"{name} has no primary key of one column; name the other tables by --collections")
        notes: list[str] = []
        found = self._rows(_COLUMNS, quoted)
        fields = [field for column in found for field in self._field(column, table, keys[0], notes)]
        fields.sort(key=lambda field: not field.is_primary)
        ((rows,),) = self._rows(sql.SQL("SELECT count(*) FROM {}").format(table))
        metrics = dict(self._rows(_INDEXES, quoted))
        indexes = [_index(field, metrics, notes) for field in fields if field.data_type.is_vector]
        return Shape(name.replace(".", "_"), fields, indexes, rows=rows, notes=notes, details=table)

    def _field(self, column: tuple[Any, ...], table: sql.Identifier, key: str, notes: list[str]) -> Iterator[Field]:
        name, kind, size, origin, element, is_never_null = column
        if name == key:
            yield _key(name, kind, origin)
        elif kind in _VECTORS:
            vector = _VECTORS[kind]
            dims = {} if vector is DataType.SPARSE_FLOAT_VECTOR else {"dim": self._dim(name, size, table)}
            yield Field(name, vector, dims, nullable=not is_never_null, origin=origin)
        elif kind == "bit" and size % 8 == 0:
            yield Field(name, DataType.BINARY_VECTOR, {"dim": size}, nullable=not is_never_null, origin=origin)
        elif kind in _SCALARS:
            scalar = _SCALARS[kind]
            params = dict(TEXT) if scalar is DataType.VARCHAR else {}
            yield Field(name, scalar, params, nullable=not is_never_null, origin=origin)
        elif kind in _TEXTS:
            yield text_field(name, origin)
        elif element in _SCALARS and _SCALARS[element] is not DataType.JSON:
            yield array_field(name, _SCALARS[element], origin)
        else:
            notes.append(f"{name} is left out: {origin} has no place here")

    def _dim(self, name: str, size: int, table: sql.Identifier) -> int:
        """That of the column's type, or of the first vector if the type has none."""
        if size > 0:
            return size
        query = sql.SQL("SELECT vector_dims({c}) FROM {t} WHERE {c} IS NOT NULL LIMIT 1")
        found = self._rows(query.format(c=sql.Identifier(name), t=table))
        if not found:
            raise MigrationError(f"the dimension of {name} is unknown: its type has none, and no row has a vector")
        return int(found[0][0])

    def batches(self, shape: Shape, place: Any, rows: int) -> Iterator[Batch]:
        """In the order of the primary key."""
        columns = [_selected(field) for field in shape.fields]
        key = sql.Identifier(shape.primary.name)
        while True:
            after = sql.SQL("") if place is None else sql.SQL("WHERE {} > {}").format(key, sql.Literal(place))
            query = sql.SQL("SELECT {} FROM {} {} ORDER BY {} LIMIT {}").format(
                sql.SQL(", ").join(columns), shape.details, after, key, sql.Literal(rows)
            )
            found = self._rows(query)
            if not found:
                return
            values = {field.name: _read(field, [row[i] for row in found]) for i, field in enumerate(shape.fields)}
            place = values[shape.primary.name][-1]
            yield Batch(batch_of(shape, values), place)

    def _rows(self, query: Any, *values: Any) -> list[tuple[Any, ...]]:
        try:
            return list(self._db.execute(query, values or None).fetchall())
        except psycopg.Error as error:
            raise MigrationError(str(error).strip()) from None


def _key(name: str, kind: str, origin: str) -> Field:
    if kind in ("int2", "int4", "int8"):
        return Field(name, DataType.INT64, is_primary=True, origin=origin)
    return Field(name, DataType.VARCHAR, dict(TEXT), is_primary=True, origin=origin)


def _index(field: Field, opclasses: dict[str, str], notes: list[str]) -> Index:
    opclass = opclasses.get(field.name, "")
    metric = next((metric for part, metric in _METRICS if part in opclass), "")
    if field.data_type is DataType.SPARSE_FLOAT_VECTOR:
        if metric != "IP":
            notes.append(f"the metric of {field.name} is IP, the only one of sparse vectors")
        return Index(field.name, "SPARSE_INVERTED_INDEX", "IP")
    if field.data_type is DataType.BINARY_VECTOR:
        return Index(field.name, "BIN_FLAT", metric or "HAMMING")
    if not metric:
        notes.append(f"{field.name} has no index: HNSW with COSINE is made")
    return Index(field.name, "HNSW", metric or "COSINE", {"M": 16, "efConstruction": 200})


def _selected(field: Field) -> sql.Composable:
    """Types of pgvector and keys that are texts are asked for as texts."""
    column = sql.Identifier(field.name)
    is_key_text = field.is_primary and field.data_type is DataType.VARCHAR
    return sql.SQL("{}::text").format(column) if field.data_type.is_vector or is_key_text else column


def _read(field: Field, values: list[Any]) -> list[Any]:
    read = _VECTOR_READERS.get(field.data_type) or READERS.get(field.data_type)
    if field.data_type.is_vector and read is not None:
        return [None if value is None else read(value) for value in values]
    return read(values) if read else values


def _half(text: str) -> bytes:
    return np.fromstring(text[1:-1], np.float32, sep=",").astype(np.float16).tobytes()


def _sparse(text: str) -> dict[int, float]:
    """`{1:0.5,3:2}/10`; places begin at 1 there."""
    pairs = (pair.split(":") for pair in text[1 : text.index("}")].split(",") if pair)
    return {int(place) - 1: float(value) for place, value in pairs}


def _bits(text: str) -> bytes:
    return np.packbits(np.frombuffer(text.encode(), np.uint8) - ord("0")).tobytes()


_VECTOR_READERS: dict[DataType, Callable[[Any], Any]] = {
    DataType.FLOAT_VECTOR: lambda text: np.fromstring(text[1:-1], np.float32, sep=","),
    DataType.FLOAT16_VECTOR: _half,
    DataType.SPARSE_FLOAT_VECTOR: _sparse,
    DataType.BINARY_VECTOR: _bits,
}
