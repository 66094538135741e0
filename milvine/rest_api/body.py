"""A request's JSON object, read key by key, with the texts of Milvus's decoder (Go's encoding/json and gin)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from milvine.errors import RestBadJson, RestMissingParameters
from milvine.model import json_text
from milvine.model.json_text import Sent, json_kind
from milvine.model.known_keys import refuse_unserved, refused_keys
from milvine.model.records import record

_GO_NAMES = {"id": "ID"}
_INTEGER = re.compile(r"[+-]?[0-9]+")
_LONGEST_INT64 = 40
"""Characters, zeros at the front included."""
_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def parse_bool(text: str) -> bool:
    """Reads the spellings that Go's ParseBool accepts. Raises ValueError with its text."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def parse_int64(text: str) -> int:
    """Reads what Go's ParseInt accepts. Raises ValueError with its text."""
    quoted = json_text.dumps(text).decode()
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"strconv.ParseInt: parsing {quoted}: invalid syntax")
    # Python does not read thousands of digits.
    number = int(text) if len(text) <= _LONGEST_INT64 else 2**63
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"strconv.ParseInt: parsing {quoted}: value out of range")
    return number


def _go_name(name: str) -> str:
    """The field of Go's struct that a JSON key sets."""
    return _GO_NAMES.get(name) or "".join(part[:1].upper() + part[1:] for part in name.split("_"))


@record
class Body:
    """`kind` is Milvus's name for the request, as in its messages. A null counts as not given.

    Keys are read in any letter case, as Go's decoder does for the fields of a struct; those of `mapping` are not.
    `content` is the text of the whole body.
    """

    kind: str
    values: Mapping[str, Any]
    content: bytes = b""

    def _key(self, name: str) -> str:
        """The key under which `name` was given."""
        if name in self.values:
            return name
        folded = name.lower()
        return next((key for key in self.values if key.lower() == folded), name)

    def value(self, name: str) -> Any:
        """The given value, None if there is none."""
        return self.values.get(self._key(name))

    def several(self, wanted: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
        """The given values of `wanted` pairs of a noun and a key, by their nouns, in one pass over the keys."""
        folded: dict[str, Any] = {}
        for key, value in self.values.items():
            folded.setdefault(key.lower(), value)
        for noun, key in wanted:
            value = self.values.get(key, folded.get(key.lower()))
            if value is not None:
                yield noun, value

    def refuse_unserved(self, place: str = "", of: str = "") -> None:
        """Raises ParameterInvalid for the first key of `place` (else of this kind) that is known and not served."""
        given = {key: self.value(key) for key, _ in refused_keys(place or self.kind)}
        refuse_unserved(place or self.kind, {k: v for k, v in given.items() if v is not None}, of)

    def sent_rows(self, name: str) -> list[dict[str, Sent]]:
        """The members of an object, or of all objects of a list, as sent."""
        sent = json_text.members(self.content)[self._key(name)]
        return json_text.rows(sent) if isinstance(self.value(name), list) else [json_text.members(sent)]

    def require(self, names: Sequence[str]) -> None:
        lacking = [_go_name(n) for n in names if self.value(n) in (None, "")]
        if lacking:
            kind = ".".join(_go_name(part) for part in self.kind.split("."))
            raise RestMissingParameters(
                "\n".join(
                    f"Key: '{kind}.{name}' Error:Field validation for '{name}' failed on the 'required' tag"
                    for name in lacking
                )
            )

    def bad_type(self, name: str, value: object, wanted: str) -> RestBadJson:
        kind = json_kind(value)
        shown = f"number {value}" if kind == "number" and wanted == "int32" else kind
        return RestBadJson(
            f"error: json: cannot unmarshal {shown} into Go struct field {self.kind}.{name} of type {wanted}"
        )

    def _typed(self, name: str, python_type: type, default: Any, wanted: str) -> Any:
        value = self.value(name)
        if value is None:
            return default
        if not isinstance(value, python_type):
            raise self.bad_type(name, value, wanted)
        return value

    def text(self, name: str, default: str = "") -> str:
        found: str = self._typed(name, str, default, "string")
        return found

    def boolean(self, name: str) -> bool:
        found: bool = self._typed(name, bool, False, "bool")
        return found

    def integer(self, name: str, default: int = 0) -> int:
        found: int = self._typed(name, int, default, "int32")
        if isinstance(found, bool) or not _INT32_MIN <= found <= _INT32_MAX:
            raise self.bad_type(name, found, "int32")
        return found

    def long(self, name: str) -> int:
        found: int = self._typed(name, int, 0, "int64")
        if isinstance(found, bool) or not -(2**63) <= found < 2**63:
            raise self.bad_type(name, found, "int64")
        return found

    def longs(self, name: str) -> tuple[int, ...]:
        found = self._typed(name, list, [], "[]int64")
        for value in found:
            if not isinstance(value, int) or isinstance(value, bool):
                raise self.bad_type(name, value, "int64")
        return tuple(found)

    def array(self, name: str) -> list[Any]:
        found: list[Any] = self._typed(name, list, [], "[]interface {}")
        return found

    def texts(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        found = self._typed(name, list, None, "[]string")
        if found is None:
            return default
        for value in found:
            if not isinstance(value, str):
                raise self.bad_type(name, value, "string")
        return tuple(found)

    def mapping(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._typed(name, dict, {}, "map[string]interface {}")
        return found

    def inner(self, name: str) -> Body:
        """An object inside this one; empty if it is not given."""
        return Body(f"{self.kind}.{name}", self.mapping(name))

    def inners(self, name: str) -> list[Body]:
        kind = f"{self.kind}.{name}"
        found = self.array(name)
        for value in found:
            if not isinstance(value, dict):
                raise self.bad_type(name, value, "map[string]interface {}")
        return [Body(kind, value) for value in found]


def parse(kind: str, content: bytes, text_of_no_body: str) -> Body:
    """Raises RestBadJson if the body is missing, is not JSON, or is not an object."""
    if not content.strip():
        raise RestBadJson(text_of_no_body)
    try:
        values = json_text.loads(content)
    except json_text.NotJson as error:
        raise RestBadJson(f"error: {error}") from error
    if values is not None and not isinstance(values, dict):
        raise RestBadJson(f"error: json: cannot unmarshal {json_kind(values)} into Go value of type {kind}")
    return Body(kind, values or {}, content)
