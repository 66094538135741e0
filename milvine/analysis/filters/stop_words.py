"""The filter `stop`, and the built-in lists of stop words."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import resources

import pyarrow as pa
import pyarrow.compute as pc

from milvine.analysis.dictionaries import lines_of_file
from milvine.analysis.filters.base import Dropping, Filter
from milvine.analysis.params import Params, strings_of

LANGUAGES = (
    *("arabic", "chinese", "danish", "dutch", "english", "finnish", "french", "german", "hungarian", "italian"),
    *("norwegian", "portuguese", "russian", "spanish", "swedish", "thai"),
)


@cache
def list_of(language: str) -> tuple[str, ...]:
    text = resources.files("milvine.analysis").joinpath("stop_words", f"{language}.txt").read_text("utf-8")
    return tuple(line for line in map(str.strip, text.splitlines()) if line)


def words_of(items: Iterable[str]) -> list[str]:
    """The words, with `_english_` and the like replaced by the words of that list."""
    found: list[str] = []
    for item in items:
        language = item[1:-1]
        is_list = len(item) > 2 and item[0] == item[-1] == "_" and language in LANGUAGES
        found.extend(list_of(language) if is_list else (item,))
    return found


def without(words: Iterable[str]) -> Filter:
    stopped = pa.array(sorted(set(words)), pa.string())
    return Dropping(lambda found: pc.invert(pc.is_in(found, value_set=stopped)))


def stop(params: Params) -> Filter:
    words = words_of(strings_of(params["stop_words"], "stop_words")) if "stop_words" in params else []
    if "stop_words_file" in params:
        words += lines_of_file(params["stop_words_file"], "stop words dict file")
    return without(words)
