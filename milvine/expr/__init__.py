"""The filter language: text -> typed predicate -> mask over rows."""

from milvine.expr.check import bind, compile_filter, parse_identifier
from milvine.expr.errors import FilterError, PlanError
from milvine.expr.evaluate import ColumnSource, evaluate
from milvine.expr.parser import parse
from milvine.expr.predicate import Predicate, is_always_true, is_approximate, primary_keys, referenced_field_ids

__all__ = [
    "ColumnSource",
    "FilterError",
    "PlanError",
    "Predicate",
    "bind",
    "compile_filter",
    "evaluate",
    "is_always_true",
    "is_approximate",
    "parse",
    "parse_identifier",
    "primary_keys",
    "referenced_field_ids",
]
