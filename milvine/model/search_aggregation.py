"""What a request asks for that wants the hits of a search in buckets."""

from __future__ import annotations

from collections.abc import Mapping

from milvine.errors import ParameterInvalid
from milvine.model.records import record

_MAX_LEVELS = 4


@record
class Metric:
    """`field_name`: also `_score` or, of a count, `*`."""

    operation: str
    field_name: str


@record
class Direction:
    """`key`: of buckets `_count`, `_key` or the alias of a metric, of hits a field or `_score`."""

    key: str
    direction: str
    nulls_first: bool = False


@record
class TopHits:
    size: int
    sort: tuple[Direction, ...] = ()


@record
class SearchAggregation:
    """A level of buckets, as sent: by `fields`, at most `size` of them, chosen among the `search_size` nearest ones
    (0: `size`)."""

    fields: tuple[str, ...]
    size: int
    search_size: int = 0
    metrics: Mapping[str, Metric] | None = None
    order: tuple[Direction, ...] = ()
    top_hits: TopHits | None = None
    sub: SearchAggregation | None = None


def check_depth(depth: int) -> None:
    """Raises ParameterInvalid if so many levels are too many."""
    if depth > _MAX_LEVELS:
        raise ParameterInvalid(f"search_aggregation nesting exceeds max {_MAX_LEVELS} levels")
