"""Tree + schema + template values -> predicate. Names, types and texts are Milvus's (planparserv2).

Beyond Milvus: `not` binds weaker than comparisons (`not a == 1` is refused there), and a float literal
against an integer field is compared exactly, not refused. `in` and chained ranges are as strict as there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn, TypeGuard, cast

from milvine.errors import ParameterInvalid
from milvine.expr import predicate as bound
from milvine.expr import tree
from milvine.expr.errors import NULL_LITERAL, FilterError, PlanError
from milvine.expr.folding import BIT_OPERATIONS, NAMES, SHIFT_BITS, fold
from milvine.expr.like import check_pattern
from milvine.expr.literals import INT64_MAX, INT64_MIN
from milvine.expr.parser import parse
from milvine.expr.predicate import (
    Always,
    Compare,
    CompareComputed,
    In,
    Predicate,
    Target,
    integer_equivalent,
    literal_set,
)
from milvine.expr.tree import Comparator, ContainsMode, Literal, LiteralList, Node, Operation, Scalar, Template
from milvine.model.schema import CollectionSchema
from milvine.model.types import DataType

Value = Scalar | Sequence[Scalar]
Constant = Literal | LiteralList | Template


@dataclass(frozen=True, slots=True)
class Computed:
    """`left operation right`, of which one at least is no literal. What a plan can do with it, its comparison tells."""

    left: Operand
    operation: Operation
    right: Operand
    data_type: DataType


Operand = Predicate | Target | Constant | Computed

_EQUALITY = (Comparator.EQ, Comparator.NE)
_LITERAL_TYPES: dict[type, DataType] = {
    bool: DataType.BOOL,
    int: DataType.INT64,
    float: DataType.DOUBLE,
    str: DataType.VARCHAR,
}


_CONTAINS_NAMES = {
    ContainsMode.ONE: ("contains", "Contains"),
    ContainsMode.ALL: ("contains_all", "ContainsAll"),
    ContainsMode.ANY: ("contains_any", "ContainsAny"),
}


def compile_filter(
    text: str,
    schema: CollectionSchema,
    loaded_field_ids: frozenset[int] | None = None,
    templates: Mapping[str, object] | None = None,
) -> Predicate:
    """Parse and bind a filter that is not blank. Raises ParameterInvalid with Milvus's text."""
    try:
        node = parse(text)
        return bind(node, schema, loaded_field_ids=loaded_field_ids, templates=templates, text=text)
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
    """`loaded_field_ids` None: all are loaded. `text` is quoted in messages. Raises FilterError."""
    return _Binder(schema, loaded_field_ids, templates or {}).root(node, text or str(node))


def parse_identifier(text: str, schema: CollectionSchema) -> Target | None:
    """What a field's name, or a path in a JSON field, stands for; None if `text` is no name. Raises FilterError."""
    node = parse(text)
    return _Binder(schema, None, {})._target(node) if isinstance(node, tree.Column) else None


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

    def root(self, node: Node, text: str) -> Predicate:
        operand = self._operand(node)
        if isinstance(operand, Predicate):
            return operand
        reason = f"predicate is not a boolean expression: {text}, data type: {_type_name(operand)}"
        raise PlanError(reason, node.position)

    def _operand(self, node: Node) -> Operand:
        """What `node` stands for. A constant that is true or false is Always, written or folded."""
        match node:
            case tree.Column():
                return self._target(node)
            case Literal(_, bool(value)):
                return Always(value)
            case Literal() | LiteralList() | Template():
                return node
            case tree.And():
                return bound.conjunction([self._boolean(n, "and") for n in node.operands])
            case tree.Or():
                return bound.disjunction(_gather([self._boolean(n, "or") for n in node.operands]))
            case tree.Not():
                return self._negation(node)
            case tree.Arithmetic():
                return self._arithmetic(node)
            case tree.Signed():
                return self._signed(node)
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
            case tree.Contains():
                return self._contains(node)
            case tree.ArrayLength():
                return self._array_length(node)

    def _boolean(self, node: Node, word: str) -> Predicate:
        operand = self._operand(node)
        if not isinstance(operand, Predicate):
            raise FilterError(f"'{word}' can only be used between boolean expressions", node.position)
        return operand

    def _negation(self, node: tree.Not) -> Predicate:
        operand = self._operand(node.operand)
        if isinstance(operand, Literal | LiteralList):
            raise FilterError("not can only apply on boolean", node.position)
        if not isinstance(operand, Predicate):
            raise FilterError("not op can only be applied on boolean expression", node.position)
        return bound.negation(operand)

    def _target(self, column: tree.Column) -> Target:
        name, path = column.name, column.path
        field = self._schema.by_name.get(name)
        if field is None:
            if name.lower() == "null":
                raise FilterError(NULL_LITERAL, column.position)
            field, path = self._schema.dynamic_field, (name, *path)
            if field is None:
                raise FilterError(f"field {name} not exist", column.position)
            if not self._is_loaded(field.field_id):
                reason = f"field {name} is dynamic but dynamic field is not loaded"
                raise FilterError(reason, column.position)
        if not self._is_loaded(field.field_id):
            raise FilterError(f"field {name} is not loaded", column.position)
        if field.data_type is DataType.ARRAY:
            if len(path) > 1 or any(isinstance(step, str) for step in path):
                raise PlanError("can only access array field with integer index", column.position)
        elif path and field.data_type is not DataType.JSON:
            reason = f"{field.data_type.milvus_name} data type not supported accessed with []"
            raise FilterError(reason, column.position)
        return Target(field.field_id, field.data_type, field.nullable, field.is_primary, path, field.element_type)

    def _is_loaded(self, field_id: int) -> bool:
        return self._loaded_field_ids is None or field_id in self._loaded_field_ids

    def _value(self, constant: Constant, kind: str = "value") -> Value:
        if isinstance(constant, Literal):
            return constant.value
        if isinstance(constant, LiteralList):
            return constant.values
        if constant.name not in self._templates:
            reason = f"the {kind} of expression template variable name {constant} is not found"
            raise PlanError(reason, constant.position)
        match self._templates[constant.name]:
            case bool() | float() | str() as value:
                return value
            case int(value) if INT64_MIN <= value <= INT64_MAX:
                return value
            case list() | tuple() as values if set(map(type, values)) <= _LITERAL_TYPES.keys():
                if all(INT64_MIN <= v <= INT64_MAX for v in values if type(v) is int):
                    return values
        raise PlanError("expression elements can only be scalars", constant.position)

    def _comparison(self, node: tree.Comparison) -> Predicate:
        left = _without_folding(self._operand(node.left), node.left)
        right = _without_folding(self._operand(node.right), node.right)
        if isinstance(left, Constant) and isinstance(right, Constant):
            return _fold(node, left, right)
        if isinstance(left, Target) and isinstance(right, Target):
            return _compare_fields(node, left, right)
        if isinstance(left, Target) and isinstance(right, Constant):
            return self._value_comparison(node, left, node.comparator, right)
        if isinstance(left, Constant) and isinstance(right, Target):
            return self._value_comparison(node, right, node.comparator.mirrored, left)
        if isinstance(left, Computed) and isinstance(right, Constant):
            return self._computed_comparison(node, left, node.comparator, right)
        if isinstance(left, Constant) and isinstance(right, Computed):
            return self._computed_comparison(node, right, node.comparator.mirrored, left)
        if isinstance(left, Computed | Target) and isinstance(right, Computed | Target):
            raise FilterError("only comparison between two fields is supported", node.position)
        raise FilterError("not supported to combine multiple fields", node.position)

    def _arithmetic(self, node: tree.Arithmetic) -> Operand:
        left = _without_folding(self._operand(node.left), node.left)
        right = _without_folding(self._operand(node.right), node.right)
        operation, text = node.operation, replace(node, is_enclosed=False)
        if isinstance(left, Literal) and isinstance(right, Literal):
            return fold(left, operation, right)
        if operation is Operation.POWER:
            raise FilterError(f"power can only apply on constants: {text}", node.position)
        if isinstance(left, Template | Literal) and isinstance(right, Template | Literal):
            sign = text if operation in BIT_OPERATIONS else operation
            reason = f"placeholder was not supported between two constants with operator: {sign}"
            raise FilterError(reason, node.position)
        for side in (left, right):
            if isinstance(side, Target) and side.value_type is DataType.ARRAY:
                raise FilterError("can not comparisons array fields directly", node.position)
        return Computed(left, operation, right, _computed_type(node, left, right))

    def _signed(self, node: tree.Signed) -> Operand:
        operand = self._operand(node.operand)
        if node.sign == "-":
            raise FilterError("unexpected op: -", node.position)
        if isinstance(operand, Template):
            raise FilterError(f"bitnot cannot be applied on placeholder: {node}", node.position)
        if isinstance(operand, Always | Constant):
            raise FilterError("bitnot can only apply on integer fields", node.position)
        if isinstance(operand, Target) and operand.value_type is DataType.ARRAY:
            raise FilterError("can not comparisons array fields directly", node.position)
        ones = Literal(node.position, -1, "-1")
        flipped = tree.Arithmetic(node.position, node.operand, Operation.BIT_XOR, ones)
        return Computed(operand, Operation.BIT_XOR, ones, _computed_type(flipped, operand, ones, "bitnot"))

    def _computed_comparison(
        self, node: tree.Comparison, computed: Computed, comparator: Comparator, constant: Constant
    ) -> Predicate:
        has_template = any(isinstance(o, Template) for o in (computed.left, computed.right, constant))
        value = self._value(constant)
        if not has_template and type(value) not in (int, float):
            names = [computed.data_type.milvus_name, _constant_type(constant)]
            _refuse_comparison(node, *(names[::-1] if constant.position < node.right.position else names))
        target, operand = _sides_of(computed, node)
        _refuse_json_root(target, node)
        number = self._value(operand, "right operand value")
        refusal = PlanError if isinstance(operand, Template) else FilterError
        data_type = _check_operand(computed.operation, target.value_type, number, operand.position, refusal)
        if not _accepts(data_type, value, is_strict=True):
            error = _cannot_cast(data_type, value, node.position)
            raise error if has_template else FilterError(error.message, node.position)
        kind = float if data_type is DataType.DOUBLE else int
        numbers = kind(cast(float, number)), kind(cast(float, value))
        return CompareComputed(target, computed.operation, numbers[0], comparator, numbers[1])

    def _value_comparison(
        self, node: tree.Comparison, target: Target, comparator: Comparator, constant: Constant
    ) -> Predicate:
        value = self._value(constant)
        if target.value_type is DataType.ARRAY and isinstance(value, list | tuple) and comparator in _EQUALITY:
            return _compare_array(node, target, comparator, value)
        is_ordered_boolean = isinstance(value, bool) and comparator not in _EQUALITY
        if is_ordered_boolean or not _accepts(target.value_type, value):
            if isinstance(constant, Template):
                raise _cannot_cast(target.value_type, value, constant.position)
            names = [target.type_name, _constant_type(constant)]
            _refuse_comparison(node, *(names[::-1] if constant.position < node.right.position else names))
        _refuse_json_root(target, node)
        return _compare(target, comparator, cast(Scalar, value))

    def _chained_range(self, node: tree.ChainedRange) -> Predicate:
        target = self._operand(node.middle)
        if not isinstance(target, Target):
            reason = f"range operations are only supported on single fields now, got: {node.middle}"
            raise FilterError(reason, node.middle.position)
        if target.value_type.is_vector or target.value_type is DataType.ARRAY:
            _refuse_comparison(node, target.type_name, "range")
        _refuse_json_root(target, node)
        is_upwards = node.first_comparator in (Comparator.LT, Comparator.LE)
        signs = node.first_comparator.mirrored, node.second_comparator
        sides = (node.first, node.last) if is_upwards else (node.last, node.first)
        lower_sign, upper_sign = signs if is_upwards else signs[::-1]
        lower = self._bound(sides[0], "lower", target)
        upper = self._bound(sides[1], "upper", target)
        _check_bounds(node, (lower, lower_sign is Comparator.GE), (upper, upper_sign is Comparator.LE))
        return bound.And((_compare(target, lower_sign, lower), _compare(target, upper_sign, upper)))

    def _bound(self, node: Node, side: str, target: Target) -> Scalar:
        constant = _without_folding(self._operand(node), node)
        if not isinstance(constant, Constant):
            raise FilterError(f"{side}bound cannot be a non-const expression: {node}", node.position)
        value = self._value(constant, f"{side} value")
        if target.value_type is DataType.BOOL:
            raise FilterError("invalid range operations on boolean expr", node.position)
        if not _accepts(target.value_type, value, is_strict=True):
            if isinstance(constant, Template):
                raise _cannot_cast(target.value_type, value, node.position)
            raise FilterError("invalid range operations", node.position)
        return cast(Scalar, value)

    def _membership(self, node: tree.Membership) -> Predicate:
        target = self._operand(node.operand)
        if isinstance(target, Constant | Always):
            reason = f"'term' can only be used on non-const expression, but got: {node.operand}"
            raise FilterError(reason, node.position)
        if not isinstance(target, Target):
            reason = f"'term' can only be used on single field, but got: {node.operand}"
            raise FilterError(reason, node.position)
        if target.data_type.is_vector:
            reason = f"term expression is not supported for data type {target.data_type.milvus_name}"
            raise FilterError(reason, node.position)
        _refuse_json_root(target, node)
        return _membership(target, self._list(node.values, target.value_type))

    def _list(self, node: Node, data_type: DataType) -> Sequence[Scalar]:
        constant = _without_folding(self._operand(node), node)
        if not isinstance(constant, Constant):
            raise FilterError(f"value '{node}' in list cannot be a non-const expression", node.position)
        values = self._value(constant)
        if not isinstance(values, list | tuple):
            if isinstance(constant, Template):
                reason = f"the value of term expression template variable {constant} is not array"
                raise PlanError(reason, node.position)
            raise FilterError(f"the right-hand side of 'in' must be a list, but got: {node}", node.position)
        refused = [k for k in set(map(type, values)) if not _accepts(data_type, k(), is_strict=True)]
        if refused:
            value = next(v for v in values if type(v) in refused)
            if isinstance(constant, Template):
                raise _cannot_cast(data_type, value, node.position)
            reason = f"value '{_generic(value)}' in list cannot be casted to {data_type.milvus_name}"
            raise FilterError(reason, node.position)
        return values

    def _like(self, node: tree.Like) -> Predicate:
        target = self._operand(node.operand)
        if not isinstance(target, Target):
            raise FilterError("like operation on complicated expr is unsupported", node.position)
        if target.value_type not in (DataType.VARCHAR, DataType.JSON):
            reason = "like operation on non-string or no-json field is unsupported"
            raise FilterError(reason, node.position)
        _refuse_json_root(target, node)
        pattern = self._value(node.pattern) if isinstance(node.pattern, Constant) else None
        if not isinstance(pattern, str):
            if isinstance(node.pattern, Template):
                reason = f"the value of like expression template variable {node.pattern} is not string"
                raise PlanError(reason, node.position)
            reason = f"like pattern should be a string literal or template variable, got: {node.pattern}"
            raise FilterError(reason, node.position)
        check_pattern(pattern, node.pattern.position)
        return bound.Like(target, pattern)

    def _is_null(self, node: tree.IsNull) -> Predicate:
        target = self._target(node.column)
        if target.data_type.is_vector:
            reason = "IsNull/IsNotNull operations are not supported on vector fields"
            raise FilterError(reason, node.position)
        if target.path and target.data_type is DataType.ARRAY:
            raise FilterError("IsNull/IsNotNull operations are not supported on array elements", node.position)
        if target.path:
            return bound.Not(bound.Exists(target))
        return bound.IsNull(target)

    def _exists(self, node: tree.Exists) -> Predicate:
        target = self._operand(node.operand)
        if not isinstance(target, Target):
            reason = f"exists operations are only supported on single fields now, got: {node.operand}"
        elif target.data_type is not DataType.JSON:
            name = target.data_type.milvus_name
            reason = f"exists operations are only supportted on json field, got:{name}"
        elif not target.path:
            reason = "exists operations are only supportted on json key"
        else:
            return bound.Exists(target)
        raise FilterError(reason, node.position)

    def _contains(self, node: tree.Contains) -> Predicate:
        word, operation = _CONTAINS_NAMES[node.mode]
        target = self._operand(node.operand)
        if not _has_elements(target):
            reason = f"{word} operation are only supported on json or array fields now, got: {node.operand}"
            raise FilterError(reason, node.position)
        constant = _without_folding(self._operand(node.values), node.values)
        if not isinstance(constant, Constant):
            reason = f"{word} operation are only supported explicitly specified element, got: {node.values}"
            raise FilterError(reason, node.position)
        value = self._value(constant)
        is_list = isinstance(value, list | tuple)
        if node.mode is not ContainsMode.ONE and not is_list:
            raise PlanError(f"{operation} operation element must be an array", node.position)
        element_type = target.element_type
        if node.mode is ContainsMode.ONE:
            if element_type is not None and not _accepts(element_type, value, is_strict=True):
                raise _cannot_cast(element_type, value, node.position)
            if is_list:
                raise FilterError("arrays as elements are not supported by this version of Milvine", node.position)
            value = [cast(Scalar, value)]
        values = cast(Sequence[Scalar], value)
        wrong = _unlike_elements(element_type, values)
        if wrong is not None:
            assert element_type is not None
            names = f"{element_type.milvus_name} and {_constant_type(wrong)}"
            reason = f"{operation} operation can't compare between array element type: {names}"
            raise PlanError(reason, node.position)
        return bound.Contains(target, node.mode, literal_set(values))

    def _array_length(self, node: tree.ArrayLength) -> Target:
        target = self._target(node.column)
        if not _has_elements(target):
            reason = (
                f"array_length operation are only supported on json, array or array-of-vector fields now, got: {node}"
            )
            raise FilterError(reason, node.position)
        return replace(target, is_length=True)


def _computed_type(node: tree.Arithmetic, left: Operand, right: Operand, name: str | None = None) -> DataType:
    """The type in which it is computed: INT64 or DOUBLE. With a template, that of the other side."""
    if isinstance(left, Template) or isinstance(right, Template):
        other = right if isinstance(left, Template) else left
        return _data_type(other)
    for side in (left, right):
        if isinstance(side, LiteralList):
            other = right if side is left else left
            raise FilterError(f"incompatible data type, {_type_name(other)}, None", node.position)
    field, other = (right, left) if isinstance(left, Literal) else (left, right)
    types = _number_type(field), _number_type(other)
    if not _can_compute(*types):
        names = f"{_type_name(field)} field and {_type_name(other)}"
        reason = f"'{name or NAMES[node.operation]}' cannot perform arithmetic between {names}"
        raise FilterError(reason, node.position)
    _refuse_fractions(node.operation, types, node.position, FilterError)
    return DataType.DOUBLE if any(t is not None and t.is_floating for t in types) else DataType.INT64


def _number_type(operand: Operand) -> DataType | None:
    """The type of its numbers, JSON where it may have some; None if it has none."""
    data_type = None if isinstance(operand, Template) else _data_type(operand)
    return data_type if data_type is not None and _has_numbers(data_type) else None


def _has_numbers(data_type: DataType) -> bool:
    return data_type.is_integer or data_type.is_floating or data_type is DataType.JSON


def _data_type(operand: Operand) -> DataType:
    match operand:
        case Computed():
            return operand.data_type
        case Target():
            return operand.value_type
        case Literal(_, value):
            return _LITERAL_TYPES[type(value)]
        case LiteralList() | Template():
            return DataType.ARRAY
        case _:
            return DataType.BOOL


def _type_name(operand: Operand) -> str:
    return "None" if isinstance(operand, Template) else _data_type(operand).milvus_name


def _can_compute(field: DataType | None, other: DataType | None) -> bool:
    if field is None or other is None:
        return False
    if field is DataType.JSON:
        return other is not DataType.JSON
    return not (field.is_integer and other.is_floating)


def _refuse_fractions(
    operation: Operation, types: Sequence[DataType | None], position: int, refusal: type[FilterError]
) -> None:
    """Remainders and bits are of integers, and of what JSON has."""
    if any(t is None or not (t.is_integer or t is DataType.JSON) for t in types):
        if operation is Operation.MODULO:
            raise refusal("modulo can only apply on integer types", position)
        if operation in BIT_OPERATIONS:
            raise refusal("bitwise operations can only apply on integer types", position)


def _sides_of(computed: Computed, node: Node) -> tuple[Target, Constant]:
    """The field and the constant. Milvus has one operation on one field, and a constant first only if it may swap."""
    sides = computed.left, computed.right
    if all(isinstance(s, Target) and not s.is_length for s in sides):
        raise FilterError("not supported to do arithmetic operations between multiple fields", node.position)
    match sides:
        case Target(is_length=False) as target, Literal() | Template() as constant:
            return target, constant
        case Literal() | Template() as constant, Target(is_length=False) as target:
            if computed.operation not in (Operation.ADD, Operation.MULTIPLY):
                raise FilterError("module field is not yet supported", node.position)
            return target, constant
        case _:
            raise FilterError("complicated arithmetic operations are not supported", node.position)


def _check_operand(
    operation: Operation, field_type: DataType, number: Value, position: int, refusal: type[FilterError]
) -> DataType:
    """The type in which it is computed. What a template stands for has the same to fulfil as a literal."""
    if not isinstance(number, Scalar):
        raise refusal("can not comparisons array directly", position)
    operand_type = _LITERAL_TYPES[type(number)]
    _refuse_fractions(operation, (field_type, operand_type), position, refusal)
    is_fraction = field_type.is_integer and isinstance(number, float)
    if isinstance(number, bool | str) or not _has_numbers(field_type) or is_fraction:
        names = f"{field_type.milvus_name}, {operand_type.milvus_name}"
        raise refusal(f"incompatible data type, {names}", position)
    if operation in (Operation.DIVIDE, Operation.MODULO) and number == 0:
        raise refusal("division or modulus by zero", position)
    if operation in (Operation.SHIFT_LEFT, Operation.SHIFT_RIGHT) and not 0 <= number < SHIFT_BITS:
        raise refusal(f"shift amount must be in range [0, {SHIFT_BITS}), got {_generic(number)}", position)
    return DataType.DOUBLE if field_type.is_floating or isinstance(number, float) else DataType.INT64


def _has_elements(operand: Operand) -> TypeGuard[Target]:
    """Whether it is an array, or may be one: a whole ARRAY field, or anything in a JSON field."""
    if not isinstance(operand, Target) or operand.is_length:
        return False
    return operand.data_type is DataType.JSON or (operand.data_type is DataType.ARRAY and not operand.path)


def _unlike_elements(element_type: DataType | None, values: Sequence[Scalar]) -> Scalar | None:
    """The first value that elements of the type cannot be compared with, if there is one."""
    if element_type is None:
        return None
    refused = [k for k in set(map(type, values)) if not _accepts(element_type, k())]
    return next(v for v in values if type(v) in refused) if refused else None


def _compare_array(
    node: tree.Comparison, target: Target, comparator: Comparator, values: Sequence[Scalar]
) -> Predicate:
    if _unlike_elements(target.element_type, values) is not None:
        _refuse_comparison(node, target.type_name, "Array")
    equals = bound.ArrayEquals(target, tuple(values))
    return equals if comparator is Comparator.EQ else bound.Not(equals)


def _without_folding(operand: Operand, node: Node) -> Operand:
    """A folded constant as the literal it amounts to."""
    return Literal(node.position, operand.value, str(node)) if isinstance(operand, Always) else operand


def _fold(node: tree.Comparison, left: Constant, right: Constant) -> Predicate:
    if isinstance(left, Template) or isinstance(right, Template):
        reason = f"placeholder was not supported between two constants with operator: {node.comparator}"
        raise FilterError(reason, node.position)
    kinds = {_constant_type(left), _constant_type(right)}
    is_ordered = node.comparator not in _EQUALITY
    if (kinds != {"Int64", "Double"} and len(kinds) > 1) or kinds & ({"Array", "Bool"} if is_ordered else {"Array"}):
        reason = f"comparison operations cannot be applied to two incompatible operands: {node}"
        raise FilterError(reason, node.position)
    assert isinstance(left, Literal)
    assert isinstance(right, Literal)
    return Always(bound.compare_scalars(left.value, node.comparator, right.value))


def _compare_fields(node: tree.Comparison, left: Target, right: Target) -> Predicate:
    if any(t.data_type is DataType.ARRAY or t.is_length for t in (left, right)):
        raise FilterError("two column comparison with Array type is not supported", node.position)
    types = left.data_type, right.data_type
    is_ordered_boolean = types[0] is DataType.BOOL and node.comparator not in _EQUALITY
    if is_ordered_boolean or not _are_comparable(*types):
        _refuse_comparison(node, *(t.milvus_name for t in types))
    if DataType.JSON in types:
        raise FilterError("two column comparison with JSON type is not supported", node.position)
    return bound.CompareFields(left, node.comparator, right)


def _are_comparable(left: DataType, right: DataType) -> bool:
    if left.is_vector:
        return False
    is_number = [t.is_integer or t.is_floating for t in (left, right)]
    return left is DataType.JSON or right is DataType.JSON or left is right or all(is_number)


def _compare(target: Target, comparator: Comparator, value: Scalar) -> Predicate:
    """The value takes the field's own kind; JSON keeps it as it was written."""
    if target.value_type.is_integer and isinstance(value, float):
        return Compare(target, *integer_equivalent(comparator, value))
    if target.value_type.is_floating:
        return Compare(target, comparator, float(value))
    return Compare(target, comparator, value)


def _membership(target: Target, values: Sequence[Scalar]) -> Predicate:
    has_value = not target.is_nullable and not target.path
    if has_value and target.data_type is DataType.BOOL and set(values) == {False, True}:
        return Always(True)
    if target.value_type.is_floating:
        values = [float(v) for v in values]
    return In(target, literal_set(values))


def _gather(operands: list[Predicate]) -> list[Predicate]:
    """`f == 1 or f == 2 or …` as `f in [1, 2, …]`: one pass over the column instead of one for each."""
    values: dict[Target, list[Scalar]] = {}
    others: list[Predicate] = []
    for operand in operands:
        match operand:
            case Compare(Target(path=()) as target, Comparator.EQ, value) if bound.is_storable(value):
                values.setdefault(target, []).append(value)
            case _:
                others.append(operand)
    return [*others, *(_equal_to_any(target, found) for target, found in values.items())]


def _equal_to_any(target: Target, values: list[Scalar]) -> Predicate:
    is_single = len(values) == 1
    return Compare(target, Comparator.EQ, values[0]) if is_single else In(target, literal_set(values))


def _accepts(data_type: DataType, value: Value, *, is_strict: bool = False) -> bool:
    """Whether the literal fits the field; `is_strict` refuses a float for an integer field."""
    if data_type is DataType.JSON:
        return type(value) in _LITERAL_TYPES
    if data_type.is_integer:
        return type(value) is int or (type(value) is float and not is_strict)
    if data_type.is_floating:
        return type(value) in (int, float)
    return _LITERAL_TYPES.get(type(value)) is data_type


def _check_bounds(node: Node, lower: tuple[Scalar, bool], upper: tuple[Scalar, bool]) -> None:
    """Each bound is a value and whether it is inclusive."""
    if {type(lower[0]), type(upper[0])} - {int, float} not in (set(), {str}) or (
        isinstance(lower[0], str) is not isinstance(upper[0], str)
    ):
        raise FilterError("invalid range: bounds are not comparable", node.position)
    is_inclusive = lower[1] and upper[1]
    if not bound.compare_scalars(lower[0], Comparator.LE if is_inclusive else Comparator.LT, upper[0]):
        raise FilterError("invalid range: lowerbound is greater than upperbound", node.position)


def _refuse_json_root(target: Target, node: Node) -> None:
    if target.data_type is DataType.JSON and not target.path and not target.is_length:
        raise FilterError(f"a whole JSON field cannot be compared, give a key: {node}", node.position)


def _refuse_comparison(node: Node, left: str, right: str) -> NoReturn:
    raise FilterError(f"comparisons between {left} and {right} are not supported", node.position)


def _cannot_cast(data_type: DataType, value: Value, position: int) -> PlanError:
    return PlanError(f"cannot cast value to {data_type.milvus_name}, value: {_generic(value)}", position)


def _constant_type(constant: Constant | Value) -> str:
    value = constant.value if isinstance(constant, Literal) else constant
    data_type = _LITERAL_TYPES.get(type(value))
    if data_type is not None:
        return data_type.milvus_name
    return "None" if isinstance(value, Template) else "Array"


def _generic(value: Value) -> str:
    """A value as Go prints planpb.GenericValue."""
    match value:
        case bool():
            return f"bool_val:{str(value).lower()}"
        case int():
            return f"int64_val:{value}"
        case float():
            return f"float_val:{value:g}"
        case str():
            return f'string_val:"{value}"'
        case _:
            return "array_val:{" + " ".join(f"array:{{{_generic(v)}}}" for v in value) + "}"
