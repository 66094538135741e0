"""Analyzers by their parameters, in Milvus's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from milvine.analysis.analyzer import Analyzer
from milvine.analysis.built_in import BUILT_IN
from milvine.analysis.dictionaries import resources_of
from milvine.analysis.filters import expanding, simple, stop_words
from milvine.analysis.filters.base import Filter
from milvine.analysis.filters.regex import regex
from milvine.analysis.params import Params, internal_error, invalid_argument, strings_of
from milvine.analysis.tokenizers import icu, runs
from milvine.analysis.tokenizers.base import Tokenizer
from milvine.analysis.tokenizers.grpc import grpc
from milvine.analysis.tokenizers.jieba import jieba
from milvine.analysis.tokenizers.language import language_identifier
from milvine.analysis.tokenizers.lindera import lindera
from milvine.errors import AnalyzerInvalid
from milvine.model import json_text
from milvine.sized_cache import SizedCache

TOKENIZERS: Mapping[str, Callable[[Params | None], Tokenizer]] = {
    "char_group": runs.char_group,
    "grpc": grpc,
    "icu": lambda _: icu.icu(),
    "jieba": jieba,
    "language_identifier": lambda params: language_identifier(params, _build),
    "lindera": lindera,
    "standard": lambda _: runs.STANDARD,
    "thai": lambda _: icu.thai(),
    "whitespace": lambda _: runs.whitespace(),
}
FILTERS: Mapping[str, Callable[[Params], Filter]] = {
    "decompounder": expanding.decompounder,
    "length": simple.length,
    "pinyin": expanding.pinyin,
    "regex": regex,
    "stemmer": simple.stemmer,
    "stop": stop_words.stop,
    "synonym": expanding.synonym,
}
"""The filters that are given by an object with a `type`; `simple.NAMED` has those given by a name."""
_CACHE_BYTES = 320 << 20
_ANALYZER_BYTES = 2 << 20
_BYTES_PER_CHARACTER = 32
"""A rough size of an analyzer: its tables, and the words in its parameters and files."""
_cache: SizedCache[bytes, Analyzer] = SizedCache("analyzers", _CACHE_BYTES)


def analyzer_of(params: Mapping[str, Any] | str | bytes | None) -> Analyzer:
    """The analyzer of these parameters, or of their JSON text. The standard one for none. Raises AnalyzerInvalid."""
    wanted = _parsed(params)
    resources = resources_of(wanted)
    key = json_text.canonical([wanted, [resource.resource_id for resource in resources]])
    found = _cache.get(key)
    if found is None:
        try:
            found = _build(wanted)
        except RecursionError:
            raise invalid_argument("the analyzers stand too deep inside each other") from None
        characters = len(key) + sum(resource.file_bytes for resource in resources)
        _cache.put(key, found, _ANALYZER_BYTES + _BYTES_PER_CHARACTER * characters)
    return found


def _parsed(params: Mapping[str, Any] | str | bytes | None) -> Mapping[str, Any]:
    if params is None or isinstance(params, Mapping):
        return params or {}
    if not params:
        return {}
    try:
        value = json_text.loads(params)
    except json_text.NotJson as error:
        raise AnalyzerInvalid(f"JsonError: {error}") from error
    if not isinstance(value, dict):
        raise AnalyzerInvalid("JsonError: invalid type: expected a map")
    return value


def _build(params: Params) -> Analyzer:
    if not params:
        return BUILT_IN["standard"]()
    if "type" in params:
        return _built_in(params)
    if "tokenizer" not in params:
        raise internal_error("tokenizer name or type must be set")
    tokenizer = _tokenizer(params["tokenizer"])
    for key in sorted(params):
        if key not in ("tokenizer", "filter"):
            raise internal_error(f"unknown analyzer option key: {key}")
    return Analyzer(tokenizer, _filters(params.get("filter", [])))


def _built_in(params: Params) -> Analyzer:
    name = params["type"]
    if not isinstance(name, str):
        raise internal_error("analyzer type should be string")
    if name not in BUILT_IN:
        raise internal_error(f"unknown build-in analyzer type: {name}")
    words = stop_words.words_of(strings_of(params.get("stop_words", []), "filter stop_words"))
    found = BUILT_IN[name]()
    return Analyzer(found.tokenizer, (*found.filters, stop_words.without(words))) if words else found


def _tokenizer(value: Any) -> Tokenizer:
    if not isinstance(value, str | dict):
        raise internal_error("tokenizer name should be string or dict")
    name, params = (value, None) if isinstance(value, str) else (value.get("type"), value)
    if params is not None and "type" not in params:
        raise invalid_argument("customized tokenizer must set type")
    if not isinstance(name, str):
        raise invalid_argument("tokenizer type should be string")
    if name not in TOKENIZERS:
        raise invalid_argument(f"unsupported tokenizer: {name}")
    return TOKENIZERS[name](params)


def _filters(values: Any) -> list[Filter]:
    if not isinstance(values, list):
        raise internal_error("filter params should be array")
    return [_filter(value) for value in values if isinstance(value, str | dict)]


def _filter(value: str | dict[str, Any]) -> Filter:
    if isinstance(value, str):
        if value == "pinyin":
            return expanding.pinyin({})
        if value not in simple.NAMED:
            raise internal_error(f"build analyzer failed, filter not found :{value}")
        return simple.NAMED[value]
    if "type" not in value:
        raise internal_error("no type field in filter params")
    name = value["type"]
    if not isinstance(name, str):
        raise internal_error("filter type should be string")
    if name not in FILTERS:
        raise internal_error(f"unsupport filter type: {name}")
    return FILTERS[name](value)
