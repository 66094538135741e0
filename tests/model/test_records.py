"""Records are what frozen dataclasses are, but for the guard while the program runs."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from milvine.model.records import by_name, record


@record
class Place:
    name: str
    number: int = 0
    notes: Mapping[str, str] = field(default_factory=dict, hash=False)
    found: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    number: int = 0
    notes: Mapping[str, str] = field(default_factory=dict, hash=False)
    found: int = field(default=0, compare=False, repr=False)


@record
class One:
    value: object


@record
class Nothing:
    pass


@pytest.mark.parametrize("more", [{}, {"number": 2}, {"notes": {"a": "b"}}, {"found": 3}, {"name": "there"}])
def test_a_record_equals_hashes_and_shows_as_a_frozen_dataclass_does(more: dict[str, Any]) -> None:
    values: dict[str, Any] = {"name": "here"} | more
    ours, theirs = Place(**values), Frozen(**values)
    assert (ours == Place("here")) == (theirs == Frozen("here"))
    assert (hash(ours) == hash(Place("here"))) == (hash(theirs) == hash(Frozen("here")))
    assert repr(ours) == repr(theirs).replace("Frozen", "Place")
    assert by_name(ours) == {name: getattr(theirs, name) for name in ("name", "number", "notes", "found")}


def test_records_of_other_classes_are_not_equal() -> None:
    here: Any = One("here")
    assert here != Place("here")
    assert here != "here"
    assert Nothing() == Nothing()
    assert len({Nothing(), Nothing(), One(1), One(1), One(2)}) == 3


def test_one_field_is_compared_by_identity_first() -> None:
    odd = float("nan")
    assert One(odd) == One(odd)


def test_what_cannot_be_hashed_makes_a_record_that_cannot() -> None:
    with pytest.raises(TypeError):
        hash(One([]))


def test_a_record_has_no_other_attributes_and_is_copied_whole() -> None:
    place = Place("here", notes={"a": "b"}, found=4)
    with pytest.raises(AttributeError):
        place.more = 1  # type: ignore[attr-defined]
    assert replace(place, number=5) == Place("here", 5, {"a": "b"})
    for copied in (copy.deepcopy(place), pickle.loads(pickle.dumps(place))):
        assert by_name(copied) == by_name(place)
