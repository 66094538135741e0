"""The tokenizer `lindera`, for Japanese, Korean and Chinese by a dictionary of morphemes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.analysis.params import Params, absent_library, invalid_argument
from milvine.analysis.terms import Places, Stream
from milvine.errors import AnalyzerInvalid

_KINDS = ("ipadic", "ipadic-neologd", "unidic", "ko-dic", "cc-cedict")
_NEOLOGD = "ipadic-neologd"
_OTHER_PACKAGES = {"unidic": "lindera-python-unidic"}
"""The packages of dictionaries that `_PACKAGE` lacks. Each is a package `lindera`, so only one of them is installed."""
_FILTERS = {
    "japanese_compound_word": "japanese compound word",
    "japanese_keep_tags": "japanese keep tags",
    "japanese_stop_tags": "japanese stop tags",
    "korean_keep_tags": "korean keep tags",
    "korean_stop_tags": "korean stop tags",
}
_PACKAGE = "lindera-python-cjk"
_OTHER_DICTIONARIES = "Invalid dictionary kind"


@dataclass(frozen=True)
class Lindera:
    """The positions are those of the morphemes, counted."""

    tokenizer: Any

    def split(self, texts: pa.StringArray, with_places: bool) -> Stream:
        found = [self.tokenizer.tokenize(text) if text else [] for text in texts.to_pylist()]
        offsets = np.concatenate(([0], np.cumsum([len(tokens) for tokens in found], dtype=np.int64)))
        flat = [token for tokens in found for token in tokens]
        words = pa.array([token.surface for token in flat], pa.string())
        if not with_places:
            return Stream(offsets, words, None, None)
        columns = [
            [token.position for token in flat],
            [1] * len(flat),
            [token.byte_start for token in flat],
            [token.byte_end for token in flat],
        ]
        return Stream(offsets, words, None, Places(*(np.array(column, np.int32) for column in columns)))


def lindera(params: Params | None) -> Lindera:
    if params is None:
        raise invalid_argument("lindera tokenizer must be customized")
    kind, mode = _kind(params), params.get("mode", "normal")
    if not isinstance(mode, str):
        raise invalid_argument("lindera tokenizer mode must be string")
    if mode not in ("normal", "decompose"):
        raise invalid_argument(f'lindera tokenizer mode must be "normal" or "decompose", got "{mode}"')
    if "user_dict" in params:
        raise invalid_argument("a lindera user_dict is not supported by this version of Milvine")
    filters = list(_filters(params.get("filter", [])))
    if kind == _NEOLOGD:
        raise invalid_argument(f"the lindera dictionary {kind} is in no Python package, but ipadic and unidic are")
    try:
        import lindera as library
    except ImportError:
        raise _without(kind) from None
    builder = library.TokenizerBuilder()
    builder.set_mode(mode)
    builder.set_keep_whitespace(True)
    try:
        builder.set_dictionary(f"embedded://{kind}")
        for name, given in filters:
            builder.append_token_filter(name, given)
        return Lindera(builder.build())
    except (ValueError, RuntimeError) as error:
        if _OTHER_DICTIONARIES in str(error):
            raise _without(kind) from error
        raise invalid_argument(f"lindera: {error}") from error


def _without(kind: str) -> AnalyzerInvalid:
    """Why a dictionary is refused that the installed package `lindera` lacks."""
    if kind not in _OTHER_PACKAGES:
        return absent_library("the tokenizer lindera", _PACKAGE)
    package = _OTHER_PACKAGES[kind]
    return AnalyzerInvalid(
        f"the lindera dictionary {kind} needs the Python package {package} in place of {_PACKAGE}, which the server's "
        f"environment lacks: pip uninstall {_PACKAGE}, then pip install {package}"
    )


def _kind(params: Params) -> str:
    if "dict_kind" not in params:
        raise invalid_argument("lindera tokenizer dict_kind must be set")
    kind = params["dict_kind"]
    if not isinstance(kind, str):
        raise invalid_argument("lindera tokenizer dict kind should be string")
    if kind not in _KINDS:
        raise invalid_argument(f"unsupported lindera dict type: {kind}")
    return kind


def _filters(values: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(values, list):
        raise invalid_argument("lindera filters should be array")
    for value in values:
        if not isinstance(value, str | dict):
            raise invalid_argument("lindera tokenizer filter params must be object")
        name = value if isinstance(value, str) else value.get("kind")
        if name is None:
            raise invalid_argument("lindera tokenizer filter must have type")
        if not isinstance(name, str):
            raise invalid_argument("lindera tokenizer filter type should be string")
        if name not in _FILTERS:
            raise invalid_argument("unknown lindera filter type")
        if isinstance(value, str):
            raise invalid_argument(f"lindera {_FILTERS[name]} filter must use with params")
        yield name, _filter_arguments(value)


def _filter_arguments(value: dict[str, Any]) -> dict[str, Any]:
    if "tags" not in value:
        raise invalid_argument("lindera filter tags must be set")
    tags = value["tags"]
    if not isinstance(tags, list):
        raise invalid_argument("lindera filter tags must be array")
    if not all(isinstance(tag, str) for tag in tags):
        raise invalid_argument("lindera filter tags must be string")
    new_tag = value.get("new_tag")
    if new_tag is not None and not isinstance(new_tag, str):
        raise invalid_argument("lindera japanese compound word filter new_tag must be string")
    return {"tags": tags} if new_tag is None else {"tags": tags, "new_tag": new_tag}
