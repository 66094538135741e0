"""The tokenizer `language_identifier`: each text by the analyzer of its language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from milvine.analysis.params import Params, absent_library, internal_error, invalid_argument
from milvine.analysis.terms import Stream, joined

DEFAULT = "default"
Detect = Callable[[str], str]
"""Names the language of a text in English, or `default`."""
_NAMES = {
    "afr": "Afrikaans", "aka": "Akan", "amh": "Amharic", "ara": "Arabic", "aze": "Azerbaijani", "bel": "Belarusian",
    "ben": "Bengali", "bul": "Bulgarian", "cat": "Catalan", "ces": "Czech", "cmn": "Mandarin", "dan": "Danish",
    "deu": "German", "ell": "Greek", "eng": "English", "epo": "Esperanto", "est": "Estonian", "fin": "Finnish",
    "fra": "French", "guj": "Gujarati", "heb": "Hebrew", "hin": "Hindi", "hrv": "Croatian", "hun": "Hungarian",
    "hye": "Armenian", "ind": "Indonesian", "ita": "Italian", "jav": "Javanese", "jpn": "Japanese", "kan": "Kannada",
    "kat": "Georgian", "khm": "Khmer", "kor": "Korean", "lat": "Latin", "lav": "Latvian", "lit": "Lithuanian",
    "mal": "Malayalam", "mar": "Marathi", "mkd": "Macedonian", "mya": "Burmese", "nep": "Nepali", "nld": "Dutch",
    "nno": "Nynorsk", "nob": "Bokmal", "ori": "Oriya", "pan": "Punjabi", "pes": "Persian", "pol": "Polish",
    "por": "Portuguese", "ron": "Romanian", "rus": "Russian", "sin": "Sinhalese", "slk": "Slovak", "slv": "Slovene",
    "sna": "Shona", "spa": "Spanish", "srp": "Serbian", "swe": "Swedish", "tam": "Tamil", "tel": "Telugu",
    "tgl": "Tagalog", "tha": "Thai", "tuk": "Turkmen", "tur": "Turkish", "ukr": "Ukrainian", "urd": "Urdu",
    "uzb": "Uzbek", "vie": "Vietnamese", "yid": "Yiddish", "yor": "Yoruba", "zul": "Zulu",
}  # fmt: skip
"""whatlang's names by its codes."""


class Splitter(Protocol):
    """An analyzer."""

    def stream(self, texts: pa.StringArray, with_places: bool) -> Stream: ...


@dataclass(frozen=True)
class ByLanguage:
    detect: Detect
    analyzers: Mapping[str, Splitter]
    mapping: Mapping[str, str]

    def split(self, texts: pa.StringArray, with_places: bool) -> Stream:
        names = pa.array([self._analyzer_for(text) for text in texts.to_pylist()], pa.string()).dictionary_encode()
        numbers = names.indices.to_numpy(zero_copy_only=False)
        parts = []
        for number, name in enumerate(names.dictionary.to_pylist()):
            rows = np.flatnonzero(numbers == number)
            parts.append((rows, self.analyzers[name].stream(texts.take(pa.array(rows)), with_places)))
        return joined(len(texts), parts, with_places)

    def _analyzer_for(self, text: str) -> str:
        language = self.detect(text)
        name = self.mapping.get(language, language)
        return name if name in self.analyzers else DEFAULT


def language_identifier(params: Params | None, build: Callable[[Params], Splitter]) -> ByLanguage:
    """`build` makes an analyzer of its parameters."""
    if params is None:
        raise invalid_argument("lang ident tokenizer must be customized")
    detect = _identifier(params.get("identifier", "whatlang"))
    if "analyzers" not in params:
        raise invalid_argument("analyzers must be set")
    given, mapping = params["analyzers"], params.get("mapping", {})
    if not isinstance(given, dict):
        raise invalid_argument("analyzers must be dict")
    for name in sorted(given):
        if not isinstance(given[name], dict):
            raise invalid_argument(f'sub analyzer "{name}" params must be dict')
    analyzers = {name: build(given[name]) for name in sorted(given)}
    if DEFAULT not in analyzers:
        raise invalid_argument("default sub analyzer for language identifier analyzer must be set")
    if not isinstance(mapping, dict):
        raise invalid_argument("mapping must be dict")
    if not all(isinstance(name, str) for name in mapping.values()):
        raise invalid_argument("mapping must have string values")
    return ByLanguage(detect, analyzers, mapping)


def _identifier(value: Any) -> Detect:
    if isinstance(value, str):
        name, given = value, {}
    elif isinstance(value, dict):
        if "type" not in value:
            raise invalid_argument("identifier type must be set")
        if not isinstance(value["type"], str):
            raise invalid_argument("identifier type must be string")
        name, given = value["type"], value
    else:
        raise invalid_argument("identifier params must be string or dict")
    if name == "whatlang":
        return _whatlang(given.get("confidence", 0.0))
    if name == "lingua":
        return _lingua()
    raise invalid_argument(f"unknown identifier {'name' if isinstance(value, str) else 'type'}: {name}")


def _whatlang(confidence: Any) -> Detect:
    if not isinstance(confidence, int | float) or isinstance(confidence, bool):
        raise internal_error("confidence must be float")
    try:
        import whatlang
    except ImportError:
        raise absent_library("the identifier whatlang", "whatlang-pyo3") from None

    def detect(text: str) -> str:
        try:
            info: Any = whatlang.detect(text)
        except ValueError:  # no language at all
            return DEFAULT
        return _NAMES.get(info.lang, DEFAULT) if info.confidence > confidence else DEFAULT

    return detect


@cache
def _lingua() -> Detect:
    try:
        from lingua import LanguageDetectorBuilder
    except ImportError:
        raise absent_library("the identifier lingua", "lingua-language-detector", "lingua") from None
    detector = LanguageDetectorBuilder.from_all_languages().build()

    def detect(text: str) -> str:
        language = detector.detect_language_of(text)
        return DEFAULT if language is None else str(language.name).capitalize()

    return detect
