"""Tree + schema + template values -> predicate. Names, types and texts are Milvus's (planparserv2).

Beyond Milvus: `not` binds weaker than comparisons (`not a == 1` is refused there), and a float literal against an
integer field is compared exactly instead of refused. `in` lists and chained ranges keep Milvus's stricter rules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NoReturn

from milvine.errors import ParameterInvalid
from milvine.expr import predicate as bound
from milvine.expr import tree
from milvine.expr.errors import NULL_LITERAL, FilterError, PlanError
from milvine.expr.like import unescape_pattern
from milvine.expr.literals import INT64_MAX, INT64_MIN
from milvine.expr.parser import parse
from milvine.expr.predicate import Always, Compare, In, LiteralSet, Predicate, Target, literal_set
from milvine.expr.tree import Comparator, Node, Scalar
from milvine.model.schema import CollectionSchema
from milvine.model.types import DataType

Value = Scalar | Sequence[Scalar]

_EQUALITY = (Comparator.EQ, Comparator.NE)
_LITERAL_TYPES: dict[type, DataType] = {
    bool: DataType.BOOL,
    int: DataType.INT64,
    float: DataType.DOUBLE,
    str: DataType.VARCHAR,
}
BEYOND_INT64 = 2**64
"""An integer that no row holds; numpy compares it with int64 arrays correctly."""


def compile_filter(
    text: str,
    schema: CollectionSchema,
    loaded_field_ids: frozenset[int] | None = None,
    templates: Mapping[str, object] | None = None,
) -> Predicate:
    """Parse and bind a filter that is not blank. Raises ParameterInvalid with Milvus's text."""
    try:
        return bind(
            parse(text), schema, loaded_field_ids=loaded_field_ids, templates=templates, text=text
        )
    except PlanError as error:
        raise ParameterInvalid(error.message) from error
    except FilterError as error:
        raise ParameterInvalid(f"cannot parse expression: {text}, error: {error.message}") from error


def bind(
    node: Node,
    schema: CollectionSchema,
    *,
    loaded_field_ids: frozenset[int] | None = None,
    templates: Mapping[str, object] | None = None,
    text: str | None = None,
) -> Predicate:
    """`loaded_field_ids` None: all are loaded. `text` is quoted in messages. Raises FilterError or PlanError."""
    return _Binder(schema, loaded_field_ids, templates or {}).filter(node, text)


def integer_equivalent(comparator: Comparator, value: float) -> tuple[Comparator, int]:
    """The comparison with an integer that every int64 answers as it answers the one with the float `value`."""
    if math.isnan(value):
        return comparator, -BEYOND_INT64 if comparator in (Comparator.LT, Comparator.LE) else BEYOND_INT64
    if math.isinf(value):
        return comparator, BEYOND_INT64 if value > 0 else -BEYOND_INT64
    if value.is_integer():
        return comparator, int(value)
    if comparator in _EQUALITY:
        return comparator, BEYOND_INT64
    return comparator, (math.ceil if comparator in (Comparator.LT, Comparator.GE) else math.floor)(value)


class _Binder:
    def __init__(
        self,
        schema: CollectionSchema,
        loaded_field_ids: frozenset[int] | None,
        templates: Mapping[str, object],
    ) -> None:
        self._schema = schema
        self._loaded_field_ids = loaded_field_ids
        self._templates = templates

    def filter(self, node: Node, text: str | None) -> Predicate:
        operand = self._operand(node)
        if isinstance(operand, Predicate):
            return operand
        data_type = operand.data_type.milvus_name if isinstance(operand, Target) else _type_name(operand)
        raise PlanError(
            f"predicate is not a boolean expression: {text or node}, data type: {data_type}", node.position
        )

    def _operand(self, node: Node) -> Predicate | Target | tree.Template | tree.Literal | tree.LiteralList:
        """What `node` stands for; the literals true and false, and constants that fold to them, are predicates."""
        match node:
            case tree.Column():
                return self._target(node)
            case tree.Literal(_, bool(value)):
                return Always(value)
            case tree.Literal() | tree.LiteralList() | tree.Template():
                return node
            case tree.And():
                return bound.conjunction([self._boolean(n, "'and'", node) for n in node.operands])
            case tree.Or():
                return bound.disjunction([self._boolean(n, "'or'", node) for n in node.operands])
            case tree.Not():
                return bound.negation(self._boolean(node.operand, "not op", node))
            case tree.Comparison():
                return self._comparison(node)
            case tree.ChainedRange():
                return self._chained_range(node)
            case tree.Membership():
                return self._membership(node)
            case tree.Like():
                return self._like(node)
            case tree.IsNull():
                return self._is_null(node)
            case tree.Exists():
                return self._exists(node)

    def _boolean(self, node: Node, who: str, parent: Node) -> Predicate:
        operand = self._operand(node)
        if isinstance(operand, Predicate):
            return operand
        if isinstance(parent, tree.Not):
            is_constant = isinstance(operand, tree.Literal | tree.LiteralList)
            reason = "not can only apply on boolean" if is_constant else f"{who} can only be applied on boolean expression"
            raise FilterError(reason, node.position)
        raise FilterError(f"{who} can only be used between boolean expressions", node.position)

    def _target(self, column: tree.Column) -> Target:
        name, path = column.name, column.path
        field = self._schema.by_name.get(name)
        if field is None and name.lower() == "null":
            raise FilterError(NULL_LITERAL, column.position)
        if field is None:
            field, path = self._schema.dynamic_field, (name, *path)
            if field is None:
                raise FilterError(f"field {name} not exist", column.position)
            if not self._is_loaded(field.field_id):
                reason = f"field {name} is dynamic but dynamic field is not loaded"
                raise FilterError(reason, column.position)
        elif not self._is_loaded(field.field_id):
            raise FilterError(f"field {name} is not loaded", column.position)
        if path and field.data_type is not DataType.JSON:
            reason = f"{field.data_type.milvus_name} data type not supported accessed with []"
            raise FilterError(reason, column.position)
        return Target(field.field_id, field.data_type, field.nullable, field.is_primary, path)

    def _is_loaded(self, field_id: int) -> bool:
        return self._loaded_field_ids is None or field_id in self._loaded_field_ids

    def _template(self, template: tree.Template, kind: str = "value") -> Value:
        if template.name not in self._templates:
            raise PlanError(
                f"the {kind} of expression template variable name {template} is not found", template.position
            )
        value = self._templates[template.name]
        match value:
            case bool() | float() | str():
                return value
            case int() if INT64_MIN <= value <= INT64_MAX:
                return value
            case list() | tuple() if set(map(type, value)) <= _LITERAL_TYPES.keys():
                return value
        raise PlanError("expression elements can only be scalars", template.position)

    def _comparison(self, node: tree.Comparison) -> Predicate:
        left, right = _unfold(self._operand(node.left)), _unfold(self._operand(node.right))
        if isinstance(left, _Constant) and isinstance(right, _Constant):
            return _fold(node, left, right)
        if isinstance(left, Target) and isinstance(right, Target):
            return self._field_comparison(node, left, right)
        if isinstance(left, Target) and isinstance(right, _Constant):
            return self._value_comparison(node, left, node.comparator, right)
        if isinstance(right, Target) and isinstance(left, _Constant):
            return self._value_comparison(node, right, node.comparator.mirrored, left)
        raise FilterError("not supported to combine multiple fields", node.position)

    def _field_comparison(self, node: tree.Comparison, left: Target, right: Target) -> Predicate:
        if not _are_comparable(left.data_type, right.data_type):
            _refuse_comparison(node, left.data_type.milvus_name, right.data_type.milvus_name)
        if DataType.JSON in (left.data_type, right.data_type):
            raise FilterError("two column comparison with JSON type is not supported", node.position)
        if left.data_type is DataType.BOOL and node.comparator not in _EQUALITY:
            _refuse_comparison(node, "Bool", "Bool")
        return bound.CompareFields(left, node.comparator, right)

    def _value_comparison(
        self, node: tree.Comparison, target: Target, comparator: Comparator, constant: _Constant
    ) -> Predicate:
        is_template = isinstance(constant, tree.Template)
        value = self._template(constant) if is_template else _literal_value(constant)
        data_type = target.data_type
        if not _accepts(data_type, value) or (isinstance(value, bool) and comparator not in _EQUALITY):
            if is_template:
                raise PlanError(_cannot_cast(data_type, value), node.position)
            names = [data_type.milvus_name, _type_name(value)]
            _refuse_comparison(node, *(names if comparator is node.comparator else names[::-1]))
        _refuse_json_root(target, node)
        return _compare(target, comparator, value)
