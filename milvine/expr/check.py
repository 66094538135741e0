"""Tree + schema + template values -> predicate. Names, types and texts are Milvus's (planparserv2).

Beyond Milvus: `not` binds weaker than comparisons (Milvus refuses `not a == 1`), and a float literal is compared
exactly with an integer field (Milvus refuses it). `in` and chained ranges are as strict as in Milvus.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import cast

from milvine.errors import ParameterInvalid, excerpt
from milvine.expr import calls, comparisons, structs, tree, words
from milvine.expr import predicate as bound
from milvine.expr.computed import check_operand, computed_type, sides_of
from milvine.expr.errors import NULL_LITERAL, ArgumentError, FilterError, PlanError
from milvine.expr.folding import BIT_OPERATIONS, fold
from milvine.expr.like import check_pattern
from milvine.expr.literals import INT64_MAX, INT64_MIN
from milvine.expr.moments import compare_moment
from milvine.expr.operands import (
    EQUALITY,
    LITERAL_TYPES,
    Computed,
    Constant,
    Operand,
    accepts,
    cannot_cast,
    constant_type,
    generic,
    has_elements,
    refuse_comparison,
    type_name,
    unlike_elements,
    without_folding,
)
from milvine.expr.parser import MAX_DEPTH, parse
from milvine.expr.predicate import Always, CompareComputed, Predicate, RandomSample, Target
from milvine.expr.regex import as_like, check_regex
from milvine.expr.tree import Comparator, ContainsMode, Element, Literal, LiteralList, Node, Operation, Scalar, Template
from milvine.model.json_paths import JsonPath, pointer
from milvine.model.moments import UTC
from milvine.model.schema import CollectionSchema
from milvine.model.types import DataType

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
    number_paths: Collection[tuple[int, JsonPath]] = (),
    timezone: str = UTC,
) -> Predicate:
    """Parses and binds a filter that is not blank. Raises ParameterInvalid with Milvus's text.

    `number_paths`: JSON fields and paths where comparisons with numbers read the numbers in texts. `timezone`: of
    written moments without an offset.
    """
    try:
        node = parse(text)
        return _Binder(schema, loaded_field_ids, templates or {}, number_paths, timezone).root(node, text)
    except FilterError as error:
        place = "" if isinstance(error, PlanError) else f"cannot parse expression: {excerpt(text)}: "
        raise ParameterInvalid(f"{place}{excerpt(error.message)}: {error.sentinel}") from error


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
    """The target of a field name, or of a path in a JSON field; None if `text` is not a name. Raises FilterError."""
    node = parse(text)
    return _Binder(schema, None, {})._target(node) if isinstance(node, tree.Column) else None


class _Binder:
    def __init__(
        self,
        schema: CollectionSchema,
        loaded_field_ids: frozenset[int] | None,
        templates: Mapping[str, object],
        number_paths: Collection[tuple[int, JsonPath]] = (),
        timezone: str = UTC,
    ) -> None:
        self._schema = schema
        self._loaded_field_ids = loaded_field_ids
        self._templates = templates
        self._number_paths = number_paths
        self._timezone = timezone
        self._array_of_structs = ""  # whose structs a predicate is about

    def root(self, node: Node, text: str) -> Predicate:
        operand = self._operand(node)
        if isinstance(operand, Predicate):
            return operand
        reason = f"predicate is not a boolean expression: {text}, data type: {type_name(operand)}"
        raise PlanError(reason, node.position)

    def _operand(self, node: Node) -> Operand:
        """The predicate of `node`. A constant, written or folded, that is true or false becomes Always."""
        match node:
            case tree.Column():
                return self._target(node)
            case tree.StructPart():
                raise structs.unknown(node, self._array_of_structs)
            case Literal(_, bool(value)):
                return Always(value)
            case Literal() | LiteralList() | Template():
                return node
            case tree.And():
                return self._conjunction(node)
            case tree.Or():
                return self._disjunction(node)
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
            case tree.Like() | tree.Regex():
                return self._match(node)
            case tree.Call():
                return self._call(node)
            case tree.IsNull():
                return self._is_null(node)
            case tree.Exists():
                return self._exists(node)
            case tree.Contains():
                return self._contains(node)
            case tree.ArrayLength():
                return self._array_length(node)
            case tree.Moment() | tree.Duration():
                raise FilterError(f"invalid expression: {node}", node.position)

    def _boolean(self, node: Node, word: str) -> Predicate:
        operand = self._operand(node)
        if not isinstance(operand, Predicate):
            raise FilterError(f"'{word}' can only be used between boolean expressions", node.position)
        return operand

    def _conjunction(self, node: tree.And) -> Predicate:
        """A random sample is taken of the rows that pass the operands before it."""
        operands = [p for p in (self._boolean(n, "and") for n in node.operands) if p != Always(True)]
        if any(isinstance(p, RandomSample) for p in operands[:-1]):
            reason = "random sample expression can only be the last expression in the logical and expression"
            raise FilterError(reason, node.position)
        if operands and isinstance(operands[-1], RandomSample):
            sample = operands[-1]
            return RandomSample(bound.conjunction([*operands[:-1], sample.operand]), sample.share)
        return bound.conjunction(operands)

    def _disjunction(self, node: tree.Or) -> Predicate:
        operands = [self._boolean(n, "or") for n in node.operands]
        joined = bound.disjunction(comparisons.gathered(operands))
        if isinstance(joined, bound.Or) and any(isinstance(p, RandomSample) for p in operands):
            raise FilterError("random sample expression cannot be used in logical and expression", node.position)
        return joined

    def _negation(self, node: tree.Not) -> Predicate:
        operand = self._operand(node.operand)
        if isinstance(operand, Literal | LiteralList):
            raise FilterError("not can only apply on boolean", node.position)
        if isinstance(operand, RandomSample):
            raise FilterError("random sample expression cannot be used in unary expression", node.position)
        if not isinstance(operand, Predicate):
            raise ArgumentError("not op can only be applied on boolean expression", node.position)
        return bound.negation(operand)

    def _target(self, column: tree.Column) -> Target:
        name, path = column.name, column.path
        field = self._schema.by_name.get(name)
        if field is None:
            if name.lower() == "null":
                raise ArgumentError(NULL_LITERAL, column.position)
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
            raise ArgumentError(reason, column.position)
        place = pointer(path)
        return Target(
            field.field_id,
            field.data_type,
            field.nullable,
            field.is_primary,
            place,
            field.element_type,
            reads_numbers=(field.field_id, place) in self._number_paths,
        )

    def _is_loaded(self, field_id: int) -> bool:
        return self._loaded_field_ids is None or field_id in self._loaded_field_ids

    def _value(self, constant: Constant, kind: str = "value") -> Element:
        if isinstance(constant, Literal):
            return constant.value
        if isinstance(constant, LiteralList):
            return constant.values
        value = self._template(constant, kind)
        if isinstance(value, bytes):
            reason = "a bytes template value can only be used as the bloom_match filter argument"
            raise _BytesError(reason, constant.position)
        return value

    def _template(self, template: Template, kind: str = "value") -> Element | bytes:
        if template.name not in self._templates:
            reason = f"the {kind} of expression template variable name {template} is not found"
            raise PlanError(reason, template.position)
        value = self._templates[template.name]
        if not isinstance(value, bytes) and not _is_element(value):
            raise PlanError("expression elements can only be scalars", template.position)
        return cast(Element | bytes, value)

    def _comparison(self, node: tree.Comparison) -> Predicate:
        if isinstance(node.left, tree.Moment) or isinstance(node.right, tree.Moment):
            return compare_moment(node, self._target, self._timezone)
        left = without_folding(self._operand(node.left), node.left)
        right = without_folding(self._operand(node.right), node.right)
        if isinstance(left, Constant) and isinstance(right, Constant):
            return comparisons.fold_comparison(node, left, right)
        if isinstance(left, Target) and isinstance(right, Target):
            return comparisons.compare_fields(node, left, right)
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
        left = without_folding(self._operand(node.left), node.left)
        right = without_folding(self._operand(node.right), node.right)
        operation, text = node.operation, replace(node, is_enclosed=False)
        if isinstance(left, Literal) and isinstance(right, Literal):
            return fold(left, operation, right)
        if operation is Operation.POWER:
            raise ArgumentError(f"power can only apply on constants: {text}", node.position)
        if isinstance(left, Template | Literal) and isinstance(right, Template | Literal):
            sign = text if operation in BIT_OPERATIONS else operation
            reason = f"placeholder was not supported between two constants with operator: {sign}"
            raise ArgumentError(reason, node.position)
        for side in (left, right):
            if isinstance(side, Target) and side.value_type is DataType.ARRAY:
                raise FilterError("can not comparisons array fields directly", node.position)
        return Computed(left, operation, right, computed_type(node, left, right))

    def _signed(self, node: tree.Signed) -> Operand:
        operand = self._operand(node.operand)
        if node.sign == "-":
            raise ArgumentError("unexpected op: -", node.position)
        if isinstance(operand, Template):
            raise ArgumentError(f"bitnot cannot be applied on placeholder: {node}", node.position)
        if isinstance(operand, Always | Constant):
            raise FilterError("bitnot can only apply on integer fields", node.position)
        if isinstance(operand, Target) and operand.value_type is DataType.ARRAY:
            raise FilterError("can not comparisons array fields directly", node.position)
        ones = Literal(node.position, -1, "-1")
        flipped = tree.Arithmetic(node.position, node.operand, Operation.BIT_XOR, ones)
        return Computed(operand, Operation.BIT_XOR, ones, computed_type(flipped, operand, ones, "bitnot"))

    def _computed_comparison(
        self, node: tree.Comparison, computed: Computed, comparator: Comparator, constant: Constant
    ) -> Predicate:
        has_template = any(isinstance(o, Template) for o in (computed.left, computed.right, constant))
        value = self._value(constant)
        if not has_template and type(value) not in (int, float):
            names = [computed.data_type.milvus_name, constant_type(constant)]
            refuse_comparison(node, *(names[::-1] if constant.position < node.right.position else names))
        target, operand = sides_of(computed, node)
        number = self._value(operand, "right operand value")
        refusal = PlanError if isinstance(operand, Template) else FilterError
        data_type = check_operand(computed.operation, target.value_type, number, operand.position, refusal)
        if not accepts(data_type, value, is_strict=True):
            error = cannot_cast(data_type, value, node.position)
            raise error if has_template else FilterError(error.message, node.position)
        kind = float if data_type is DataType.DOUBLE else int
        numbers = kind(cast(float, number)), kind(cast(float, value))
        return CompareComputed(target, computed.operation, numbers[0], comparator, numbers[1])

    def _value_comparison(
        self, node: tree.Comparison, target: Target, comparator: Comparator, constant: Constant
    ) -> Predicate:
        value = self._value(constant)
        is_list = isinstance(value, list | tuple)
        if is_list and target.value_type in (DataType.ARRAY, DataType.JSON) and comparator in EQUALITY:
            return comparisons.compare_array(node, target, comparator, cast(Sequence[Element], value))
        if comparator not in EQUALITY:
            _refuse_whole_array(target, node)
        is_ordered_boolean = isinstance(value, bool) and comparator not in EQUALITY
        if is_list or is_ordered_boolean or not accepts(target.value_type, value):
            if isinstance(constant, Template):
                raise cannot_cast(target.value_type, value, constant.position)
            names = [target.type_name, constant_type(constant)]
            refuse_comparison(node, *(names[::-1] if constant.position < node.right.position else names))
        return comparisons.compare(target, comparator, cast(Scalar, value))

    def _chained_range(self, node: tree.ChainedRange) -> Predicate:
        target = self._operand(node.middle)
        if not isinstance(target, Target):
            reason = f"range operations are only supported on single fields now, got: {node.middle}"
            raise ArgumentError(reason, node.middle.position)
        _refuse_whole_array(target, node)
        if target.value_type.is_vector:
            refuse_comparison(node, target.type_name, "range")
        is_upwards = node.first_comparator in (Comparator.LT, Comparator.LE)
        signs = node.first_comparator.mirrored, node.second_comparator
        sides = (node.first, node.last) if is_upwards else (node.last, node.first)
        lower_sign, upper_sign = signs if is_upwards else signs[::-1]
        lower = self._bound(sides[0], "lower", target)
        upper = self._bound(sides[1], "upper", target)
        comparisons.check_bounds(node, (lower, lower_sign is Comparator.GE), (upper, upper_sign is Comparator.LE))
        compared = [comparisons.compare(target, *end) for end in ((lower_sign, lower), (upper_sign, upper))]
        return bound.And(tuple(compared))

    def _bound(self, node: Node, side: str, target: Target) -> Scalar:
        constant = without_folding(self._operand(node), node)
        if not isinstance(constant, Constant):
            raise ArgumentError(f"{side}bound cannot be a non-const expression: {node}", node.position)
        value = self._value(constant, f"{side} value")
        if target.value_type is DataType.BOOL:
            raise FilterError("invalid range operations on boolean expr", node.position)
        if not accepts(target.value_type, value, is_strict=True):
            if isinstance(constant, Template):
                raise cannot_cast(target.value_type, value, node.position)
            raise FilterError("invalid range operations", node.position)
        return cast(Scalar, value)

    def _membership(self, node: tree.Membership) -> Predicate:
        target = self._operand(node.operand)
        if isinstance(target, Constant | Always):
            reason = f"'term' can only be used on non-const expression, but got: {node.operand}"
            raise ArgumentError(reason, node.position)
        if not isinstance(target, Target):
            reason = f"'term' can only be used on single field, but got: {node.operand}"
            raise ArgumentError(reason, node.position)
        if target.data_type.is_vector:
            reason = f"term expression is not supported for data type {target.data_type.milvus_name}"
            raise ArgumentError(reason, node.position)
        return comparisons.membership(target, self._list(node.values, target))

    def _list(self, node: Node, target: Target) -> Sequence[Element]:
        constant = without_folding(self._operand(node), node)
        if not isinstance(constant, Constant):
            raise ArgumentError(f"value '{node}' in list cannot be a non-const expression", node.position)
        values = self._value(constant)
        if not isinstance(values, list | tuple):
            if isinstance(constant, Template):
                reason = f"the value of term expression template variable {constant} is not array"
                raise PlanError(reason, node.position)
            raise ArgumentError(f"the right-hand side of 'in' must be a list, but got: {node}", node.position)
        wrong = _not_in(target, values)
        if wrong is None:
            return values
        data_type = target.value_type
        if isinstance(constant, Template):
            raise cannot_cast(data_type, wrong, node.position)
        reason = f"value '{generic(wrong)}' in list cannot be casted to {data_type.milvus_name}"
        raise ArgumentError(reason, node.position)

    def _match(self, node: tree.Like | tree.Regex) -> Predicate:
        is_like = isinstance(node, tree.Like)
        operation, word = ("like operation", "like") if is_like else ("regex match", "regex")
        target = self._operand(node.operand)
        if not isinstance(target, Target) or target.is_length:
            raise FilterError(f"{operation} on complicated expr is unsupported", node.position)
        _refuse_whole_array(target, node)
        if target.value_type not in (DataType.VARCHAR, DataType.JSON):
            reason = f"{operation} on non-string or no{'' if is_like else 'n'}-json field is unsupported"
            raise FilterError(reason, node.position)
        pattern = self._value(node.pattern) if isinstance(node.pattern, Constant) else None
        if not isinstance(pattern, str):
            if isinstance(node.pattern, Template):
                reason = f"the value of {word} expression template variable {node.pattern} is not string"
                raise PlanError(reason, node.position)
            reason = f"{word} pattern should be a string literal or template variable, got: {node.pattern}"
            raise ArgumentError(reason, node.position)
        if not is_like:
            check_regex(pattern, node.pattern.position)
            plain = as_like(pattern)
            return bound.Regex(target, pattern) if plain is None else bound.Like(target, plain)
        check_pattern(pattern, node.pattern.position)
        return bound.Like(target, pattern)

    def _call(self, node: tree.Call) -> Predicate:
        name = node.name.lower()
        if node.name in words.FUNCTIONS:
            return self._words(node)
        if node.name in structs.FUNCTIONS:
            return self._of_structs(node)
        if node.option is not None:
            raise FilterError(f"invalid expression: {node}", node.position)
        if name == "bloom_match":
            return self._bloom_match(node)
        if node.name in ("random_sample", "RANDOM_SAMPLE"):
            return calls.random_sample(node, [self._argument(a) for a in node.arguments])
        return calls.text_function(node, [self._argument(a) for a in node.arguments])

    def _argument(self, node: Node) -> Target | Element | None:
        """A field, or the value of a constant; None for anything else."""
        operand = without_folding(self._operand(node), node)
        if isinstance(operand, Constant):
            return self._value(operand)
        return operand if isinstance(operand, Target) and not operand.is_length else None

    def _words(self, node: tree.Call) -> Predicate:
        target = self._target(words.check_form(node))
        field = self._schema.by_id[target.field_id]
        words.check_field(node, field, target)
        return words.bind_words(node, field, target, self._value)

    def _of_structs(self, node: tree.Call) -> Predicate:
        array = structs.check_form(node, self._array_of_structs)
        self._array_of_structs = array
        try:
            self._operand(node.arguments[1])
        except FilterError as error:
            raise structs.wrapped(node, error) from error
        finally:
            self._array_of_structs = ""
        raise structs.without_parts(node)

    def _bloom_match(self, node: tree.Call) -> Predicate:
        calls.check_bloom_arguments(node)
        field, values = node.arguments
        target = calls.bloom_target(field, self._argument(field))
        if not isinstance(values, Template):
            raise ArgumentError(
                "the second argument of bloom_match must be a {template} placeholder carrying a client pre-built "
                f"filter blob, got: {values}",
                values.position,
            )
        return calls.bloom_match(target, self._template(values), values)

    def _is_null(self, node: tree.IsNull) -> Predicate:
        target = self._target(node.column)
        if target.data_type.is_vector:
            reason = "IsNull/IsNotNull operations are not supported on vector fields"
            raise ArgumentError(reason, node.position)
        if target.path and target.data_type is DataType.ARRAY:
            reason = f"IsNull/IsNotNull operations are not supported on array element access, got: {node}"
            raise ArgumentError(reason, node.position)
        is_null = bound.negation(bound.Exists(target)) if target.path else bound.IsNull(target)
        return bound.negation(is_null) if node.is_negated else is_null

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
        raise ArgumentError(reason, node.position)

    def _contains(self, node: tree.Contains) -> Predicate:
        word, operation = _CONTAINS_NAMES[node.mode]
        target = self._operand(node.operand)
        if not has_elements(target):
            reason = f"{word} operation are only supported on json or array fields now, got: {node.operand}"
            raise ArgumentError(reason, node.position)
        constant = without_folding(self._operand(node.values), node.values)
        if not isinstance(constant, Constant):
            reason = f"{word} operation are only supported explicitly specified element, got: {node.values}"
            raise ArgumentError(reason, node.position)
        # Milvus checks a template's value with the plan, so its message does not quote the filter.
        refusal = PlanError if isinstance(constant, Template) else FilterError
        value, element_type = self._value(constant), target.element_type
        if node.mode is ContainsMode.ONE:
            if element_type is not None and not accepts(element_type, value, is_strict=True):
                raise refusal(cannot_cast(element_type, value, node.position).message, node.position)
            value = [value]
        if not isinstance(value, list | tuple):
            raise refusal(f"{operation} operation element must be an array", node.position)
        wrong = unlike_elements(element_type, value)
        if wrong is not None:
            assert element_type is not None
            names = f"{element_type.milvus_name} and {constant_type(wrong)}"
            reason = f"{operation} operation can't compare between array element type: {names}"
            raise refusal(reason, node.position)
        return comparisons.contains(target, node.mode, value)

    def _array_length(self, node: tree.ArrayLength) -> Target:
        if isinstance(node.column, tree.StructPart):
            raise structs.unknown(node.column, self._array_of_structs)
        target = self._target(node.column)
        if not has_elements(target):
            reason = (
                f"array_length operation are only supported on json, array or array-of-vector fields now, got: {node}"
            )
            raise ArgumentError(reason, node.position)
        return replace(target, is_length=True)


def _refuse_whole_array(target: Target, node: Node) -> None:
    if target.value_type is DataType.ARRAY:
        raise FilterError("can not comparisons array fields directly", node.position)


def _not_in(target: Target, values: Sequence[Element]) -> Element | None:
    """The first value that cannot be compared with the target, or None."""
    refused = [k for k in set(map(type, values)) if not accepts(target.value_type, k(), is_strict=True)]
    if refused:
        return next(v for v in values if type(v) in refused)
    if target.value_type is not DataType.ARRAY:
        return None
    lists = (v for v in values if isinstance(v, list | tuple))
    return next((v for v in lists if unlike_elements(target.element_type, v) is not None), None)


def _is_element(value: object, depth: int = 0) -> bool:
    """Whether the value can be written as a literal of a filter."""
    match value:
        case bool() | float() | str():
            return True
        case int():
            return INT64_MIN <= value <= INT64_MAX
        case list() | tuple():
            if set(map(type, value)) <= LITERAL_TYPES.keys():
                return all(INT64_MIN <= v <= INT64_MAX for v in value if type(v) is int)
            return depth < MAX_DEPTH and all(_is_element(v, depth + 1) for v in value)
        case _:
            return False


class _BytesError(PlanError):
    sentinel = "invalid parameter"
