"""Several analyzers for one field: each row names its own in another field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.analysis.analyzer import Analyzer
from milvine.analysis.registry import analyzer_of
from milvine.analysis.terms import Int64, Stream, Terms, Texts, as_texts, joined
from milvine.errors import ParameterInvalid
from milvine.model import json_text

DEFAULT = "default"


@dataclass(frozen=True)
class MultiAnalyzer:
    """`by_field` names the field with the rows' names of analyzers; a name that is neither an analyzer's nor an alias
    means the default analyzer."""

    by_field: str
    analyzers: Mapping[str, Mapping[str, Any]]
    """Parameters by name."""
    alias: Mapping[str, str]

    def of(self, name: str) -> Analyzer:
        """Raises AnalyzerInvalid."""
        return analyzer_of(self.analyzers[self._resolved(name)])

    def terms(self, texts: Texts, names: Sequence[str | None]) -> Terms:
        """`Analyzer.terms`, each text by the analyzer of its name."""
        stream = self._stream(as_texts(texts), names, with_places=True)
        assert stream.places is not None
        return Terms(stream.offsets, stream.tokens(), *stream.places)

    def tokens(self, texts: Texts, names: Sequence[str | None]) -> tuple[Int64, pa.StringArray]:
        """`Analyzer.tokens`, each text by the analyzer of its name."""
        stream = self._stream(as_texts(texts), names, with_places=False)
        return stream.offsets, stream.tokens()

    def _stream(self, texts: pa.StringArray, names: Sequence[str | None], with_places: bool) -> Stream:
        resolved = pa.array([self._resolved(name or DEFAULT) for name in names], pa.string()).dictionary_encode()
        numbers = resolved.indices.to_numpy(zero_copy_only=False)
        rows = [np.flatnonzero(numbers == number) for number in range(len(resolved.dictionary))]
        parts = [
            (found, self.of(name).stream(texts.take(pa.array(found)), with_places))
            for found, name in zip(rows, resolved.dictionary.to_pylist(), strict=True)
        ]
        return joined(len(texts), parts, with_places)

    def _resolved(self, name: str) -> str:
        for candidate in (name, DEFAULT):
            found = self.alias.get(candidate, candidate)
            if found in self.analyzers:
                return found
        return DEFAULT


def multi_analyzer_of(params: str | bytes) -> MultiAnalyzer:
    """Of `multi_analyzer_params`. Raises ParameterInvalid; the analyzers' own parameters are checked by `of`."""
    value = _object(params, "multi_analyzer_params")
    if "by_field" not in value:
        raise ParameterInvalid("multi analyzer params now must set by_field to specify with field decide analyzer")
    by_field, alias = value["by_field"], value.get("alias") or {}
    if not isinstance(by_field, str):
        raise ParameterInvalid(f"multi analyzer params by_field must be string but now: {_text(by_field)}")
    if not isinstance(alias, dict) or not all(isinstance(name, str) for name in alias.values()):
        raise ParameterInvalid(f"multi analyzer alias must be string map but now: {_text(alias)}")
    if "analyzers" not in value:
        raise ParameterInvalid("multi analyzer params must set analyzers ")
    analyzers = value["analyzers"]
    if not isinstance(analyzers, dict):
        raise ParameterInvalid(f"unmarshal analyzers failed: not an object: {_text(analyzers)}")
    for name, given in analyzers.items():
        if not isinstance(given, dict):
            raise ParameterInvalid(f"unmarshal analyzers failed: {name} is not an object: {_text(given)}")
    if DEFAULT not in analyzers:
        raise ParameterInvalid("multi analyzer must set default analyzer for all unknown value")
    return MultiAnalyzer(by_field, analyzers, alias)


def _object(text: str | bytes, what: str) -> dict[str, Any]:
    try:
        value = json_text.loads(text)
    except json_text.NotJson as error:
        raise ParameterInvalid(f"{what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ParameterInvalid(f"{what} must be an object but now: {_text(value)}")
    return value


def _text(value: object) -> str:
    return json_text.dumps(value).decode()
