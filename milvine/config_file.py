"""The YAML file of settings, and misspelt names of settings in files and in the environment.

Milvus's own configuration files have hundreds of keys that have no effect here, so an unknown key is refused only if it
resembles one of ours step by step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path

import yaml

_ALIKE = 0.8
"""How much of two steps must be equal for one to be a misspelling of the other. In Milvus's files `maxSize` stands
beside our `maxLife` (0.71), and `diskQuotaPerPartition` beside `diskQuotaPerCollection` (0.77)."""
_SWAPPED = 0.99
"""The likeness of a step with the same letters in another order."""


def read_tree(file: Path) -> Mapping[str, object]:
    """The nested settings of a file. Raises ValueError with one sentence."""
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read the configuration file {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"the configuration file {file} is not UTF-8 text: byte {error.start}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"the configuration file {file} is not valid YAML: {_reason(error)}") from None
    if tree is None:
        return {}
    if not isinstance(tree, Mapping):
        raise ValueError(f"the configuration file {file} must hold keys and values, not a {type(tree).__name__}")
    return tree


def _reason(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark = error.problem_mark
    return f"{error.problem} in line {mark.line + 1}, column {mark.column + 1}"


def _leaves(tree: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """The keys of the values that are set, with dots between their steps."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{key}.")
        elif value is not None:
            yield key


def check_file(file: Path, tree: Mapping[str, object], known: Mapping[str, str]) -> None:
    """Raises ValueError for a misspelt key. `known` has the right key by each name that a user may think of."""
    keys = sorted(set(known.values()))
    for key in _leaves(tree):
        inside = next((one for one in keys if one.startswith(f"{key}.")), None)
        if inside is not None:
            raise ValueError(f"{key} in {file} must hold settings, such as {inside}, not a value")
        right = nearest(key, known)
        if right is not None:
            raise ValueError(f"the setting {key} in {file} is unknown; did you mean {right}?")


def without_effect(tree: Mapping[str, object], known: Mapping[str, str]) -> list[str]:
    """The keys of a checked file that are none of ours."""
    return [key for key in _leaves(tree) if key not in known]


def check_environment(names: Iterable[str], known: Mapping[str, str]) -> None:
    """Raises ValueError for a misspelt variable. `known` has the right variable by each name."""
    for name in names:
        right = nearest(name, known, separator="_")
        if right is not None:
            raise ValueError(f"the environment variable {name} is unknown; did you mean {right}?")


def nearest(name: str, known: Mapping[str, str], separator: str = ".") -> str | None:
    """The right name if `name` is a misspelling or another name of it; None if it is right or quite different."""
    if name in known.values():
        return None
    if name in known:
        return known[name]
    steps = name.lower().split(separator)
    best, best_score = None, 0.0
    for one, right in known.items():
        score = _likeness(steps, one.lower().split(separator))
        if score > best_score:
            best, best_score = right, score
    return best


def _likeness(steps: list[str], others: list[str]) -> float:
    """From 0 to 1; 0 unless each step resembles the one at its place."""
    if len(steps) != len(others):
        return 0.0
    ratios = []
    for step, other in zip(steps, others, strict=True):
        ratio = _ratio(step, other)
        if ratio < _ALIKE:
            return 0.0
        ratios.append(ratio)
    return sum(ratios) / len(ratios)


@cache  # the keys of a file share most of their steps
def _ratio(step: str, other: str) -> float:
    if step != other and sorted(step) == sorted(other):
        return _SWAPPED
    return SequenceMatcher(None, step, other).ratio()
