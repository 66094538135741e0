"""Protobuf -> requests of the service. No loop over rows: numpy and Arrow read the buffers of repeated fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError

from milvine.errors import ParameterInvalid
from milvine.grpc_api.buckets import search_aggregation
from milvine.grpc_api.chains import function_chain
from milvine.grpc_api.proto import common_pb2, schema_pb2
from milvine.grpc_api.unserved import refuse_unserved_fields
from milvine.model import json_text, known_keys
from milvine.model.columns import NUMPY_DTYPES, Column
from milvine.model.functions import FunctionSchema, FunctionType
from milvine.model.known_keys import refuse_unserved, unsupported
from milvine.model.properties import FIELD_PROPERTIES
from milvine.model.requests import (
    CreateCollectionRequest,
    DeleteRequest,
    FunctionScore,
    Highlighter,
    HybridSearchRequest,
    InsertRequest,
    LoadRequest,
    NewFunction,
    QueryIterator,
    QueryRequest,
    RankFunction,
    SearchRequest,
)
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.schema_rules import NO_STRING, check_timezone
from milvine.model.timestamps import MAX_TIMESTAMP
from milvine.model.types import ConsistencyLevel, DataType
from milvine.model.vectors import KINDS, kind_of
from milvine.service.reading.ann_params import ignores_growing

Array = np.ndarray[Any, Any]
_SCALARS: dict[str, DataType] = {
    "bool_data": DataType.BOOL,
    "int_data": DataType.INT32,
    "long_data": DataType.INT64,
    "float_data": DataType.FLOAT,
    "double_data": DataType.DOUBLE,
    "string_data": DataType.VARCHAR,
    "json_data": DataType.JSON,
    "timestamptz_data": DataType.TIMESTAMPTZ,
}
_ARROW_TYPES = {DataType.VARCHAR: pa.string(), DataType.JSON: pa.binary()}
_DEFAULTS = {
    DataType.BOOL: "bool_data",
    DataType.INT8: "int_data",
    DataType.INT16: "int_data",
    DataType.INT32: "int_data",
    DataType.INT64: "long_data",
    DataType.FLOAT: "float_data",
    DataType.DOUBLE: "double_data",
    DataType.VARCHAR: "string_data",
    DataType.TIMESTAMPTZ: "string_data",
}
_DEFAULT_NAMES = {
    "bool_data": "DataType_Bool",
    "int_data": "DataType_Int",
    "long_data": "DataType_Int64",
    "float_data": "DataType_Float",
    "double_data": "DataType_Double",
    "string_data": "DataType_VarChar",
    "bytes_data": "DataType_JSON",
    "timestamptz_data": "DataType_Timestamptz",
}
_ELEMENTS = {
    "bool_data": pa.bool_(),
    "int_data": pa.int32(),
    "long_data": pa.int64(),
    "float_data": pa.float32(),
    "double_data": pa.float64(),
    "string_data": pa.string(),
}
_VECTORS = {kind.wire_name: data_type for data_type, kind in KINDS.items()}
_QUERIED = {int(data_type): kind for data_type, kind in KINDS.items()}
_REMEMBERED_CHARACTERS = 4096
_BOUNDED_TIMESTAMP = 2
"""SDKs use guarantee timestamps up to this one for consistency levels, not times."""
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"", "0", "f", "F", "FALSE", "false", "False"})


def pairs(repeated: Iterable[Any]) -> dict[str, str]:
    """A list of KeyValuePair as a dict."""
    return {pair.key: pair.value for pair in repeated}


def _type_name(number: int) -> str:
    name: str = schema_pb2.DataType.Name(number) if number in schema_pb2.DataType.values() else str(number)
    return name


def _data_type(field: Any) -> DataType:
    try:
        return DataType(field.data_type)
    except ValueError:
        name = _type_name(field.data_type)
        if name == "String":
            raise ParameterInvalid(NO_STRING) from None
        if name == "None":
            raise ParameterInvalid("data type None is not valid") from None
        raise ParameterInvalid(
            f"data type {name} of field {field.name} is not supported by this version of Milvine"
        ) from None


def _element_type(field: Any) -> DataType | None:
    try:
        return DataType(field.element_type) if field.element_type else None
    except ValueError:
        if _type_name(field.element_type) == "String":
            raise ParameterInvalid(NO_STRING) from None
        raise ParameterInvalid(f"element type {_type_name(field.element_type)} is not supported") from None


def _default_value(field: Any, data_type: DataType) -> Any:
    """The value as a Python object, None if there is none; its kind is checked if the type allows defaults."""
    kind = field.default_value.WhichOneof("data") if field.HasField("default_value") else None
    if kind is None:
        return None
    if _DEFAULTS.get(data_type, kind) != kind and not field.is_primary_key:
        raise ParameterInvalid(
            f"type ({data_type.milvus_name}) of field ({field.name}) is not equal to "
            f"the type({_DEFAULT_NAMES.get(kind, kind)}) of default_value"
        )
    return getattr(field.default_value, kind)


def _int_param(field: Any, params: Mapping[str, str], name: str) -> int | None:
    text = params.get(name)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise ParameterInvalid(f"the value for {name} of field {field.name} must be an integer") from None


def _field(field: Any) -> FieldSchema:
    of = f", field name = {field.name}"
    refuse_unserved_fields(field, of)
    params = pairs(field.type_params)
    refuse_unserved(known_keys.FIELD, params, of)
    data_type = _data_type(field)
    element_type = _element_type(field) if data_type is DataType.ARRAY else None
    return FieldSchema(
        0,
        field.name,
        data_type,
        field.description,
        field.is_primary_key,
        field.autoID,
        nullable=field.nullable,
        dim=_int_param(field, params, "dim") if data_type.is_vector else None,
        max_length=_int_param(field, params, "max_length") if DataType.VARCHAR in (data_type, element_type) else None,
        element_type=element_type,
        max_capacity=_int_param(field, params, "max_capacity") if data_type is DataType.ARRAY else None,
        default_value=_default_value(field, data_type),
        properties={k: v for k, v in params.items() if k in FIELD_PROPERTIES},
        is_partition_key=field.is_partition_key,
    )


def added_field(request: Any) -> FieldSchema:
    """The field of an AddCollectionField."""
    try:
        field = schema_pb2.FieldSchema.FromString(request.schema)
    except DecodeError as error:
        raise ParameterInvalid(f"failed to unmarshal field schema: {error}") from error
    return _added_field(field)


def _added_field(field: Any) -> FieldSchema:
    if field.is_partition_key:
        raise ParameterInvalid(f"not support to add partition key field, field name  = {field.name}")
    return _field(field)


def schema_addition(added: Any) -> FieldSchema | NewFunction:
    """What an AlterCollectionSchema adds. As in Milvus, the name and the parameters of an index are for the field of a
    function only."""
    if len(added.func_schema) > 1:
        raise ParameterInvalid("For now, at most one function schema is supported")
    if len(added.field_infos) > 1:
        raise ParameterInvalid("For now, only one field info is supported")
    if not added.field_infos and not added.func_schema:
        raise ParameterInvalid("fieldInfos and function schema are both empty")
    if added.field_infos and not added.field_infos[0].HasField("field_schema"):
        raise ParameterInvalid("fieldSchema is nil in fieldInfos")
    if added.func_schema:
        if not added.field_infos:
            raise ParameterInvalid(
                "adding a function over existing fields is not supported; "
                "use add_function_field to add the function together with its new output field"
            )
        info = added.field_infos[0]
        output = _added_field(info.field_schema)
        return NewFunction(function(added.func_schema[0]), output, info.index_name, pairs(info.extra_params))
    if added.do_physical_backfill:
        raise ParameterInvalid(unsupported("a physical backfill"))
    return _added_field(added.field_infos[0].field_schema)


def create_collection(request: Any) -> CreateCollectionRequest:
    try:
        schema = schema_pb2.CollectionSchema.FromString(request.schema)
    except DecodeError as error:
        raise ParameterInvalid(f"failed to unmarshal the collection schema: {error}") from error
    refuse_unserved_fields(schema)
    fields = tuple(_field(f) for f in schema.fields if not f.is_dynamic)
    functions = tuple(function(f) for f in schema.functions)
    return CreateCollectionRequest(
        request.collection_name or schema.name,
        CollectionSchema(fields, schema.description, schema.enable_dynamic_field, functions=functions),
        request.shards_num,
        ConsistencyLevel(request.consistency_level),
        pairs(request.properties),
        request.num_partitions,
    )


def function(message: Any) -> FunctionSchema:
    try:
        function_type = FunctionType(message.type)
    except ValueError:
        function_type = FunctionType.UNKNOWN
    return FunctionSchema(
        0,
        message.name,
        function_type,
        tuple(message.input_field_names),
        tuple(message.output_field_names),
        message.description,
        pairs(message.params),
    )


def load(request: Any) -> LoadRequest:
    return LoadRequest(
        request.collection_name,
        request.replica_number,
        tuple(request.resource_groups),
        request.refresh,
        tuple(request.load_fields),
        request.skip_load_dynamic_field,
    )


def _expanded(values: Any, validity: Array) -> Any:
    """The values of the valid rows, expanded to all rows with fillers."""
    if isinstance(values, np.ndarray):
        spread = np.zeros((len(validity), *values.shape[1:]), values.dtype)
        spread[validity] = values
        return spread
    return _with_fillers(values, np.where(validity, np.cumsum(validity), 0))


def _with_fillers(values: Any, places: Array) -> Any:
    """The values at positions `places`, from 1; a filler for 0."""
    kinds: list[Any] = [[] if pa.types.is_list(values.type) else "" if pa.types.is_string(values.type) else b"null"]
    return pa.concat_arrays([pa.array(kinds, values.type), values]).take(pa.array(places))


def _lists(field: Any) -> pa.ListArray:
    """ArrayArray, a message per row, as one list array; elements as wide as on the wire."""
    rows = field.scalars.array_data.data
    kinds = {row.WhichOneof("data") for row in rows}
    kinds.discard(None)
    if not kinds <= _ELEMENTS.keys() or len(kinds) > 1:
        shown = " and ".join(sorted(kinds))
        raise ParameterInvalid(f"insert data does not match, array field {field.field_name} has elements of {shown}")
    if not kinds:
        return pa.array([[]] * len(rows), pa.list_(pa.null()))
    (kind,) = kinds
    lists = [getattr(row, kind).data for row in rows]
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, lists), np.int64, len(rows)), out=offsets[1:])
    element_type = _ELEMENTS[kind]
    if element_type == pa.string():
        elements = pa.array(list(chain.from_iterable(lists)), element_type)
    else:
        arrays = [np.array(values, element_type.to_pandas_dtype()) for values in lists]
        elements = pa.array(np.concatenate(arrays), element_type)
    return pa.ListArray.from_arrays(pa.array(offsets), elements)


def _declared_type(field: Any) -> DataType:
    """The stated type of a FieldData without data."""
    try:
        return DataType(field.type)
    except ValueError:
        raise ParameterInvalid(f"undefined data type:{field.type}") from None


def _vectors(field: Any) -> Column:
    """Compact: only the vectors of valid rows. A column of NULLs may lack a dimension."""
    vectors = field.vectors
    sent = vectors.WhichOneof("data")
    data_type = _VECTORS.get(sent) if sent else _declared_type(field)
    if data_type not in KINDS:
        raise ParameterInvalid(f"field {field.field_name}: {sent} is not supported by this version of Milvine")
    valid_data = field.valid_data
    values = kind_of(data_type).from_wire(vectors, bool(valid_data))
    if not valid_data:
        return Column(data_type, values)
    validity = np.array(valid_data, dtype=np.bool_)
    valid = int(np.count_nonzero(validity))
    if len(values) != valid:
        raise ParameterInvalid(
            f"nullable vector field {field.field_name} has {valid} valid rows, "
            f"but compact physical payload rows is {len(values)}"
        )
    return Column(data_type, values, validity)


def column(field: Any) -> Column:
    """A FieldData as sent: INT8 and INT16 are as wide as on the wire, vectors are compact, and a validity may be true
    for all rows."""
    sent = field.WhichOneof("field")
    scalars = field.scalars
    kind = scalars.WhichOneof("data") if sent == "scalars" else None
    if sent == "vectors" or (kind is None and _declared_type(field).is_vector):
        return _vectors(field)
    if kind is not None and kind not in _SCALARS and kind != "array_data":
        raise ParameterInvalid(f"field {field.field_name}: {kind} is not supported by this version of Milvine")
    data_type = _SCALARS.get(kind, DataType.ARRAY) if kind else _declared_type(field)
    data = getattr(scalars, kind).data if kind else []
    if data_type is DataType.ARRAY:
        values = _lists(field)
    elif data_type in _ARROW_TYPES:
        values = pa.array(data, _ARROW_TYPES[data_type])
    else:
        values = np.array(data, dtype=NUMPY_DTYPES[data_type])
    valid_data = field.valid_data
    if not valid_data:
        return Column(data_type, values)
    validity = np.array(valid_data, dtype=np.bool_)
    if len(values) != len(validity) or not validity.all():
        if len(values) == int(np.count_nonzero(validity)):
            values = _expanded(values, validity)
        elif data_type is DataType.ARRAY and len(values) == len(validity):
            values = _with_fillers(values, np.where(validity, np.arange(1, len(validity) + 1), 0))
    return Column(data_type, values, validity)


def insert(request: Any) -> InsertRequest:
    columns: dict[str, Column] = {}
    for field in request.fields_data:
        name = "$meta" if field.is_dynamic else field.field_name
        if name in columns:
            raise ParameterInvalid(f"duplicated field {name} found")
        columns[name] = column(field)
    return InsertRequest(
        request.collection_name,
        request.partition_name,
        request.num_rows,
        columns,
        schema_ts=request.schema_timestamp,
    )


_OPERATIONS = {number: name for name, number in schema_pb2.FieldPartialUpdateOp.OpType.items()}


def upsert(request: Any) -> InsertRequest:
    operations = tuple((each.field_name, _OPERATIONS.get(each.op, str(each.op))) for each in request.field_ops)
    return replace(insert(request), partial_update=request.partial_update, field_ops=operations)


def _template(value: Any) -> object:
    kind = value.WhichOneof("val")
    if kind is None:
        return None
    if kind != "array_val":
        return getattr(value, kind)
    inner = value.array_val.WhichOneof("data")
    if inner is None:
        return []
    data = getattr(value.array_val, inner).data
    if inner == "array_data":
        return [_template(schema_pb2.TemplateValue(array_val=item)) for item in data]
    if inner == "json_data":
        try:
            return [json_text.loads(item) for item in data]
        except json_text.NotJson as error:
            raise ParameterInvalid(f"a template value is not JSON: {error}") from error
    return list(data)


def templates(request: Any) -> dict[str, object]:
    return {name: _template(value) for name, value in request.expr_template_values.items()}


def delete(request: Any) -> DeleteRequest:
    return DeleteRequest(request.collection_name, request.partition_name, request.expr, templates(request))


def _whole(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _int(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name)
    if text is None or text == "":
        return default
    try:
        return int(text)
    except ValueError:
        raise ParameterInvalid(f"{name} [{text}] is invalid") from None


def _read_ts(request: Any) -> int:
    """The timestamp to read at, or 0: every level except Customized reads all acknowledged writes.

    SDKs use 1 and 2 for Eventually and Bounded.
    """
    given = int(request.guarantee_timestamp)
    return given if names_its_time(request) and given > _BOUNDED_TIMESTAMP else 0


def names_its_time(request: Any) -> bool:
    """Whether the guarantee timestamp of a read is the time to read at."""
    return not request.use_default_consistency and request.consistency_level == ConsistencyLevel.CUSTOMIZED


def _queries(request: Any) -> tuple[int, Any]:
    """The placeholder's type and its vectors or texts; empty rows if the type is not one of ours."""
    try:
        group = common_pb2.PlaceholderGroup.FromString(request.placeholder_group)
    except DecodeError as error:
        raise ParameterInvalid(f"failed to unmarshal the placeholder group: {error}") from error
    if not group.placeholders or not group.placeholders[0].values:
        return DataType.FLOAT_VECTOR, np.zeros((0, 0), np.float32)
    holder = group.placeholders[0]
    return holder.type, placed_queries(holder.type, list(holder.values))


def placed_queries(query_type: int, values: list[bytes]) -> Any:
    """The vectors or texts of a placeholder; empty rows if its type is not one of ours."""
    if query_type == DataType.VARCHAR:
        return _query_texts(values)
    kind = _QUERIED.get(query_type)
    if kind is None:
        return np.zeros((len(values), 0), np.uint8)
    return kind.queries_from_wire(values)


def _query_texts(values: Sequence[bytes]) -> pa.StringArray:
    try:
        return pa.array([value.decode() for value in values], pa.string())
    except UnicodeDecodeError as error:
        raise ParameterInvalid(f"string data must be utf8 format: {error.object!r}") from error


def _ids(ids: Any) -> Any | None:
    """int64 or StringArray; None if there are none, which is a search without vectors."""
    if ids.int_id.data:
        return np.array(ids.int_id.data, np.int64)
    return pa.array(ids.str_id.data, pa.string()) if ids.str_id.data else None


def search(request: Any) -> SearchRequest:
    return _search(request, request.collection_name, tuple(request.output_fields), tuple(request.partition_names))


def _search(
    request: Any,
    name: str,
    output_fields: tuple[str, ...],
    partition_names: tuple[str, ...],
    *,
    read_ts: int | None = None,
    default_limit: int | None = None,
) -> SearchRequest:
    """`read_ts` None: the request says it. `default_limit` None: the request must have a limit; otherwise it replaces
    one that is no number, as in Milvus."""
    ids = _ids(request.ids) if request.HasField("ids") else None
    given = tuple([text for pair in request.search_params for text in (pair.key, pair.value)])
    is_short = sum(map(len, given)) <= _REMEMBERED_CHARACTERS
    found = (_search_params if is_short else _search_params.__wrapped__)(given)
    limit = default_limit if found.limit is None else found.limit
    if limit is None:
        text = found.limit_text
        raise ParameterInvalid("topk not found in search_params" if text is None else f"topk [{text}] is invalid")
    query_type, queries = _queries(request)
    has_templates = bool(request.expr_template_values)
    score = _function_score(request.function_score) if request.HasField("function_score") else None
    highlighter = None
    if request.HasField("highlighter"):
        highlighter = Highlighter(request.highlighter.type, pairs(request.highlighter.params))
    aggregation = search_aggregation(request.search_aggregation) if request.HasField("search_aggregation") else None
    chains = tuple(map(function_chain, request.function_chains))
    has_more = has_templates or chains or score is not None or highlighter is not None or aggregation is not None
    is_repeatable = is_short and ids is None and not has_more and not found.is_iterator
    if read_ts is None:
        read_ts = _iterator_ts(request) if found.is_iterator else _read_ts(request)
    return SearchRequest(
        name=name,
        queries=queries,
        limit=limit,
        offset=found.offset,
        anns_field=found.anns_field,
        metric_type=found.metric_type,
        params=found.params,
        round_decimal=found.round_decimal,
        filter=request.dsl,
        templates=templates(request) if has_templates else {},
        output_fields=output_fields,
        partition_names=partition_names,
        read_ts=read_ts,
        query_type=query_type,
        shape=(found, limit, request.dsl, output_fields, partition_names) if is_repeatable else None,
        ids=ids,
        function_score=score,
        function_chains=chains,
        highlighter=highlighter,
        aggregation=aggregation,
    )


def hybrid_search(request: Any) -> HybridSearchRequest:
    """The searches read at the timestamp and in the partitions of the whole."""
    rank_params = pairs(request.rank_params)
    partition_names, read_ts = tuple(request.partition_names), _read_ts(request)
    window = _int(rank_params, "limit", 0) + _int(rank_params, "offset", 0)
    searches = []
    for one in request.requests:
        refuse_unserved_fields(one)
        found = _search(one, request.collection_name, (), partition_names, read_ts=read_ts, default_limit=window)
        searches.append(replace(found, offset=0))  # as in Milvus, which ignores it
    return HybridSearchRequest(
        name=request.collection_name,
        searches=tuple(searches),
        rank_params=rank_params,
        function_score=_function_score(request.function_score) if request.HasField("function_score") else None,
        output_fields=tuple(request.output_fields),
        partition_names=partition_names,
        read_ts=read_ts,
    )


def _function_score(score: Any) -> FunctionScore:
    functions = [RankFunction(f.name, tuple(f.input_field_names), pairs(f.params)) for f in score.functions]
    return FunctionScore(tuple(functions), pairs(score.params))


@dataclass(frozen=True, slots=True, eq=False)
class _SearchParams:
    """`limit` None: `limit_text` is no number, or None since there is none."""

    limit: int | None
    limit_text: str | None
    offset: int
    anns_field: str
    metric_type: str
    params: Mapping[str, Any]
    round_decimal: int
    is_iterator: bool


@lru_cache(maxsize=512)
def _search_params(keys_and_values: tuple[str, ...]) -> _SearchParams:
    """The contents of `search_params`, given as key, value, key, value and so on. Cached, since most searches
    differ only in their vectors."""
    given = dict(zip(keys_and_values[::2], keys_and_values[1::2], strict=True))
    text = given.pop("params", "") or "{}"
    try:
        inner = json_text.loads(text)
    except json_text.NotJson as error:
        raise ParameterInvalid(f"failed to parse search params {text}: {error}") from error
    named = {"anns_field", "topk", "limit", "offset", "metric_type", "round_decimal"}
    params = {**{k: v for k, v in given.items() if k not in named}, **inner}
    metric_type = given.get("metric_type", "") or params.pop("metric_type", "")
    limit_text = given.get("topk", given.get("limit"))
    return _SearchParams(
        limit=_whole(limit_text),
        limit_text=limit_text,
        offset=_int(given, "offset", 0),
        anns_field=given.get("anns_field", ""),
        metric_type=metric_type,
        params=params,
        round_decimal=_int(given, "round_decimal", -1),
        is_iterator=given.get("iterator", "") in ("True", "true"),
    )


def query(request: Any) -> QueryRequest:
    params = pairs(request.query_params)
    check_timezone(params)
    refuse_unserved(known_keys.QUERY, params)
    _bool(params, "reduce_stop_for_best")  # pages are always in key order, which fits both values
    limit = _int(params, "limit", -1) if params.get("limit") else None
    return QueryRequest(
        name=request.collection_name,
        filter=request.expr,
        limit=limit,
        offset=_int(params, "offset", 0) if limit is not None else 0,
        templates=templates(request),
        output_fields=tuple(request.output_fields),
        partition_names=tuple(request.partition_names),
        iterator=_iterator(request, params) if _bool(params, "iterator") else None,
        read_ts=_read_ts(request),
        ignores_growing=ignores_growing(params),
        order_by=_listed(params, "order_by_fields"),
        group_by=_listed(params, "group_by_fields"),
        time_params={name: params[name] for name in ("timezone", "time_fields") if name in params},
    )


def _listed(params: Mapping[str, str], name: str) -> tuple[str, ...]:
    """The parts of a text with commas."""
    return tuple(part.strip() for part in params.get(name, "").split(",") if part.strip())


def _iterator(request: Any, params: Mapping[str, str]) -> QueryIterator:
    return QueryIterator(_iterator_ts(request), _int(params, "collection_id", 0))


def _iterator_ts(request: Any) -> int:
    """The timestamp from the first page; 0 for the first page itself."""
    given: int = request.guarantee_timestamp
    return min(given, MAX_TIMESTAMP) if given > _BOUNDED_TIMESTAMP else 0


def _bool(params: Mapping[str, str], name: str) -> bool:
    text = params.get(name, "False")
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ParameterInvalid(f"value for {name} is invalid", expected="true or false", actual=text)


def flush_targets(request: Any) -> list[tuple[str, tuple[str, ...]]]:
    """Databases, each with the named collections; none means all."""
    return [(target.db_name, tuple(target.collection_names)) for target in request.flush_targets]
