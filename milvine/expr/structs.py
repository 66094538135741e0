"""Filters over arrays of structs: `element_filter`, `MATCH_ANY` and others. No collection has such arrays, so each is
refused, in the words that Milvus has for a collection without them."""

from __future__ import annotations

import re

from milvine.expr import tree
from milvine.expr.errors import ArgumentError, FilterError

_ELEMENTS = "element_filter"
_LEAST = {"match_least": 1, "match_most": 0, "match_exact": 0}
"""The functions that take a threshold, and the smallest."""
FUNCTIONS = frozenset(
    spelled for name in (_ELEMENTS, "match_any", "match_all", *_LEAST) for spelled in (name, name.upper())
)
"""The names as they may be written."""
_INDEX = re.compile(r"\[[0-9]+\]")


def unknown(node: tree.StructPart, array: str) -> FilterError:
    """`array`: the one whose structs the predicate around is about, or "" outside of such predicates."""
    is_of_struct = node.text.startswith("$")
    if is_of_struct and not array:
        return ArgumentError(f"{node} syntax can only be used inside ElementFilter or MATCH_*", node.position)
    what, name = ("array", array + node.text[1:]) if is_of_struct else ("struct", _INDEX.sub("", node.text))
    reason = f"failed to get field schema by name: fieldName({name}) not found: invalid parameter"
    return ArgumentError(f"{what} field not found: {name}, error: {reason}", node.position)


def check_form(node: tree.Call, outer: str) -> str:
    """The array that the call is about, if it has the arguments that its function takes. `outer`: that of the call
    around it. Raises FilterError."""
    name, option = node.name.lower(), node.option
    array = node.arguments[0] if len(node.arguments) == 2 else None
    has_threshold = option is not None and option.name in ("threshold", "THRESHOLD")
    if not isinstance(array, tree.Column) or array.path or has_threshold != (name in _LEAST):
        raise FilterError(f"invalid expression: {node}", node.position)
    if option is not None and int(option.value, 0) < _LEAST[name]:
        raise ArgumentError(f"count in {name.upper()} must be positive, got: {option.value}", node.position)
    if outer:
        is_filter = name == _ELEMENTS
        what, around = ("ElementFilter", "ElementFilter") if is_filter else (name.upper(), "match expression")
        raise ArgumentError(
            f"nested {what} is not supported, already inside {around} for field: {outer}", node.position
        )
    return str(array)


def wrapped(node: tree.Call, error: FilterError) -> FilterError:
    """The refusal of a call for its predicate."""
    what = "element" if node.name.lower() == _ELEMENTS else "predicate"
    reason = f"cannot parse {what} expression: {node.arguments[1]}, error: {error.message}: {error.sentinel}"
    return ArgumentError(reason, node.position)


def without_parts(node: tree.Call) -> FilterError:
    """The refusal of a call whose predicate looks at no field of the structs."""
    name = node.name.upper()
    if name == _ELEMENTS.upper():
        return ArgumentError(f"array field not found: {node.arguments[0]}", node.position)
    reason = "MATCH predicate can only use element-level fields: invalid parameter"
    return ArgumentError(f"invalid predicate expression in {name}: {reason}", node.position)
