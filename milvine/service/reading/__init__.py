"""Search and query: names to ids, filters to predicates, and the checks that come before and after "is it loaded?"."""

from milvine.service.reading.hybrid import explain_hybrid, hybrid_search
from milvine.service.reading.queries import query
from milvine.service.reading.searches import explain, search

__all__ = ["explain", "explain_hybrid", "hybrid_search", "query", "search"]
