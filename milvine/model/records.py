"""A frozen dataclass for the type checker, a plain one for the interpreter.

A frozen one sets each field through `object.__setattr__`, at five times the cost. A search makes a dozen of these
objects, a tenth of what it costs in Python. And the code of each method of a dataclass is compiled when its module is
imported, which took a quarter of a start: only that of `__init__` is made for each class here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform

_Class = TypeVar("_Class")


@dataclass_transform(frozen_default=True)
def record(cls: type[_Class]) -> type[_Class]:
    """`@dataclass(frozen=True, slots=True)`: compared and hashed by its fields."""
    made: Any = dataclass(slots=True, repr=False, eq=False)(cls)
    compared = _values(f.name for f in fields(made) if f.compare)
    hashed = _values(f.name for f in fields(made) if (f.compare if f.hash is None else f.hash))

    def equals(self: Any, other: Any) -> Any:
        return compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented

    def hash_code(self: Any) -> int:
        return hash(hashed(self))

    made.__eq__, made.__hash__, made.__repr__ = equals, hash_code, _text
    return made  # type: ignore[no-any-return]


def by_name(item: Any) -> dict[str, Any]:
    """The fields of a record, with what is in them as it is."""
    return {f.name: getattr(item, f.name) for f in fields(item)}


def _values(names: Iterable[str]) -> Callable[[Any], tuple[Any, ...]]:
    """What gives the values of these attributes as a tuple."""
    names = tuple(names)
    if not names:
        return lambda item: ()
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda item: (get(item),)


def _text(self: Any) -> str:
    shown = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr)
    return f"{type(self).__qualname__}({shown})"
