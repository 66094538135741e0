"""The rankers that requests name: their parameters, read with Milvus's texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from milvine.errors import MilvineError, ParameterInvalid, ParameterMissing, ServiceInternal
from milvine.model import json_text
from milvine.model.records import record
from milvine.model.requests import FunctionScore, RankFunction
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import DataType, MetricType
from milvine.model_services.access import Access
from milvine.model_services.client import ModelClient
from milvine.model_services.rerankers import reranker_of
from milvine.segment.decay import Curve, Decay
from milvine.service.context import Engine, RequestContext
from milvine.service.reading.ann_params import FALSE, TRUE
from milvine.service.reading.model_scores import ModelScores, TextScores
from milvine.service.reading.rank import Combination, DecayRescoring, Ranker
from milvine.storage.resource_files import ResourceFiles

_SCORE_MODES = {"max": Combination.MAX, "sum": Combination.SUM, "avg": Combination.AVG}
_LEAST_DECAY, _MOST_DECAY = 0.001, 0.999
_MAX_RRF_K = 16384
_DEFAULT_RRF_K = 60.0


def _invalid(text: str) -> ParameterInvalid:
    return ParameterInvalid(f"rerank_builder: {text}")


def reranker_name(function: RankFunction) -> str:
    """The kind of function, in small letters; "" if it is not named."""
    return next((value.lower() for name, value in function.params.items() if name.lower() == "reranker"), "")


def json_object(text: str, failed: str) -> dict[str, Any]:
    """The object of a JSON text; null is empty. Raises ParameterInvalid, which says what `failed`."""
    try:
        given = json_text.loads(text)
    except json_text.NotJson as error:
        raise ParameterInvalid(f"{failed}: {error}") from error
    if given is None:
        return {}
    if not isinstance(given, dict):
        kind = json_text.json_kind(given)
        raise ParameterInvalid(
            f"{failed}: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
        )
    return given


@record
class Models:
    """What model rankers need besides their parameters: services, or files. `deadline`: of the request; `nq`: the
    number of its queries."""

    client: ModelClient
    access: Access
    files: ResourceFiles
    deadline: float
    nq: int


def models_for(engine: Engine, context: RequestContext, nq: int) -> Models:
    return Models(engine.model_client, engine.rerankers, engine.resource_files, context.deadline, nq)


def of_function_score(
    score: FunctionScore, metrics: Sequence[MetricType], schema: CollectionSchema, models: Models
) -> Ranker | None:
    """None if all functions are boosts, which work in the segments. `metrics`: of each search."""
    if not score.functions:
        raise _invalid("no rerank functions specified")
    functions = [function for function in score.functions if reranker_name(function) != "boost"]
    if len(functions) > 1:
        raise _invalid("currently only supports one rerank function")
    return _of_function(functions[0], metrics, schema, models) if functions else None


def of_rank_params(params: Mapping[str, str], metrics: Sequence[MetricType], schema: CollectionSchema) -> Ranker:
    """The ranker of a hybrid search without functions; RRF if none is named."""
    try:
        function = _as_function(params)
    except ParameterInvalid as error:
        raise _invalid(error.message) from error
    return _of_function(function, metrics, schema)


def _as_function(rank_params: Mapping[str, str]) -> RankFunction:
    name = "rrf"
    given: dict[str, Any] = {}
    for key, value in rank_params.items():
        if key.lower() == "strategy":
            name = value.lower()
        elif key.lower() == "params":
            given = json_object(value, "parse rerank params failed")
    params = {"reranker": name}
    if name == "rrf":
        if "k" in given:
            k = given["k"]
            if isinstance(k, bool) or not isinstance(k, int | float):
                raise ParameterInvalid("the type of rank param k should be float")
            params["k"] = repr(float(k))
    elif name == "weighted":
        if "weights" in given:
            params["weights"] = json_text.dumps(given["weights"]).decode()
        if "norm_score" in given:
            params["norm_score"] = _bool_text(given["norm_score"])
    else:
        raise ParameterInvalid(f"unsupported rank type {name}")
    return RankFunction(name="", input_fields=(), params=params)


def _bool_text(given: object) -> str:
    if isinstance(given, bool):
        return str(given)
    if isinstance(given, str) and given in TRUE | FALSE:
        return given
    raise ParameterInvalid("the type of rank param norm_score should be bool")


def _of_function(
    function: RankFunction, metrics: Sequence[MetricType], schema: CollectionSchema, models: Models | None = None
) -> Ranker:
    params = {key.lower(): value for key, value in function.params.items()}
    name = reranker_name(function)
    if not name:
        raise ParameterMissing("rerank_builder: reranker name not specified")
    if name == "rrf":
        return Ranker(Combination.RRF, tuple(metrics), rrf_k=_rrf_k(params))
    if name == "weighted":
        return _weighted(params, metrics)
    if name == "decay":
        return _decaying(function, params, metrics, schema)
    if name == "model" and models is not None:
        return Ranker(Combination.MAX, tuple(metrics), rescoring=_model_scores(models, function, params, schema))
    raise _invalid(f"unsupported reranker {name}")


def is_readable(kind: DataType) -> bool:
    """Whether functions that rank can read fields of this type at all."""
    return kind.is_integer or kind.is_floating or kind in (DataType.BOOL, DataType.VARCHAR)


def _input_field(function: RankFunction, kind: str, schema: CollectionSchema) -> FieldSchema:
    if len(function.input_fields) != 1:
        raise _invalid(f"{kind} reranker requires exactly 1 input field, got {len(function.input_fields)}")
    field = schema.by_name.get(function.input_fields[0])
    if field is None or field.is_dynamic:
        raise _invalid(f"input field {function.input_fields[0]} not found in collection schema")
    if not is_readable(field.data_type):
        raise ServiceInternal(f"unsupported field type: {field.data_type.milvus_name}")
    return field


def _model_scores(
    models: Models, function: RankFunction, params: Mapping[str, str], schema: CollectionSchema
) -> ModelScores:
    field = _input_field(function, "model", schema)
    if field.data_type is not DataType.VARCHAR:
        raise _invalid(f"model input field {field.name} must be VarChar, got {field.data_type.milvus_name}")
    queries = _queries(function.params)
    try:
        reranker = reranker_of(models.client, models.access, params)
    except MilvineError as error:
        raise _invalid(error.message) from error
    if len(queries) != models.nq:
        raise ParameterInvalid(f"rerank_model: queries count ({len(queries)}) != nq count ({models.nq})")
    return ModelScores(field.field_id, TextScores(reranker, queries, models.deadline))


def _queries(params: Mapping[str, str]) -> tuple[str, ...]:
    if "queries" not in params:
        raise _invalid("rerank function missing required param: queries")
    failed = "parse rerank params [queries] failed"
    try:
        given = json_text.loads(params["queries"])
    except json_text.NotJson as error:
        raise _invalid(f"{failed}: {error}") from error
    if given is not None and not isinstance(given, list):
        raise _invalid(f"{failed}: json: cannot unmarshal {json_text.json_kind(given)} into Go value of type []string")
    if not given:
        raise ParameterMissing("rerank_builder: rerank queries must not be empty")
    for query in given:
        if not isinstance(query, str):
            kind = json_text.json_kind(query)
            raise _invalid(f"{failed}: json: cannot unmarshal {kind} into Go value of type string")
    return tuple(given)


def number(text: str) -> float:
    """As Go's ParseFloat reads it. Raises ValueError."""
    if "_" in text or text != text.strip():
        raise ValueError(text)
    return float(text)


def _decaying(
    function: RankFunction, params: Mapping[str, str], metrics: Sequence[MetricType], schema: CollectionSchema
) -> Ranker:
    given = {name: _decay_number(params, name) for name in ("origin", "scale", "offset", "decay") if name in params}
    for name in ("function", "origin", "scale"):
        if name not in params:
            raise ParameterMissing(f"decay {name} not specified")
    mode = params.get("score_mode", "max").lower()
    if mode not in _SCORE_MODES:
        raise ParameterInvalid(f"unsupported score_mode: {mode}, only supports [max, sum, avg]")
    field = _input_field(function, "decay", schema)
    if not field.data_type.is_integer and not field.data_type.is_floating:
        raise _invalid(f"decay input field {field.name} must be numeric, got {field.data_type.milvus_name}")
    try:
        decay = decay_of(
            params["function"].lower(),
            given["origin"],
            given["scale"],
            offset=given.get("offset", 0.0),
            decay=given.get("decay", 0.5),
        )
    except ParameterInvalid as error:
        raise _invalid(error.message) from error
    normalizes = params.get("norm_score") in TRUE
    return Ranker(
        _SCORE_MODES[mode], tuple(metrics), normalizes=normalizes, rescoring=DecayRescoring(field.field_id, decay)
    )


def _decay_number(params: Mapping[str, str], name: str) -> float:
    try:
        return number(params[name])
    except ValueError:
        raise ParameterInvalid(f"decay param {name}: {params[name]} is not a number") from None


def decay_of(function: str, origin: float, scale: float, *, offset: float, decay: float) -> Decay:
    """Raises ParameterInvalid."""

    def refused(text: str) -> ParameterInvalid:
        return ParameterInvalid(f"decay: {text}")

    if not scale > 0:
        raise refused(f"scale must be > 0, got {scale:f}")
    if not offset >= 0:
        raise refused(f"offset must be >= 0, got {offset:f}")
    if not 0 < decay < 1:
        raise refused(f"decay must be 0 < decay < 1, got {decay:f}")
    if not _LEAST_DECAY <= decay <= _MOST_DECAY:
        bounds = f"{_LEAST_DECAY:f} and {_MOST_DECAY:f}"
        raise refused(f"decay must be between {bounds} for numerical stability, got {decay:f}")
    try:
        return Decay(Curve(function), origin, scale, offset, decay)
    except ValueError:
        raise refused(f'invalid function "{function}", must be one of [gauss, exp, linear]') from None


def _rrf_k(params: Mapping[str, str]) -> float:
    if "k" not in params:
        return _DEFAULT_RRF_K
    try:
        k = number(params["k"])
    except ValueError:
        raise ParameterInvalid(f"{params['k']} is not a number") from None
    if not 0 < k < _MAX_RRF_K:
        raise ParameterInvalid(f"The rank params k should be in range (0, {_MAX_RRF_K})")
    return k


def _weighted(params: Mapping[str, str], metrics: Sequence[MetricType]) -> Ranker:
    weights = _weights(params["weights"]) if "weights" in params else ()
    norm_score = params.get("norm_score", "false")
    if norm_score not in TRUE | FALSE:
        raise ParameterInvalid(f'failed to parse norm_score: strconv.ParseBool: parsing "{norm_score}": invalid syntax')
    if not weights:
        raise _invalid("weighted reranker requires weights parameter")
    if len(weights) != len(metrics):
        raise ParameterInvalid(
            "the length of weights param mismatch with ann search requests",
            expected=len(metrics),
            actual=len(weights),
        )
    return Ranker(Combination.SUM, tuple(metrics), weights=weights, normalizes=norm_score in TRUE)


def _weights(text: str) -> tuple[float, ...]:
    failed = "failed to parse weights"
    try:
        given = json_text.loads(text)
    except json_text.NotJson as error:
        raise ParameterInvalid(f"{failed}: {error}") from error
    if given is None:
        return ()
    if not isinstance(given, list):
        kind = json_text.json_kind(given)
        raise ParameterInvalid(f"{failed}: json: cannot unmarshal {kind} into Go value of type []float64")
    for weight in given:
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            kind = json_text.json_kind(weight)
            raise ParameterInvalid(f"{failed}: json: cannot unmarshal {kind} into Go value of type float64")
        if not 0 <= weight <= 1:
            raise ParameterInvalid("rank param weight should be in range [0, 1]")
    return tuple(map(float, given))
