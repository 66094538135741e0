"""Function chains of a search: read and checked with Milvus's texts, ready to run.

A chain of stage L0 gives the nearest rows of each segment new scores; one of stage L2 ranks the hits of the search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from milvine.errors import ParameterInvalid, ParameterMissing, ServiceInternal
from milvine.model.columns import ARROW_TYPES
from milvine.model.records import record
from milvine.model.requests import ChainExpression, ChainOperator, FunctionChain
from milvine.model.schema import CollectionSchema
from milvine.model_services.rerankers import reranker_of
from milvine.segment.chains import (
    COMBINATIONS,
    ID,
    SCORE,
    DecayFactor,
    Expression,
    MapOperator,
    NumCombine,
    RoundDecimal,
    SegmentChain,
)
from milvine.segment.tree_models import TreeScores
from milvine.service.reading.chain_operators import (
    GroupOperator,
    LimitOperator,
    Operator,
    SearchChain,
    SelectOperator,
    SortOperator,
)
from milvine.service.reading.chain_params import Params
from milvine.service.reading.model_scores import TextScores
from milvine.service.reading.rank import GroupScorer
from milvine.service.reading.rankers import Models, decay_of, is_readable

_STAGES = ("Unspecified", "Ingestion", "PreProcess", "L0Rerank", "L1Rerank", "L2Rerank", "PostProcess")
_L0, _L1, _L2 = (_STAGES.index(name) for name in ("L0Rerank", "L1Rerank", "L2Rerank"))
_STAGE_TEXTS = {_L0: "L0_rerank", _L2: "L2_rerank"}
_MAX_OPERATORS = 256
_MAX_ROUND_DECIMAL = 6
_GO_ARRAYS = {
    pa.bool_(): "*array.Boolean",
    pa.int8(): "*array.Int8",
    pa.int16(): "*array.Int16",
    pa.int32(): "*array.Int32",
    pa.int64(): "*array.Int64",
    pa.float32(): "*array.Float32",
    pa.float64(): "*array.Float64",
    pa.string(): "*array.String",
}
_ASCENDING_TYPES = frozenset(_GO_ARRAYS) - {pa.bool_()}
Types = dict[str, Any]


def stage_name(stage: int) -> str:
    """Milvus's name of a stage; the number of one that it does not know."""
    return f"FunctionChainStage{_STAGES[stage]}" if 0 <= stage < len(_STAGES) else str(stage)


STAGES = {stage_name(number): number for number in range(1, len(_STAGES))}
"""The numbers of the stages by Milvus's names."""


@record
class Chains:
    """At most one chain of each stage."""

    of_segments: SegmentChain | None = None
    of_search: SearchChain | None = None

    @property
    def field_ids(self) -> tuple[int, ...]:
        """The fields that must be fetched with the hits."""
        return () if self.of_search is None else tuple(self.of_search.fields.values())


def chains_of(chains: Sequence[FunctionChain], schema: CollectionSchema, models: Models) -> Chains:
    """Raises ParameterInvalid, ParameterMissing and ServiceInternal."""
    found = Chains()
    seen: set[int] = set()
    for place, chain in enumerate(chains):
        name = stage_name(chain.stage)
        if chain.stage in seen:
            raise ParameterInvalid(f"function chain stage {name} appears more than once")
        seen.add(chain.stage)
        if chain.stage == _L1:
            raise ParameterInvalid(f"function chain[{place}] stage {name} is not supported yet")
        if chain.stage not in _STAGE_TEXTS:
            raise ParameterInvalid(f"function chain[{place}] stage {name} is not supported in search request")
    for chain in sorted(chains, key=lambda chain: -chain.stage):
        if chain.stage == _L2:
            found = replace(found, of_search=_search_chain(chain, schema, models))
        else:
            found = replace(found, of_segments=_segment_chain(chain, schema, models))
    return found


def _search_chain(chain: FunctionChain, schema: CollectionSchema, models: Models) -> SearchChain:
    _check_count(chain, "function chain[0]")
    try:
        steps = _normalized(chain)
        for place, step in enumerate(steps):
            for name in step.inputs:
                if name.startswith("$"):
                    _check_readable(name, f'op[{place}] input "{name}": ')
            for name in step.outputs:
                if name.startswith("$") and name != SCORE:
                    text = f'system output "{name}" is not writable by L2 rerank function chain'
                    raise ParameterInvalid(ParameterInvalid(f'op[{place}] output "{name}": {text}').message)
    except ParameterInvalid as error:
        raise ParameterInvalid(f"function chain[0]: {error.message}") from error
    fields = _input_fields(steps, schema)
    types = _types(fields, schema)
    build = _Build(_L2, types, models)
    operators = [build.operator(place, step) for place, step in enumerate(steps)]
    return SearchChain(operators, fields)


def _check_readable(name: str, place: str) -> None:
    if name not in (ID, SCORE):
        text = f'system input "{name}" is not supported by L2 rerank function chain'
        raise ParameterInvalid(f"{place}{ParameterInvalid(text).message}")


def _segment_chain(chain: FunctionChain, schema: CollectionSchema, models: Models) -> SegmentChain:
    where = "querynode function chain[0]"
    _check_count(chain, where)
    try:
        steps = _normalized(chain)
        for place, step in enumerate(steps):
            if step.name != "map":
                raise ParameterInvalid(f'op[{place}] type "{step.name}" is not supported by L0 rerank function chain')
        for place, step in enumerate(steps):
            for name in step.outputs:
                if name.startswith("$") and name != SCORE:
                    text = f'op[{place}] system output "{name}" is not writable by L0 rerank function chain'
                    raise ParameterInvalid(text)
        for step in steps:
            for name in step.inputs:
                if name.startswith("$") and name not in (ID, SCORE):
                    raise ParameterInvalid(f'system input "{name}" is not readable by L0 rerank function chain')
        fields = _input_fields(steps, schema)
    except ParameterInvalid as error:
        raise error.prefixed(where) from error
    build = _Build(_L0, _types(fields, schema), models)
    maps = tuple(build.map_operator(place, step) for place, step in enumerate(steps))
    return SegmentChain(maps, fields, schema.primary_field.field_id)


def _check_count(chain: FunctionChain, where: str) -> None:
    if not chain.operators:
        raise ParameterInvalid(f"{where} must contain at least one op")
    if len(chain.operators) > _MAX_OPERATORS:
        raise ParameterInvalid(f"{where} has more than {_MAX_OPERATORS} ops")


@record
class _Step:
    """An operator with names trimmed; `inputs` of one with an expression are the expression's columns."""

    name: str
    expression: ChainExpression | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: Mapping[str, object]


def _normalized(chain: FunctionChain) -> list[_Step]:
    steps = []
    for place, operator in enumerate(chain.operators):
        try:
            steps.append(_step(operator))
        except ParameterInvalid as error:
            raise ParameterInvalid(f"op[{place}]: {error.message}") from error
    return steps


def _step(operator: ChainOperator) -> _Step:
    name = operator.name.strip()
    if not name:
        raise ParameterInvalid("op name is empty")
    inputs, outputs = _names(operator.inputs, "input"), _names(operator.outputs, "output")
    expression = operator.expression
    if expression is not None:
        expression = replace(expression, name=expression.name.strip())
        if not expression.name:
            raise ParameterInvalid("expr name is empty")
        inputs = _columns(expression)
    return _Step(name, expression, inputs, outputs, operator.params)


def _names(names: Sequence[str], label: str) -> tuple[str, ...]:
    trimmed = tuple(name.strip() for name in names)
    if "" in trimmed:
        raise ParameterInvalid(f"{label} name is empty")
    return trimmed


def _columns(expression: ChainExpression) -> tuple[str, ...]:
    """Each column once, in order."""
    columns: dict[str, None] = {}
    for place, argument in enumerate(expression.arguments):
        try:
            if not argument.is_set:
                raise ParameterInvalid("function chain expr arg is unset")
            if argument.column is not None:
                if not argument.column.strip():
                    raise ParameterInvalid("column name is empty")
                columns[argument.column.strip()] = None
        except ParameterInvalid as error:
            raise ParameterInvalid(f"expr arg[{place}]: {error.message}") from error
    return tuple(columns)


def _input_fields(steps: Sequence[_Step], schema: CollectionSchema) -> dict[str, int]:
    """The ids of the fields that the chain reads, by name."""
    fields: dict[str, int] = {}
    made: set[str] = set()
    for step in steps:
        for name in step.inputs:
            if name in made or name.startswith("$"):
                continue
            field = schema.by_name.get(name)
            if field is None:
                text = f'function chain input "{name}" is neither a previous output nor a collection field'
                raise ParameterInvalid(text)
            kind = field.data_type
            if not is_readable(kind):
                raise ParameterInvalid(f'function chain input "{name}" has unsupported field type {kind.milvus_name}')
            fields[name] = field.field_id
        made.update(step.outputs)
    return fields


def _types(fields: Mapping[str, int], schema: CollectionSchema) -> Types:
    """The Arrow type of each column at the start."""
    types: Types = {ID: ARROW_TYPES[schema.primary_field.data_type], SCORE: pa.float32()}
    return types | {name: ARROW_TYPES[schema.by_id[field_id].data_type] for name, field_id in fields.items()}


@dataclass(slots=True)
class _Build:
    """Makes operators in turn. `types` are those of the columns that there are so far."""

    stage: int
    types: Types
    models: Models

    def operator(self, place: int, step: _Step) -> Operator:
        if step.name == "map":
            return self.map_operator(place, step)
        try:
            if step.name == "filter":
                return self._filter(step)
            make = _OPERATORS.get(step.name)
            if make is None:
                raise ParameterInvalid(f"unknown operator type: {step.name}")
            return make(self, step)
        except (ParameterInvalid, ParameterMissing) as error:
            raise ServiceInternal(f"operator[{place}]: {error.message}") from error

    def map_operator(self, place: int, step: _Step) -> MapOperator:
        try:
            if step.expression is None:
                raise ParameterInvalid("map operator requires function")
            try:
                make, params = self._function(step)
            except ParameterInvalid as error:
                raise ParameterInvalid(f"map function: {error.message}") from error
            if not step.inputs:
                raise ParameterInvalid("map operator requires inputs")
            if not step.outputs:
                raise ParameterInvalid("map operator requires outputs")
            if len(step.outputs) != 1:
                text = "output columns count ({}) must match function output types count (1)"
                raise ServiceInternal(f"map_op: {text.format(len(step.outputs))}")
        except (ParameterInvalid, ServiceInternal) as error:
            raise ServiceInternal(f"operator[{place}]: {error.message}") from error
        name = step.expression.name
        if _FUNCTION_STAGES.get(name, self.stage) != self.stage:
            stage = _STAGE_TEXTS[self.stage]
            raise ParameterInvalid(f'operator[{place}] function "{name}" does not support stage "{stage}"')
        self._check_there("map_op", step.inputs)
        _TYPE_CHECKS[name](params, [self.types[name] for name in step.inputs])
        self.types[step.outputs[0]] = pa.float32()
        return MapOperator(make, step.inputs, step.outputs[0])

    def _function(self, step: _Step) -> tuple[Expression, Params]:
        assert step.expression is not None
        name = step.expression.name
        make = _FUNCTIONS.get(name)
        if make is None:
            raise ParameterInvalid(f"unknown function: {name}")
        params = Params(name, step.expression.params)
        made = make(params, self.models)
        for place, argument in enumerate(step.expression.arguments):
            if argument.column is None:
                raise ParameterInvalid(f"{name}: literal expr arg[{place}] is not supported")
        return made, params

    def _filter(self, step: _Step) -> Operator:
        """No function of Milvus returns the booleans that a filter needs."""
        if step.expression is None:
            raise ParameterMissing("filter_op: function is required")
        try:
            self._function(step)
        except ParameterInvalid as error:
            raise ParameterInvalid(f"filter function: {error.message}") from error
        if not step.inputs:
            raise ParameterMissing("filter_op: inputs is required")
        raise ParameterInvalid("filter_op: function must return boolean type, got float32")

    def _check_there(self, scope: str, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.types:
                raise ServiceInternal(f'{scope}: column "{name}" not found')

    def sort(self, step: _Step) -> SortOperator:
        if not step.inputs:
            raise ParameterMissing("sort_op: column is required")
        if len(step.inputs) > 2:
            raise ParameterInvalid(f"sort_op: expects at most 2 input columns, got {len(step.inputs)}")
        is_descending = Params("sort_op", step.params).flag("desc")
        column = step.inputs[0]
        self._check_there("sort_op", [column])
        if self.types[column] not in _ASCENDING_TYPES:
            raise ServiceInternal(f"sort_op: column {column} has non-comparable type bool")
        tie_break = step.inputs[1] if len(step.inputs) > 1 else ID
        return SortOperator(column, is_descending, tie_break if self.types.get(tie_break) in _ASCENDING_TYPES else None)

    def limit(self, step: _Step) -> LimitOperator:
        params = Params("limit_op", step.params)
        return LimitOperator(_positive(params, "limit"), _offset(params))

    def select(self, step: _Step) -> SelectOperator:
        columns = Params("select_op", step.params).texts("columns")
        if not columns:
            raise ParameterMissing("select_op: columns is required")
        self._check_there("select_op", columns)
        self.types = {name: of for name, of in self.types.items() if name in columns or name.startswith("$")}
        return SelectOperator(columns)

    def group_by(self, step: _Step) -> GroupOperator:
        params = Params("group_by_op", step.params)
        field = params.text("field", is_required=True)
        if not field:
            raise ParameterMissing("group_by_op: field is required")
        size, limit, offset = _positive(params, "group_size"), _positive(params, "limit"), _offset(params)
        name = params.text("scorer") or GroupScorer.MAX
        if name not in list(GroupScorer):
            raise ParameterInvalid(f'invalid group scorer "{name}", must be max/sum/avg').prefixed("group_by_op")
        self._check_there("group_by_op", [field])
        return GroupOperator(field, GroupScorer(name), size, limit, offset)


def _positive(params: Params, key: str) -> int:
    number = params.whole(key)
    if number <= 0:
        raise ParameterInvalid(f"{params.scope}: {key} must be positive")
    return number


def _offset(params: Params) -> int:
    offset = params.whole("offset", default=0)
    if offset < 0:
        raise ParameterInvalid(f"{params.scope}: offset must be non-negative")
    return offset


def _num_combine(params: Params, _: Models) -> Expression:
    mode, weights = params.text("mode") or "multiply", params.numbers("weights")
    if mode not in COMBINATIONS:
        modes = ", ".join(COMBINATIONS)
        raise ParameterInvalid(f'num_combine: invalid mode "{mode}", must be one of [{modes}]')
    if mode == "weighted" and not weights:
        raise ParameterInvalid("num_combine: weighted mode requires weights")
    return NumCombine(mode, weights)


def _decay(params: Params, _: Models) -> Expression:
    given = {
        "function": params.text("function", is_required=True),
        "origin": params.number("origin"),
        "scale": params.number("scale"),
        "offset": params.number("offset", default=0.0),
        "decay": params.number("decay", default=0.5),
    }
    return DecayFactor(decay_of(**given))  # type: ignore[arg-type]


def _round_decimal(params: Params, _: Models) -> Expression:
    decimals = params.whole("decimal")
    if not 0 <= decimals <= _MAX_ROUND_DECIMAL:
        raise ParameterInvalid(f"round_decimal: decimal must be in range [0, {_MAX_ROUND_DECIMAL}], got {decimals}")
    return RoundDecimal(decimals)


def _rerank_model(params: Params, models: Models) -> Expression:
    queries = params.texts("queries", is_required=True)
    given = {key.lower(): text for key, text in params.as_texts(without="queries").items()}
    reranker = reranker_of(models.client, models.access, given)
    if not queries:
        raise ParameterMissing("rerank_model: queries must not be empty")
    if len(queries) != models.nq:
        raise ParameterInvalid(f"rerank_model: queries count ({len(queries)}) != nq count ({models.nq})")
    return TextScores(reranker, queries, models.deadline)


def _xgboost(params: Params, models: Models) -> Expression:
    for key in params.values:
        if key in ("feature_names", "objective"):
            raise ParameterInvalid(f'xgboost: parameter "{key}" is not supported')
        if key not in ("model_resource", "output"):
            raise ParameterInvalid(f'xgboost: unknown parameter "{key}"')
    resource, output = params.text("model_resource", is_required=True), params.text("output") or "default"
    if not resource:
        raise ParameterInvalid("xgboost: model_resource is required")
    if output not in ("default", "raw"):
        raise ParameterInvalid(f'xgboost: output must be one of [default, raw], got "{output}"')
    return TreeScores(models.files, resource, is_raw=output == "raw")


def _check_numbers(params: Params, types: Sequence[Any]) -> None:
    if len(types) < 2:
        raise ParameterInvalid(f"num_combine: expected at least 2 input columns, got {len(types)}")
    weights = params.numbers("weights")
    if params.text("mode") == "weighted" and len(weights) != len(types):
        raise ParameterInvalid(f"num_combine: weighted mode requires {len(types)} weights, got {len(weights)}")
    for place, one in enumerate(types):
        if not _is_number(one):
            kind = f"unsupported input column type {_GO_ARRAYS[one]}, expected numeric type"
            raise ParameterInvalid(f"num_combine: column {place}: {kind}")


def _check_decay(_: Params, types: Sequence[Any]) -> None:
    _check_one(types, "decay: expected 1 input column")
    if not _is_number(types[0]):
        text = f"unsupported input column type {_GO_ARRAYS[types[0]]}, expected numeric type"
        raise ServiceInternal(f"decay: {ParameterInvalid(text).message}")


def _check_score(_: Params, types: Sequence[Any]) -> None:
    _check_one(types, "round_decimal: expected 1 input column")
    if types[0] != pa.float32():
        raise ParameterInvalid(f"round_decimal: input chunk 0 must be Float32, got {_GO_ARRAYS[types[0]]}")


def _check_text(_: Params, types: Sequence[Any]) -> None:
    _check_one(types, "rerank_model: expected 1 input column (text)")
    if types[0] != pa.string():
        raise ServiceInternal(f"rerank_model: input column must be String/VarChar, got {_GO_ARRAYS[types[0]]}")


def _check_features(_: Params, types: Sequence[Any]) -> None:
    for place, one in enumerate(types):
        if not _is_number(one):
            kind = f"unsupported input column type {_GO_ARRAYS[one]}, expected numeric type"
            raise ParameterInvalid(f"xgboost: column {place}: {kind}")


def _check_one(types: Sequence[Any], text: str) -> None:
    if len(types) != 1:
        raise ServiceInternal(f"{text}, got {len(types)}")


def _is_number(one: Any) -> bool:
    return bool(pa.types.is_integer(one) or pa.types.is_floating(one))


_FUNCTIONS: dict[str, Callable[[Params, Models], Expression]] = {
    "num_combine": _num_combine,
    "decay": _decay,
    "round_decimal": _round_decimal,
    "rerank_model": _rerank_model,
    "xgboost": _xgboost,
}
_FUNCTION_STAGES = {"rerank_model": _L2, "xgboost": _L0}
"""Functions that run in one stage only."""
_TYPE_CHECKS: dict[str, Callable[[Params, Sequence[Any]], None]] = {
    "num_combine": _check_numbers,
    "decay": _check_decay,
    "round_decimal": _check_score,
    "rerank_model": _check_text,
    "xgboost": _check_features,
}
_OPERATORS: dict[str, Callable[[_Build, _Step], Operator]] = {
    "sort": _Build.sort,
    "limit": _Build.limit,
    "select": _Build.select,
    "group_by": _Build.group_by,
}
