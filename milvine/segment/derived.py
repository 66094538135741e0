"""What is computed from the columns of one segment or chunk when it is first needed."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar, cast

from milvine.sized_cache import SizedCache


class _Sized(Protocol):
    @property
    def bytes_used(self) -> int: ...


Kind = TypeVar("Kind", bound=_Sized)
Value = TypeVar("Value", bound=_Sized)
_numbers = itertools.count()


class Derived(Generic[Kind]):
    """Values of one owner, kept while the cache, which many owners share, has room and this object is alive."""

    __slots__ = ("__weakref__", "_cache", "_number")

    def __init__(self, cache: SizedCache[tuple[int, object], Kind]) -> None:
        self._cache = cache
        self._number: int | None = None

    def find(self, what: object, compute: Callable[[], Value]) -> Value:
        """The value known by a hashable key, which is always computed in the same way."""
        if self._number is None:
            number = next(_numbers)
            weakref.finalize(self, self._cache.remove, lambda key: key[0] == number).atexit = False
            self._number = number
        key = (self._number, what)
        known = cast(Value | None, self._cache.get(key))
        if known is None:
            known = compute()
            self._cache.put(key, cast(Kind, known), known.bytes_used)
        return known
