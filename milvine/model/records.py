"""A frozen dataclass for the type checker, a plain one for the interpreter.

A frozen one sets each field through `object.__setattr__`, at five times the cost. A search makes a dozen of these
objects, a tenth of what it costs in Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

_Class = TypeVar("_Class")


@dataclass_transform(frozen_default=True)
def record(cls: type[_Class]) -> type[_Class]:
    """`@dataclass(frozen=True, slots=True)` for objects that every request makes; it is compared by its fields and has
    no hash."""
    return dataclass(slots=True)(cls)
