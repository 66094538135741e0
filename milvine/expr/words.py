"""Functions that match words: `text_match`, `text_match_fuzzy`, `phrase_match`. Texts are Milvus's (planparserv2).

The query is divided into terms by the field's own analyzer, when the filter is bound.
"""

from __future__ import annotations

from collections.abc import Callable

from milvine.analysis.fields import terms_of
from milvine.expr import tree
from milvine.expr.errors import ArgumentError, FilterError
from milvine.expr.literals import decode_integer
from milvine.expr.operands import cannot_cast
from milvine.expr.predicate import PhraseMatch, Predicate, SimilarTermMatch, Target, TermMatch
from milvine.expr.tree import Element, Literal, Node, Template
from milvine.model.analyzer_params import enables_match
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType

_MAX_SHOULD_MATCH = 1000
_MAX_DISTANCE = 2
_MAX_SLOP = 2**32 - 1
MAX_FUZZY_TERMS = 1000
"""Distinct terms of one fuzzy query, each of which is compared with all terms of a segment."""

_OPTIONS = {"text_match": "minimum_should_match", "text_match_fuzzy": "max_edit_distance"}
FUNCTIONS = frozenset({*_OPTIONS, "phrase_match", *map(str.upper, (*_OPTIONS, "phrase_match"))})
"""The names as they may be written."""


def check_form(node: tree.Call) -> tree.Column:
    """The field, if the call has the arguments that its function takes."""
    name = node.name.lower()
    takes = {"text_match": (2,), "text_match_fuzzy": (2,), "phrase_match": (2, 3)}[name]
    has_option = node.option is not None
    is_form = len(node.arguments) in takes and has_option <= (name in _OPTIONS)
    if name == "text_match" and node.option is not None:
        is_form = is_form and node.option.name in ("minimum_should_match", "MINIMUM_SHOULD_MATCH")
    if not is_form or (name == "text_match_fuzzy" and not has_option):
        raise FilterError(f"invalid expression: {node}", node.position)
    field = node.arguments[0]
    if not isinstance(field, tree.Column) or field.path:
        raise FilterError(f"invalid expression: {node}", node.position)
    return field


def check_field(node: tree.Call, field: FieldSchema, target: Target) -> None:
    """Raises FilterError unless the field's terms are indexed."""
    if target.data_type is not DataType.VARCHAR:
        operation = node.name.lower().replace("_", " ")
        raise FilterError(f"{operation} operation on non-string is unsupported", node.position)
    if not enables_match(field):
        raise ArgumentError(f'field "{node.arguments[0]}" does not enable match', node.position)


def bind_words(
    node: tree.Call, field: FieldSchema, target: Target, value_of: Callable[[Template], Element]
) -> Predicate:
    """The predicate of a call that `check_form` and `check_field` accept. `value_of`: the value of a template."""
    name = node.name.lower()
    text = _query_text(name, node.arguments[1], value_of)
    if name == "text_match":
        at_least = _at_least(node.option)
        return TermMatch(target, terms_of(field, text).tokens, at_least)
    if name == "text_match_fuzzy":
        assert node.option is not None
        distance = _distance(node.option)
        terms = terms_of(field, text).tokens.unique()
        if len(terms) > MAX_FUZZY_TERMS:
            reason = f"text_match_fuzzy query should have at most {MAX_FUZZY_TERMS} distinct terms, got {len(terms)}"
            raise ArgumentError(reason, node.position)
        return SimilarTermMatch(target, terms, distance)
    slop = _slop(node.arguments[2]) if len(node.arguments) == 3 else 0
    analyzed = terms_of(field, text)
    return PhraseMatch(target, analyzed.tokens, analyzed.positions, slop)


def _query_text(name: str, node: Node, value_of: Callable[[Template], Element]) -> str:
    if isinstance(node, Template):
        value = value_of(node)
        if not isinstance(value, str):
            raise cannot_cast(DataType.VARCHAR, value, node.position)
        return value
    if not isinstance(node, Literal) or not isinstance(node.value, str):
        reason = f"{name} query should be a string literal or template variable, got: {node}"
        raise ArgumentError(reason, node.position)
    return node.value


def _at_least(option: tree.Option | None) -> int:
    if option is None:
        return 1
    number = _integer(option)
    if number < 1:
        raise ArgumentError(f"minimum_should_match should be >= 1, got {number}", option.position)
    if number > _MAX_SHOULD_MATCH:
        raise ArgumentError(f"minimum_should_match should be <= {_MAX_SHOULD_MATCH}, got {number}", option.position)
    return number


def _distance(option: tree.Option) -> int:
    if option.name.lower() != "max_edit_distance":
        reason = f'invalid option "{option.name}" for text_match_fuzzy, expected max_edit_distance'
        raise ArgumentError(reason, option.position)
    number = _integer(option)
    if number > _MAX_DISTANCE:
        raise ArgumentError(f"max_edit_distance should be in [0, {_MAX_DISTANCE}], got {number}", option.position)
    return number


def _integer(option: tree.Option) -> int:
    try:
        return decode_integer(option.value, option.position)
    except FilterError:
        reason = f"invalid {option.name.lower()} value: {option.value}"
        raise ArgumentError(reason, option.position) from None


def _slop(node: Node) -> int:
    if not isinstance(node, Literal) or type(node.value) is not int:
        reason = f'"slop" should be a const integer expression with "uint32" value. "slop" expression passed: {node}'
        raise ArgumentError(reason, node.position)
    if node.value < 0:
        reason = f'"slop" should not be a negative interger. "slop" passed: {node}'
        raise ArgumentError(reason, node.position)
    if node.value > _MAX_SLOP:
        reason = f'"slop" exceeds the range of "uint32". "slop" expression passed: {node}'
        raise ArgumentError(reason, node.position)
    return node.value
