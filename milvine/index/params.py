"""Parameters of indexes and searches: how their texts are read, ranges and refusals.

Defaults and ranges: Milvus's index documentation and knowhere; texts: Milvus's proxy and knowhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import orjson

from milvine.errors import ParameterInvalid, UnexpectedError
from milvine.model.records import record
from milvine.model.requests import GROUP_PARAMS
from milvine.model.types import MetricType

AUTOINDEX = "AUTOINDEX"
INT32_MAX = 2**31 - 1
_MAX_PARAMS_BYTES = 100 << 10
_INTEGER = re.compile(r"[+-]?\d+")
_DECIMAL = re.compile(r"[+-]?\d*\.\d+(e[+-]?\d+)?", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_LEAST_DEPTH = 16
_TRUE_TEXTS, _FALSE_TEXTS = ("true", "True", "TRUE"), ("false", "False", "FALSE")


@record
class IntParam:
    """No default: the parameter must be given."""

    default: int | None
    low: int
    high: int

    def parse(self, name: str, text: str) -> int:
        if not _INTEGER.fullmatch(text):
            if _DECIMAL.fullmatch(text):
                raise ParameterInvalid(f"wrong data type in json, key: '{name}', value: '{text}'")
            raise ParameterInvalid(f"invalid integer value, key: '{name}', value: '{text}'")
        value = int(text)
        if not self.low <= value <= self.high:
            raise ParameterInvalid(
                f"Out of range in json: param '{name}' ({value}) should be in range [{self.low}, {self.high}]"
            )
        return value


@record
class BoolParam:
    default: bool

    def parse(self, name: str, text: str) -> bool:
        if text.lower() not in ("true", "false"):
            raise ParameterInvalid(f"Type conflict in json: param '{name}' ({_as_json(text)}) should be a boolean")
        return text.lower() == "true"


@record
class ChoiceParam:
    """One of `names` in any case; kept in lower case. `refusal` has a place for the text."""

    default: str
    names: tuple[str, ...]
    refusal: str

    def parse(self, name: str, text: str) -> str:
        if text.lower() not in self.names:
            raise ParameterInvalid(self.refusal.format(text))
        return text.lower()


@record
class ExactChoiceParam:
    """One of `names`. `refusal` has places for the text and for the names."""

    default: str
    names: tuple[str, ...]
    refusal: str

    def parse(self, name: str, text: str) -> str:
        if text not in self.names:
            raise ParameterInvalid(self.refusal.format(text, " ".join(self.names)))
        return text


@record
class FloatParam:
    default: float
    low: float
    high: float
    is_high_allowed: bool = True

    def parse(self, name: str, text: str) -> float:
        if not _NUMBER.fullmatch(text):
            raise ParameterInvalid(f"invalid float value, key: '{name}', value: '{text}'")
        value = float(text)
        if _is_outside(value, self.low, self.high, is_high_allowed=self.is_high_allowed):
            raise ParameterInvalid(_out_of(name, value, self.low, self.high, is_high_allowed=self.is_high_allowed))
        return value


@record
class TextParam:
    """Any text. It must be given."""

    default: None = None

    def parse(self, _name: str, text: str) -> str:
        return text


Param = IntParam | BoolParam | ChoiceParam | ExactChoiceParam | FloatParam | TextParam

_LARGEST_FLOAT = "340282346638528859811704183484516925440.000000"


def _refine(*types: str) -> dict[str, Param]:
    refusal = f"invalid refine type : {{}}, optional types are [{', '.join(types)}]"
    return {"refine": BoolParam(False), "refine_type": ChoiceParam("flat", types, refusal)}


_REFINE_TYPES = ("sq6", "sq8", "fp16", "bf16", "fp32", "flat")
REFINE, REFINE_4_BITS = _refine(*_REFINE_TYPES), _refine("sq4u", *_REFINE_TYPES)
"""Distances are always those of the vectors themselves, so the type has no effect."""


@record
class ResolvedIndex:
    """A checked index definition. A scalar index has no metric. DescribeIndex returns `user_params`."""

    index_type: str
    metric_type: MetricType | None
    build_type: str
    build_params: dict[str, Any]
    user_params: dict[str, str]


def check_size(flat: Mapping[str, str]) -> None:
    if sum(len(k.encode()) + len(v.encode()) for k, v in flat.items()) > _MAX_PARAMS_BYTES:
        raise ParameterInvalid("index params size exceeds limit")


def build_params(rules: Mapping[str, Param], given: Mapping[str, str]) -> dict[str, Any]:
    """The values of all `rules`; other given parameters are ignored. Raises ParameterInvalid."""
    built: dict[str, Any] = {}
    for name, rule in rules.items():
        built[name] = rule.parse(name, given[name]) if name in given else rule.default
        if built[name] is None:
            raise ParameterInvalid(f"param '{name}' not exist in json")
    return built


def depth(k: int) -> int:
    """How many rows a search for k rows asks for: 16, 32, 64 and so on, so that pages of one list agree."""
    return max(_LEAST_DEPTH, 1 << (k - 1).bit_length())


def searched_int(params: Mapping[str, Any], name: str, high: int, low: int = 1) -> int:
    """A search parameter that is an integer from `low` to `high`, or text of one. Raises UnexpectedError, as Milvus
    returns knowhere's refusals."""
    given = params[name]
    if isinstance(given, bool) or not (isinstance(given, int) or _is_text(given, _INTEGER)):
        raise _conflict(name, given, "integer")
    value = int(given)
    if not low <= value <= high:
        raise UnexpectedError(f"Out of range in json: param '{name}' ({value}) should be in range [{low}, {high}]")
    return value


def searched_bool(params: Mapping[str, Any], name: str) -> bool:
    """A search parameter that is a bool, or text of one; False if it is not given. Raises UnexpectedError."""
    given = params.get(name, False)
    if given in _TRUE_TEXTS:
        return True
    if given in _FALSE_TEXTS:
        return False
    if not isinstance(given, bool):
        raise _conflict(name, given, "a boolean")
    return given


def _iterates(params: Mapping[str, Any]) -> bool:
    is_step = str(params.get("search_iter_v2")) in ("True", "true")
    groups = any(str(params.get(name) or "").strip() for name in GROUP_PARAMS)
    return is_step or groups or "radius" in params or params.get("hints") == "iterative_filter"


def reaching(params: Mapping[str, Any], name: str, given: int, k: int, *, refuses_less: bool = True) -> int:
    """At least k candidates. Raises UnexpectedError if fewer are `given`, except where Milvus asks an iterator over the
    index: in range searches, steps of iterators, grouping searches and those that filter iteratively."""
    if given >= k:
        return given
    if refuses_less and not _iterates(params):
        raise UnexpectedError(f"{name}({given}) should be larger than k({k})")
    return depth(k)


def refined(candidates: int, build_params: Mapping[str, Any], params: Mapping[str, Any]) -> int:
    """The number of candidates, `refine_k` times as many if the index was built with `refine`."""
    if "refine_k" not in params:
        return candidates
    factor = searched_factor(params, "refine_k")
    return math.ceil(min(candidates * factor, INT32_MAX)) if build_params.get("refine") else candidates


def searched_factor(params: Mapping[str, Any], name: str) -> float:
    """A search parameter that is a number from 1 on. Raises UnexpectedError."""
    given = params[name]
    if isinstance(given, str) and not _NUMBER.fullmatch(given):
        raise UnexpectedError(f"invalid float value, key: '{name}', value: '{given}': invalid parameter")
    value = number(name, given)
    if not value >= 1:
        wanted = f"should be in range [1.000000, {_LARGEST_FLOAT}]"
        raise UnexpectedError(f"Out of range in json: param '{name}' ({given}) {wanted}")
    return value


def searched_share(
    params: Mapping[str, Any], name: str, low: float, high: float, *, is_high_allowed: bool = True
) -> float:
    """A search parameter that is a number in a range; `low` if it is not given. Raises UnexpectedError."""
    if name not in params:
        return low
    value = number(name, params[name])
    if _is_outside(value, low, high, is_high_allowed=is_high_allowed):
        raise UnexpectedError(_out_of(name, value, low, high, is_high_allowed=is_high_allowed))
    return value


def _is_outside(value: float, low: float, high: float, *, is_high_allowed: bool) -> bool:
    return not low <= value <= high or (value == high and not is_high_allowed)


def _out_of(name: str, value: float, low: float, high: float, *, is_high_allowed: bool) -> str:
    end = "]" if is_high_allowed else ")"
    return f"Out of range in json: param '{name}' ({value:g}) should be in range [{low:.6f}, {high:.6f}{end}"


def number(name: str, given: object) -> float:
    """A search parameter that is a number, or text of one. Raises UnexpectedError."""
    if isinstance(given, bool) or not (isinstance(given, int | float) or _is_text(given, _NUMBER)):
        raise _conflict(name, given, "a number")
    return float(str(given))


def _conflict(name: str, value: object, wanted: str) -> UnexpectedError:
    return UnexpectedError(f"Type conflict in json: param '{name}' ({_as_json(value)}) should be {wanted}")


def _as_json(value: object) -> str:
    return orjson.dumps(value).decode()


def _is_text(given: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(given, str) and pattern.fullmatch(given) is not None
