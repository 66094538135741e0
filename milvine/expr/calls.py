"""Functions that a filter calls by name: `empty`, `starts_with`, `bloom_match`, `random_sample`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from milvine.expr import tree
from milvine.expr.bloom import BloomFilter
from milvine.expr.errors import ArgumentError, FilterError, PlanError
from milvine.expr.operands import LITERAL_TYPES
from milvine.expr.predicate import Always, BloomMatch, Compare, Like, Predicate, RandomSample, StartsWith, Target
from milvine.expr.regex import like_text
from milvine.expr.tree import Comparator, Element, Node, Template
from milvine.model.types import DataType

Argument = Target | Element | None
_LEAST_DISTANCE = 1e-10


def text_function(node: tree.Call, arguments: Sequence[Argument]) -> Predicate:
    name = node.name.lower()
    types = [_type_of(argument) for argument in arguments]
    match name, arguments:
        case "empty", [text] if types == [DataType.VARCHAR]:
            return Compare(text, Comparator.EQ, "") if isinstance(text, Target) else Always(text == "")
        case "starts_with", [text, prefix] if types == [DataType.VARCHAR] * 2:
            return _starts_with(text, prefix)
    if name.startswith("st_"):
        raise ArgumentError(f"spatial operation are only supported on geometry fields now, got: {node}", node.position)
    names = ", ".join("NONE" if t is None else t.name for t in types)
    raise FilterError(f"function {name}({names}) not found.", node.position)


def _type_of(argument: Argument) -> DataType | None:
    if isinstance(argument, Target):
        return argument.data_type
    return LITERAL_TYPES.get(type(argument), DataType.ARRAY if isinstance(argument, list | tuple) else None)


def _starts_with(text: Argument, prefix: Argument) -> Predicate:
    if isinstance(prefix, str):
        if isinstance(text, str):
            return Always(text.startswith(prefix))
        if isinstance(text, Target):
            return Like(text, f"{like_text(prefix)}%")
    assert isinstance(text, Target | str)
    assert isinstance(prefix, Target)
    return StartsWith(text, prefix)


def random_sample(node: tree.Call, arguments: Sequence[Argument]) -> Predicate:
    if len(arguments) != 1:
        raise ArgumentError(f"sample factor missed: {node}", node.position)
    share, text = arguments[0], str(node.arguments[0])
    if isinstance(share, Target) or share is None:
        reason = f'"float factor" should be a const float expression: "float factor" passed: {text}'
        raise ArgumentError(reason, node.position)
    if not isinstance(share, float) or not _LEAST_DISTANCE < share < 1 - _LEAST_DISTANCE:
        raise ArgumentError(
            "the sample factor should be between 0 and 1 and not too close to 0 or 1"
            f"(the difference should be larger than 1e-10), but got {text}",
            node.position,
        )
    return RandomSample(Always(True), float(np.float32(share)))


def check_bloom_arguments(node: tree.Call) -> None:
    if len(node.arguments) != 2:
        raise ArgumentError(
            f"bloom_match requires exactly 2 arguments: bloom_match(field, {{blob}}), got {len(node.arguments)}",
            node.position,
        )


def bloom_target(node: Node, argument: Argument) -> Target:
    """The field, if its values can be in a Bloom filter."""
    if not isinstance(argument, Target):
        reason = f"the first argument of bloom_match must be a scalar field name, got: {node}"
        raise ArgumentError(reason, node.position)
    data_type = argument.data_type
    if data_type is DataType.JSON:
        return argument
    if argument.path:
        reason = f"bloom_match does not support nested paths on non-JSON fields, got: {node}"
        raise ArgumentError(reason, node.position)
    if not data_type.is_integer and data_type is not DataType.VARCHAR:
        raise ArgumentError(
            "bloom_match only supports INT8/INT16/INT32/INT64/VARCHAR fields and JSON paths, "
            f"but field ({node}) is of type {data_type.milvus_name}",
            node.position,
        )
    return argument


def bloom_match(target: Target, blob: Element | bytes, template: Template) -> Predicate:
    if not isinstance(blob, bytes):
        raise PlanError(
            f"the value of bloom_match template variable {template} must be a client pre-built filter blob (bytes)",
            template.position,
        )
    bloom = BloomFilter(blob, template.position)
    if target.data_type is not DataType.JSON:
        is_text = target.data_type is DataType.VARCHAR
        bloom.check_kind(target.data_type.milvus_name, is_text=is_text, position=template.position)
    return BloomMatch(target, bloom)
